"""One image, or a tile of one, that a search found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ..images import Window
from ..printing import shown_path


class Hit(NamedTuple):
    """One answer.

    Attributes:
        rank: from 1.
        score: the cosine similarity, in [-1, 1].
        path: of the image, absolute.
        window: of an index of tiles: left, top, width and height of the tile in pixels; None: the whole image.
        place: longitude and latitude of one point, or of the upper left, upper right, lower right and lower left
            corner; empty: not known.
        time: when the image was taken, in UTC; None: not known.
    """

    rank: int
    score: float
    path: Path
    window: Window | None = None
    place: tuple[tuple[float, float], ...] = ()
    time: datetime | None = None

    def __repr__(self) -> str:
        more = "" if self.window is None else ", window=({}, {}, {}, {})".format(*self.window)
        more += "" if self.time is None else f", time={self.time:%Y-%m-%dT%H:%M}"
        return f"Hit({self.rank}, {self.score:.3f}, {shown_path(self.path)!r}{more})"

    def document(self) -> dict[str, Any]:
        """The hit as JSON has it, without what is not known of it."""
        row: dict[str, Any] = {"rank": self.rank, "score": float(self.score), "path": str(self.path)}
        if self.window is not None:
            row["window"] = list(self.window)
        if self.place:
            row["place"] = [list(point) for point in self.place]
        if self.time is not None:
            row["time"] = self.time.isoformat()
        return row

    @classmethod
    def from_document(cls, row: dict[str, Any]) -> Hit:
        """The hit of a `document`."""
        window = Window(*row["window"]) if "window" in row else None
        place = tuple((float(lon), float(lat)) for lon, lat in row.get("place", ()))
        time = datetime.fromisoformat(row["time"]) if "time" in row else None
        return cls(row["rank"], row["score"], Path(row["path"]), window, place, time)


def points_of(numbers: Sequence[float] | None) -> tuple[tuple[float, float], ...]:
    """The points of a place as an index stores it: longitude and latitude of one after the other; None: not known."""
    return tuple(zip(numbers[::2], numbers[1::2], strict=True)) if numbers else ()

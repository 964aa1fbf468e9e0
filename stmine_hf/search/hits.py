"""One image, or a tile of one, that a search found."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ..images import Window


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

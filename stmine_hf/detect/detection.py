"""One object that the detector found."""

from __future__ import annotations

from typing import NamedTuple


class Detection(NamedTuple):
    """One object found.

    `box` is left, top, right, bottom in pixels of the image, `label` the model's own number of the class, `track` the
    number of the object in a video whose objects are tracked.
    """

    label: int
    name: str
    score: float
    box: tuple[float, float, float, float]
    track: int | None = None

    def __repr__(self) -> str:
        box = ", ".join(f"{side:.0f}" for side in self.box)
        more = "" if self.track is None else f", track={self.track}"
        return f"Detection({self.name!r}, {self.score:.2f}, box=({box}){more})"

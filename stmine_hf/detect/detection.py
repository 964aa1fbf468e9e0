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

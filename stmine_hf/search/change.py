"""What has changed between two images of one place, as far as a sentence describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import StmineError
from .boxes import boxes_of
from .hits import Hit
from .vectors import faiss_module

if TYPE_CHECKING:
    from pathlib import Path

    from .index import ImageIndex, TilesOf

_MOST_SIZE_RATIO = 2.0  # of the sides of two tiles that are compared


class Change(NamedTuple):
    """A tile that answers a sentence better, or worse, than the tile of the same place in an earlier image.

    Attributes:
        change: of the cosine similarity, from before to after; in [-2, 2].
        before: the similarity in the earlier image.
        hit: the tile in the later image; its score is the similarity there.
    """

    change: float
    before: float
    hit: Hit


def changes(index: ImageIndex, query: str, before: str | Path, after: str | Path, k: int = 10) -> list[Change]:
    """The k tiles of an image whose similarity to a sentence has risen most since an earlier image.

    Tiles of one place are compared: where both images state their places, each tile of the later image with the
    nearest of the earlier one, if their middles are less than half a tile apart; else tiles of the same window.

    Args:
        query: what may have appeared, such as "new buildings".
        before: the earlier image, in the words of `ImageIndex.tiles_of`.
        after: the later image.

    Raises:
        StmineError: an image is not in the index, or the two have no tile in common.
    """
    if k < 1:
        raise StmineError(f"k: expected at least 1, found {k}")
    old, new = index.tiles_of(before), index.tiles_of(after)
    pairs = _by_place(old, new) if all(old.places) and all(new.places) else _by_window(old, new)
    if not pairs:
        raise StmineError(f"{old.path.name} and {new.path.name} have no tile in common: they show different places")
    of_old, of_new = (np.array(numbers) for numbers in zip(*pairs, strict=True))
    was, now = index.scores(query, old.rows[of_old]), index.scores(query, new.rows[of_new])
    order = np.lexsort((of_new, -(now - was)))[:k]
    return [
        Change(
            float(now[n] - was[n]),
            float(was[n]),
            Hit(rank, float(now[n]), new.path, new.windows[of_new[n]], new.places[of_new[n]], new.time),
        )
        for rank, n in enumerate(order.tolist(), start=1)
    ]


def _by_window(old: TilesOf, new: TilesOf) -> list[tuple[int, int]]:
    number = {window: position for position, window in enumerate(old.windows)}
    return [(number[window], position) for position, window in enumerate(new.windows) if window in number]


def _by_place(old: TilesOf, new: TilesOf) -> list[tuple[int, int]]:
    """Each new tile with the nearest old one of about its size."""
    old_boxes, new_boxes = boxes_of(old.places), boxes_of(new.places)
    squeeze = float(np.cos(np.radians(old_boxes[:, [1, 3]].mean())))
    old_middles, old_sizes = _middles_and_sizes(old_boxes, old_boxes[0, 0], squeeze)
    new_middles, new_sizes = _middles_and_sizes(new_boxes, old_boxes[0, 0], squeeze)
    sides = np.array([0 if window is None else max(window.width, window.height) for window in old.windows])
    found: dict[int, tuple[float, int]] = {}  # of a new tile: how unlike in size the old one is, and which it is
    for side in np.unique(sides):
        of_side = np.flatnonzero(sides == side)
        nearest = faiss_module().IndexFlatL2(2)
        nearest.add(old_middles[of_side])
        squared, places = nearest.search(new_middles, 1)
        other = of_side[places[:, 0]]
        unlike = np.abs(np.log(new_sizes / old_sizes[other]))
        close = (np.sqrt(squared[:, 0]) < old_sizes[other] / 2) & (unlike < np.log(_MOST_SIZE_RATIO))
        for number in np.flatnonzero(close).tolist():
            found[number] = min(found.get(number, (np.inf, 0)), (float(unlike[number]), int(other[number])))
    return [(other, number) for number, (_, other) in sorted(found.items())]


def _middles_and_sizes(boxes: np.ndarray, origin: float, squeeze: float) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) middles and (N,) shorter sides, in degrees of latitude; longitudes run from `origin`, without a jump."""
    west = (boxes[:, 0] - origin + 180) % 360 - 180
    width = boxes[:, 2] - boxes[:, 0]
    middles = np.stack([(west + width / 2) * squeeze, boxes[:, [1, 3]].mean(axis=1)], axis=1)
    return middles.astype(np.float32), np.minimum(width * squeeze, boxes[:, 3] - boxes[:, 1])

"""Find small objects in large images: overlapping slices go through the detector, their boxes are merged.

An object that lies on the border of a slice is seen in part. Its box touches a border inside of the image, and the
slice beside it, if it overlaps enough, has the whole object. Two boxes of different slices are of one object if they
match in the area that both slices show: then a partial box is dropped in favour of the whole one, and where no slice
has the whole object, the parts become one box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import StmineError
from ..images import Scene, Window, WindowError, tile_windows
from ..inference.batching import batched, read_ahead
from .batches import DetectionModel, DetectionProcessor, Prepared, detect_batch, prepare

_ALIKE = 0.5  # overlap of what two slices show of an object where both show it, if it is the same one
_BORDER = 1.5  # pixels from an inner border within which a box touches it


@dataclass(frozen=True)
class Slices:
    """How images are cut.

    Args:
        side: of a slice in pixels of the image; as large as the detector's input, objects keep their size.
        overlap: share of a slice that its neighbour shows, too; more than the largest object that matters.

    Raises:
        StmineError: a side out of 32 to 4096, or an overlap out of 0 to 0.9.
    """

    side: int
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if not 32 <= self.side <= 4096:
            raise StmineError(f"slice: expected a side of 32 to 4096 pixels, found {self.side}.")
        if not 0 <= self.overlap <= 0.9:
            raise StmineError(f"overlap: expected a share from 0 to 0.9, such as 0.2, found {self.overlap:g}.")


def slices_of_image(image: Image.Image, slices: Slices) -> Iterator[tuple[Window, Image.Image]]:
    """The slices of an image in memory."""
    for window in tile_windows(image.width, image.height, slices.side, slices.overlap):
        left, top, width, height = window
        yield window, image.crop((left, top, left + width, top + height))


def slices_of_scene(
    scene: Scene, slices: Slices, on_error: Callable[[WindowError], None]
) -> Iterator[tuple[Window, Image.Image]]:
    """The slices of a scene of any size; those without data are skipped."""
    for found in scene.windows(tile_windows(scene.width, scene.height, slices.side, slices.overlap)):
        if isinstance(found, WindowError):
            on_error(found)
        elif found[1] is not None:
            yield found[0], found[1]


def detect_sliced(
    model: DetectionModel,
    processor: DetectionProcessor,
    pieces: Iterable[tuple[Window, Image.Image]],
    size: tuple[int, int],
    *,
    batch_size: int,
    threshold: float,
    nms_threshold: float = 0.6,
    **options: Any,
) -> dict[str, Tensor]:
    """What is in the slices of one image.

    Args:
        model: in evaluation mode.
        processor: its image processor.
        pieces: the slices; only those of two batches are held at a time.
        size: width and height of the image.
        batch_size: slices per batch.
        threshold: minimum score, exclusive.
        nms_threshold: of two boxes of one class that overlap by more, the one with the lower score is removed.
        options: of the processor's `post_process_object_detection`.

    Returns:
        `scores` (N,), falling, `labels` (N,) and `boxes` (N, 4) xyxy in pixels of the image, on the CPU.
    """

    def load(piece: tuple[Window, Image.Image]) -> tuple[Window, Prepared]:
        return piece[0], prepare(processor, piece[1])

    windows: list[Window] = []
    results: list[dict[str, Tensor]] = []
    with closing(read_ahead(load, pieces, workers=2, ahead=2 * batch_size)) as loaded:
        for batch in batched(loaded, batch_size):
            windows += [window for window, _ in batch]
            found = [prepared for _, prepared in batch]
            results += detect_batch(
                model, processor, found, threshold=threshold, nms_threshold=nms_threshold, **options
            )
    return merged(windows, results, size, nms_threshold)


def merged(
    windows: Sequence[Window], results: Sequence[dict[str, Tensor]], size: tuple[int, int], nms_threshold: float
) -> dict[str, Tensor]:
    """The boxes of all slices in pixels of the image, each object once.

    Args:
        windows: of the slices.
        results: `scores`, `labels` and `boxes` in pixels of each slice.
        size: width and height of the image.
        nms_threshold: of two boxes of one class that overlap by more, the one with the lower score is removed.
    """
    if not windows:
        return {"scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)}
    scores = torch.cat([result["scores"] for result in results]).double().numpy()
    labels = torch.cat([result["labels"] for result in results]).numpy()
    of_slice = np.repeat(np.arange(len(windows)), [len(result["scores"]) for result in results])
    left, top, width, height = np.array(windows, dtype=np.float64)[of_slice].T
    views = np.stack([left, top, left + width, top + height], axis=1)
    boxes = torch.cat([result["boxes"] for result in results]).double().numpy() + views[:, [0, 1, 0, 1]]
    cut = _touch_inner_border(boxes, views, size)
    kept_scores, kept_labels, kept_boxes = [], [], []
    for label in np.unique(labels):
        own = labels == label
        best, of_class = _merge_class(boxes[own], scores[own], views[own], cut[own], nms_threshold)
        kept_scores.append(best)
        kept_boxes.append(of_class)
        kept_labels.append(np.full(len(best), label))
    if not kept_scores:
        return merged([], [], size, nms_threshold)
    all_scores, all_boxes = np.concatenate(kept_scores), np.concatenate(kept_boxes)
    order = np.argsort(-all_scores, kind="stable")
    return {
        "scores": torch.from_numpy(all_scores[order]).float(),
        "labels": torch.from_numpy(np.concatenate(kept_labels)[order]).long(),
        "boxes": torch.from_numpy(all_boxes[order]).float(),
    }


def _touch_inner_border(boxes: np.ndarray, views: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N,) whether a box ends at a border of its slice that is none of the image."""
    left, top, right, bottom = views.T
    return (
        ((boxes[:, 0] <= left + _BORDER) & (left > 0))
        | ((boxes[:, 1] <= top + _BORDER) & (top > 0))
        | ((boxes[:, 2] >= right - _BORDER) & (right < size[0]))
        | ((boxes[:, 3] >= bottom - _BORDER) & (bottom < size[1]))
    )


def _merge_class(
    boxes: np.ndarray, scores: np.ndarray, views: np.ndarray, cut: np.ndarray, nms_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and boxes of the objects of one class.

    Args:
        boxes: (N, 4) of the image.
        scores: (N,).
        views: (N, 4) the slice that each box was seen in, as xyxy.
        cut: (N,) whether it may be a part of an object.
        nms_threshold: of two boxes that overlap by more, the one with the lower score is removed.
    """
    order = np.lexsort((-scores, cut))  # whole boxes first, each group best first
    boxes, scores, views, cut = boxes[order], scores[order], views[order], cut[order]
    kept: list[int] = []
    for number in range(len(boxes)):
        others = np.array(kept, dtype=int)
        same = _overlap(boxes[number], boxes[others]) > nms_threshold
        if cut[number]:
            common = _common(views[number], views[others])  # what both slices show
            seen = _overlap(_common(boxes[number], common), _common(boxes[others], common))
            same |= (views[number] != views[others]).any(axis=1) & (seen > _ALIKE)
        matches = others[same]
        parts = [other for other in matches.tolist() if cut[number] and cut[other]]
        if not len(matches):
            kept.append(number)
        elif len(parts) == len(matches):  # parts of an object that no slice has whole
            first = parts[0]
            for other in (number, *parts[1:]):
                for box in (boxes, views):
                    box[first, :2] = np.minimum(box[first, :2], box[other, :2])
                    box[first, 2:] = np.maximum(box[first, 2:], box[other, 2:])
            kept = [one for one in kept if one not in parts[1:]]
    return scores[kept], boxes[kept]


def _common(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, 4) what boxes (xyxy) have in common with one, or each with its own.

    Where boxes have nothing in common, right is before left, or bottom before top.
    """
    return np.concatenate(
        [np.maximum(one[..., :2], others[..., :2]), np.minimum(one[..., 2:], others[..., 2:])], axis=-1
    )


def _overlap(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) intersection over union; 0 for boxes without an area."""

    def area(boxes: np.ndarray) -> np.ndarray:
        return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(axis=-1)

    shared = area(_common(one, others))
    return shared / np.maximum(area(one) + area(others) - shared, 1e-9)

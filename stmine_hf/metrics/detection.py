"""Average precision of detectors as COCO measures it: pycocotools computes, this module converts plain values.

A detection is correct when its IoU with a box of its class, not matched by a better one, reaches a threshold. AP is
the mean precision over 101 recalls; "AP" alone the mean over the thresholds 0.50, 0.55 ... 0.95 and over the classes.
Detections that lie in crowd boxes are ignored, and crowd boxes need not be found.

**What cannot be measured has no value.** A class without a box does not count in any mean, and a figure without
objects to measure (AP of small objects where there are none) has no key, rather than being NaN or COCO's -1.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import StmineError

__all__ = ["DetectionScores", "box_ious", "detection_scores", "match_detections"]

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = ("all", "small", "medium", "large")  # small below 32 x 32 pixels, large above 96 x 96
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
MAX_DETECTIONS = (1, 10, 100)  # of each image and class, the best ones, which count


@dataclass(frozen=True)
class DetectionScores:
    """Results of pycocotools, NaN where there was nothing to find.

    Attributes:
        names: the classes (K), in the order of the category ids.
        boxes: how many of each were to be found, crowds not counted (K).
        precision: (10 IoUs, 101 recalls, K, 4 areas), at 100 detections.
        recall: (10 IoUs, K, 4 areas, 3 numbers of detections), the highest reached.
        ranked: for each class the scores of its detections, the highest first, and whether each is right at IoU 0.5;
            those in crowds are left out.
    """

    names: tuple[str, ...]
    boxes: tuple[int, ...]
    precision: np.ndarray
    recall: np.ndarray
    ranked: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """`ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large`, 0 to 1.

        What cannot be measured has no key.
        """
        values = {"ap": _mean(self.precision[..., 0])}
        values |= {f"ap{round(100 * IOUS[i])}": _mean(self.precision[i, ..., 0]) for i in (0, 5)}
        values |= {f"ap_{area}": _mean(self.precision[..., a]) for a, area in enumerate(AREAS) if a}
        values |= {f"ar{most}": _mean(self.recall[..., 0, m]) for m, most in enumerate(MAX_DETECTIONS)}
        values |= {f"ar_{area}": _mean(self.recall[..., a, -1]) for a, area in enumerate(AREAS) if a}
        return {name: value for name, value in values.items() if value is not None}

    def per_class(self) -> list[dict[str, Any]]:
        """For each class `name`, `boxes`, and `ap`, `ap50`, `ar100`: None where there is no box."""
        return [
            {
                "name": name,
                "boxes": boxes,
                "ap": _mean(self.precision[:, :, k, 0]),
                "ap50": _mean(self.precision[0, :, k, 0]),
                "ar100": _mean(self.recall[:, k, 0, -1]),
            }
            for k, (name, boxes) in enumerate(zip(self.names, self.boxes, strict=True))
        ]

    def found(self, k: int, threshold: float) -> float | None:
        """Share of the boxes of a class that detections with scores above a threshold find; None without boxes."""
        scores, right = self.ranked[k]
        return float(right[scores > threshold].sum() / self.boxes[k]) if self.boxes[k] else None

    def best_threshold(self, k: int) -> float | None:
        """Of the thresholds 0.05, 0.1 ... 0.95 the one with the best F1 of a class, the highest of equals.

        Returns:
            None if none has a detection that is right.
        """
        scores, right = self.ranked[k]
        f1 = {}
        for threshold in THRESHOLDS:
            above = scores > threshold
            f1[threshold] = 2 * right[above].sum() / max(above.sum() + self.boxes[k], 1)
        best = max(reversed(THRESHOLDS), key=f1.__getitem__)
        return best if f1[best] > 0 else None

    def pr_curve(self, iou: float = 0.5, name: str | None = None) -> np.ndarray:
        """(101,) precision at the recalls 0, 0.01 ... 1: of one class, or the mean of those that have boxes.

        NaN where there is nothing to find.

        Raises:
            ValueError: `iou` is not one of the ten thresholds, or there is no such class.
        """
        (at,) = np.nonzero(np.isclose(IOUS, iou))
        if not len(at):
            raise ValueError(f"iou: expected one of {[round(float(t), 2) for t in IOUS]}, found {iou}")
        if name is not None and name not in self.names:
            raise ValueError(f"no class {name!r} among {', '.join(self.names)}")
        curves = self.precision[at[0], :, :, 0]  # (101, K)
        chosen = [k for k, boxes in enumerate(self.boxes) if boxes and name in (None, self.names[k])]
        return curves[:, chosen].mean(axis=1) if chosen else np.full(len(RECALLS), np.nan)


def detection_scores(
    truth: Mapping[str, Any], detections: Iterable[Mapping[str, Any]], *, images: Collection[Any] | None = None
) -> DetectionScores:
    """Score detections of a set of images.

    Args:
        truth: a COCO annotation document: `images` (each with `id`), `categories` (`id`, `name`) and `annotations`
            (`image_id`, `category_id`, `bbox` [x, y, w, h]; `area` is w h and `iscrowd` 0 where absent). The ids of
            the annotations do not matter.
        detections: COCO results: `image_id`, `category_id`, `bbox` [x, y, w, h], `score`.
        images: ids of the images that count; None for all.

    Returns:
        DetectionScores: `.metrics`, `.per_class()`, `.pr_curve()`.

    Raises:
        ValueError: an unknown image or category, a box or score that is not a number.
        StmineError: pycocotools is not installed.

    Example:
        >>> truth = {"images": [{"id": 1}], "categories": [{"id": 7, "name": "deer"}],
        ...          "annotations": [{"image_id": 1, "category_id": 7, "bbox": [0, 0, 10, 10]}]}
        >>> found = [{"image_id": 1, "category_id": 7, "bbox": [0, 0, 10, 7], "score": 0.9}]  # IoU 0.7
        >>> {name: round(value, 3) for name, value in detection_scores(truth, found).metrics.items()}
        {'ap': 0.5, 'ap50': 1.0, 'ap75': 0.0, 'ap_small': 0.5, 'ar1': 0.5, 'ar10': 0.5, 'ar100': 0.5, 'ar_small': 0.5}
    """
    coco_class, evaluation_class = _pycocotools()
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    known = {"image": {image["id"] for image in truth["images"]}, "category": {row["id"] for row in categories}}
    there = _annotations(truth["annotations"], known, "annotation")
    found = _annotations(detections, known, "detection")
    counted = sorted(known["image"] if images is None else images)
    if missing := [image for image in counted if image not in known["image"]]:
        raise ValueError(f"images: {missing[0]!r} is not an image of the truth ({len(missing)} unknown ones)")

    with redirect_stdout(io.StringIO()):  # pycocotools prints its timings
        evaluation = evaluation_class(
            _indexed(coco_class, truth["images"], categories, there),
            _indexed(coco_class, truth["images"], categories, found),
            "bbox",
        )
        evaluation.params.imgIds = counted
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]  # -1: nothing to find
    among = set(counted)
    boxes = dict.fromkeys((row["id"] for row in categories), 0)
    for row in there:
        boxes[row["category_id"]] += row["image_id"] in among and not row["iscrowd"]
    images_counted = len(evaluation.params.imgIds)
    of_all_areas = [k * len(AREAS) * images_counted for k in range(len(categories))]
    return DetectionScores(
        ranked=tuple(_ranked(evaluation.evalImgs[start : start + images_counted]) for start in of_all_areas),
        names=tuple(row["name"] for row in categories),
        boxes=tuple(boxes.values()),
        precision=np.where(precision < 0, np.nan, precision)[..., -1],
        recall=np.where(recall < 0, np.nan, recall),
    )


def box_ious(boxes: ArrayLike, others: ArrayLike, crowd: Sequence[bool] | None = None) -> np.ndarray:
    """(n, m) overlaps of xywh boxes: intersection over union, or, for `others` that are crowds, over the box itself.

    Example:
        >>> box_ious([[0, 0, 2, 2]], [[1, 0, 2, 2], [0, 0, 9, 9]], crowd=[False, True]).round(2).tolist()
        [[0.33, 1.0]]
    """
    boxes, others = (np.asarray(rows, dtype=float).reshape(-1, 4) for rows in (boxes, others))
    ends, other_ends = boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:]
    sides = np.minimum(ends[:, None], other_ends) - np.maximum(boxes[:, None, :2], others[:, :2])
    shared = sides.clip(min=0).prod(axis=-1)
    areas, other_areas = boxes[:, 2:].prod(axis=1)[:, None], others[:, 2:].prod(axis=1)
    whole = areas + other_areas - shared
    if crowd is not None:
        whole = np.where(np.asarray(crowd, dtype=bool), areas, whole)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def match_detections(
    truth: Sequence[Sequence[float]],
    labels: Sequence[int],
    crowd: Sequence[bool],
    boxes: Sequence[Sequence[float]],
    found: Sequence[int],
    iou: float = 0.5,
) -> tuple[list[bool], list[bool | None]]:
    """Which boxes of an image were found and which detections are right, as COCO decides at one IoU.

    Args:
        truth: xywh boxes, with their `labels` and whether each is a `crowd`.
        boxes: xywh boxes of the detections, surest first, with their labels `found`.
        iou: least overlap.

    Returns:
        For each box whether it was found; for each detection whether it is right, None where it is ignored
            because of a crowd.

    Example:
        >>> match_detections([[0, 0, 9, 9]], [1], [False], [[0, 0, 9, 8], [0, 0, 9, 9]], [1, 1])
        ([True], [True, False])
    """
    overlaps = box_ious(boxes, truth, crowd)
    seen, matches = [False] * len(truth), list[bool | None]()
    for detection, label in enumerate(found):
        near = [
            place
            for place in np.argsort(-overlaps[detection], kind="stable")
            if overlaps[detection, place] >= iou and labels[place] == label
        ]
        free = next((place for place in near if not (seen[place] or crowd[place])), None)
        if free is not None:
            seen[free] = True
            matches.append(True)
        else:
            matches.append(None if any(crowd[place] for place in near) else False)
    return seen, matches


def _ranked(images: Sequence[Mapping[str, Any] | None]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a class's detections in all images, the highest first, and whether each is right at IoU 0.5."""
    there = [image for image in images if image is not None]
    scores = np.array([score for image in there for score in image["dtScores"]], dtype=float)
    right = np.array([match > 0 for image in there for match in image["dtMatches"][0]], dtype=bool)
    counts = ~np.array([bool(ignored) for image in there for ignored in image["dtIgnore"][0]], dtype=bool)
    order = np.argsort(-scores[counts], kind="stable")
    return scores[counts][order], right[counts][order]


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _annotations(rows: Iterable[Mapping[str, Any]], known: Mapping[str, set], kind: str) -> list[dict[str, Any]]:
    """Copies (pycocotools writes into them), complete and numbered from 1: to pycocotools, id 0 is "no match"."""
    complete: list[dict[str, Any]] = []
    for number, row in enumerate(rows, start=1):
        for key, ids in known.items():
            if row[f"{key}_id"] not in ids:
                raise ValueError(f"{kind} {number}: there is no {key} {row[f'{key}_id']!r} in the truth")
        box = [float(value) for value in row["bbox"]]
        score = float(row.get("score", 0.0))
        if len(box) != 4 or not all(map(isfinite, (*box, score))):
            raise ValueError(f"{kind} {number}: expected four finite numbers and a finite score, found {box}, {score}")
        area = row.get("area")
        complete.append(
            {
                "id": number,
                "image_id": row["image_id"],
                "category_id": row["category_id"],
                "bbox": box,
                # of a detection COCO uses the box's area and ignores the row's
                "area": box[2] * box[3] if area is None or kind == "detection" else float(area),
                "iscrowd": int(kind == "annotation" and bool(row.get("iscrowd", 0))),
                "score": score,
            }
        )
    return complete


def _indexed(
    coco_class: Any, images: Sequence[Mapping], categories: Sequence[Mapping], annotations: list[dict]
) -> Any:
    coco = coco_class()
    coco.dataset = {"images": list(images), "categories": categories, "annotations": annotations}
    coco.createIndex()
    return coco


def _pycocotools() -> tuple[Any, Any]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise StmineError("scoring a detector needs pycocotools: pip install 'stmine-hf[train]'") from None

    class Evaluation(COCOeval):
        """The same results without the general procedure for images and classes that have no box to be found.

        A detector of many classes finds a few boxes of nearly each of them in nearly every image, so these are most.
        """

        def computeIoU(self, image: Any, category: Any) -> Any:
            if not self._gts[image, category] or not self._dts[image, category]:
                return []
            return super().computeIoU(image, category)

        def evaluateImg(self, image: Any, category: Any, area: Any, most: int) -> dict[str, Any] | None:
            if self._gts[image, category]:
                return super().evaluateImg(image, category, area, most)
            found = self._dts[image, category]
            if not found:
                return None
            if len(found) > 1:
                found = sorted(found, key=lambda one: -one["score"])[:most]
            outside = [one["area"] < area[0] or one["area"] > area[1] for one in found]
            shape = (len(self.params.iouThrs), len(found))
            return {
                "image_id": image,
                "category_id": category,
                "aRng": area,
                "maxDet": most,
                "dtIds": [one["id"] for one in found],
                "gtIds": [],
                "dtMatches": np.zeros(shape),
                "gtMatches": np.zeros((shape[0], 0)),
                "dtScores": [one["score"] for one in found],
                "gtIgnore": np.zeros(0, dtype=int),
                "dtIgnore": np.array([outside] * shape[0]),
            }

    return COCO, Evaluation

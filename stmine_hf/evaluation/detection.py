"""Score a detector on a set with boxes: COCO's table, by class and by source, with the curve and the worst misses.

The Trainer (after each epoch), `stmine evaluate sat`, the exports and the model cards all call `evaluate_detection`,
so that a number in a log, on the screen and on a card is the same number.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from rich.table import Table
from torch import Tensor
from torchvision.ops import box_convert

from ..data.boxed_images import category_ids, category_label, row_features
from ..data.coco_json import to_coco
from ..detect.batches import Prepared, detect_batch, prepare
from ..detect.classes import SCORE_THRESHOLD, THRESHOLD, better_threshold, threshold_hints
from ..detect.slicing import Slices, detect_sliced, slices_of_image
from ..files import write_rows
from ..fonts import in_every_script
from ..images import ImageError, PixelOptions, Skip
from ..inference.batching import batched
from ..methods.record import ObjectDetector
from ..metrics.detection import DetectionScores, detection_scores
from ..outputs import Outputs
from .reports import (
    MISSES,
    EvaluationError,
    dataset_names,
    finish_curve,
    model_name,
    pixel_settings,
    readable,
    row_name,
    save_report,
    versions,
)
from .worst_misses import Found, Miss, WorstMisses, misses_sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..modeling.sat.image_processing_sat import SatImageProcessor

__all__ = ["DetectionReport", "evaluate_detection"]

_MOST_CLASSES = 20  # rows of the table of classes on the screen
_COLUMNS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "AP S", "ap_medium": "AP M", "ap_large": "AP L"}


@dataclass(frozen=True)
class DetectionReport:
    """Scores of a detector on a data set.

    Attributes:
        scores: over all images.
        truth: the images, boxes and categories measured, as a COCO document.
        detections: COCO results, with the category ids of `truth`.
        model, dataset, split: names; of the data None where unknown.
        fit: how images are fitted to the network's input; `size`: its height and width.
        score_threshold: minimum score of the detections.
        unknown_classes: those of the data that the model does not know; all their boxes are missed.
        model_names: of the other classes: the data's name -> the model's, where it is spelled otherwise.
        worst: the images with the worst misses.
        skipped: images skipped with their boxes, and why.
        seconds: duration of the evaluation.
    """

    scores: DetectionScores
    truth: dict[str, Any]
    detections: list[dict[str, Any]]
    model: str
    dataset: str | None
    split: str | None
    fit: str
    size: tuple[int, int]
    score_threshold: float
    unknown_classes: list[str] = field(default_factory=list)
    model_names: dict[str, str] = field(default_factory=dict)
    worst: list[Miss] = field(default_factory=list, repr=False)
    skipped: list[Skip] = field(default_factory=list)
    seconds: float = 0.0
    pixels: dict[str, Any] | None = None  # how images were read, None: the default
    slices: Slices | None = None  # how images were cut, None: not at all

    @property
    def metrics(self) -> dict[str, float]:
        """`ap, ap50, ap75, ap_small ... ar_large`, 0 to 1; see `DetectionScores.metrics`."""
        return self.scores.metrics

    @cached_property
    def by_class(self) -> list[dict[str, Any]]:
        """The scores of each class, and what a threshold does to it.

        See `DetectionScores.per_class`; `highest_score` of its detections (None without any), `found`: share of its
        boxes that are found at `THRESHOLD`; and, if a lower one finds many more, that `threshold` and `found_lower`.
        """
        highest: dict[int, float] = {}
        for found in self.detections:
            number = found["category_id"]
            highest[number] = max(found["score"], highest.get(number, 0.0))
        numbers = sorted(category["id"] for category in self.truth["categories"])
        rows = []
        for k, (number, scores) in enumerate(zip(numbers, self.scores.per_class(), strict=True)):
            share = self.scores.found(k, THRESHOLD)
            lower = better_threshold(share, self.scores.best_threshold(k), partial(self.scores.found, k))
            more = {"highest_score": highest.get(number), "found": share, "threshold": lower}
            rows.append({**scores, **more, "found_lower": None if lower is None else self.scores.found(k, lower)})
        return rows

    @cached_property
    def by_source(self) -> dict[str, DetectionScores]:
        """The scores on the images of each source, where the data name more than one."""
        images: dict[str, list[Any]] = {}
        for image in self.truth["images"]:
            images.setdefault(image.get("source") or "", []).append(image["id"])
        if len(images) < 2:
            return {}
        return {
            source or "unknown source": detection_scores(self.truth, self.detections, images=own)
            for source, own in sorted(images.items())
        }

    def table(self) -> Table:
        """COCO's figures over all images and, below them, of each source."""
        title = f"{self.model} on {self.dataset or 'the data'} {self.split or ''}".rstrip()
        caption = f"{len(self.truth['images'])} images, {sum(self.scores.boxes)} boxes; "
        cut = f"in slices of {self.slices.side} px, " if self.slices else ""
        caption += f"{cut}{self.fit} to {self.size[0]} x {self.size[1]}, scores above {self.score_threshold:g}"
        if self.unknown_classes:
            names = ", ".join(self.unknown_classes[:5]) + (" ..." if len(self.unknown_classes) > 5 else "")
            caption += f"\nunknown to the model, so all their boxes are missed: {names}"
        if self.skipped:
            caption += f"\nskipped {len(self.skipped)} images, the first {self.skipped[0].path}: "
            caption += self.skipped[0].reason
        table = Table(title=title, caption=caption)
        table.add_column("", overflow="fold")
        for name in (*_COLUMNS.values(), "AR", "boxes"):
            table.add_column(name, justify="right")
        for source, scores in {"all": self.scores, **self.by_source}.items():
            shown = [_figure(scores.metrics.get(key), 4 if key == "ap" else 3) for key in (*_COLUMNS, "ar100")]
            table.add_row(source, *shown, str(sum(scores.boxes)), style="bold" if source == "all" else "")
        return table

    def class_table(self) -> Table:
        """AP of each class, and what the usual threshold finds; the best and the worst ones if there are many."""
        rows = sorted(self.by_class, key=lambda row: -1 if row["ap"] is None else row["ap"], reverse=True)
        measured = [row for row in rows if row["boxes"]]
        caption = f"classes without boxes: {len(rows) - len(measured)}" if len(measured) < len(rows) else None
        table = Table(title="by class", caption=caption)
        table.add_column("class")
        for name in ("AP", "AP50", "AR", "boxes", f"found at {THRESHOLD:g}", "lower threshold"):
            table.add_column(name, justify="right")
        half = _MOST_CLASSES // 2
        for number, row in enumerate(measured):
            if len(measured) > _MOST_CLASSES and number == half:
                table.add_row(f"... {len(measured) - 2 * half} more", *[""] * 6)
            if len(measured) <= _MOST_CLASSES or not half <= number < len(measured) - half:
                figures = (_figure(row[key], 3) for key in ("ap", "ap50", "ar100"))
                at = (_figure(row["found"], 3), _figure(row["threshold"], 2))
                table.add_row(row["name"], *figures, str(row["boxes"]), *at)
        return table

    def hints(self) -> list[str]:
        """Lines on the classes of which the usual threshold hides much."""
        known = (row for row in self.by_class if row["name"] not in self.unknown_classes)
        return threshold_hints({**row, "name": self.model_names.get(row["name"], row["name"])} for row in known)

    def to_dict(self) -> dict[str, Any]:
        """The content of `results.json`."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "split": self.split,
            "images": len(self.truth["images"]),
            "boxes": sum(self.scores.boxes),
            "fit": self.fit,
            "size": list(self.size),
            "score_threshold": self.score_threshold,
            "metrics": self.metrics,
            "by_source": {source: scores.metrics for source, scores in self.by_source.items()},
            "by_class": self.by_class,
            "unknown_classes": self.unknown_classes,
            "skipped": [skip._asdict() for skip in self.skipped],
            **({"pixels": self.pixels} if self.pixels else {}),
            **({"slices": asdict(self.slices)} if self.slices else {}),
            "seconds": round(self.seconds, 2),
            "versions": versions("pycocotools", "torchvision"),
        }

    def save(self, folder: str | Path) -> None:
        """Write `results.json`, `detections.json` (COCO results), `worst_misses.png` and `pr_curve.png`.

        The folder is created if missing; the curve needs matplotlib and is written last.
        """
        with Outputs(folder) as outputs:
            self.write(outputs)

    def write(self, outputs: Outputs, prefix: str = "") -> None:
        """Write the same files, beside other results of a run; see `save_report`."""
        rows = [
            {**row, "bbox": [round(value, 2) for value in row["bbox"]], "score": round(row["score"], 5)}
            for row in self.detections
        ]
        outputs.write(f"{prefix}detections.json", lambda path: write_rows(path, rows))
        outputs.remove(f"{prefix}{MISSES}")  # of an earlier evaluation
        if self.worst:
            sheet = misses_sheet(self.worst, title=f"{self.model}: worst misses")
            outputs.write(f"{prefix}{MISSES}", sheet.save)
        save_report(outputs, self.to_dict(), {"pr_curve.png": self.draw}, prefix=prefix)

    @in_every_script
    def draw(self) -> Figure:
        """Precision over recall at three thresholds of IoU and, of few classes, of each class at 0.5."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 4.8), layout="constrained")
        axes = figure.subplots()
        recalls = np.linspace(0, 1, 101)
        names = [name for name, boxes in zip(self.scores.names, self.scores.boxes, strict=True) if boxes]
        if 1 < len(names) <= 8:
            for name in names:
                axes.plot(recalls, self.scores.pr_curve(0.5, name), linewidth=1, alpha=0.7, label=f"{name}, IoU 0.50")
        for iou, shade in ((0.5, "#08306b"), (0.75, "#2171b5"), (0.9, "#6baed6")):
            curve = self.scores.pr_curve(iou)
            axes.plot(recalls, curve, color=shade, linewidth=2, label=f"all, IoU {iou:.2f}: {curve.mean():.3f}")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        what = " ".join(name for name in (self.dataset, self.split) if name) or "detection"
        finish_curve(
            axes,
            f"{what}: {len(self.truth['images'])} images, {sum(self.scores.boxes)} boxes, AP {self.metrics['ap']:.4f}",
            legend="upper right",
        )
        return figure


def evaluate_detection(
    model: ObjectDetector,
    processor: SatImageProcessor,
    rows: Iterable[Mapping[str, Any]],
    *,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    score_threshold: float = SCORE_THRESHOLD,
    fit: str | None = None,
    names: Sequence[str] | None = None,
    pixels: PixelOptions | None = None,
    slices: Slices | None = None,
    progress: bool = True,
) -> DetectionReport:
    """Detect objects in every image and compare them with its boxes as COCO does.

    Only inputs of equal size share a batch, so no result depends on the batch. Every process of a distributed run
    measures the whole set by itself.

    Args:
        model: a detector; its mode (train, eval) is restored afterwards.
        processor: its image processor.
        rows: with `image` and `objects` (`bbox` [x, y, w, h], `category`, `area`, `iscrowd`), as the sets with boxes
            of `load_dataset` have them: a `datasets.Dataset`, a stream, or any iterable. Images that cannot be read
            are skipped with their boxes and reported.
        batch_size: images per batch, at most.
        device: where to run; default: the device of the model.
        score_threshold: minimum score of a detection, exclusive; 0.05 in the official evaluation.
        fit: "pad", "letterbox" or "stretch" instead of the processor's setting.
        names: of the categories, for rows that do not carry them; default: the model's classes.
        pixels: what becomes of images of more than 8 bits or three bands; see `images.PixelOptions`.
        slices: cut images into slices and merge their boxes, for small objects in large images. `batch_size` then
            counts slices.
        progress: show a bar on stderr.

    Returns:
        DetectionReport: `.metrics`, `.table()`, `.class_table()`, `.save(folder)`.

    Raises:
        EvaluationError: no row has a readable image, there is no box at all, or model and data have no class in
            common.
    """
    start, was_training = time.perf_counter(), model.training
    features = getattr(rows, "features", None)
    if features is None:
        own = [model.config.id2label[label] for label in sorted(model.config.id2label)]
        features = row_features(names or own, range(1, len(names or own) + 1))
    if "objects" not in features:
        raise EvaluationError(f"expected rows with objects (boxes and categories), found {', '.join(features)}.")
    categories = category_label(features).names
    label_of = matched_labels(model.config.id2label, features)
    if fit is not None:
        processor = copy.copy(processor)
        processor.fit = fit
    numbers = category_ids(features)
    measured: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    skipped: list[Skip] = []
    worst = WorstMisses()

    Loaded = tuple[dict[str, Any], Image.Image, Prepared | None]

    def load(row: Mapping[str, Any], image: Image.Image, number: int) -> Loaded:
        said = (row.get("width") or image.width, row.get("height") or image.height)
        if image.size != said:
            width, height = image.size
            raise ImageError(f"its boxes are for {said[0]} x {said[1]} px, it has {width} x {height}")
        return _complete(row, number, image), image, None if slices else prepare(processor, image)

    def detect(batch: Sequence[Loaded]) -> list[dict[str, Tensor]]:
        if slices is None:
            whole = [prepared for *_, prepared in batch if prepared is not None]
            return detect_batch(model, processor, whole, threshold=score_threshold)
        return [
            detect_sliced(
                model,
                processor,
                slices_of_image(image, slices),
                image.size,
                batch_size=batch_size,
                threshold=score_threshold,
            )
            for _, image, _ in batch
        ]

    model.eval()
    if device is not None:
        model.to(device)
    try:
        with closing(readable(rows, load, skipped, doing="Detecting", progress=progress, pixels=pixels)) as images:
            for batch in batched(images, batch_size if slices is None else 1):
                for (row, image, _), result in zip(batch, detect(batch), strict=True):
                    found = _of_data(result, label_of)
                    detections += [
                        {"image_id": row["image_id"], "category_id": numbers[label], "bbox": box, "score": score}
                        for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True)
                    ]
                    worst.add(row, image, found, categories)
                    measured.append(row)
    finally:
        model.train(was_training)
    truth = to_coco(measured, features)
    if not any(not row["iscrowd"] for row in truth["annotations"]):
        first = f"; the first: {skipped[0].path}, {skipped[0].reason}" if skipped else ""
        raise EvaluationError(
            f"Expected rows with readable images and boxes, found {len(measured)} images without any box "
            f"({len(skipped)} skipped{first})."
        )
    scores = detection_scores(truth, detections)
    boxes = dict(zip(sorted(numbers), scores.boxes, strict=True))
    known = {numbers[label] for label in label_of.values()}
    lacking = [name for name, number in zip(categories, numbers, strict=True) if boxes[number] and number not in known]
    name, split = dataset_names(rows)
    return DetectionReport(
        scores=scores,
        truth=truth,
        detections=detections,
        model=model_name(model),
        dataset=name,
        split=split,
        fit=processor.fit,
        size=(processor.size["height"], processor.size["width"]),
        score_threshold=score_threshold,
        unknown_classes=lacking,
        model_names={categories[place]: model.config.id2label[label] for label, place in label_of.items()},
        worst=worst.sorted(),
        skipped=skipped,
        seconds=time.perf_counter() - start,
        pixels=pixel_settings(pixels),
        slices=slices,
    )


def _complete(row: Mapping[str, Any], number: int, image: Image.Image) -> dict[str, Any]:
    """The row without its image, and with all that `to_coco` reads."""
    objects = dict(row["objects"])
    count = len(objects["bbox"])
    objects.setdefault("id", [0] * count)  # below 1: replaced by the row's number
    objects.setdefault("iscrowd", [False] * count)
    objects.setdefault("area", [box[2] * box[3] for box in objects["bbox"]])
    image_id = row.get("image_id")
    return {
        "image_id": number if image_id is None else image_id,
        "filename": row_name(row, number),
        "width": image.width,
        "height": image.height,
        "objects": objects,
        "source": row.get("source") or "",
    }


def matched_labels(id2label: Mapping[int, str], features: Mapping[str, Any]) -> dict[int, int]:
    """Map labels of the model to those of the data, by name; only classes that the data have.

    Args:
        id2label: the model's.
        features: of the data.

    Raises:
        EvaluationError: none is known.
    """
    categories = category_label(features).names
    place = {_plain(name): label for label, name in enumerate(categories)}
    matched = {int(label): place[_plain(name)] for label, name in id2label.items() if _plain(name) in place}
    if matched:
        return matched
    if len(id2label) == len(categories) and all(name.startswith("LABEL_") for name in id2label.values()):
        return {label: label for label in range(len(categories))}
    ours, theirs = (", ".join([*values][:5]) for values in (id2label.values(), categories))
    raise EvaluationError(
        f"the model's {len(id2label)} classes ({ours} ...) and the data's {len(categories)} ({theirs} ...) have no "
        "name in common; rename the model's classes as in the data (id2label in its config.json)."
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()


def _of_data(result: Mapping[str, Tensor], label_of: Mapping[int, int]) -> Found:
    """The detections of classes that the data have, with the data's labels."""
    kept = [i for i, label in enumerate(result["labels"].tolist()) if label in label_of]
    return Found(
        labels=[label_of[label] for label in result["labels"][kept].tolist()],
        scores=result["scores"][kept].tolist(),
        boxes=box_convert(result["boxes"][kept], "xyxy", "xywh").tolist(),
    )


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"

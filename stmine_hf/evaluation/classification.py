"""Score a classifier of posts: accuracy, the scores of each label, and the calibration of its probabilities.

The Trainer (after each epoch), `stmine evaluate mttv` and the model cards all call `evaluate_posts`, so that a number
in a log, on the screen and on a card is the same number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from rich.table import Table

from ..fonts import drawable, in_every_script
from ..images import PixelOptions, Skip, decode_image
from ..inference.progress import ProgressBar
from ..metrics.classification import (
    BINS,
    class_scores,
    classification_scores,
    confusion_matrix,
    reliability_bins,
    softmax,
)
from ..outputs import Outputs
from ..posts.post import Post
from ..posts.prediction import RegionDetector, predict
from ..printing import shell_word
from .miss_cards import MOST, MissCard, cards_sheet, row_image
from .reports import (
    MISSES,
    EvaluationError,
    dataset_names,
    model_name,
    pixel_settings,
    save_report,
    undecoded,
    versions,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor

_WRITTEN_LABELS = 40  # of a confusion matrix; one of more has colors alone


class Features(Protocol):
    """Precomputed visual features, by `post_id`: `stmine_hf.posts.FeatureStore` is one."""

    def __contains__(self, key: Any) -> bool: ...
    def get(self, key: Any) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class ClassificationReport:
    """Scores of a model on a data set.

    Attributes:
        logits: (N, L) of the N posts classified, in the order of the rows.
        truth: (N,) their labels, as indices into `labels`.
        labels: names of the model's L labels.
        post_ids: of the posts classified.
        model, dataset, split: names; of the data None where unknown.
        images: how many posts were classified with an image (or its features).
        images_unreadable: the posts classified without an image that cannot be read, and why.
        skipped: skipped rows, and why.
        seconds: duration of the evaluation.
        bins: number of bins of the calibration error and the reliability diagram.
        worst: wrong predictions, the most confident first; empty for a stream.
    """

    logits: np.ndarray
    truth: np.ndarray
    labels: tuple[str, ...]
    post_ids: list[Any]
    model: str
    dataset: str | None
    split: str | None
    images: int
    images_unreadable: list[Skip] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    seconds: float = 0.0
    pixels: dict[str, Any] | None = None  # how images were read, None: the default
    bins: int = BINS
    worst: list[MissCard] = field(default_factory=list, repr=False)

    @property
    def metrics(self) -> dict[str, float]:
        """`accuracy`, `macro_f1`, `precision_<label>`, `recall_<label>`, `f1_<label>` ..., `ece`, `brier`, `loss`."""
        return classification_scores(self.logits, self.truth, self.labels, bins=self.bins)

    @property
    def probabilities(self) -> np.ndarray:
        """(N, L) float64."""
        return softmax(self.logits)

    @property
    def predicted(self) -> np.ndarray:
        """(N,) the most probable label of each post."""
        return self.logits.argmax(axis=1)

    @property
    def confusion(self) -> np.ndarray:
        """(L, L) posts; row: the label, column: the prediction."""
        return confusion_matrix(self.truth, self.predicted, len(self.labels))

    @property
    def by_class(self) -> list[dict[str, Any]]:
        """For each label `name`, `posts`, `precision`, `recall` and `f1`."""
        scores = class_scores(self.confusion)
        columns = (scores.support, scores.precision, scores.recall, scores.f1)
        return [
            dict(zip(("name", "posts", "precision", "recall", "f1"), row, strict=True))
            for row in zip(self.labels, *(column.tolist() for column in columns), strict=True)
        ]

    @property
    def recalls(self) -> list[float]:
        """Recall of each label in the model's order, for `fit_scaling_factors`."""
        return class_scores(self.confusion).recall.tolist()

    def table(self) -> Table:
        """The scores of each label and, below them, of all posts."""
        metrics, scores = self.metrics, class_scores(self.confusion)
        caption = f"{len(self.truth)} posts, {self.images} of them with an image; ECE {metrics['ece']:.4f} "
        caption += f"({self.bins} bins), loss {metrics['loss']:.4f}"
        for what, skips in {"unreadable images": self.images_unreadable, "rows skipped": self.skipped}.items():
            if skips:
                caption += f"\n{len(skips)} {what}, the first {skips[0].path}: {skips[0].reason}"
        if missing := [label for label, posts in zip(self.labels, scores.support, strict=True) if not posts]:
            caption += f"\nNo post has the label {' or '.join(missing)}: macro F1 counts its F1 as 0"
        title = f"{self.model} on {self.dataset or 'the data'} {self.split or ''}".rstrip()
        table = Table(title=title, caption=caption)
        table.add_column("label")
        for name in ("precision", "recall", "F1", "posts"):
            table.add_column(name, justify="right")
        for index, label in enumerate(self.labels):
            shares = (scores.precision[index], scores.recall[index], scores.f1[index])
            table.add_row(label, *(f"{share:.4f}" for share in shares), str(scores.support[index]))
        table.add_section()
        table.add_row("macro F1", "", "", f"{metrics['macro_f1']:.4f}", "", style="bold")
        table.add_row("accuracy", "", "", f"{metrics['accuracy']:.4f}", str(len(self.truth)), style="bold")
        return table

    def to_dict(self) -> dict[str, Any]:
        """The content of `results.json`."""
        scores, bins = class_scores(self.confusion), reliability_bins(self.probabilities, self.truth, self.bins)
        return {
            "model": self.model,
            "dataset": self.dataset,
            "split": self.split,
            "rows": len(self.truth),
            "labels": list(self.labels),
            "images": self.images,
            "images_unreadable": [skip._asdict() for skip in self.images_unreadable],
            "skipped": [skip._asdict() for skip in self.skipped],
            "metrics": self.metrics,
            "support": dict(zip(self.labels, scores.support.tolist(), strict=True)),
            "by_class": self.by_class,
            "confusion_matrix": self.confusion.tolist(),
            "reliability": {
                name: [None if np.isnan(value) else value for value in values.tolist()]
                for name, values in vars(bins).items()
            },
            **({"pixels": self.pixels} if self.pixels else {}),
            "seconds": round(self.seconds, 2),
            "versions": versions(),
        }

    def predictions(self) -> Iterator[dict[str, Any]]:
        """Post by post: `post_id`, `label`, `prediction` and `probabilities` by label."""
        for post_id, right, said, own in zip(
            self.post_ids, self.truth, self.predicted, self.probabilities, strict=True
        ):
            shares = dict(zip(self.labels, (round(value, 6) for value in own.tolist()), strict=True))
            label, prediction = self.labels[right], self.labels[said]
            yield {"post_id": post_id, "label": label, "prediction": prediction, "probabilities": shares}

    def save(self, folder: str | Path, *, predictions: bool = False) -> None:
        """Write `results.json`, `confusion_matrix.png` and `reliability.png` (need matplotlib).

        Args:
            folder: output folder; created if missing.
            predictions: also write `predictions.jsonl`.
        """
        with Outputs(folder) as outputs:
            self.write(outputs, predictions=predictions)

    def write(self, outputs: Outputs, prefix: str = "", *, predictions: bool = False) -> None:
        """Write the same files, beside other results of a run; see `save_report`."""
        if predictions:
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.predictions())
            outputs.write(f"{prefix}predictions.jsonl", lambda path: path.write_text(lines, encoding="utf-8"))
        outputs.remove(f"{prefix}{MISSES}")  # of an earlier evaluation
        if self.worst:
            sheet = cards_sheet(self.worst, title=f"{self.model}: wrong predictions, the surest first")
            outputs.write(f"{prefix}{MISSES}", sheet.save)
        drawings = {"confusion_matrix.png": self.draw_confusion, "reliability.png": self.draw_reliability}
        save_report(outputs, self.to_dict(), drawings, prefix=prefix)

    @in_every_script
    def draw_confusion(self) -> Figure:
        """The confusion matrix: posts, and their share of the row's label."""
        from matplotlib.figure import Figure

        matrix, names = self.confusion, list(self.labels)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        side = 2.6 + 0.95 * min(len(names), _WRITTEN_LABELS)
        figure = Figure(figsize=(side + 0.6, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*matrix.shape) if len(names) <= _WRITTEN_LABELS else ():
            colour = "white" if share[row, column] > 0.55 else "black"
            text = f"{matrix[row, column]}\n{share[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize="small")
        ticks = [name if len(name) < 14 else name.replace(" ", "\n") for name in map(drawable, names)]
        if len(names) <= _WRITTEN_LABELS:
            axes.set_xticks(range(len(names)), ticks, rotation=0 if len(names) < 4 else 45, fontsize="small")
            axes.set_yticks(range(len(names)), ticks, fontsize="small")
        axes.set(xlabel="prediction", ylabel="label")
        axes.set_title(f"{self._what()}: accuracy {self.metrics['accuracy']:.3f}", fontsize="medium", loc="left")
        return figure

    @in_every_script
    def draw_reliability(self) -> Figure:
        """How often predictions of each probability are right; on the diagonal the probabilities are calibrated."""
        from matplotlib.figure import Figure

        bins, edges = reliability_bins(self.probabilities, self.truth, self.bins), np.linspace(0, 1, self.bins + 1)
        filled = bins.count > 0
        figure = Figure(figsize=(5.2, 5.6), layout="constrained")
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        axes.bar(edges[:-1][filled], bins.accuracy[filled], 1 / self.bins, align="edge", color="#2166ac", alpha=0.75)
        axes.plot(bins.confidence[filled], bins.accuracy[filled], "o", color="#0b3c6f", markersize=4)
        axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
        counts.bar(edges[:-1], bins.count, 1 / self.bins, align="edge", color="grey")
        axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of correct predictions")
        counts.set(xlabel="probability of the prediction", ylabel="posts")
        axes.set_title(f"{self._what()}: ECE {self.metrics['ece']:.3f}", fontsize="medium", loc="left")
        for one in (axes, counts):
            one.grid(alpha=0.25)
            one.spines[["top", "right"]].set_visible(False)
        return figure

    def _what(self) -> str:
        name = " ".join(part for part in (self.dataset, self.split) if part) or "data"
        return f"{name} ({len(self.truth)} posts)"


def evaluate_posts(
    model: MttvForSequenceClassification,
    processor: MttvProcessor,
    rows: Iterable[Mapping[str, Any]],
    *,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    detector: RegionDetector | None = None,
    features: Features | None = None,
    bins: int = BINS,
    pixels: PixelOptions | None = None,
    progress: bool = True,
) -> ClassificationReport:
    """Classify every labelled post and compare with the labels.

    Every labelled row counts, so that the figures of different models can be compared: a post whose image cannot be
    read is classified by its text alone and reported as such, and a model without visual encoder reads texts only. The
    figures do not depend on `batch_size`. Every process of a distributed run measures the whole set by itself.

    Args:
        model: an `MttvForSequenceClassification`; its mode (train, eval) is restored afterwards.
        processor: its `MttvProcessor`.
        rows: mappings with `post_id`, `text`, `image` (PIL or None) and `label`, a ClassLabel or a name: a
            `datasets.Dataset`, a stream, or any iterable. Labels are matched with the model's by name.
        batch_size: posts per batch.
        device: where to run; default: the device of the model.
        detector: finds regions in the images; see `MttvProcessor`.
        features: visual features to use instead of the images, which are then not opened.
        bins: of the calibration error.
        pixels: what becomes of images of more than 8 bits or three bands; see `images.PixelOptions`.
        progress: show a bar on stderr.

    Returns:
        ClassificationReport: `.metrics`, `.table()`, `.save(folder)`.

    Raises:
        EvaluationError: the data set's labels are not the model's, or no row can be classified.
    """
    start, was_training = time.perf_counter(), model.training
    reading = pixels or PixelOptions()
    labels = tuple(model.config.id2label[index] for index in range(model.config.num_labels))
    names = known_label_names(rows, labels)
    classified: list[tuple[_Labelled, np.ndarray]] = []
    skipped: list[tuple[int, Skip]] = []  # with the rows' numbers: batches come out of order
    unreadable: list[tuple[int, Skip]] = []
    images = 0

    def posts() -> Iterator[Post]:
        sees = model.config.vision_config is not None and features is None
        for number, row in enumerate(undecoded(rows)):
            post_id = row.get("post_id")
            post_id = f"row {number}" if post_id is None else post_id
            label, text = row.get("label"), row.get("text")
            label = names[label] if isinstance(label, int) and 0 <= label < len(names) else label
            if label not in labels or not isinstance(text, (str, type(None))):
                reason = "no label" if label in (None, -1) else f"label {label!r}, expected {' or '.join(labels)}"
                if label in labels:
                    reason = f"text: expected a string, found {type(text).__name__}"
                skipped.append((number, Skip(str(post_id), reason)))
                bar.advance()
                continue
            image = row.get("image") if sees else None
            known = None if features is None or post_id not in features else partial(features.get, post_id)
            images = [] if image is None else [partial(decode_image, image, reading)]
            yield Post(_Labelled(number, post_id, labels.index(label)), text or "", images, known)

    try:
        total = len(rows) if isinstance(rows, Sized) else None
        with ProgressBar("Classifying posts", total, shown=progress) as bar:
            options: dict[str, Any] = {"batch_size": batch_size, "device": device, "detector": detector}
            for batch in predict(model, processor, posts(), without_bad_images=True, **options):
                for _, post, logits, problem in batch:
                    if problem:
                        skip = (post.id.row, Skip(str(post.id.post_id), problem))
                        (skipped if logits is None else unreadable).append(skip)
                    if logits is not None:
                        classified.append((post.id, logits))
                        images += bool(post.images or post.features) and problem is None
                bar.advance(len(batch))
    finally:
        model.train(was_training)
    for found in (classified, skipped, unreadable):
        found.sort(key=itemgetter(0))
    if not classified:
        first = f"; the first: {skipped[0][1].path}, {skipped[0][1].reason}" if skipped else ""
        raise EvaluationError(f"Expected posts with a label, found none to classify ({len(skipped)} skipped{first}).")
    name, split = dataset_names(rows)
    logits = np.stack([logits for _, logits in classified])
    return ClassificationReport(
        logits=logits,
        truth=np.array([post.truth for post, _ in classified]),
        labels=labels,
        post_ids=[post.post_id for post, _ in classified],
        model=model_name(model),
        dataset=name,
        split=split,
        images=images,
        images_unreadable=[skip for _, skip in unreadable],
        skipped=[skip for _, skip in skipped],
        seconds=time.perf_counter() - start,
        pixels=pixel_settings(pixels),
        bins=bins,
        worst=_worst(rows, [post for post, _ in classified], softmax(logits), labels, pixels),
    )


def _worst(
    rows: Iterable[Mapping[str, Any]],
    posts: list[_Labelled],
    shares: np.ndarray,
    labels: tuple[str, ...],
    pixels: PixelOptions | None,
) -> list[MissCard]:
    """The wrong predictions, the most confident first; empty for rows that cannot be read again."""
    if not hasattr(rows, "select"):
        return []
    encoded = cast(Sequence[Mapping[str, Any]], undecoded(rows))
    said, surest = shares.argmax(axis=1), shares.max(axis=1)
    wrong = [place for place, post in enumerate(posts) if said[place] != post.truth]
    cards = []
    for place in sorted(wrong, key=lambda place: -surest[place])[:MOST]:
        post = posts[place]
        cards.append(
            MissCard(
                [row_image(encoded, post.row, pixels)],
                f"{post.post_id}: {labels[post.truth]}",
                f"predicted {labels[said[place]]}, {surest[place]:.0%}",
                encoded[post.row].get("text") or "(no text)",
            )
        )
    return cards


class _Labelled(NamedTuple):
    """What is kept of a post until it is classified."""

    row: int
    post_id: Any
    truth: int  # index of its label in the model


def known_label_names(rows: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> list[str]:
    """Names of a data set's labels by index; [] where rows carry the names themselves.

    The model may have more: rows of one's own need not have all of its labels.

    Raises:
        EvaluationError: some of them are not the model's.
    """
    feature = (getattr(rows, "features", None) or {}).get("label")
    names = list(getattr(feature, "names", None) or [])
    if other := [name for name in names if name not in labels]:
        raise EvaluationError(
            f"The data set's labels are {', '.join(map(repr, names))}, the model's are "
            f"{', '.join(map(repr, labels))}. Choose a model trained on these labels, or the data set's option that "
            f"gives the model's; of your own posts, say what each label means: "
            f"--label {shell_word(f'{other[0]}=LABEL')}, and so on, with {' or '.join(labels)} for LABEL."
        )
    return names

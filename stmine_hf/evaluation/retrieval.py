"""Score a retrieval model on a captioned set: the paper's table, and one in which captions of the same text count.

The Trainer (after each epoch), `stmine evaluate fisvl` and the model cards all call `evaluate_retrieval`, so that a
number in a log, on the screen and on a card is the same number.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from PIL import Image
from rich.table import Table

from ..fonts import in_every_script
from ..images import ImageError, PixelOptions, Skip
from ..metrics.retrieval import (
    KS,
    RetrievalRanks,
    recall_curve,
    recall_of_ranks,
    retrieval_ranks,
    same_text_answers,
)
from ..outputs import Outputs
from ..search.embedding import DualEncoder, DualProcessor, embed_images, embed_texts
from .miss_cards import MOST, MissCard, cards_sheet, row_image
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
    undecoded,
    versions,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAME_TEXT = "same_text_"  # prefix of the metrics that count captions of the same text as exact matches
_COLOURS = {"txt": "#2166ac", "img": "#b2182b"}
_DIRECTIONS = {"txt": "image → text", "img": "text → image"}


class TrainedEncoder(DualEncoder, Protocol):
    """A model of images and sentences whose mode (train, eval) can be restored."""

    training: bool

    def train(self, mode: bool) -> Any: ...


@dataclass(frozen=True)
class RetrievalReport:
    """Scores of a model on a data set.

    Attributes:
        ranks: of the best right answer to every query, in the paper's protocol.
        same_text_ranks: the same, where any caption equal to one of the image's own is right.
        model, dataset, split: names; of the data None where unknown.
        images, captions, distinct_captions: numbers measured.
        skipped: images skipped with their captions, and why.
        seconds: duration of the evaluation.
        worst: captions whose own image has the worst rank, each of another image; empty for a stream.
    """

    ranks: RetrievalRanks
    same_text_ranks: RetrievalRanks
    model: str
    dataset: str | None
    split: str | None
    images: int
    captions: int
    distinct_captions: int
    skipped: list[Skip] = field(default_factory=list)
    seconds: float = 0.0
    pixels: dict[str, Any] | None = None  # how images were read, None: the default
    worst: list[MissCard] = field(default_factory=list, repr=False)

    @property
    def metrics(self) -> dict[str, float]:
        """`txt_r1, txt_r5, txt_r10, img_r1, img_r5, img_r10, r_mean` in percent, then the same with `same_text_`."""
        same_text = recall_of_ranks(self.same_text_ranks)
        return recall_of_ranks(self.ranks) | {SAME_TEXT + key: value for key, value in same_text.items()}

    @property
    def by_class(self) -> list[dict[str, Any]]:
        """Empty: sentences have no classes."""
        return []

    def table(self) -> Table:
        """The paper's row of numbers and, below it, the row that counts captions of the same text."""
        title = f"{self.model} on {self.dataset or 'the data'} {self.split or ''}".rstrip() + ", recall in %"
        caption = f"{self.images} images, {self.captions} captions ({self.distinct_captions} different ones)"
        caption += "\nsame text: a caption equal to one of the image's own is right"
        if self.skipped:
            caption += f"\nskipped {len(self.skipped)} images, the first {self.skipped[0].path}: "
            caption += self.skipped[0].reason
        table = Table(title=title, caption=caption)
        table.add_column("protocol")
        for arrow in ("i→t", "t→i"):  # an image finds texts, a text finds images
            for k in KS:
                table.add_column(f"{arrow}\nR@{k}", justify="right")
        table.add_column("mR", justify="right", style="bold")
        for name, ranks in {"paper": self.ranks, "same text": self.same_text_ranks}.items():
            table.add_row(name, *(f"{value:.2f}" for value in recall_of_ranks(ranks).values()))
        return table

    def to_dict(self) -> dict[str, Any]:
        """The content of `results.json`."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "split": self.split,
            "images": self.images,
            "captions": self.captions,
            "distinct_captions": self.distinct_captions,
            "skipped": [skip._asdict() for skip in self.skipped],
            "metrics": self.metrics,
            "recall_curve": recall_curve(self.ranks),
            "same_text_recall_curve": recall_curve(self.same_text_ranks),
            **({"pixels": self.pixels} if self.pixels else {}),
            "seconds": round(self.seconds, 2),
            "versions": versions(),
        }

    def save(self, folder: str | Path) -> None:
        """Write `results.json` and `recall_curve.png` (needs matplotlib) into `folder`, created if missing."""
        with Outputs(folder) as outputs:
            self.write(outputs)

    def write(self, outputs: Outputs, prefix: str = "") -> None:
        """Write the same files, beside other results of a run; see `save_report`."""
        outputs.remove(f"{prefix}{MISSES}")  # of an earlier evaluation
        if self.worst:
            sheet = cards_sheet(
                self.worst, title=f"{self.model}: captions whose image (left) came after others (right)"
            )
            outputs.write(f"{prefix}{MISSES}", sheet.save)
        save_report(outputs, self.to_dict(), {"recall_curve.png": self.draw}, prefix=prefix)

    @in_every_script
    def draw(self) -> Figure:
        """Recall over the number of results considered, for both directions and protocols."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 4.5), layout="constrained")
        axes = figure.subplots()
        paper, same_text = recall_curve(self.ranks), recall_curve(self.same_text_ranks)
        for side, direction in _DIRECTIONS.items():
            axes.plot(paper["k"], paper[side], color=_COLOURS[side], linewidth=2, label=direction)
            label = f"{direction}, same text is right"
            axes.plot(same_text["k"], same_text[side], "--", color=_COLOURS[side], label=label)
            axes.plot(KS, [paper[side][k - 1] for k in KS], "o", color=_COLOURS[side], markersize=5)
        axes.set_xscale("log")
        axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        axes.minorticks_off()
        axes.set(
            xlim=(0.93, 108), ylim=(0, 102), xlabel="results considered (k)", ylabel="correct result among them, %"
        )
        what = " ".join(name for name in (self.dataset, self.split) if name) or "retrieval"
        finish_curve(
            axes,
            f"{what}: {self.images} images, {self.captions} captions, mR {self.metrics['r_mean']:.2f} %",
            legend="upper left",
        )
        return figure


def evaluate_retrieval(
    model: TrainedEncoder,
    processor: DualProcessor,
    dataset: Iterable[Mapping[str, Any]],
    *,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    pixels: PixelOptions | None = None,
    progress: bool = True,
) -> RetrievalReport:
    """Embed every image and every different caption once, rank captions for each image, and images for each caption.

    Every process of a distributed run measures the whole set by itself.

    Args:
        model: has `get_image_features` and `get_text_features`; its mode (train, eval) is restored afterwards.
        processor: the model's.
        dataset: rows with `image` (PIL), `captions` (list of str) and, for messages, `filename`: a `datasets.Dataset`,
            a stream, or any iterable. Unreadable images are skipped with their captions and reported.
        batch_size: images, or captions, per batch.
        device: where to run; default: the device of the model.
        pixels: what becomes of images of more than 8 bits or three bands; see `images.PixelOptions`.
        progress: show a bar on stderr.

    Returns:
        RetrievalReport: `.metrics`, `.table()`, `.save(folder)`.

    Raises:
        EvaluationError: no row has a readable image and a caption.
    """
    start, was_training = time.perf_counter(), model.training
    captions: list[list[str]] = []
    numbers: list[int] = []  # of the rows that have a readable image
    skipped: list[Skip] = []

    def load(row: Mapping[str, Any], image: Image.Image, number: int) -> tuple[Image.Image, list[str], int]:
        if not row["captions"]:
            raise ImageError("it has no caption")
        return image, list(row["captions"]), number

    def images() -> Iterator[Image.Image]:
        doing = "Embedding images"
        with closing(readable(dataset, load, skipped, doing=doing, progress=progress, pixels=pixels)) as loaded:
            for image, own, number in loaded:
                captions.append(own)
                numbers.append(number)
                yield image

    try:
        image_embeds = embed_images(model, processor, images(), batch_size=batch_size, device=device)
        if not captions:
            found = f"; the first: {skipped[0].path}, {skipped[0].reason}" if skipped else ""
            raise EvaluationError(
                f"Expected rows with a readable image and captions, found none ({len(skipped)} skipped{found})."
            )
        texts = [text for own in captions for text in own]
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        text_embeds = embed_texts(model, processor, list(distinct), batch_size=batch_size, device=device)
    finally:
        model.train(was_training)
    # scored once and then copied: captions of one text tie exactly, whatever the matrix product rounds
    scores = (image_embeds @ text_embeds.T)[:, [distinct[text] for text in texts]]  # (images, captions)
    owner = [image for image, own in enumerate(captions) for _ in own]
    name, split = dataset_names(dataset)
    same_text = retrieval_ranks(scores, *same_text_answers(captions))
    return RetrievalReport(
        ranks=retrieval_ranks(scores, text_to_image=owner),
        same_text_ranks=same_text,
        model=model_name(model),
        dataset=name,
        split=split,
        images=len(captions),
        captions=len(texts),
        distinct_captions=len(distinct),
        skipped=skipped,
        seconds=time.perf_counter() - start,
        pixels=pixel_settings(pixels),
        worst=_worst(dataset, numbers, texts, owner, same_text.text_to_image, scores, pixels),
    )


def _worst(
    dataset: Iterable[Mapping[str, Any]],
    numbers: list[int],
    texts: list[str],
    owner: list[int],
    ranks: np.ndarray,
    scores: torch.Tensor,
    pixels: PixelOptions | None,
) -> list[MissCard]:
    """The captions whose image has the worst rank, one of each image; empty for rows that cannot be read again."""
    if not hasattr(dataset, "select"):
        return []
    rows, seen = cast(Sequence[Mapping[str, Any]], undecoded(dataset)), set()
    cards: list[MissCard] = []
    for text in np.argsort(-ranks, kind="stable").tolist():
        own, rank = owner[text], int(ranks[text])
        if rank == 0 or len(cards) == MOST:
            break
        if own not in seen:
            seen.add(own)
            first = int(scores[:, text].argmax())
            images = [row_image(rows, numbers[one], pixels) for one in (own, first)]
            names = [row_name(rows[numbers[image]], numbers[image]) for image in (own, first)]
            said = f"{names[1]} came first, the right image {rank + 1} of {len(numbers)}"
            cards.append(MissCard(images, names[0], said, texts[text]))
    return cards

"""Post checker: verdict, and what moved it, found by leaving parts of the post out and judging again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..errors import StmineError
from ..loading import load_mttv
from ..modeling.mttv.pipeline_mttv import word_spans
from . import limits

GRID = 4  # rows and columns of the cells that are hidden one by one


@dataclass(frozen=True)
class MovedWord:
    """A word of the post, and what its absence does.

    Attributes:
        word: it stands at `start` to `end` of the text.
        without: probability of the verdict without it.
        weight: log-odds that it adds to the verdict; below 0, it speaks against it.
    """

    word: str
    start: int
    end: int
    without: float
    weight: float


@dataclass(frozen=True)
class MovedRegion:
    """A part of the image, and what hiding it does.

    Attributes:
        box: left, top, right, bottom in pixels of the image.
        without: probability of the verdict while it is hidden.
        weight: log-odds that it adds to the verdict; below 0, it speaks against it.
    """

    box: tuple[int, int, int, int]
    without: float
    weight: float


@dataclass(frozen=True)
class WhatIf:
    """The verdict on a part of the post: its label and the probability of each."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class PostCheck:
    """What the model makes of a post.

    Attributes:
        text: as it was read.
        label: the verdict.
        confidence: its probability.
        probabilities: of each label.
        words: what the model read, in order; what it cut away at the end is not listed.
        regions: cells of the image, row by row; none without an image.
        without_image: None for a post that has none, or nothing else.
        without_text: the same.
        image: that of the post with its regions tinted, red for the verdict and blue against it; or None.
    """

    text: str
    label: str
    confidence: float
    probabilities: dict[str, float]
    words: list[MovedWord]
    regions: list[MovedRegion]
    without_image: WhatIf | None
    without_text: WhatIf | None
    image: Image.Image | None

    @property
    def unread(self) -> str:
        """The end of the text, which the model did not read; mostly ""."""
        return self.text[self.words[-1].end if self.words else 0 :].strip()


class PostChecker:
    """Judges posts.

    Args:
        model: folder or Hub id of an MTTV model, a loaded `(model, processor)`, or None for the small one.
    """

    def __init__(self, model: str | Path | tuple[Any, Any] | None = None, *, device: str | None = None):
        self.model, self.processor = model if isinstance(model, tuple) else load_mttv(model, device=device)
        self.labels: list[str] = [self.model.config.id2label[number] for number in range(self.model.config.num_labels)]

    @property
    def model_name(self) -> str:
        return Path(self.model.name_or_path).name

    def check(self, text: str, image: limits.ImageInput | None = None) -> PostCheck:
        """Judge a post and every post that is left of it when one part is taken away.

        Raises:
            StmineError: nothing to judge, too long a text, or an image that cannot be used.
        """
        text = limits.checked_text(text, limits.MAX_POST)
        checked = None if image is None else limits.checked_image(image)
        if not text and checked is None:
            raise StmineError("Nothing to judge: write a text, give an image, or both.")
        if checked is not None and self.model.config.vision_config is None:
            raise StmineError("This model has no visual encoder, it judges texts alone: leave the image out.")
        spans = [(start, end) for start, end, _ in word_spans(self.processor, text)] if text else []
        read = text[: spans[-1][1]] if spans else ""  # else what was cut away would come in where a word goes
        boxes = cells(checked.size) if checked else []
        texts = [read, *(read[:start] + read[end:] for start, end in spans), *[read] * len(boxes)]
        shown = self._seen(checked, boxes)  # (1 + cells, C, rows, columns): the image, and with each cell hidden
        maps: Tensor | None = None
        if shown is not None:
            maps = torch.cat([shown[:1].expand(1 + len(spans), *shown.shape[1:]), shown[1:]])
        odds = self._log_probabilities(texts, maps)  # (1 + words + cells, L)
        verdict = int(odds[0].argmax())
        probability = np.exp(odds[:, verdict])
        logit = odds[:, verdict] - np.log1p(-np.minimum(probability, 1 - 1e-7))
        weights = (logit[0] - logit).tolist()
        words = [
            MovedWord(text[start:end], start, end, float(probability[1 + n]), weights[1 + n])
            for n, (start, end) in enumerate(spans)
        ]
        first = 1 + len(spans)
        regions = [MovedRegion(box, float(probability[first + n]), weights[first + n]) for n, box in enumerate(boxes)]
        both = bool(text) and shown is not None
        return PostCheck(
            text,
            self.labels[verdict],
            float(probability[0]),
            self._named(odds[0]),
            words,
            regions,
            self._what_if(self._log_probabilities([text], None)[0]) if both else None,
            self._what_if(self._log_probabilities([""], shown[:1])[0]) if both and shown is not None else None,
            None if checked is None else tinted(checked, regions, max(abs(weight) for weight in weights)),
        )

    def _seen(self, image: Image.Image | None, boxes: list[tuple[int, int, int, int]]) -> Tensor | None:
        """Visual features of the image, and of it with each of the boxes painted in its mean colour."""
        if image is None:
            return None
        mean = tuple(np.asarray(image.resize((1, 1), Image.Resampling.BOX))[0, 0].tolist())
        variants = [image]
        for box in boxes:
            hidden = image.copy()
            hidden.paste(mean, box)
            variants.append(hidden)
        pixels = self.processor.image_processor(images=variants, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            features, _ = self.model.mttv.get_visual_features(pixels.to(self.model.device, self.model.dtype))
        return features

    @torch.inference_mode()
    def _log_probabilities(self, texts: list[str], maps: Tensor | None) -> np.ndarray:  # (B, L)
        inputs = self.processor(text=texts).to(self.model.device)
        given = {} if maps is None else {"global_features": maps}
        return self.model(**inputs, **given).logits.double().log_softmax(dim=-1).cpu().numpy()

    def _named(self, log_probabilities: np.ndarray) -> dict[str, float]:
        return dict(zip(self.labels, np.exp(log_probabilities).tolist(), strict=True))

    def _what_if(self, log_probabilities: np.ndarray) -> WhatIf:
        return WhatIf(self.labels[int(log_probabilities.argmax())], self._named(log_probabilities))


def cells(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Boxes of a grid over an image of this width and height, row by row."""
    xs, ys = (np.linspace(0, side, GRID + 1).round().astype(int).tolist() for side in size)
    return [(xs[x], ys[y], xs[x + 1], ys[y + 1]) for y in range(GRID) for x in range(GRID)]


def tinted(image: Image.Image, regions: list[MovedRegion], strongest: float) -> Image.Image:
    """The image with its regions tinted: red speaks for the verdict, blue against it.

    Args:
        strongest: weight with the full tint: that of the most telling part of the post, be it a word or a region.
    """
    tint = Image.new("RGBA", image.size)
    pen = ImageDraw.Draw(tint)
    for region in regions:
        colour = (214, 39, 40) if region.weight > 0 else (31, 119, 180)
        left, top, right, bottom = region.box
        if right > left and bottom > top:  # of an image of few pixels some cells are empty
            alpha = round(170 * abs(region.weight) / max(strongest, 1e-9))
            pen.rectangle((left, top, right - 1, bottom - 1), fill=(*colour, alpha))
    return Image.alpha_composite(image.convert("RGBA"), tint).convert("RGB")

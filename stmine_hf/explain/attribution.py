"""Attribution of a prediction for a post: weights of its words, regions and image cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Word:
    """A word of the text.

    Attributes:
        word: the characters from `start` to `end` of the text.
        weight: for the predicted label where above 0, against it where below.
        without: probability of the label without the word; None if the method does not remove words.
    """

    word: str
    start: int
    end: int
    weight: float
    without: float | None = None


@dataclass(frozen=True)
class Region:
    """A region that a detector found or that was given.

    Attributes:
        box: left, top, right, bottom in pixels of the image.
        weight: see [`Word`].
        image: number of the image in the post, from 0.
        without: see [`Word`].
    """

    box: tuple[float, float, float, float]
    weight: float
    image: int = 0
    without: float | None = None


@dataclass(frozen=True)
class Attribution:
    """A prediction and what drove it.

    Attributes:
        text: the text that was classified.
        label: the predicted label.
        score: its probability.
        scores: the probability of each label.
        method: "occlusion" or "integrated_gradients".
        words: the words that the model read, in order. Words cut off at the end are not listed.
        regions: the regions of the images.
        cells: weights of a grid that covers the first image, row by row; empty without an image.
        without_image: probability of the label without the images; None if there are none, if nothing else would
            remain, or if the method does not remove parts.
        evidence: the sum of all weights, up to the error of the integral ("integrated_gradients" alone).
    """

    text: str
    label: str
    score: float
    scores: dict[str, float]
    method: str
    words: list[Word] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    cells: list[list[float]] = field(default_factory=list)
    without_image: float | None = None
    evidence: float | None = None

    @classmethod
    def from_pipeline(cls, text: str, result: Mapping[str, Any]) -> Attribution:
        """The answer of [`MttvPipeline`] with `explain` for a post with this text."""
        regions = [Region(**{**region, "box": tuple(region["box"])}) for region in result["regions"]]
        names = ("label", "score", "scores", "method", "cells", "without_image", "evidence")
        given = {name: result[name] for name in names if name in result}
        return cls(text=text, words=[Word(**word) for word in result["words"]], regions=regions, **given)

    @property
    def weights(self) -> Iterator[float]:
        """The weights of all words, regions and cells."""
        yield from (word.weight for word in self.words)
        yield from (region.weight for region in self.regions)
        yield from (weight for row in self.cells for weight in row)

    @property
    def strongest(self) -> float:
        """The greatest absolute weight, which gets the full colour in a drawing; 1 if all are 0."""
        return max(map(abs, self.weights), default=0.0) or 1.0

    @property
    def poles(self) -> tuple[str, str] | None:
        """Of a model with two labels, the first and the second: what weights speak for. None for more labels."""
        return tuple(self.scores) if len(self.scores) == 2 else None  # type: ignore[return-value]

    @property
    def sign(self) -> int:
        """What makes weights positive towards the first of two labels, so that a label has one color everywhere."""
        return -1 if self.poles is not None and self.label == self.poles[1] else 1

    @property
    def read(self) -> str:
        """The part of the text that the model read."""
        return self.text[: self.words[-1].end if self.words else 0]

    @property
    def unread(self) -> str:
        """The end of the text, which the model did not read; mostly ""."""
        return self.text[len(self.read) :].strip()

    def strongest_words(self, count: int) -> list[Word]:
        """The words that move the prediction most, each once: of a word that occurs twice, the stronger. No blanks."""
        found: dict[str, Word] = {}
        for word in sorted(self.words, key=lambda word: -abs(word.weight)):
            if word.word.strip():
                found.setdefault(word.word, word)
        return list(found.values())[:count]

    def to_dict(self) -> dict[str, Any]:
        """The attribution as JSON values, in the form of the pipeline's output."""
        return {name: value for name, value in asdict(self).items() if value is not None}

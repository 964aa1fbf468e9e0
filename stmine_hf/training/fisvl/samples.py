"""From data set rows to FISVL training samples: which captions a step sees, and of which image."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image

from ...errors import StmineError
from ...images import PixelOptions
from ...modeling.fisvl.processing_fisvl import clean_caption
from ..samples import Samples
from ..streamed import Streamed, refuse
from .arguments import FisvlTrainingArguments

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)


class CaptionedImages(Samples):
    """The samples of an epoch: one per caption (`captions_per_step="all"`) or one per image (`"one"` or a number).

    An item is a mapping: `image` (RGB PIL), `captions` (list of str, cleaned), `caption_weights` (list of float),
    `image_id` and `label` (int), `row` (int, in `rows`), `seed` (int). An image that cannot be read is replaced by the
    next one that can.

    Args:
        rows: A `datasets.Dataset` of `stmine_hf.load_dataset`.
        captions_per_step: `"all"`, `"one"` or the number of captions of an image in a step.
        max_words: Words kept of a caption; None leaves captions as they are.
        seed: Seed of the run.
        pixels: How images are read.

    Raises:
        StmineError: Rows without a single usable caption, or images none of which can be read.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        captions_per_step: str = "all",
        max_words: int | None = 30,
        seed: int = 0,
        pixels: PixelOptions | None = None,
    ):
        super().__init__(rows, seed, pixels)
        self.captions_per_image = 1 if captions_per_step in ("all", "one") else int(captions_per_step)
        self.captions = [[_clean(text, max_words) for text in texts] for texts in rows["captions"]]
        usable = [[j for j, text in enumerate(texts) if text] for texts in self.captions]
        if captions_per_step == "all":
            self.samples = [(i, [j]) for i, choices in enumerate(usable) for j in choices]
        else:
            self.samples = [(i, choices) for i, choices in enumerate(usable) if choices]
        empty = sum(map(len, self.captions)) - sum(map(len, usable))
        if empty:
            logger.warning("%d captions without a word in them are skipped.", empty)
        if not self.samples:
            raise StmineError(f"None of the {len(self.captions)} training images has a caption with a word in it.")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        seed = self.sample_seed(index)
        following = (self.samples[(index + step) % len(self)] for step in range(len(self)))
        row, choices, image = self.first_readable(following)
        picked = _pick(choices, self.captions_per_image, random.Random(seed))
        return {**_sample(self.rows[row], image, self.captions[row], picked, seed), "row": row}


class CaptionedStream(Streamed):
    """The samples of `CaptionedImages`, without `row`, from a stream: one an image; see `Streamed`.

    Args:
        rows, args, buffer, pixels: Of `Streamed`.
        captions_per_step: `"one"` or the number of captions of an image in a step.
        max_words: Words kept of a caption; None leaves captions as they are.
    """

    def __init__(
        self,
        rows: datasets.IterableDataset,
        args: FisvlTrainingArguments,
        buffer: int,
        captions_per_step: str,
        max_words: int | None = 30,
        pixels: PixelOptions | None = None,
    ):
        refuse(args, "released_schedule_length")
        if captions_per_step == "all":
            raise StmineError("A stream is seen image by image: captions_per_step must be 'one' or a number.")
        super().__init__(rows, args, buffer, pixels)
        self.captions_per_image = 1 if captions_per_step == "one" else int(captions_per_step)
        self.max_words = max_words

    def sample(self, row: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
        captions = [_clean(text, self.max_words) for text in row["captions"]]
        choices = [j for j, text in enumerate(captions) if text]
        if not choices or (image := self.image(row)) is None:
            return None
        picked = _pick(choices, self.captions_per_image, random.Random(seed))
        return _sample(row, image, captions, picked, seed)


def _sample(
    record: Mapping[str, Any], image: Image.Image, captions: Sequence[str], picked: Sequence[int], seed: int
) -> dict[str, Any]:
    return {
        "image": image,
        "captions": [captions[j] for j in picked],
        "caption_weights": [record["caption_weights"][j] for j in picked],
        "image_id": record["image_id"],
        # An image of unknown scene is a scene of its own: -1 would make one scene of all of them.
        "label": record["label"] if record["label"] >= 0 else -1 - record["image_id"],
        "seed": seed,
    }


def _clean(text: str, max_words: int | None) -> str:
    if max_words is None:
        return text.strip()
    try:
        return clean_caption(text, max_words)
    except ValueError:  # nothing but punctuation
        return ""


def _pick(choices: Sequence[int], count: int, rng: random.Random) -> list[int]:
    """`count` of the choices, without repetition as long as there are enough."""
    return rng.sample(choices, count) if count <= len(choices) else rng.choices(choices, k=count)

"""From data set rows to FISVL training batches: which captions a step sees, augmentation, word dropping, tokens."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...data.word_dropping import random_deletion
from ...errors import StmineError
from ...images import ImageError, decode_image, image_errors
from ...modeling.fisvl.processing_fisvl import clean_caption
from ..streamed import Streamed, refuse
from .arguments import FisvlTrainingArguments
from .transforms import seeded

logger = logging.getLogger(__name__)


class CaptionedImages(torch.utils.data.Dataset):
    """The samples of an epoch: one a caption (`captions_per_step="all"`) or one an image (`"one"` or a number).

    An item is a mapping: `image` (RGB PIL), `captions` (list of str, cleaned), `caption_weights` (list of float),
    `image_id` and `label` (int), `row` (int, in `rows`), `seed` (int). Everything random about it follows from
    `(seed, epoch, index)`, so that neither the number of workers nor an interruption changes a run. An image that
    cannot be read is replaced by the next one that can, counted in `unreadable` and named once in the log.

    Args:
        rows: A `datasets.Dataset` of `stmine_hf.load_dataset`.
        captions_per_step: `"all"`, `"one"` or the number of captions of an image in a step.
        max_words: Words kept of a caption; None leaves captions as they are.
        seed: Seed of the run.

    Raises:
        StmineError: Rows without a single usable caption, or images none of which can be read.
    """

    def __init__(self, rows: Any, captions_per_step: str = "all", max_words: int | None = 30, seed: int = 0):
        from datasets import Image as ImageFeature

        self.rows = rows.cast_column("image", ImageFeature(decode=False))
        self.seed = seed
        self.captions_per_image = 1 if captions_per_step in ("all", "one") else int(captions_per_step)
        self.captions = [[_clean(text, max_words) for text in texts] for texts in rows["captions"]]
        usable = [[j for j, text in enumerate(texts) if text] for texts in self.captions]
        if captions_per_step == "all":
            self.samples = [(i, [j]) for i, choices in enumerate(usable) for j in choices]
        else:
            self.samples = [(i, choices) for i, choices in enumerate(usable) if choices]
        empty = sum(map(len, self.captions)) - sum(map(len, usable))
        if empty:
            logger.warning("%d captions without a word in them are left out.", empty)
        if not self.samples:
            raise StmineError(f"None of the {len(self.captions)} training images has a caption with a word in it.")
        # In shared memory: worker processes write the one and read the other.
        self._bad = torch.zeros(len(self.captions), dtype=torch.bool).share_memory_()
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def unreadable(self) -> int:
        """Number of images found unreadable so far."""
        return int(self._bad.sum())

    def set_epoch(self, epoch: int) -> None:
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        seed = hash((self.seed, int(self._epoch), index)) % 2**63
        for step in range(len(self)):
            row, choices = self.samples[(index + step) % len(self)]
            if (image := self._read(row)) is not None:
                break
        else:
            raise StmineError("None of the training images can be read; is data_dir the right folder?")
        picked = _pick(choices, self.captions_per_image, random.Random(seed))
        record = self.rows[row]
        return {**_sample(record, image, self.captions[row], picked, seed), "row": row}

    def _read(self, row: int) -> Image.Image | None:
        """The image of a row as RGB, or None (and a line in the log, once) when it cannot be read."""
        if self._bad[row]:
            return None
        stored = self.rows[row]["image"]
        try:
            with image_errors():
                return decode_image(stored)
        except ImageError as error:
            self._bad[row] = True
            logger.warning("Skipped %s: %s", stored["path"] or self.rows[row]["filename"], error)
            return None


class CaptionedStream(Streamed):
    """The samples of `CaptionedImages`, without `row`, from a stream: one an image; see `Streamed`.

    Args:
        rows, args, buffer: Of `Streamed`.
        captions_per_step: `"one"` or the number of captions of an image in a step.
        max_words: Words kept of a caption; None leaves captions as they are.
    """

    def __init__(
        self, rows: Any, args: FisvlTrainingArguments, buffer: int, captions_per_step: str, max_words: int | None = 30
    ):
        refuse(args, "released_schedule_length")
        if captions_per_step == "all":
            raise StmineError("A stream is seen image by image: captions_per_step must be 'one' or a number.")
        super().__init__(rows, args, buffer)
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


@dataclass
class FisvlCollator:
    """Items of `CaptionedImages` to a batch of n images and n x k captions (k captions an image).

    Gives `pixel_values (n, 3, H, W)`; `input_ids`, `attention_mask (n k, L)`; `image_ids`, `scene_labels (n k,)`
    int64; `caption_weights (n k,)` float32; and for k > 1 `image_index (n k,)`: the row of `pixel_values` that a
    caption belongs to.

    Args:
        processor: A `FisvlProcessor`; its tokenizer is used on the captions.
        transform: RGB PIL image to a float tensor `(3, H, W)`; see `transforms_fisvl.build_transform`.
        deletion_rate: Chance that a caption loses a given word.
    """

    processor: Any
    transform: Callable[[Image.Image], Tensor]
    deletion_rate: float = 0.0

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        images, captions = [], []
        for item in items:
            with seeded(item["seed"]):
                images.append(self.transform(item["image"]))
            rng = random.Random(item["seed"])
            captions += [random_deletion(text, self.deletion_rate, rng=rng) for text in item["captions"]]
        per_image = len(items[0]["captions"])
        tokens = self.processor(text=captions, return_tensors="pt")
        batch = {
            "pixel_values": torch.stack(images),
            "input_ids": tokens["input_ids"],
            "attention_mask": tokens["attention_mask"],
            "image_ids": torch.tensor([item["image_id"] for item in items]).repeat_interleave(per_image),
            "scene_labels": torch.tensor([item["label"] for item in items]).repeat_interleave(per_image),
            "caption_weights": torch.tensor([weight for item in items for weight in item["caption_weights"]]),
        }
        if per_image > 1:
            batch["image_index"] = torch.arange(len(items)).repeat_interleave(per_image)
        return batch

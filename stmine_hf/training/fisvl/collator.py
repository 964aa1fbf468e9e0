"""From FISVL training samples to batches: augmentation, word dropping, tokens."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ...data.word_dropping import random_deletion
from ..seeding import seeded

if TYPE_CHECKING:
    from ...modeling.fisvl.processing_fisvl import FisvlProcessor


@dataclass
class FisvlCollator:
    """Items of `CaptionedImages` to a batch of n images and n x k captions (k captions an image).

    Gives `pixel_values (n, 3, H, W)`; `input_ids`, `attention_mask (n k, L)`; `image_ids`, `scene_labels (n k,)`
    int64; `caption_weights (n k,)` float32; and for k > 1 `image_index (n k,)`: the row of `pixel_values` that a
    caption belongs to.

    Args:
        processor: A `FisvlProcessor`; its tokenizer is used on the captions.
        transform: RGB PIL image to a float tensor `(3, H, W)`; see `build_fisvl_transform`.
        deletion_rate: Chance that a caption loses each of its words.
    """

    processor: FisvlProcessor
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

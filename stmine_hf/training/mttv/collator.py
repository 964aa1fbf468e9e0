"""From MTTV training samples to batches: augmentation, regions, tokens, dropped tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...posts.prediction import stack_features
from ..seeding import seeded
from .transforms import ImageTransform

if TYPE_CHECKING:
    from ...modeling.mttv.processing_mttv import MttvProcessor
    from ...posts.prediction import RegionDetector


@dataclass
class MttvCollator:
    """Items of `Posts` to a batch of `MttvForSequenceClassification`.

    Gives `input_ids`, `attention_mask (n, T)` and `labels (n,)`; where a post of the batch has an image also
    `pixel_values` and `image_mask` (with a detector also `region_pixel_values` and `region_mask`), or, with features
    computed beforehand, `global_features` and `region_features`.

    Args:
        processor: an `MttvProcessor`: text is truncated and tokenized as in inference.
        transform: augmentation of images; see `build_mttv_transform`.
        detector: finds regions in the images as augmented; see `MttvProcessor`.
        token_dropping: chance that a text loses each of its tokens; at least one remains.
    """

    processor: MttvProcessor
    transform: ImageTransform | None = None
    detector: RegionDetector | None = None
    token_dropping: float = 0.0

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        images = [self._augmented(item) for item in items]
        # The model treats absent inputs as zeros, which is also how it treats a masked image.
        shown = {"images": images, "detector": self.detector} if any(image is not None for image in images) else {}
        inputs = self.processor(text=[item["text"] for item in items], **shown)
        batch = {**inputs, "labels": torch.tensor([item["label"] for item in items])}
        if self.token_dropping:
            seeds, padding = [item["seed"] for item in items], self.processor.tokenizer.pad_token_id
            batch |= drop_tokens(batch, self.token_dropping, seeds, padding)
        return batch | stack_features([item["features"] for item in items])

    def _augmented(self, item: dict[str, Any]) -> Image.Image | None:
        if item["image"] is None or self.transform is None:
            return item["image"]
        with seeded(item["seed"]):
            return self.transform(item["image"])


def drop_tokens(batch: Mapping[str, Tensor], rate: float, seeds: list[int], padding: int = 0) -> dict[str, Tensor]:
    """Leave each token of a padded batch out with probability `rate`; at least one token per text remains.

    Tokens rather than words: a Chinese text has no separators between words, its characters are its tokens.

    Returns:
        `input_ids` and `attention_mask`, padded on the right to the longest remaining text.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    kept = torch.zeros_like(mask)
    for row, seed in enumerate(seeds):
        draws = np.random.default_rng(seed).random(int(mask[row].sum()))
        stays = draws >= min(rate, draws.max(initial=0.0))
        kept[row, mask[row]] = torch.from_numpy(stays)
    order = (~kept).to(torch.int8).argsort(dim=1, stable=True)  # kept tokens first, in their order
    order = order[:, : max(1, int(kept.sum(dim=1).max()))]
    kept = kept.gather(1, order)
    return {
        "input_ids": ids.gather(1, order).masked_fill(~kept, padding),
        "attention_mask": kept.to(batch["attention_mask"].dtype),
    }

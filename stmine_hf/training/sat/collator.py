"""From SAT training samples to batches: augmentation of images with their boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..seeding import seeded

Transform = Callable[[Image.Image, Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]


@dataclass
class SatCollator:
    """Items of `BoxedImages` to a batch of `SatForObjectDetection`.

    Gives `pixel_values (n, 3, H, W)` and `labels`: for each image `class_labels` and `boxes` of the visible objects.

    Args:
        transform: Image, boxes, labels to the model's input; see `SatTransform`.
    """

    transform: Transform

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        images, labels = [], []
        for item in items:
            with seeded(item["seed"]):
                pixels, target = self.transform(item["image"], item["boxes"], item["class_labels"])
            images.append(pixels)
            labels.append(target)
        return {"pixel_values": torch.stack(images), "labels": labels}

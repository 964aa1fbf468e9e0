"""Training-time augmentation of posts' images, as named presets.

A preset turns an RGB PIL image into another one, which the processor resizes and normalises as in inference. All
randomness comes from torch's global generator, which the caller seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ...errors import StmineError

ImageTransform = Callable[[Image.Image], Image.Image]


def build_mttv_transform(name: str) -> ImageTransform | None:
    """The preset `name`; None for `none`.

    Args:
        name: `none`; `crop`: a random crop of 50 to 100 % of the area; `flip`: the same, mirrored with probability
            0.5 (text in an image is mirrored too); `colour`: the same, with brightness, contrast and saturation
            changed by up to 20 %.

    Raises:
        StmineError: no such preset.
    """
    presets: dict[str, list[v2.Transform]] = {
        "none": [],
        "crop": [RandomCrop()],
        "flip": [RandomCrop(), v2.RandomHorizontalFlip()],
        "colour": [RandomCrop(), v2.RandomHorizontalFlip(), v2.ColorJitter(0.2, 0.2, 0.2)],
    }
    if name not in presets:
        raise StmineError(f"Unknown image augmentation {name!r}; choose one of {', '.join(presets)}.")
    return v2.Compose(presets[name]) if presets[name] else None


class RandomCrop(v2.RandomResizedCrop):
    """`RandomResizedCrop` without the resizing: detectors get the full resolution, the processor resizes."""

    def __init__(self) -> None:
        super().__init__(size=(1, 1), scale=(0.5, 1.0))

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return F.crop(inpt, **params)

"""Training-time augmentation of overhead images, as named presets.

`rsitmd`, `rsicd`, `ucm` and `sydney` are the released recipes (FISVL-pytorch/dataset/__init__.py, randaugment.py), on
torchvision's operations; `lite` is a cheap one for CPU training; `none` is what evaluation does. A preset turns an RGB
PIL image into a normalised float tensor `(3, height, width)`. All randomness comes from torch's global generator,
which the caller seeds (see `training/seeding.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import RandomResizedCrop, v2
from torchvision.transforms.v2 import functional as F

from ...errors import StmineError

FILL = [128.0, 128.0, 128.0]  # the grey with which the released code fills the area that an image was moved out of
LUMINANCE = torch.tensor([0.299, 0.587, 0.114])
QUARTER_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


class Normalisation(Protocol):
    """Size, mean and standard deviation of an image processor; the latter two for images scaled to 0..1."""

    size: Mapping[str, int]
    image_mean: Sequence[float]
    image_std: Sequence[float]


def build_fisvl_transform(
    name: str, image_processor: Normalisation, side: int | None = None
) -> Callable[[Image.Image], Tensor]:
    """The preset `name` for the size, mean and standard deviation of `image_processor`.

    Args:
        name: `rsitmd`, `rsicd`, `ucm`, `sydney`, `lite` or `none`.
        image_processor: Has `size` (`height`, `width`), `image_mean` and `image_std` (of images scaled to 0..1).
        side: Height and width of the result in pixels, if not the processor's.

    Raises:
        StmineError: No such preset.
    """
    size = (side, side) if side else (image_processor.size["height"], image_processor.size["width"])
    mean, std = list(image_processor.image_mean), list(image_processor.image_std)
    if name not in PRESETS:
        raise StmineError(f"Unknown augmentation {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name](size, mean, std)


def _released(size: tuple[int, int], mean: list[float], std: list[float], *, occlude: bool) -> v2.Compose:
    crop = v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    blur = [v2.RandomApply([v2.GaussianBlur(kernel_size=13, sigma=(0.1, 2.0))], p=0.5)] if occlude else []
    hide = [v2.RandomErasing(p=0.5, scale=(0.10, 0.20)), v2.RandomApply([GridMask()], p=0.5)] if occlude else []
    return v2.Compose(
        [
            v2.PILToTensor(),
            crop,
            v2.RandomHorizontalFlip(),
            *blur,
            RandAugment(),
            v2.ToDtype(torch.float32, scale=True),
            *hide,
            v2.Normalize(mean, std),
        ]
    )


class RandAugment(nn.Module):
    """The released augmentation policy: `num_ops` draws with replacement, each carried out with probability `prob`.

    Levels run from 0 to 10. Brightness and sharpness use the factor 0.1 + 1.8 level / 10 (1.36 at level 7: they always
    brighten and sharpen), shears the slope 0.3 level / 10, shifts `level` pixels, rotations 3 level degrees; the last
    three go in a random direction, with grey shown at the border.

    Shape: uint8 `(3, H, W)` in and out.
    """

    OPERATIONS = (
        "Identity", "AutoContrast", "Equalize", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX",
        "TranslateY", "Rotate",
    )  # fmt: skip

    def __init__(self, num_ops: int = 2, level: float = 7, prob: float = 0.5):
        super().__init__()
        self.num_ops, self.level, self.prob = num_ops, level, prob

    def forward(self, image: Tensor) -> Tensor:
        for which in torch.randint(len(self.OPERATIONS), (self.num_ops,)).tolist():
            if torch.rand(()).item() < self.prob:
                sign = 1.0 if torch.rand(()).item() < 0.5 else -1.0
                image = apply_operation(image, self.OPERATIONS[which], self.level, sign)
        return image


def apply_operation(image: Tensor, operation: str, level: float, sign: float = 1.0) -> Tensor:
    """One operation of `RandAugment` at a level of 0..10; `sign` (+1 or -1) is its direction where it has one.

    Positive: content moves right (TranslateX) or down (TranslateY), turns counter-clockwise (Rotate), and rows shift
    right (ShearX) or columns down (ShearY) away from the top left corner.
    """
    share = level / 10
    if operation == "Identity":
        return image
    if operation == "AutoContrast":
        return F.autocontrast(image)
    if operation == "Equalize":
        return F.equalize(image)
    if operation == "Brightness":
        return F.adjust_brightness(image, 0.1 + 1.8 * share)
    if operation == "Sharpness":
        return F.adjust_sharpness(image, 0.1 + 1.8 * share)
    if operation == "Rotate":
        return F.rotate(image, sign * 30 * share, interpolation=v2.InterpolationMode.BILINEAR, fill=FILL)
    slope = -math.degrees(math.atan(sign * 0.3 * share))  # torchvision shears the other way
    shift = sign * 10 * share
    moves: dict[str, dict[str, list[float]]] = {
        "ShearX": {"translate": [0.0, 0.0], "shear": [slope, 0.0]},
        "ShearY": {"translate": [0.0, 0.0], "shear": [0.0, slope]},
        "TranslateX": {"translate": [shift, 0.0], "shear": [0.0, 0.0]},
        "TranslateY": {"translate": [0.0, shift], "shear": [0.0, 0.0]},
    }
    return F.affine(
        image,
        angle=0.0,
        scale=1.0,
        center=[0.0, 0.0],
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=FILL,
        **moves[operation],
    )


class GridMask(nn.Module):
    """Keep a rotated lattice of bars and black out the squares between them (as the released code uses GridMask).

    Args:
        low, high: Range [low, high) of the lattice's period, in pixels.
        ratio: Width of a bar as a share of the period.
        prob: Chance that a call does anything.

    Shape: float `(C, H, W)` in and out.
    """

    def __init__(self, low: int = 96, high: int = 224, ratio: float = 0.4, prob: float = 0.8):
        super().__init__()
        self.low, self.high, self.ratio, self.prob = low, high, ratio, prob

    def forward(self, image: Tensor) -> Tensor:
        if torch.rand(()).item() >= self.prob:
            return image
        height, width = image.shape[-2:]
        period = int(torch.randint(self.low, self.high, ()))
        top, left = torch.randint(period, (2,)).tolist()
        # A point lies on a bar when its coordinate in the lattice's own, rotated axes falls into the bar's part of the
        # period: no mask needs to be drawn large and turned.
        angle = math.radians(int(torch.randint(360, ())))
        y = torch.arange(height).unsqueeze(1) - (height - 1) / 2
        x = torch.arange(width).unsqueeze(0) - (width - 1) / 2
        half = math.hypot(height, width) / 2
        rows = (y * math.cos(angle) + x * math.sin(angle) + half - top) % period
        columns = (x * math.cos(angle) - y * math.sin(angle) + half - left) % period
        bar = math.ceil(period * self.ratio)
        return image * ((rows < bar) | (columns < bar))


class LiteAugment:
    """Random crop, one of the eight flips and quarter turns, and mild colour change, in about two milliseconds.

    An overhead image has no up, so every turn of it is as likely. Crop and resize are one PIL call; brightness,
    contrast, saturation and the normalisation fold into one 3x3 map of the colours.

    Args:
        size: Height and width of the result, in pixels.
        mean, std: Normalisation of images scaled to 0..1.
        scale: Range of the crop's share of the area.
        jitter: Brightness, contrast and saturation factors are drawn from [1 - jitter, 1 + jitter].
    """

    def __init__(
        self,
        size: tuple[int, int],
        mean: list[float],
        std: list[float],
        scale: tuple[float, float] = (0.5, 1.0),
        jitter: float = 0.2,
    ):
        self.size, self.scale, self.jitter = size, list(scale), jitter
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    def __call__(self, image: Image.Image) -> Tensor:
        top, left, height, width = RandomResizedCrop.get_params(image, self.scale, [3 / 4, 4 / 3])
        image = image.resize(
            self.size[::-1],
            Image.Resampling.BILINEAR,  # PIL's filters widen when they shrink, so this is antialiased
            box=(left, top, left + width, top + height),
            reducing_gap=2.0,
        )
        flip, quarter_turns = int(torch.randint(2, ())), int(torch.randint(4, ()))
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if quarter_turns and (quarter_turns == 2 or self.size[0] == self.size[1]):
            image = image.transpose(QUARTER_TURNS[quarter_turns - 1])
        return self._jitter_and_normalise(torch.from_numpy(np.array(image)))

    def _jitter_and_normalise(self, pixels: Tensor) -> Tensor:
        """uint8 `(H, W, 3)` to normalised float `(3, H, W)`; values are not clipped to 0..255 in between."""
        brightness, contrast, saturation = (1 + self.jitter * (2 * torch.rand(3) - 1)).tolist()
        colours = pixels.reshape(-1, 3).float().t()  # (3, H W)
        grey = float(LUMINANCE @ colours.mean(dim=1))
        mix = saturation * torch.eye(3) + (1 - saturation) * LUMINANCE.expand(3, 3)
        scale = 1 / (255 * self.std)
        offset = brightness * (1 - contrast) * grey * scale - self.mean / self.std
        out = torch.addmm(offset.unsqueeze(1), brightness * contrast * scale.unsqueeze(1) * mix, colours)
        return out.view(3, *pixels.shape[:2])


def _evaluation(size: tuple[int, int], mean: list[float], std: list[float]) -> v2.Compose:
    resize = v2.Resize(size, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    return v2.Compose([resize, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])


PRESETS: dict[str, Callable[[tuple[int, int], list[float], list[float]], Callable[[Image.Image], Tensor]]] = {
    "rsitmd": partial(_released, occlude=False),
    "rsicd": partial(_released, occlude=True),
    "ucm": partial(_released, occlude=True),
    "sydney": partial(_released, occlude=True),
    "lite": LiteAugment,
    "none": _evaluation,
}

"""Training-time augmentation of images with boxes, as named presets of NanoDet's numbers.

The operations are torchvision's (`transforms.v2` on `tv_tensors`): one placement of the image on the canvas moves
pixels and boxes together, what is left of a box is clipped to the canvas, and boxes with nothing left are removed.
All randomness comes from torch's global generator, which the caller seeds (see `training/seeding.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_convert
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ...errors import StmineError

if TYPE_CHECKING:
    from ...modeling.sat.image_processing_sat import SatImageProcessor


@dataclass(frozen=True)
class Augmentation:
    """The numbers of an augmentation. Pairs are ranges from which a factor is drawn evenly.

    Attributes:
        scale: size of the image; 1 fits it into the canvas.
        stretch: width and, drawn independently, height of the image, in addition to `scale`.
        translate: greatest shift as a share of the image's width, or height.
        flip: chance of a mirror image.
        geometry: chance of each of scale, stretch and translate.
        brightness: greatest value added to the colours, which run from 0 to 1.
        contrast: factor of the colours.
        saturation: factor of the saturation.
        colour: chance of each of brightness, contrast and saturation.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    stretch: tuple[float, float] = (1.0, 1.0)
    translate: float = 0.0
    flip: float = 0.0
    geometry: float = 1.0
    brightness: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    saturation: tuple[float, float] = (1.0, 1.0)
    colour: float = 0.5

    def __post_init__(self) -> None:
        for name in ("scale", "stretch", "contrast", "saturation"):
            pair = getattr(self, name)
            least, most = pair if isinstance(pair, (list, tuple)) and len(pair) == 2 else (0, 0)
            if not 0 < least <= most:
                raise StmineError(f"augmentation: {name} must be two factors in ascending order, got {pair!r}.")
        for name, most in (("flip", 1), ("geometry", 1), ("colour", 1), ("translate", 1), ("brightness", 1)):
            if not 0 <= getattr(self, name) <= most:
                raise StmineError(f"augmentation: {name} must lie in [0, {most}], got {getattr(self, name)!r}.")


_COLOURS: dict[str, Any] = {"brightness": 0.2, "contrast": (0.6, 1.4), "saturation": (0.5, 1.2)}
AUGMENTATIONS = {
    # NanoDet-m as released: legacy v0.x, each geometric step in one image of two.
    "nanodet_m": Augmentation(scale=(0.6, 1.4), translate=0.2, flip=0.5, geometry=0.5, **_COLOURS),
    # NanoDet-Plus, and what its code makes of the numbers above: every step every time, aspect ratios too.
    "nanodet_plus": Augmentation(scale=(0.6, 1.4), stretch=(0.8, 1.2), translate=0.2, flip=0.5, **_COLOURS),
    # Short runs on little data: objects keep about their size, most of each image stays visible.
    "mild": Augmentation(scale=(0.8, 1.25), stretch=(0.9, 1.1), translate=0.1, flip=0.5, **_COLOURS),
    "none": Augmentation(),
}


def build_augmentation(name: str, options: dict[str, Any] | None = None) -> Augmentation:
    """The preset `name` with some of its numbers changed.

    Raises:
        StmineError: No such preset or number, or a number out of range.
    """
    if name not in AUGMENTATIONS:
        raise StmineError(f"Unknown augmentation {name!r}; choose one of {', '.join(AUGMENTATIONS)}.")
    known = [item.name for item in fields(Augmentation)]
    if unknown := sorted(set(options or {}) - set(known)):
        raise StmineError(f"augmentation has no number {', '.join(unknown)}; it has {', '.join(known)}.")
    return replace(AUGMENTATIONS[name], **(options or {}))


class RandomPlacement(v2.Transform):
    """Show an image on a canvas of fixed size: fitted in, then scaled, stretched and moved; black around it.

    Args:
        size: Height and width of the canvas, in pixels.
        augmentation: How far; its `scale`, `stretch`, `translate` and `geometry` count.
    """

    def __init__(self, size: tuple[int, int], augmentation: Augmentation):
        super().__init__()
        self.size, self.augmentation = size, augmentation

    def make_params(self, flat_inputs: list[Any]) -> dict[str, int]:
        """The window of the image (it may reach beyond) that fills the canvas, in whole pixels."""
        height, width = next(F.get_size(x) for x in flat_inputs if isinstance(x, tv_tensors.Image))
        augmentation = self.augmentation
        scale = _uniform(*augmentation.scale) if _chance(augmentation.geometry) else 1.0
        across, down = 1.0, 1.0
        if _chance(augmentation.geometry):
            across, down = _uniform(*augmentation.stretch), _uniform(*augmentation.stretch)
        right, below = 0.0, 0.0
        if _chance(augmentation.geometry):
            right, below = (_uniform(-augmentation.translate, augmentation.translate) for _ in range(2))
        fitted = min(self.size[0] / height, self.size[1] / width)
        seen_height, seen_width = self.size[0] / (fitted * scale * down), self.size[1] / (fitted * scale * across)
        # The image moves right by a share of the width it has in the canvas unscaled: the window moves left.
        centre_x = width / 2 - right * width / (scale * across)
        centre_y = height / 2 - below * height / (scale * down)
        return {
            "top": round(centre_y - seen_height / 2),
            "left": round(centre_x - seen_width / 2),
            "height": max(1, round(seen_height)),
            "width": max(1, round(seen_width)),
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        # Without antialiasing, as the image processor resizes.
        return self._call_kernel(F.resized_crop, inpt, **params, size=list(self.size), antialias=False)


class RandomColours(v2.Transform):
    """NanoDet's colour steps, on floats from 0 to 1 that may leave that range: add, multiply, saturate."""

    def __init__(self, augmentation: Augmentation):
        super().__init__()
        self.augmentation = augmentation

    def make_params(self, flat_inputs: list[Any]) -> dict[str, float]:
        augmentation, chances = self.augmentation, [_chance(self.augmentation.colour) for _ in range(3)]
        drawn = (
            ("added", (-augmentation.brightness, augmentation.brightness), 0.0),
            ("factor", augmentation.contrast, 1.0),
            ("saturation", augmentation.saturation, 1.0),
        )
        return {
            name: _uniform(*bounds) if chance else idle
            for (name, bounds, idle), chance in zip(drawn, chances, strict=True)
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        colours = (inpt.as_subclass(Tensor) + params["added"]) * params["factor"]
        if params["saturation"] != 1.0:  # in HSV: with hue and value fixed, colours are linear in the saturation
            colours = torch.lerp(colours.amax(dim=-3, keepdim=True), colours, params["saturation"])
        return tv_tensors.wrap(colours, like=inpt)


class SatTransform:
    """An image and its boxes to the model's input: placed, mirrored, coloured, normalised.

    Args:
        augmentation: The augmentation; see `build_augmentation`.
        image_processor: A `SatImageProcessor`: canvas size, colour order, mean and standard deviation.
        side: Height and width of the canvas in pixels, if not the processor's; a multiple of 32.
    """

    def __init__(self, augmentation: Augmentation, image_processor: SatImageProcessor, side: int | None = None):
        size = (side, side) if side else (image_processor.size["height"], image_processor.size["width"])
        if any(length % 32 for length in size):
            raise StmineError(f"The side of training images must be a multiple of 32 pixels, got {size}.")
        self.reverse = image_processor.channel_order == "bgr"
        self.steps = v2.Compose(
            [
                RandomPlacement(size, augmentation),
                v2.RandomHorizontalFlip(augmentation.flip),
                v2.ClampBoundingBoxes(),  # a rounding error beyond the canvas makes the next step drop a whole box
                v2.SanitizeBoundingBoxes(min_size=1.0),
                v2.ToDtype(torch.float32, scale=True),
                RandomColours(augmentation),
            ]
        )
        self.normalise = v2.Normalize(list(image_processor.image_mean), list(image_processor.image_std))

    def __call__(self, image: Image.Image, boxes: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Augment one image.

        Args:
            image: RGB.
            boxes: `(n, 4)`, xyxy in pixels of the image; n may be 0.
            labels: `(n,)`, classes.

        Returns:
            The float image `(3, H, W)`, and the model's labels: `class_labels` `(m,)`, `boxes` `(m, 4)`, cxcywh as
            shares of the canvas, for the m boxes still visible.
        """
        format_ = tv_tensors.BoundingBoxFormat.XYXY
        target: dict[str, Tensor] = {
            "boxes": tv_tensors.BoundingBoxes(boxes.reshape(-1, 4), format=format_, canvas_size=image.size[::-1]),
            "labels": labels,
        }
        pixels, target = self.steps(tv_tensors.Image(v2.functional.pil_to_tensor(image)), target)
        pixels = pixels.as_subclass(Tensor)
        height, width = pixels.shape[-2:]
        shares = target["boxes"].as_subclass(Tensor) / torch.tensor([width, height, width, height])
        pixels = self.normalise(pixels.flip(-3) if self.reverse else pixels)
        return pixels, {"class_labels": target["labels"], "boxes": box_convert(shares, "xyxy", "cxcywh")}


def _chance(probability: float) -> bool:
    return torch.rand(()).item() < probability


def _uniform(least: float, most: float) -> float:
    return least + (most - least) * torch.rand(()).item()

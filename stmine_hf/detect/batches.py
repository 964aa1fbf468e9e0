"""Images through the network, in batches that never change a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature


class DetectionModel(Protocol):
    """A model that finds objects in pixel values: any for `AutoModelForObjectDetection`, SAT among them."""

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def __call__(self, *, pixel_values: Tensor) -> Any: ...


class DetectionProcessor(Protocol):
    """The image processor of such a model."""

    def __call__(self, images: Image.Image, *, return_tensors: str) -> BatchFeature: ...
    def post_process_object_detection(self, outputs: Any, **options: Any) -> list[dict[str, Tensor]]: ...


class Prepared(NamedTuple):
    """An image prepared for the network."""

    pixel_values: Tensor  # (3, H, W)
    size: tuple[int, int]  # height and width of the image itself


def prepare(processor: DetectionProcessor, image: Image.Image) -> Prepared:
    """Prepare an image for the network, upright."""
    pixel_values = processor(images=image, return_tensors="pt")["pixel_values"][0]
    return Prepared(pixel_values, (image.height, image.width))


class Ran(NamedTuple):
    """Images of one size that went through the network together."""

    numbers: list[int]  # of the images in their batch
    sizes: list[tuple[int, int]]  # height and width of each image itself
    outputs: Any  # of the model


@torch.inference_mode()
def run_batch(model: DetectionModel, images: Sequence[Prepared]) -> list[Ran]:
    """The network's part of `detect_batch`.

    Only inputs of equal size share a batch: padding an image further than its own size needs would change what is
    found near its borders.
    """
    groups: dict[torch.Size, list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault(image.pixel_values.shape, []).append(number)
    ran = []
    for numbers in groups.values():
        batch = torch.stack([images[number].pixel_values for number in numbers])
        outputs = model(pixel_values=batch.to(model.device, model.dtype))
        ran.append(Ran(numbers, [images[number].size for number in numbers], outputs))
    return ran


@torch.inference_mode()
def found_in(
    processor: DetectionProcessor,
    ran: Sequence[Ran],
    *,
    threshold: float,
    highest: list[Tensor] | None = None,
    **options: Any,
) -> list[dict[str, Tensor]]:
    """The rest of `detect_batch`, whose arguments these are."""
    results: dict[int, dict[str, Tensor]] = {}
    for numbers, sizes, outputs in ran:
        if highest is not None:
            highest.append(outputs["logits"].float().amax((0, 1)).sigmoid().cpu())
        found = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=sizes, **options)
        results |= zip(numbers, ({key: value.cpu() for key, value in one.items()} for one in found), strict=True)
    return [results[number] for number in range(len(results))]


def detect_batch(
    model: DetectionModel,
    processor: DetectionProcessor,
    images: Sequence[Prepared],
    *,
    threshold: float,
    highest: list[Tensor] | None = None,
    **options: Any,
) -> list[dict[str, Tensor]]:
    """`scores`, `labels` and `boxes` (xyxy, pixels of the image) of each image, on the CPU.

    Args:
        model: in evaluation mode.
        processor: of the model.
        images: of `prepare`.
        threshold: minimum score, exclusive.
        highest: gets the highest score of each class (C,) in these images, also below the threshold.
        options: of the processor's `post_process_object_detection`.
    """
    return found_in(processor, run_batch(model, images), threshold=threshold, highest=highest, **options)

"""Run a detector: images to named boxes, in batches that never change a result."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ..errors import StmineError
from ..images import PixelOptions, decode_image
from ..loading import load_sat
from ..model_identity import weights_digest

THRESHOLD = 0.4  # minimum score to be shown, as in the released demo


class Detection(NamedTuple):
    """A detected object.

    `box` is left, top, right, bottom in pixels of the image, `label` the model's own number of the class.
    """

    label: int
    name: str
    score: float
    box: tuple[float, float, float, float]


class Prepared(NamedTuple):
    """An image prepared for the network."""

    pixel_values: Tensor  # (3, H, W)
    size: tuple[int, int]  # height and width of the image itself


class Detector:
    """Finds objects in images.

    Args:
        model: a [`SatForObjectDetection`]; a copy with fused batch normalisations is run.
        processor: its image processor.
        threshold: minimum score, exclusive.
        labels: names of the classes to look for; None for all that the model knows.
        pixels: how to read images of more than 8 bits or more than three bands.

    Raises:
        StmineError: the model does not know such a class, or the threshold is not between 0 and 1.

    Example:
        >>> detector = Detector.load("hub_cards/sat-coco-small", threshold=0.4)  # doctest: +SKIP
        >>> [(found.name, found.box) for found in detector([image])[0]]  # doctest: +SKIP
        [('dog', (61.2, 80.5, 200.1, 239.0))]
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        threshold: float = THRESHOLD,
        labels: Iterable[str] | None = None,
        pixels: PixelOptions | None = None,
    ):
        if not 0 <= threshold < 1:
            raise StmineError(f"threshold: expected a score from 0 to below 1, found {threshold}.")
        self.names: dict[int, str] = {int(label): name for label, name in model.config.id2label.items()}
        self.threshold = threshold
        self.labels = None if labels is None else sorted(_known_labels(labels, self.names))
        self.processor = processor
        self.pixels = pixels or PixelOptions()
        self.name = _name(model)
        self.identity = _identity(model, processor)
        self._model = copy.deepcopy(model).fuse()

    @classmethod
    def load(
        cls, model: str | Path | None = None, *, device: str | torch.device | None = None, **options: Any
    ) -> Detector:
        """Open a model folder or Hub id (None: that of this release); `options` as for the class itself."""
        return cls(*load_sat(model, device=device), **options)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide which boxes are found: two runs with equal settings find the same."""
        names = None if self.labels is None else [self.names[label] for label in self.labels]
        settings = {"model": self.name, "identity": self.identity, "threshold": self.threshold, "labels": names}
        return settings if self.pixels == PixelOptions() else {**settings, "pixels": self.pixels.document()}

    def __call__(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """Detect the objects in each image, best first."""
        return self.detect([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> Prepared:
        """Prepare an image; a thread can do this ahead."""
        return prepare(self.processor, decode_image(image, self.pixels))

    def detect(self, images: Sequence[Prepared]) -> list[list[Detection]]:
        """Detect the objects in each prepared image, best first."""
        results = detect_batch(self._model, self.processor, images, threshold=self.threshold)
        return [self._named(result) for result in results]

    def _named(self, result: dict[str, Tensor]) -> list[Detection]:
        rows = zip(result["labels"].tolist(), result["scores"].tolist(), result["boxes"].tolist(), strict=True)
        return [
            Detection(label, self.names[label], score, tuple(box))
            for label, score, box in rows
            if self.labels is None or label in self.labels
        ]


def prepare(processor: Any, image: Image.Image) -> Prepared:
    """Prepare an image for the network, upright."""
    pixel_values = processor(images=image, return_tensors="pt")["pixel_values"][0]
    return Prepared(pixel_values, (image.height, image.width))


@torch.inference_mode()
def detect_batch(
    model: Any, processor: Any, images: Sequence[Prepared], *, threshold: float, **options: Any
) -> list[dict[str, Tensor]]:
    """`scores`, `labels` and `boxes` (xyxy, pixels of the image) of each image, on the CPU.

    Only inputs of equal size share a batch: padding an image further than its own size needs would change what is
    found near its borders.

    Args:
        model: in evaluation mode.
        threshold: minimum score, exclusive.
        options: of the processor's `post_process_object_detection`.
    """
    groups: dict[torch.Size, list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault(image.pixel_values.shape, []).append(number)
    results: dict[int, dict[str, Tensor]] = {}
    for numbers in groups.values():
        batch = torch.stack([images[number].pixel_values for number in numbers])
        outputs = model(pixel_values=batch.to(model.device, model.dtype))
        sizes = [images[number].size for number in numbers]
        found = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=sizes, **options)
        results |= zip(numbers, ({key: value.cpu() for key, value in one.items()} for one in found), strict=True)
    return [results[number] for number in range(len(images))]


def _known_labels(wanted: Iterable[str], names: dict[int, str]) -> set[int]:
    """
    Raises:
        StmineError: the model has no such class.
    """
    label_of = {name.lower(): label for label, name in names.items()}
    labels = set()
    for name in wanted:
        if name.strip().lower() not in label_of:
            close = get_close_matches(name.strip().lower(), label_of, n=3) or list(label_of)[:10]
            raise StmineError(
                f"labels: the model knows no class {name.strip()!r}. Of its {len(label_of)}, did you mean "
                f"{' or '.join(names[label_of[one]] for one in close)}?"
            )
        labels.add(label_of[name.strip().lower()])
    return labels


def _name(model: Any) -> str:
    name = getattr(model, "name_or_path", None) or type(model).__name__
    return Path(name).name if Path(name).exists() else name


def _identity(model: Any, processor: Any) -> str:
    """Identifies models, and processors that place or colour images differently."""
    settings = [
        getattr(processor, name) for name in ("fit", "channel_order", "size_divisor", "image_mean", "image_std")
    ]
    settings += [processor.size["height"], processor.size["width"], sorted(model.config.id2label.items())]
    return weights_digest(model, size=8, also=json.dumps(settings).encode())

"""Embed images and sentences as unit vectors, in batches, with any model that has CLIP's two feature methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import BatchFeature, PreTrainedConfig

from ..inference.batching import batched, in_batches_by_length
from ..loading import place


class DualEncoder(Protocol):
    """A model of images and sentences in one space: `FisvlModel`, or any with CLIP's two feature methods."""

    config: PreTrainedConfig

    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    def get_image_features(self, pixel_values: Tensor) -> Any: ...
    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Any: ...
    def to(self, device: str | torch.device) -> Any: ...
    def eval(self) -> Any: ...


class DualProcessor(Protocol):
    """The processor of such a model: images to `pixel_values`, sentences to token ids."""

    @property
    def image_processor(self) -> Any: ...
    def __call__(self, *, return_tensors: str, **inputs: Any) -> BatchFeature: ...


def embed_images(
    model: DualEncoder,
    processor: DualProcessor,
    images: Iterable[Image.Image],
    *,
    batch_size: int = 32,
    device: str | torch.device | None = None,
) -> Tensor:
    """Embed images; only one batch is in memory at a time, so `images` may be a long generator.

    Args:
        model: has `get_image_features(pixel_values=...)`, returning a tensor or an output with `pooler_output`.
        processor: `processor(images=..., return_tensors="pt")` gives `pixel_values`.
        device: where to run; default: the device of the model.

    Returns:
        (N, D) float32 on the CPU, rows of unit length, in the order of `images`.
    """
    place(model, device)
    rows = [image_features(model, preprocess(processor, batch)) for batch in batched(images, batch_size)]
    return torch.cat(rows) if rows else torch.empty(0, _dimension(model))


def embed_texts(
    model: DualEncoder,
    processor: DualProcessor,
    texts: Sequence[str],
    *,
    batch_size: int = 128,
    device: str | torch.device | None = None,
) -> Tensor:
    """Embed sentences. Each distinct one is encoded once, among others of its length so that little padding is spent.

    Args:
        model: has `get_text_features(input_ids=..., attention_mask=...)`.
        processor: `processor(text=..., return_tensors="pt")` gives those arguments; texts that are too long are cut.

    Returns:
        (N, D) float32 on the CPU, rows of unit length, in the order of `texts`.
    """
    place(model, device)
    if not texts:
        return torch.empty(0, _dimension(model))

    def embed(batch: list[str]) -> np.ndarray:
        return _text_features(model, processor, batch).numpy()

    return torch.from_numpy(in_batches_by_length(embed, texts, batch_size))


def preprocess(processor: DualProcessor, images: Sequence[Image.Image]) -> Tensor:
    """Images to pixel values (B, 3, H, W)."""
    return processor(images=list(images), return_tensors="pt")["pixel_values"]


@torch.inference_mode()
def image_features(model: DualEncoder, pixel_values: Tensor) -> Tensor:
    """(B, 3, H, W) pixel values to (B, D) unit-length float32 rows on the CPU."""
    return _unit_rows(model.get_image_features(pixel_values=pixel_values.to(model.device, model.dtype)))


@torch.inference_mode()
def _text_features(model: DualEncoder, processor: DualProcessor, texts: list[str]) -> Tensor:
    encoded = processor(text=texts, return_tensors="pt", padding=True, truncation=True)
    return _unit_rows(model.get_text_features(**encoded.to(model.device)))


def _unit_rows(features: Any) -> Tensor:
    # transformers 5 returns an output object, remote code and older models a bare tensor.
    rows = features if isinstance(features, Tensor) else features.pooler_output
    return normalize(rows.float(), dim=-1).cpu()


def _dimension(model: DualEncoder) -> int:
    return getattr(model.config, "projection_dim", 0)

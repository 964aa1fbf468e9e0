"""A model of images and sentences whose embeddings are computed in an engine; see `stmine_hf.inference.engines`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..inference.engines import AUTO, Network, Runner, cosine_distance
from ..model_identity import weights_digest
from ..modeling.fisvl.modeling_fisvl import FisvlModel
from .image_graph import ImageTower
from .text_export import TextGraph

if TYPE_CHECKING:
    from .embedding import DualEncoder

IMAGE_LIMIT, TEXT_LIMIT = 1e-3, 1e-4  # of 1 - cosine to PyTorch in 32-bit floats
_TEXT = ("input_ids", "attention_mask")


class EngineEncoder:
    """A model whose two feature methods run in an engine.

    Args:
        model: a [`FisvlModel`], or any with CLIP's two feature methods.
        engine: one of `ENGINES`. With "auto" a job says how much is to come: `image.expect(10_000)`.
        identity: the digest of its weights, if it is known.

    Attributes:
        image, text: the runners of its two towers.

    Raises:
        StmineError: see [`Runner`].

    Example:
        >>> encoder = EngineEncoder(model, "openvino")  # doctest: +SKIP
        >>> embed_images(encoder, processor, images)  # doctest: +SKIP
    """

    def __init__(self, model: DualEncoder, engine: str = AUTO, *, identity: str | None = None):
        self.model, self.config = model, model.config
        identity = identity or weights_digest(model)
        ours = isinstance(model, FisvlModel)
        self.image = Runner(
            Network(
                "images", _Images(model), ("pixel_values",), ("image_embeds",), identity, cosine_distance, IMAGE_LIMIT,
                graph=(lambda inputs: ImageTower(model, tuple(inputs[0].shape[-2:]))) if ours else None,  # type: ignore[arg-type]
                low=("model.vision_encoder", "model.conv_encoder") if ours else ("",),
                # The graph's softmax of unscaled products can pick another node by the rounding of one.
                low_unasked=not (ours and model.config.fusion),
            ),
            engine,
        )  # fmt: skip
        self.text = Runner(
            Network(
                "sentences", _Texts(model), _TEXT, ("text_embeds",), identity, cosine_distance, TEXT_LIMIT,
                axes={name: {1: "length"} for name in _TEXT},
                graph=(lambda inputs: TextGraph(model)) if ours else None,  # type: ignore[arg-type]
                low=("model.text_encoder",) if ours else ("",),
            ),
            engine,
        )  # fmt: skip

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def to(self, device: str | torch.device) -> EngineEncoder:
        self.model.to(device)
        return self

    def eval(self) -> EngineEncoder:
        self.model.eval()
        return self

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D)."""
        return self.image(pixel_values)[0]

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor, **others: Tensor) -> Any:
        """(B, T) -> (B, D)."""
        if others:  # token types and such, which the engines' network does not read
            return self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask, **others)
        return self.text(input_ids, attention_mask)[0]


class _Images(nn.Module):
    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return _rows(self.model.get_image_features(pixel_values=pixel_values))


class _Texts(nn.Module):
    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return _rows(self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask))


def _rows(features: Any) -> Tensor:
    return features if isinstance(features, Tensor) else features.pooler_output

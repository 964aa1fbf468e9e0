"""A classifier of posts whose visual encoder and transformer run in engines; see `stmine_hf.inference.engines`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..errors import StmineError
from ..inference.engines import (
    AUTO,
    TORCH,
    Network,
    Runner,
    cosine_distance,
    require_engine,
    standing_in,
    used_by,
)
from ..model_identity import weights_digest
from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification

if TYPE_CHECKING:
    from ..modeling.mttv.configuration_mttv import MttvConfig

LIMIT = 0.02  # largest difference of a label's probability to PyTorch in 32-bit floats
MAPS_LIMIT = 1e-3  # of 1 - cosine of the visual encoder's maps
_TEXT = ("inputs_embeds", "attention_mask", "position_ids", "token_type_ids")

logger = logging.getLogger(__name__)


class EngineClassifier:
    """A model in engines.

    Args:
        model: in evaluation mode. One that is not a [`MttvForSequenceClassification`] runs as it is.
        engine: one of `ENGINES`.

    Attributes:
        model: to be called as the one given, with the same weights.
        images, texts: the runners of its parts; None where there is none.

    Raises:
        StmineError: see [`Runner`]; or an engine was asked for, and the model was exported for another runtime.
    """

    def __init__(self, model: Any, engine: str = AUTO):
        require_engine(engine)
        self.config: MttvConfig = model.config
        self.model, self._plain, self._asked = model, model, engine
        self.images: Runner | None = None
        self.texts: Runner | None = None
        self._checked: list[tuple[str, ...]] = []  # the engines of each part
        if not isinstance(model, MttvForSequenceClassification):
            if engine != AUTO:
                raise StmineError("The model was exported for another runtime, which runs it: omit the engine.")
            return
        identity, inner = weights_digest(model), model.mttv
        mttv = standing_in(inner, inner.forward)
        mttv.forward = type(inner).forward.__get__(mttv)
        if inner.vision_encoder is not None:
            encoder = Network(
                "images", inner.vision_encoder, ("pixel_values",), ("maps",), identity, cosine_distance, MAPS_LIMIT
            )
            self.images = vision = Runner(encoder, engine)
            mttv.vision_encoder = standing_in(inner.vision_encoder, lambda pixel_values: vision(pixel_values)[0])

        transformer = Network(
            "posts",
            _Transformer(inner.encoder),
            _TEXT,
            ("states", "pooled"),
            identity,
            partial(_probabilities_apart, model),
            LIMIT,
            axes={name: {1: "length"} for name in (*_TEXT, "states")},
        )
        self.texts = text = Runner(transformer, engine)

        def encode(
            inputs_embeds: Tensor,
            attention_mask: Tensor,
            position_ids: Tensor,
            token_type_ids: Tensor,
            output_attentions: bool | None = None,
            output_hidden_states: bool | None = None,
        ) -> Any:
            given = inputs_embeds, attention_mask, position_ids.expand(len(inputs_embeds), -1), token_type_ids
            if output_attentions or output_hidden_states or torch.is_grad_enabled():
                return inner.encoder(
                    **dict(zip(_TEXT, given, strict=True)),
                    output_attentions=output_attentions,
                    output_hidden_states=output_hidden_states,
                )
            states, pooled = text(*given)
            return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled)

        mttv.encoder = standing_in(inner.encoder, encode)
        own = standing_in(model, model.forward)
        own.mttv = mttv
        forward = type(model).forward.__get__(own)
        own.forward = lambda **inputs: self._verified(forward(**inputs), inputs)
        self.model = own
        self.expect(0)

    @property
    def _runners(self) -> list[Runner]:
        return [runner for runner in (self.images, self.texts) if runner is not None]

    def expect(self, posts: int | None) -> None:
        """Tell how many are to come: on it depends whether another engine than PyTorch is looked for.

        Args:
            posts: None: unknown. Before the first call: none.
        """
        for runner in self._runners:
            runner.expect(posts)

    @property
    def engines(self) -> list[str]:
        """The engines that have run parts of the model so far."""
        return used_by(self._runners)

    @property
    def current(self) -> str:
        """The engines of the parts of the model that have run."""
        return ", ".join(dict.fromkeys(runner.label for runner in self._runners if runner.used)) or TORCH

    @property
    def remark(self) -> str:
        """The engines that were chosen, and how fast they are; "" for PyTorch by default."""
        return "; ".join(filter(None, (runner.remark for runner in self._runners)))

    def _verified(self, outputs: Any, inputs: dict[str, Any]) -> Any:
        """The outputs, compared with PyTorch's for the first batch of each engine of a part.

        Raises:
            StmineError: the engine that was asked for differs too much.
        """
        now = [tuple(runner.used) for runner in self._runners]
        if now == self._checked or self.engines == [TORCH]:
            return outputs
        self._checked = now
        expected = self._plain(**inputs)
        apart = probability_difference(expected.logits, outputs.logits)
        if apart <= LIMIT:
            return outputs
        if self._asked != AUTO:
            raise StmineError(
                f"With the engine {self._asked} a probability differs by {apart:.2g} from PyTorch's, where {LIMIT:g} "
                "is allowed: use --engine auto."
            )
        logger.warning("a probability differs by %.2g from PyTorch's, which continues alone", apart)
        for runner in self._runners:
            runner.back_to_torch()
        return expected


def probability_difference(expected: Tensor, found: Tensor) -> float:
    """The greatest difference of a label's probability; logits (B, labels)."""
    return float((expected.float().softmax(dim=-1) - found.float().softmax(dim=-1)).abs().max())


@torch.inference_mode()
def _probabilities_apart(
    model: MttvForSequenceClassification, expected: Sequence[Tensor], found: Sequence[Tensor]
) -> float:
    """The difference of the probabilities that two outputs of the transformer give."""
    first = model.config.sequence_pooling == "first"
    pooler = model.mttv.encoder.pooler  # of the mean, as of posts without padding
    pooled = (one[1] if first else pooler(one[0].mean(dim=1, keepdim=True)) for one in (expected, found))
    return probability_difference(*(model._scale(model.classifier(one)) for one in pooled))


class _Transformer(nn.Module):
    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(
        self, inputs_embeds: Tensor, attention_mask: Tensor, position_ids: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        encoded = self.encoder(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
        )
        return encoded.last_hidden_state, encoded.pooler_output

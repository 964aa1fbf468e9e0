"""A tiny MTTV with random weights, for smoke runs: the whole architecture, nothing to download."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import BertConfig, ResNetConfig

from ... import MttvConfig, MttvForSequenceClassification, MttvProcessor  # registered: what is saved carries its code
from ...modeling.mttv.processing_mttv import MttvImageProcessor
from ..toy_tokenizer import word_tokenizer


def build_toy_mttv(
    texts: Iterable[str], labels: Sequence[str], image_size: int = 32, width: int = 32, **config: object
) -> tuple[MttvForSequenceClassification, MttvProcessor]:
    """A model of some 10^5 parameters and its processor.

    Both encoders start at random, so both are trained; a missing image or region is masked.

    Args:
        texts: their words become the vocabulary, one token a word.
        labels: names of the classes, in the order of the logits.
        image_size: side of the images in pixels, a multiple of 16.
        width: channels of the encoders' first stages; the transformer has twice as many.
        config: other fields of `MttvConfig`.

    Returns:
        The model in training mode, and the processor.
    """
    tokenizer = word_tokenizer(texts)
    settings: dict = {
        "text_config": BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=4 * width,
            max_position_embeddings=128,
            initializer_range=0.2,  # with the usual 0.02 such a short run learns nothing from two modalities
        ),
        "vision_config": ResNetConfig(
            embedding_size=width, hidden_sizes=[width, 2 * width, 4 * width], depths=[1, 1, 1], layer_type="basic"
        ),
        "vision_width": 4 * width,
        "train_vision": True,
        "num_encoder_layers": 2,
        "num_global_tokens": 4,
        "num_region_tokens": 2,
        "attend_missing": False,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    model = MttvForSequenceClassification(MttvConfig(**{**settings, **config}))
    image_processor = MttvImageProcessor(size={"height": image_size, "width": image_size})
    processor = MttvProcessor(
        image_processor,
        tokenizer,
        num_regions=model.config.num_region_tokens,
        max_tokens=model.config.text_config.max_position_embeddings - 1,
    )
    return model.train(), processor

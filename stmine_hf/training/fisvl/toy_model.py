"""A tiny FISVL with random weights, for smoke runs: the whole architecture, nothing to download."""

from __future__ import annotations

from collections.abc import Iterable

from transformers import BertConfig, ResNetConfig, SwinConfig

from ... import FisvlConfig, FisvlModel, FisvlProcessor  # registered: what is saved carries its code
from ...modeling.fisvl.processing_fisvl import FisvlImageProcessor, clean_caption
from ..toy_tokenizer import word_tokenizer


def build_toy_fisvl(
    captions: Iterable[str], image_size: int = 64, width: int = 32, **config: object
) -> tuple[FisvlModel, FisvlProcessor]:
    """A model of some 10^5 parameters and its processor.

    Args:
        captions: Their words become the vocabulary, one token a word.
        image_size: Side of the images in pixels, a multiple of 32.
        width: Channels of the encoders' first stages and of the text encoder.
        config: Further fields of `FisvlConfig`.

    Returns:
        The model in training mode, and the processor.
    """
    tokenizer = word_tokenizer(clean_caption(caption) for caption in captions if caption.strip(" ."))
    processor = FisvlProcessor(FisvlImageProcessor(size={"height": image_size, "width": image_size}), tokenizer)
    settings: dict = {
        "vision_config": SwinConfig(
            image_size=image_size, patch_size=4, embed_dim=width, depths=[1, 1], num_heads=[2, 4], window_size=4
        ),
        "conv_config": ResNetConfig(
            embedding_size=width, hidden_sizes=[width, 2 * width], depths=[1, 1], layer_type="basic"
        ),
        "text_config": BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=2 * width,
            max_position_embeddings=64,
        ),
        "projection_dim": 2 * width,
        "sensing_in_channels": width,
        "sensing_channels": 4,
        "sensing_grid": 4,
    }
    return FisvlModel(FisvlConfig(**{**settings, **config})).train(), processor

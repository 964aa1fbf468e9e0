"""An MTTV model small enough to build in a blink: for tests of everything around it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertTokenizer, ResNetConfig

from stmine_hf import MttvConfig, MttvForSequenceClassification, MttvProcessor
from stmine_hf.modeling.mttv.processing_mttv import MttvImageProcessor

MTTV_WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"这是一条假新闻真的图片请看转发",
    "fake",
    "news",
    "harbour",
]
MTTV_WORDS += [c for c in "abcdefghijklmnopqrstuvwxyz0123456789!?.,:/[]" if c not in MTTV_WORDS]
MTTV_WORDS += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"]


def tiny_mttv_config(**overrides) -> MttvConfig:
    """Everything 32 wide, two layers, 4 global and 3 region tokens, a two-stage ResNet that sees 32 px as 4 x 4."""
    fields = {
        "text_config": {
            "vocab_size": len(MTTV_WORDS),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
        },
        "vision_config": ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic"),
        "vision_width": 32,
        "num_encoder_layers": 2,
        "num_global_tokens": 4,
        "num_region_tokens": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "id2label": {0: "fake", 1: "real"},
        "label2id": {"fake": 0, "real": 1},
        **overrides,
    }
    return MttvConfig(**fields)


def tiny_mttv_processor(size: int = 32, num_regions: int = 3) -> MttvProcessor:
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(MTTV_WORDS)})
    image_processor = MttvImageProcessor(size={"height": size, "width": size})
    return MttvProcessor(image_processor, tokenizer, num_regions=num_regions, max_tokens=40)


def tiny_mttv(seed: int = 0, **overrides) -> tuple[MttvForSequenceClassification, MttvProcessor]:
    """A tiny random model in evaluation mode and its processor.

    Weights are larger than at the start of a training, so that every input shows in the output.
    """
    torch.manual_seed(seed)
    model = MttvForSequenceClassification(tiny_mttv_config(**overrides)).eval()
    with torch.no_grad():
        for parameter in model.mttv.encoder.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    return model, tiny_mttv_processor(num_regions=model.config.num_region_tokens)


def save_tiny_mttv(folder: str | Path, seed: int = 0, **overrides) -> Path:
    """Writes the tiny model as a folder that every door opens."""
    model, processor = tiny_mttv(seed, **overrides)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)

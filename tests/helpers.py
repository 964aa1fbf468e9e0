"""A FISVL model small enough to build in a blink: for tests of everything around it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertTokenizer, ResNetConfig, SwinConfig

from stmine_hf import FisvlConfig, FisvlModel, FisvlProcessor
from stmine_hf.modeling.fisvl.processing_fisvl import FisvlImageProcessor

_WORDS = """
a an the in on of and with near many some several two three green white grey blue large small is are there plane planes
airport terminal runway ship ships harbour harbor port boat boats tree trees forest farmland field fields river bridge
road roads car cars parking lot building buildings residential area house houses beach sea desert stadium playground
storage tanks railway station baseball square park pond lake mountain meadow
""".split()  # noqa: SIM905
TINY_VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS]
TINY_VOCABULARY += [c for c in "abcdefghijklmnopqrstuvwxyz0123456789" if c not in _WORDS]
TINY_VOCABULARY += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"]


def tiny_config(**overrides) -> FisvlConfig:
    """32-px images, everything 16 to 32 wide."""
    fields = {
        "vision_config": SwinConfig(image_size=32, embed_dim=16, depths=(1, 1), num_heads=(2, 2), window_size=4),
        "text_config": {
            "model_type": "bert",
            "vocab_size": len(TINY_VOCABULARY),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
        },
        "projection_dim": 32,
        "sensing_in_channels": 8,
        "sensing_channels": 4,
        "sensing_grid": 4,
        "sensing_heads": 2,
        **overrides,
    }
    if fields.get("fusion", True) and not fields.get("share_encoder", False):
        resnet = ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
        fields.setdefault("conv_config", resnet)
    return FisvlConfig(**fields)


def tiny_processor(size: int = 32) -> FisvlProcessor:
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(TINY_VOCABULARY)})
    return FisvlProcessor(FisvlImageProcessor(size={"height": size, "width": size}), tokenizer)


def tiny_fisvl(seed: int = 0, **overrides) -> tuple[FisvlModel, FisvlProcessor]:
    """A tiny random model in evaluation mode and its processor."""
    torch.manual_seed(seed)
    return FisvlModel(tiny_config(**overrides)).eval(), tiny_processor()


def save_tiny_fisvl(folder: str | Path, seed: int = 0, **overrides) -> Path:
    """Writes the tiny model as a folder that every door opens."""
    model, processor = tiny_fisvl(seed, **overrides)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)

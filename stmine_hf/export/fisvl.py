"""FISVL as ONNX: its image tower and its text tower as separate files, as a search service needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..search.image_graph import ImageTower
from ..search.text_export import TextGraph
from . import readme
from .parts import CHECKED, Part, PartsReport, export_parts, in_batches

if TYPE_CHECKING:
    from ..modeling.fisvl.modeling_fisvl import FisvlModel
    from ..modeling.fisvl.processing_fisvl import FisvlProcessor

IMAGE, TEXT = "image.onnx", "text.onnx"
_SENTENCES = (
    "a plane", "many ships are docked at a port near several buildings", "a river", "green trees beside a road",
    "two baseball fields are next to a playground and a parking lot with many cars in it", "an airport", "",
    "a bridge over a wide river", "dense residential houses with red roofs are arranged neatly on both sides", "sea",
)  # fmt: skip


def export_fisvl(model: FisvlModel, processor: FisvlProcessor, folder: str | Path) -> PartsReport:
    """Write both towers as ONNX, any number of rows and any length of sentences, and compare them with PyTorch.

    Args:
        model: in evaluation mode; it is not changed.
        processor: of the model; its tokenizer is saved in the same folder.
        folder: created if missing. An earlier export in it is replaced.

    Returns:
        [`PartsReport`]

    Raises:
        StmineError: see `export_parts`.
    """
    side = dict(processor.image_processor.size)
    size = side["height"], side["width"]
    images = torch.randn(CHECKED, 3, *size, generator=torch.Generator().manual_seed(0))
    parts = [
        Part(
            IMAGE,
            ImageTower(model, size),
            {"pixel_values": images[:2]},
            "image_embeds",
            (),
            [{"pixel_values": images[rows]} for rows in in_batches(CHECKED)],
        ),
        Part(
            TEXT,
            TextGraph(model),
            _tokens(processor, _SENTENCES[:2]),
            "text_embeds",
            ("input_ids", "attention_mask"),
            [_tokens(processor, _SENTENCES[rows]) for rows in in_batches(CHECKED)],
        ),
    ]
    return export_parts(folder, parts, processor, settings_of(processor), "fisvl.md", readme.title(model, "FISVL"))


def settings_of(processor: FisvlProcessor) -> dict[str, Any]:
    """The settings of images and sentences that the README's code reads."""
    images = processor.image_processor
    return {
        "size": [dict(images.size)["height"], dict(images.size)["width"]],
        "resample": int(images.resample),
        "mean": list(images.image_mean),
        "std": list(images.image_std),
        "clean_captions": processor.clean_captions,
        "max_words": processor.max_words,
        "max_tokens": processor.max_tokens,
    }


def _tokens(processor: FisvlProcessor, sentences: Sequence[str]) -> dict[str, Tensor]:
    encoded = processor(text=list(sentences), return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}

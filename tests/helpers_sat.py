"""A SAT model small enough to build in a blink: for tests of everything around it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from stmine_hf import SatConfig, SatForObjectDetection, SatImageProcessor
from stmine_hf.modeling.sat.modeling_sat import SatPredictor


def tiny_sat_config(**overrides) -> SatConfig:
    """Four classes, everything 8 to 24 wide."""
    fields = {
        "stem_channels": 8,
        "stage_channels": (8, 16, 24),
        "stage_blocks": (1, 2, 1),
        "neck_channels": 16,
        "attention": "coordinate",
        "head_channels": 16,
        "head_layers": 1,
        "id2label": {0: "deer", 1: "ebike", 2: "person", 3: "target"},
        **overrides,
    }
    return SatConfig(**fields)


def tiny_sat(seed: int = 0, size: int = 64, **overrides) -> tuple[SatForObjectDetection, SatImageProcessor]:
    """A tiny random model in evaluation mode and its processor."""
    torch.manual_seed(seed)
    model = SatForObjectDetection(tiny_sat_config(**overrides)).eval()
    return model, SatImageProcessor.for_config(model.config, size={"height": size, "width": size})


def save_tiny_sat(folder: str | Path, seed: int = 0, **overrides) -> Path:
    """Writes the tiny model as a folder that every door opens."""
    model, processor = tiny_sat(seed, **overrides)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)


def multiply_adds(config: SatConfig, size: int) -> int:
    """Multiply-adds of all convolutions (there are no other products of note) for one image; nothing is computed."""
    counts = []

    def count(module: nn.Conv1d | nn.Conv2d, inputs, output: torch.Tensor) -> None:
        counts.append(output.numel() * module.weight[0].numel())

    with torch.device("meta"):
        model = SatForObjectDetection(config)
        for module in model.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                module.register_forward_hook(count)
        model(torch.zeros(1, 3, size, size))
    return sum(counts)


def confident_sat() -> tuple[SatForObjectDetection, SatImageProcessor]:
    """A tiny model that finds something, since its scores are spread."""
    model, processor = tiny_sat()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, SatPredictor):
                module.weight.copy_(20 * torch.randn(module.weight.shape, generator=generator))
                module.bias.zero_()
    return model, processor

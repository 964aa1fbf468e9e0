"""A tiny SAT with random weights, for smoke runs: the whole architecture in a few ten thousand parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import SatConfig, SatForObjectDetection  # registered: what is saved carries its code


def build_toy_sat(names: Sequence[str], **config: Any) -> SatForObjectDetection:
    """A model in training mode for the classes `names`; `config` holds further fields of `SatConfig`."""
    settings = {
        "stem_channels": 8,
        "stage_channels": (16, 32, 64),
        "stage_blocks": (2, 2, 1),
        "neck_channels": 32,
        "head_channels": 32,
        "head_layers": 1,
        "id2label": dict(enumerate(names)),
    }
    return SatForObjectDetection(SatConfig(**{**settings, **config})).train()

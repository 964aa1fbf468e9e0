"""A detector whose network runs in an engine; see `stmine_hf.inference.engines`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from ..inference.engines import AUTO, Network, Runner
from ..model_identity import weights_digest
from ..modeling.sat.modeling_sat import SatForObjectDetection, SatObjectDetectionOutput
from .graphs import AXES, OUTPUTS, BoxesGraph

SCORE_LIMIT = 1e-3  # largest difference of a class score to PyTorch in 32-bit floats
OVERLAP_LIMIT = 0.99  # least intersection over union of a box with PyTorch's, where a class has a score above `SHOWN`
SHOWN = 0.3


class EngineDetector:
    """A model called as `SatForObjectDetection` is, without labels, that runs in an engine.

    Args:
        model: fused and in evaluation mode.
        engine: one of `ENGINES`. With "auto" a job says how much is to come: `runner.expect(10_000)`.
        identity: the digest of its weights, if it is known.

    Attributes:
        runner: of the network.

    Raises:
        StmineError: see [`Runner`].
    """

    def __init__(self, model: SatForObjectDetection, engine: str = AUTO, *, identity: str | None = None):
        self.model, self.config = model, model.config
        identity = identity or weights_digest(model)
        network = Network(
            "detector", _Boxes(model), ("pixel_values",), OUTPUTS, identity, difference, 1.0,
            axes=AXES, graph=lambda inputs: BoxesGraph(model),
        )  # fmt: skip
        self.runner = Runner(network, engine)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def __call__(self, pixel_values: Tensor) -> SatObjectDetectionOutput:
        logits, pred_boxes = self.runner(pixel_values)
        size = torch.tensor(pixel_values.shape[-2:]).expand(len(pixel_values), 2)
        return SatObjectDetectionOutput(logits=logits, pred_boxes=pred_boxes, input_sizes=size)


def difference(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """How far an engine's scores and boxes are from PyTorch's, as a multiple of what is allowed.

    Args:
        expected: `logits` (B, N, classes) and `pred_boxes` (B, N, 4) of PyTorch.
        found: of the engine.

    Returns:
        Up to 1: near enough. NaN where a score or a box that is shown is NaN.
    """
    scores, others = (one[0].float().sigmoid() for one in (expected, found))
    apart = (scores - others).abs().max() / SCORE_LIMIT
    shown = scores.amax(dim=-1) > SHOWN  # (B, N)
    if not bool(shown.any()):
        return float(apart)
    boxes, other_boxes = (box_convert(one[1][shown].float(), "cxcywh", "xyxy") for one in (expected, found))
    corner = torch.maximum(boxes[:, :2], other_boxes[:, :2])
    common = (torch.minimum(boxes[:, 2:], other_boxes[:, 2:]) - corner).clamp(min=0).prod(dim=1)
    both = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) + (other_boxes[:, 2:] - other_boxes[:, :2]).prod(dim=1) - common
    overlap = common / both.clamp(min=1e-12)
    return float(torch.maximum(apart, (1 - overlap).max() / (1 - OVERLAP_LIMIT)))  # NaN, if one of them is


class _Boxes(nn.Module):
    """(B, 3, H, W) -> `logits` (B, N, classes), `pred_boxes` (B, N, 4)."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.model(pixel_values=pixel_values)
        return outputs.logits, outputs.pred_boxes

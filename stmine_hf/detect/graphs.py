"""The part of SAT that other runtimes run: the network with folded norms, up to boxes or raw maps."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from ..modeling.sat.losses_sat import distances_to_boxes, expected_distances, level_points

if TYPE_CHECKING:
    from ..modeling.sat.configuration_sat import SatConfig
    from ..modeling.sat.modeling_sat import SatForObjectDetection


OUTPUTS = ("logits", "pred_boxes")
AXES = {"pixel_values": {2: "height", 3: "width"}, "logits": {1: "points"}, "pred_boxes": {1: "points"}}


class MapsGraph(nn.Module):
    """Image -> the head's raw output at each level, (B, classes + 4 (reg_max + 1), H / s, W / s) for s = 8, 16, 32.

    Args:
        model: a copy of it is fused and kept.
    """

    def __init__(self, model: SatForObjectDetection):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().fuse().requires_grad_(False)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        sat = self.model.sat
        maps = sat.neck(sat.backbone(pixel_values))
        return tuple(level.predictor(level.tower(x)) for level, x in zip(self.model.head, maps, strict=True))


class BoxesGraph(MapsGraph):
    """Image -> `logits` (B, N, classes) and `pred_boxes` (B, N, 4), as `SatForObjectDetection` gives them.

    Traces for any batch and any height and width that are multiples of 32.
    """

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return decode(super().forward(pixel_values), self.model.config)[:2]


def decode(maps: tuple[Tensor, ...], config: SatConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Raw maps of the three levels -> logits (B, N, classes), pred_boxes (B, N, 4), distance_logits (B, N, 4 bins).

    The same as the end of `SatForObjectDetection.forward`, where sizes are Python numbers that a trace would fix.
    """
    predictions = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)
    logits, distance_logits = predictions.split([config.num_labels, 4 * (config.reg_max + 1)], dim=-1)
    points, strides = level_points([x.shape[-2:] for x in maps], config.strides, predictions.device)
    boxes = distances_to_boxes(points, expected_distances(distance_logits) * strides[:, None])  # (B, N, 4)  pixels
    corner = points[-1] + config.strides[-1] / 2  # the last point of the coarsest level is half a stride from it
    pred_boxes = box_convert((boxes / corner.repeat(2)).clamp(0, 1), "xyxy", "cxcywh")
    return logits, pred_boxes, distance_logits

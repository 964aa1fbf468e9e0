"""Equalize the ranges of SAT's channels: the same function in floats, and less loss in 8-bit integers.

A layer's outputs share one scale as integers, so a channel of small values gets few of the 256 steps. Convolutions and
leaky ReLU commute with a positive factor: the factor that divides a channel can multiply the next layer's weights
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019; here the ranges of
the channels are measured on images).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..modeling.sat.modeling_sat import SatConvLayer

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection

_LEAST = 1e-3  # of the greatest range, or weight, of a layer: channels that are hardly used are not enlarged further


@torch.no_grad()
def equalize(model: SatForObjectDetection, inputs: Iterable[Tensor]) -> SatForObjectDetection:
    """A fused copy of the model that computes the same, with channels of similar ranges.

    Args:
        model: it is not changed.
        inputs: `pixel_values` of images like those in use, one or more of them.

    Returns:
        The copy, on the CPU, in float32.
    """
    equal = copy.deepcopy(model).cpu().float().fuse().requires_grad_(False)
    ranges = _ranges(equal, inputs)
    for layer, readers in _neighbours(equal):
        found = ranges[layer]  # (C,)
        found = found.clamp(min=max(_LEAST * float(found.max()), 1e-30))
        weights = [_convolution(reader).weight for reader in readers]
        wide = [_shares(weight) for weight in weights if weight.shape[1] > 1]
        # A depthwise reader's weights have a scale for each channel: nothing is lost there, and ranges become equal.
        # A 1x1 reader's rows share a scale: the square root, so that neither ranges nor weights become uneven.
        factor = (found / torch.stack(wide).amax(dim=0)).sqrt() if wide else found
        convolution = layer.convolution
        convolution.weight /= factor[:, None, None, None]
        convolution.bias /= factor
        for weight in weights:
            weight *= factor[None, :, None, None] if weight.shape[1] > 1 else factor[:, None, None, None]
    return equal


def _ranges(model: SatForObjectDetection, inputs: Iterable[Tensor]) -> dict[SatConvLayer, Tensor]:
    """Greatest absolute value of every channel of each layer, before its activation, where values are quantized."""
    ranges: dict[SatConvLayer, Tensor] = {}
    hooks = []
    for layer in model.modules():
        if isinstance(layer, SatConvLayer):

            def note(module: nn.Module, args: object, output: Tensor, layer: SatConvLayer = layer) -> None:
                greatest = output.abs().amax(dim=(0, 2, 3))
                ranges[layer] = torch.maximum(ranges.get(layer, greatest), greatest)

            hooks.append(layer.convolution.register_forward_hook(note))
    for pixel_values in inputs:
        model(pixel_values)
    for hook in hooks:
        hook.remove()
    return ranges


def _neighbours(model: SatForObjectDetection) -> Iterator[tuple[SatConvLayer, Sequence[nn.Module]]]:
    """Each layer that only convolutions read, through nothing but activation or pooling, and these convolutions."""
    backbone = model.sat.backbone
    first = backbone.stages[0][0]
    yield backbone.stem, [first.shortcut[0], first.branch[0]]
    chains = [block.branch for stage in backbone.stages for block in stage]
    chains += [block.shortcut for stage in backbone.stages for block in stage if block.shortcut is not None]
    chains += [[*level.tower, level.predictor] for level in model.head]
    for chain in chains:
        for layer, reader in pairwise(chain):
            yield layer, [reader]


def _convolution(reader: nn.Module) -> nn.Conv2d:
    return reader.convolution if isinstance(reader, SatConvLayer) else reader  # type: ignore[return-value]


def _shares(weight: Tensor) -> Tensor:
    """(out, in, h, w) -> (in,): the greatest weight that reads each channel, as a share of the greatest of its row."""
    rows = weight.abs().amax(dim=(2, 3))  # (out, in)
    return (rows / rows.amax(dim=1, keepdim=True).clamp(min=1e-30)).amax(dim=0).clamp(min=_LEAST)

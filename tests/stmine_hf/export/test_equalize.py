"""Equal ranges for 8-bit integers: the same answers, channels alike, and the model given as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers_sat import tiny_sat

from stmine_hf.export.equalize import _neighbours, _ranges, equalize


@pytest.fixture(params=["none", "eca", "coordinate"])
def model(request):
    model, _ = tiny_sat(attention=request.param, head_layers=2, stage_blocks=(2, 2, 1))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "normalization" not in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
        else:  # channels of very unlike ranges, as training makes them
            parameter.data *= torch.exp(torch.randn_like(parameter))
    return model


INPUTS = [torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2)), torch.zeros(1, 3, 32, 32)]


@torch.no_grad()
def test_the_function_is_the_same(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    equal = equalize(model, INPUTS)
    for pixel_values in (*INPUTS, 3 * torch.randn(2, 3, 64, 64)):
        ours, theirs = model(pixel_values), equal(pixel_values)
        torch.testing.assert_close(theirs.logits, ours.logits, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(theirs.pred_boxes, ours.pred_boxes, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert equal.config.fused and not model.config.fused


@torch.no_grad()
def test_ranges_become_alike(model):
    """Equal before depthwise convolutions; before 1x1 convolutions less unlike."""

    def unlikeness(network) -> dict[str, float]:
        names = {layer: name for name, layer in network.named_modules()}
        ranges = _ranges(network, INPUTS)
        return {
            names[layer]: float(ranges[layer].max() / ranges[layer].clamp(min=1e-6).min())
            for layer, _ in _neighbours(network)
        }

    fused, equal = unlikeness(copy.deepcopy(model).fuse()), unlikeness(equalize(model, INPUTS))
    assert len(fused) == len(equal) > 10
    depthwise = [name for name in equal if name.endswith(("branch.0", "tower.1"))]
    assert depthwise and all(equal[name] < 1.01 for name in depthwise)
    assert sum(equal.values()) < 0.5 * sum(fused.values())


@torch.no_grad()
def test_channels_that_are_never_used_do_no_harm(model):
    block = model.sat.backbone.stages[0][0]
    block.branch[0].normalization.weight.data[0] = 0
    block.branch[0].normalization.bias.data[0] = 0
    model.head[0].predictor.weight.data.zero_()
    equal = equalize(model, INPUTS)
    assert all(tensor.isfinite().all() for tensor in equal.state_dict().values())
    torch.testing.assert_close(equal(INPUTS[0]).logits, model(INPUTS[0]).logits, rtol=1e-3, atol=1e-4)

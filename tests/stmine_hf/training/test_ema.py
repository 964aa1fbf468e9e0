"""The moving mean of the weights, against its definition."""

import pytest
import torch
from torch import nn

from stmine_hf.training.ema import WeightEma


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def train(model: nn.Module, ema: WeightEma, steps: int) -> list[torch.Tensor]:
    seen = []
    for step in range(steps):
        with torch.no_grad():
            model[0].weight.add_(torch.full((2, 3), float(step + 1)))
            model[1].running_mean.add_(1.0)
        ema.update()
        seen.append(model[0].weight.detach().clone())
    return seen


def test_the_mean_is_the_recursion():
    model = net()
    expected = model[0].weight.detach().clone()
    ema = WeightEma(model, decay=0.25)
    for n, weight in enumerate(train(model, ema, 6), start=1):
        decay = min(0.25, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(ema.mean["0.weight"], expected)
    assert ema.mean["1.running_mean"].max() < model[1].running_mean.max()  # buffers are averaged too


def test_applied_lends_the_mean_and_gives_back():
    model = net()
    ema = WeightEma(model, decay=0.9)
    train(model, ema, 3)
    live, mean = model[0].weight.detach().clone(), ema.mean["0.weight"].clone()
    parameter = model[0].weight
    with pytest.raises(RuntimeError), ema.applied():
        torch.testing.assert_close(model[0].weight.detach(), mean)
        raise RuntimeError
    assert model[0].weight is parameter and torch.equal(parameter.detach(), live)
    assert torch.equal(ema.mean["0.weight"], mean)


def test_frozen_parameters_are_left_out():
    model = net()
    model[0].requires_grad_(False)
    assert set(WeightEma(model, 0.9).mean) == {"1.weight", "1.bias", "1.running_mean", "1.running_var"}


def test_save_and_load_go_on_as_if_nothing_happened(tmp_path):
    model = net()
    ema = WeightEma(model, decay=0.99)
    train(model, ema, 4)
    ema.save(tmp_path / "ema.safetensors")
    other = WeightEma(net(), decay=0.99)
    other.load(tmp_path / "ema.safetensors")
    assert other.updates == 4
    assert all(torch.equal(ema.mean[name], other.mean[name]) for name in ema.mean)
    other.restart()
    assert other.updates == 0 and torch.equal(other.mean["0.weight"], net()[0].weight.detach())

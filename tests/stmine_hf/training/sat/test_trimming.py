"""Trimming: what goes is what others can replace, what stays is refitted, nothing is lost where nothing was needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers_sat import tiny_sat_config

from stmine_hf import SatConfig, SatForObjectDetection
from stmine_hf.errors import StmineError
from stmine_hf.training.sat.trimming import eliminate, least_squares, second_moments, trim, unfuse
from stmine_hf.training.sat.warm_start import recalibrate_batchnorm

WHOLE = {"stem_channels": 8, "stage_channels": (16, 24, 32), "attention": "none"}


@pytest.fixture
def parent() -> SatForObjectDetection:
    torch.manual_seed(0)
    return SatForObjectDetection(tiny_sat_config(**WHOLE)).eval().fuse()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(12, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def smaller(**overrides) -> SatConfig:
    return tiny_sat_config(**{**WHOLE, "fused": True, "stem_channels": 6, "middle_channels": (6, 9, 12), **overrides})


def outputs(model: SatForObjectDetection, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = model(images)
    return torch.cat([found.logits, found.distance_logits], dim=-1)


def maps_error(model: SatForObjectDetection, parent: SatForObjectDetection, images: torch.Tensor) -> float:
    with torch.no_grad():
        pairs = zip(model.sat(images).backbone_maps, parent.sat(images).backbone_maps, strict=True)
        return sum(((x - y).square().mean() / y.var()).item() for x, y in pairs)


def test_least_squares_is_numpys():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 5, 4, 4, generator=generator), torch.randn(3, 2, 4, 4, generator=generator)
    weight, bias = least_squares(*second_moments(x, y), [0, 2, 3], ridge=0.0)
    rows = x.transpose(0, 1).flatten(1)[[0, 2, 3]].T.double().numpy()
    expected, *_ = np.linalg.lstsq(
        np.column_stack([rows, np.ones(len(rows))]), y.transpose(0, 1).flatten(1).T.double().numpy(), rcond=None
    )
    np.testing.assert_allclose(torch.cat([weight, bias[:, None]], dim=1).T.numpy(), expected, atol=1e-10)


def test_prior_decides_what_the_images_do_not():
    x = torch.zeros(1, 2, 8, 8)
    x[:, 0] = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    weight, _ = least_squares(*second_moments(x, 3 * x[:, :1]), [0, 1], prior=torch.tensor([[9.0, 7.0]]), ridge=1e-6)
    torch.testing.assert_close(weight.float(), torch.tensor([[3.0, 7.0]]), rtol=1e-3, atol=0)


def test_each_removal_is_the_cheapest_by_trying_all():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 6, 8, 8, generator=generator)
    x[:, 4] = 0.7 * x[:, 1] - 0.2 * x[:, 5] + 0.05 * torch.randn(2, 8, 8, generator=generator)
    y = torch.einsum("oi,bihw->bohw", torch.randn(3, 6, generator=generator), x)
    gram, cross = second_moments(x, y)
    power = y.double().square().mean(dim=(0, 2, 3)).sum()

    def error(kept: list[int]) -> float:
        weight, bias = least_squares(gram, cross, kept, ridge=1e-9)
        rows = [*kept, 6]
        return (power - (torch.cat([weight, bias[:, None]], dim=1).T * cross[rows]).sum()).item()

    kept = list(range(6))
    for count in (5, 4, 3):
        kept = min(([j for j in kept if j != i] for i in kept), key=error)
        assert eliminate([(gram, cross)], count, ridge=1e-9) == kept


def test_every_reader_has_a_say():
    """An input that one layer ignores stays if the other needs it."""
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = second_moments(x, x[:, :2]), second_moments(x, 1e-3 * x[:, 1:])  # powers do not count
    assert 1 in eliminate([first, second], 1)


@torch.no_grad()
def test_nothing_is_lost_where_channels_are_dead_or_double(parent, images):
    stem, block = parent.sat.backbone.stem.convolution, parent.sat.backbone.stages[1][1].branch
    stem.weight[5], stem.bias[5] = 0.0, 0.0
    block[0].convolution.weight[3], block[0].convolution.bias[3] = 0.0, 0.0
    block[0].convolution.weight[7] = block[0].convolution.weight[2]
    block[0].convolution.bias[7] = block[0].convolution.bias[2]
    block[1].convolution.weight[7] = 2 * block[1].convolution.weight[2]
    config = smaller(stem_channels=7, middle_channels=(8, 12, 16))
    trimmed = trim(parent, config, images)
    torch.testing.assert_close(outputs(trimmed, images), outputs(parent, images), rtol=1e-3, atol=1e-3)


def test_trimmed_model_is_nearer_to_its_parent_than_one_with_channels_merely_left_out(parent, images):
    trimmed = trim(parent, smaller(), images)
    assert trimmed.config.middle_channels == [6, 9, 12] and not trimmed.training
    unseen = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    plain = SatForObjectDetection(smaller()).eval()
    with torch.no_grad():
        for name, tensor in plain.state_dict().items():
            whole = parent.state_dict()[name]
            tensor.copy_(whole[tuple(slice(0, size) for size in tensor.shape)])
    assert maps_error(trimmed, parent, unseen) < 0.5 * maps_error(plain, parent, unseen)


def test_parent_is_left_alone(parent, images):
    before = {name: tensor.clone() for name, tensor in parent.state_dict().items()}
    trim(parent, smaller(), images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in parent.state_dict().items())
    assert not any(module._forward_hooks for module in parent.modules())


def test_unfused_copy_computes_the_same_and_can_be_calibrated(parent, images):
    whole = unfuse(parent)
    assert not whole.config.fused and parent.config.fused
    torch.testing.assert_close(outputs(whole, images), outputs(parent, images), rtol=1e-4, atol=1e-5)
    assert recalibrate_batchnorm(whole, images.split(4)) > 10
    torch.testing.assert_close(outputs(whole, images), outputs(parent, images), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(outputs(whole.fuse(), images), outputs(parent, images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"fused": False}, "both configurations have to be fused"),
        (
            {"stage_blocks": (1, 1, 1)},
            "only stem_channels, middle_channels, head_channels can be cut; stage_blocks",
        ),
        ({"head_channels": 17}, r"at most \[8, 16\] channels .* found \[6, 17\]"),
        ({"stem_channels": 9}, r"found \[9, 16\]"),
    ],
)
def test_what_cannot_be_trimmed_is_refused(parent, images, change, message):
    with pytest.raises(StmineError, match=message):
        trim(parent, smaller(**change), images)

"""The budget of SAT's designs, against a count by hand and PyTorch's own counter."""

import pytest
import torch
from helpers_sat import multiply_adds, tiny_sat_config
from torch.utils.flop_counter import FlopCounterMode

from stmine_hf import SatConfig, SatForObjectDetection
from stmine_hf.evaluation.detection_budget import PUBLISHED_OPERATIONS, PUBLISHED_PARAMETERS, budget


def test_counts_are_those_of_the_tests_own_counter():
    for config in (tiny_sat_config(), tiny_sat_config(attention="eca"), SatConfig.preset("nanodet-m")):
        assert budget(config, 64).multiply_adds == multiply_adds(config, 64)


@pytest.mark.parametrize("size", [320, 416])
@pytest.mark.parametrize("name", ["sat", "nanodet-m"])
def test_counts_are_those_of_pytorchs_counter(name, size):
    """It counts two operations for each multiply-add, of every product there is."""
    config = SatConfig.preset(name)
    with torch.device("meta"):
        model, image = SatForObjectDetection(config).eval(), torch.zeros(1, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        model(image)
    assert counter.get_total_flops() == 2 * budget(config, size).multiply_adds
    assert model.num_parameters() == budget(config).parameters


def test_nanodets_unit_and_sats_published_budget():
    parent = budget(SatConfig.preset("nanodet-m"))
    assert budget(SatConfig.preset("nanodet-m", fused=True)) == parent
    assert parent == (950_036, 342_223_200) and parent.operations == pytest.approx(0.72e9)
    assert "0.950 M parameters, 342.2 M multiply-adds (0.720 B operations" in str(parent)
    ours = budget(SatConfig.preset("sat"))
    assert ours.parameters <= PUBLISHED_PARAMETERS and ours.operations <= PUBLISHED_OPERATIONS

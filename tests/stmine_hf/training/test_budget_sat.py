"""The budget of SAT's designs, against a count by hand."""

import pytest
from helpers_sat import multiply_adds, tiny_sat_config

from stmine_hf import SatConfig
from stmine_hf.training.budget_sat import PUBLISHED_OPERATIONS, PUBLISHED_PARAMETERS, budget


def test_counts_are_those_of_the_tests_own_counter():
    for config in (tiny_sat_config(), tiny_sat_config(attention="eca"), SatConfig.preset("nanodet-m")):
        assert budget(config, 64).multiply_adds == multiply_adds(config, 64)


def test_nanodets_unit_and_sats_published_budget():
    parent = budget(SatConfig.preset("nanodet-m"))
    assert budget(SatConfig.preset("nanodet-m", fused=True)) == parent
    assert parent == (950_036, 342_223_200) and parent.operations == pytest.approx(0.72e9)
    assert "0.950 M parameters, 342.2 M multiply-adds (0.720 B operations" in str(parent)
    ours = budget(SatConfig.preset("sat"))
    assert ours.parameters <= PUBLISHED_PARAMETERS and ours.operations <= PUBLISHED_OPERATIONS

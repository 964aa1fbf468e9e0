"""SatConfig: presets and their budget, JSON round trips, contradictions and typos refused with a helpful word."""

from __future__ import annotations

import json
from inspect import signature
from unittest.mock import ANY

import pytest
import torch
from helpers_sat import multiply_adds, tiny_sat_config
from transformers import AutoConfig

from stmine_hf import SatConfig, SatForObjectDetection

PUBLISHED_PARAMETERS = 0.84e6
PUBLISHED_MULTIPLY_ADDS = 308.9e6  # 0.65 B operations, by the counting that gives NanoDet-m 0.72 B


def parameters(config: SatConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in SatForObjectDetection(config).parameters())


def test_sat_keeps_the_published_budget(capsys):
    rows = []
    for name, config in {
        "sat": SatConfig.preset("sat"),
        "sat, ECA attention": SatConfig.preset("sat", attention="eca"),
        "nanodet-m": SatConfig.preset("nanodet-m"),
    }.items():
        rows.append((name, parameters(config), multiply_adds(config, 320)))
    with capsys.disabled():
        print("\n" + "\n".join(f"{name:<20} {p / 1e6:.4f} M parameters {m / 1e6:6.1f} M MACs" for name, p, m in rows))
    for name, count, operations in rows:
        if name.startswith("sat"):
            assert count <= PUBLISHED_PARAMETERS and operations <= PUBLISHED_MULTIPLY_ADDS, name
    assert rows[0][1:] == (836_816, 306_991_200)
    assert rows[-1][1:] == (950_036, 342_223_200)


def test_presets():
    assert SatConfig(skip_batches_without_boxes=True).to_dict() == SatConfig.preset("nanodet-m").to_dict()
    sat = SatConfig.preset("sat")
    assert (sat.stem_channels, sat.attention, sat.head_widths) == (16, "none", [96, 80])
    assert [sum(stage) for stage in sat.block_channels] == [240, 880, 736]
    official = SatConfig.preset("nanodet-m", reg_max=9)
    assert (official.stem_channels, official.attention, official.reg_max) == (24, "none", 9)
    assert official.stage_blocks == [4, 8, 4] and official.channel_order == "bgr"
    with pytest.raises(ValueError, match=r"expected a preset among \('sat', 'nanodet-m'\), found 'nanodet'"):
        SatConfig.preset("nanodet")


def test_every_block_and_every_layer_of_the_head_can_have_its_own_width():
    config = SatConfig(
        stem_channels=8, stage_channels=(8, 16, 24), stage_blocks=(1, 2, 1), middle_channels=(4, [6, 10], [12]),
        neck_channels=16, head_channels=(16, 12),
    )  # fmt: skip
    assert config.block_channels == [[4], [6, 10], [12]] and config.head_widths == [16, 12]
    model = SatForObjectDetection(config)
    widths = [[block.branch[0].convolution.out_channels for block in stage] for stage in model.sat.backbone.stages]
    assert widths == [[4], [6, 10], [12]]
    assert [level.predictor.in_channels for level in model.head] == [12, 12, 12]
    assert parameters(config) == sum(tensor.numel() for tensor in model.parameters())


@pytest.mark.parametrize("name", ["sat", "nanodet-m"])
def test_a_saved_configuration_outlives_a_change_of_the_defaults(name, tmp_path):
    config = SatConfig.preset(name)
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    own = {field for field in signature(SatConfig).parameters if field != "kwargs"}
    assert own <= set(written)
    assert SatConfig.from_pretrained(tmp_path).to_dict() == config.to_dict() | {"transformers_version": ANY}


def test_middle_channels_are_half_of_the_stages_unless_named():
    plain, same = SatConfig.preset("nanodet-m"), SatConfig.preset("nanodet-m", middle_channels=(58, 116, 232))
    assert plain.middle_channels is None
    assert (parameters(plain), multiply_adds(plain, 320)) == (parameters(same), multiply_adds(same, 320))
    # One number for all blocks of a stage: the detector that ships, every block stays, the budget is kept.
    trimmed = SatConfig.preset("nanodet-m", stem_channels=16, middle_channels=(48, 112, 176))
    assert (parameters(trimmed), multiply_adds(trimmed, 320)) == (829_360, 306_636_000)
    assert parameters(trimmed) <= PUBLISHED_PARAMETERS and multiply_adds(trimmed, 320) <= PUBLISHED_MULTIPLY_ADDS


@pytest.mark.parametrize("count", [None, 1, 2, 3, 80])
def test_round_trip(count, tmp_path):
    """Two classes are what transformers takes for granted and leaves out of the file."""
    config = SatConfig(attention="eca", **({} if count is None else {"num_labels": count}))
    assert config.num_labels == (count or 80)
    config.save_pretrained(tmp_path)
    for again in (SatConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(again) is SatConfig and again.id2label == config.id2label
        assert again.to_json_string() == config.to_json_string()


def test_class_names():
    assert SatConfig().id2label[79] == "toothbrush" and SatConfig().label2id["person"] == 0
    own = SatConfig(id2label={0: "deer", 1: "ebike"})
    assert own.num_labels == 2 and own.label2id == {"deer": 0, "ebike": 1}
    assert SatConfig(num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"channel_order": "gbr"}, "channel_order must be among .*found 'gbr'"),
        ({"attention": "simam"}, "attention must be among .*found 'simam'"),
        ({"stage_blocks": (1, 2)}, "must name three stages"),
        ({"stage_channels": (8, 15, 24)}, r"must be even.*found \[8, 15, 24\]"),
        ({"middle_channels": (8, 15)}, r"middle_channels must name three stages.* found \[8, 15\]"),
        ({"middle_channels": (8, 0, 24)}, r"middle_channels must name three stages.* found \[8, 0, 24\]"),
        ({"middle_channels": (8, [8], 24)}, r"one for each of its stage_blocks \(\[1, 2, 1\]\)"),
        ({"head_channels": (16, 12)}, r"one for each of the head_layers \(1\), found \[16, 12\]"),
        ({"stage_blocks": (0, 2, 1)}, "stage_blocks must be at least 1"),
        ({"attention_reduction": 32}, r"attention_reduction \(32\) leaves nothing of neck_channels \(16\)"),
        ({"attention": "eca", "attention_kernel_size": 4}, "attention_kernel_size must be odd, found 4"),
        ({"class_prior": 1.0}, r"class_prior must lie in \(0, 1\)"),
        ({"reg_max": 0}, "reg_max must be at least 1, found 0"),
        ({"stem_channels": 0}, "stem_channels must be at least 1"),
        ({"stage_chanels": (8, 16, 24)}, "unknown field 'stage_chanels'; did you mean 'stage_channels'"),
    ],
)
def test_contradictions_and_typos_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny_sat_config(**change)

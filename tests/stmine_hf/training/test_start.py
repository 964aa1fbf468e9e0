"""What a run starts from: a checkpoint whose config asks for more than its weights hold is refused."""

from __future__ import annotations

import json

import pytest
from helpers import save_tiny_fisvl
from helpers_mttv import save_tiny_mttv
from helpers_sat import save_tiny_sat

from stmine_hf import load_dataset
from stmine_hf.errors import StmineError
from stmine_hf.training import (
    FisvlModelArguments,
    MttvModelArguments,
    SatModelArguments,
    build_fisvl,
    build_mttv,
    build_sat,
)
from stmine_hf.training.sat.warm_start import load_matching_weights


def start(method: str, folder, cache):
    """The model and processor that a run of the method starts from."""
    if method == "sat":
        return build_sat(SatModelArguments(model_name_or_path=str(folder)), ["deer", "fox"])
    if method == "fisvl":
        return build_fisvl(FisvlModelArguments(model_name_or_path=str(folder)), None)
    rows = load_dataset("toy_posts", count=8, size=32, split="train", cache_dir=cache)
    return build_mttv(MttvModelArguments(model_name_or_path=str(folder)), rows)


SAVE = {"fisvl": save_tiny_fisvl, "mttv": save_tiny_mttv, "sat": save_tiny_sat}
HOSTILE = [
    ("fisvl", {"graph_steps": 4000}),
    ("fisvl", {"projection_dim": 60_000}),
    ("fisvl", {"text_config": {"vocab_size": 10**10}}),
    ("mttv", {"num_encoder_layers": 3000, "text_config": {"num_hidden_layers": 3000}}),
    ("mttv", {"num_region_tokens": 10**9}),
    ("sat", {"stage_blocks": [2000, 1, 1]}),
    ("sat", {"neck_channels": 16_000_000}),
]


@pytest.mark.parametrize("method", SAVE)
def test_a_checkpoint_starts_a_run(method, tmp_path):
    model, processor = start(method, SAVE[method](tmp_path / "model"), tmp_path / "cache")
    assert model.training and processor is not None


@pytest.mark.parametrize("method, changes", HOSTILE, ids=str)
def test_a_config_that_asks_for_more_than_the_weights_is_refused(method, changes, tmp_path):
    folder = SAVE[method](tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(StmineError) as refusal:
        start(method, folder, tmp_path / "cache")
    assert str(folder) in str(refusal.value) and "no model to start from" in str(refusal.value)


@pytest.mark.parametrize("method", SAVE)
def test_a_processor_that_makes_huge_images_is_refused(method, tmp_path):
    folder = SAVE[method](tmp_path / "model")
    (file,) = folder.glob("*processor_config.json")
    settings = json.loads(file.read_text())
    settings["size"] = {"height": 10**9, "width": 10**9}
    file.write_text(json.dumps(settings))
    with pytest.raises(StmineError, match=r"size\.height"):
        start(method, folder, tmp_path / "cache")


def test_weights_to_take_from_need_a_bounded_config(tmp_path):
    folder = save_tiny_sat(tmp_path / "model")
    model, _ = start("sat", folder, tmp_path)
    (folder / "config.json").write_text('{"model_type": "sat", "id2label": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(StmineError, match="no weights to start from"):
        load_matching_weights(model, str(folder))

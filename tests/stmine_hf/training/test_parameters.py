"""Which parameters train and decay, the schedule and AdamW: held to the numbers of the authors' program."""

import json
from pathlib import Path

import pytest
import torch
from deterministic import named_tensor
from helpers import tiny_fisvl
from torch import nn
from transformers import get_scheduler

from stmine_hf.conversion.fisvl import convert_state_dict, official_config
from stmine_hf.errors import StmineError
from stmine_hf.modeling.fisvl.modeling_fisvl import FisvlModel
from stmine_hf.training.arguments_fisvl import FisvlTrainingArguments
from stmine_hf.training.parameters import freeze_batchnorm, freeze_by_name, parameter_groups, undecayed_names
from stmine_hf.training.trainer_fisvl import apply_freezing

FIXTURES = Path(__file__).parents[2] / "fixtures" / "fisvl"


@pytest.fixture(scope="module")
def optim() -> dict:
    return json.loads((FIXTURES / "optim.json").read_text())


@pytest.fixture(scope="module")
def released() -> FisvlModel:
    """The full-size model without memory: only names and shapes matter here."""
    with torch.device("meta"):
        return FisvlModel(official_config())


@pytest.fixture(scope="module")
def our_names(released) -> dict[str, list[str]]:
    """Official parameter -> ours (several where the release fuses query, key and value)."""
    manifest = json.loads((FIXTURES / "state_dict_manifest.json").read_text())
    entries = manifest["state_dict"]
    marked = {}
    for index, (name, entry) in enumerate(entries.items()):
        marked[name] = torch.empty(entry["shape"], dtype=torch.float64).fill_(index)
    converted = convert_state_dict(marked, official_config())
    names = list(marked)
    result: dict[str, list[str]] = {}
    for ours, tensor in converted.items():
        result.setdefault(names[int(tensor.reshape(-1)[0])], []).append(ours)
    return result


def test_groups_are_the_released_ones(released, our_names, optim):
    args = FisvlTrainingArguments(output_dir="unused", freeze_conv=True, use_cpu=True)
    assert apply_freezing(released, args) == []
    multipliers = {"": 1.0}
    groups = parameter_groups(released, 4e-5, 0.01, multipliers)
    by_decay = {group["weight_decay"]: set(group["names"]) for group in groups}
    assert set(by_decay) == {0.01, 0.0}
    for official in optim["groups"]:
        if not official["names"]:
            continue
        ours = {name for official_name in official["names"] for name in our_names[official_name]}
        assert by_decay[official["weight_decay"]] == ours
    assert sum(len(group["names"]) for group in optim["groups"]) == 139 + 251


def test_temperatures_decay_and_position_biases_do_not(released):
    undecayed = undecayed_names(released)
    assert not {"temperature", "center_temperature"} & undecayed
    tables = {name for name, _ in released.named_parameters() if "relative_position_bias_table" in name}
    assert len(tables) == 12 and tables <= undecayed


def test_multipliers_go_by_the_longest_prefix():
    model, _ = tiny_fisvl()
    multipliers = {"": 10.0, "vision_encoder.": 1.0, "text_encoder.": 0.5}
    groups = parameter_groups(model, 1e-3, 0.01, multipliers)
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    assert set(rates) == {name for name, _ in model.named_parameters()}
    for name, rate in rates.items():
        factor = 1.0 if name.startswith("vision_encoder.") else 0.5 if name.startswith("text_encoder.") else 10.0
        assert rate == pytest.approx(1e-3 * factor), name
    assert len(groups) == 6


def test_schedule_is_the_released_one(optim):
    schedule = optim["schedule"]
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=schedule["base_lr"])
    args = FisvlTrainingArguments(output_dir="unused", warmup_steps=0.1, lr_scheduler_type="linear", use_cpu=True)
    steps = schedule["num_training_steps"]
    assert args.get_warmup_steps(steps) == schedule["num_warmup_steps"]
    scheduler = get_scheduler(args.lr_scheduler_type, optimizer, args.get_warmup_steps(steps), steps)
    rates = []
    for _ in schedule["lr_before_step"]:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(schedule["lr_before_step"], rel=1e-9, abs=1e-15)


def test_adamw_follows_the_released_trajectory(optim):
    weight, bias = nn.Parameter(named_tensor("optim/w", (3, 4))), nn.Parameter(named_tensor("optim/b", (4,)))
    module = nn.Module()
    module.w, module.bias = weight, bias
    groups = parameter_groups(module, 1e-2, 0.01, {"": 1.0})
    for group in groups:
        del group["names"]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-8)
    scheduler = get_scheduler("linear", optimizer, num_warmup_steps=2, num_training_steps=10)
    trajectory = optim["adamw_trajectory"]["torch_adamw"]
    for k, point in enumerate(trajectory):
        weight.grad = 0.1 * named_tensor(f"optim/gw{k}", (3, 4))
        bias.grad = 0.1 * named_tensor(f"optim/gb{k}", (4,))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(point["lr"])
        optimizer.step()
        scheduler.step()
        torch.testing.assert_close(weight.detach(), torch.tensor(point["w"]), atol=1e-6, rtol=0)
        torch.testing.assert_close(bias.detach(), torch.tensor(point["b"]), atol=1e-6, rtol=0)


def test_freezing_by_name_and_by_stage():
    def frozen(**fields) -> set[str]:
        model, _ = tiny_fisvl()
        apply_freezing(model, FisvlTrainingArguments(output_dir="unused", use_cpu=True, **fields))
        return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}

    conv = frozen(freeze_conv=True)
    assert {name.split(".")[0] for name in conv} == {"conv_encoder", "sensing"}
    stem = frozen(freeze_vision_stages=1)
    assert stem and all(".embeddings." in name for name in stem)
    first = frozen(freeze_vision_stages=2)
    assert first > stem and all(".embeddings." in name or ".layers.0." in name for name in first)
    assert frozen(freeze=["word_embeddings"]) == {"text_encoder.embeddings.word_embeddings.weight"}
    with pytest.raises(StmineError, match=r"freeze_vision_stages is 9.*has 3"):
        frozen(freeze_vision_stages=9)


def test_a_pattern_that_finds_nothing_is_refused():
    model, _ = tiny_fisvl()
    with pytest.raises(StmineError, match="visoin"):
        freeze_by_name(model, ["visoin"])


def test_batchnorm_freezing_returns_the_norms_to_hold():
    model, _ = tiny_fisvl()
    norms = freeze_batchnorm(model)
    assert norms and all(isinstance(norm, nn.BatchNorm2d) for norm in norms)
    assert not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())

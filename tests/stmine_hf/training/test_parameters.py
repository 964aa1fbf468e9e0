"""Which parameters train and decay, the schedule and AdamW: held to the numbers of the authors' program."""

import json
from pathlib import Path

import pytest
import torch
from deterministic import named_tensor
from helpers import tiny_fisvl
from helpers_mttv import tiny_mttv
from helpers_sat import tiny_sat
from torch import nn
from transformers import get_scheduler

from stmine_hf.conversion.fisvl import convert_state_dict, official_config
from stmine_hf.errors import StmineError
from stmine_hf.modeling.fisvl.modeling_fisvl import FisvlModel
from stmine_hf.training.fisvl.arguments import FisvlTrainingArguments
from stmine_hf.training.fisvl.trainer import FisvlTrainer, apply_freezing
from stmine_hf.training.mttv.trainer import MttvTrainer
from stmine_hf.training.parameters import (
    freeze_batchnorm,
    freeze_by_name,
    layer_multipliers,
    parameter_groups,
    train_only,
    undecayed_names,
)
from stmine_hf.training.sat.trainer import SatTrainer

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


BERT = "text_encoder.encoder.layer.{}.attention.self.query.weight"
SWIN = "vision_encoder.encoder.encoder.layers.{}.blocks.{}.layernorm_before.weight"
RESNET = "conv_encoder.encoder.encoder.stages.{}.layers.{}.layer.0.convolution.weight"


def test_rates_fall_from_layer_to_layer(released):
    """Twelve layers of BERT, 2 + 2 + 6 + 2 blocks of Swin, 3 + 4 + 6 + 3 of ResNet-50, counted from above by hand."""
    rates = {
        name: rate
        for part, top in (("text_encoder.", 0.5), ("vision_encoder.", 1.0), ("conv_encoder.", 2.0))
        for name, rate in layer_multipliers(released, part, 0.9, top).items()
    }
    encoders = {name for name, _ in released.named_parameters() if name.split(".")[0].endswith("_encoder")}
    assert set(rates) == encoders
    expected = {
        BERT.format(11): 0.5,
        BERT.format(10): 0.5 * 0.9,
        BERT.format(0): 0.5 * 0.9**11,
        "text_encoder.embeddings.word_embeddings.weight": 0.5 * 0.9**12,
        "vision_encoder.encoder.layernorm.weight": 1.0,
        SWIN.format(3, 1): 1.0,
        SWIN.format(3, 0): 0.9,
        "vision_encoder.encoder.encoder.layers.2.downsample.reduction.weight": 0.9**2,  # after the stage's last block
        SWIN.format(2, 5): 0.9**2,
        SWIN.format(2, 0): 0.9**7,
        SWIN.format(0, 0): 0.9**11,
        "vision_encoder.encoder.embeddings.patch_embeddings.projection.weight": 0.9**12,
        RESNET.format(3, 2): 2.0,
        RESNET.format(2, 5): 2.0 * 0.9**3,
        RESNET.format(0, 0): 2.0 * 0.9**15,
        "conv_encoder.encoder.embedder.embedder.convolution.weight": 2.0 * 0.9**16,
    }
    assert {name: rates[name] for name in expected} == pytest.approx(expected)


def test_rates_of_a_detector_and_of_timm_fall_from_block_to_block():
    detector = tiny_sat(stage_blocks=(1, 2, 1))[0]
    rates = layer_multipliers(detector, "sat.backbone.", 0.5)
    expected = {
        "stages.2.0.branch.0.convolution.weight": 1.0,
        "stages.1.1.branch.2.normalization.bias": 0.5,
        "stages.1.0.shortcut.0.convolution.weight": 0.25,
        "stages.0.0.branch.0.convolution.weight": 0.125,
        "stem.convolution.weight": 0.0625,
    }
    assert {name: rates[f"sat.backbone.{name}"] for name in expected} == expected
    assert len(rates) == sum(name.startswith("sat.backbone.") for name, _ in detector.named_parameters())

    module = nn.Module()
    module.conv_stem = nn.Conv2d(3, 4, 1, bias=False)
    module.blocks = nn.Sequential(
        nn.Sequential(nn.Linear(1, 1, bias=False)), nn.Sequential(nn.Linear(1, 1, bias=False))
    )
    module.conv_head = nn.Conv2d(4, 4, 1, bias=False)
    of = layer_multipliers(module, "", 0.5, 8.0)
    assert of == {
        "conv_stem.weight": 2.0,
        "blocks.0.0.weight": 4.0,
        "blocks.1.0.weight": 8.0,
        "conv_head.weight": 8.0,
    }


def test_only_the_wanted_parts_train():
    model, _ = tiny_fisvl()
    held = train_only(model, FisvlTrainer.parts, ["head"])
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {
        *("vision_proj", "text_proj", "conv_proj", "sensing", "graph", "head_img"),
        *("temperature", "center_temperature"),
    }
    assert set(held) == {m for m in model.conv_encoder.modules() if isinstance(m, nn.BatchNorm2d)}

    detector = tiny_sat()[0]
    held = train_only(detector, SatTrainer.parts, ["neck", "head"])
    trained = {name.split(".")[1] for name, p in detector.named_parameters() if p.requires_grad and "sat." in name}
    assert trained == {"neck"} and detector.head[0].predictor.weight.requires_grad
    assert set(held) == {m for m in detector.sat.backbone.modules() if isinstance(m, nn.BatchNorm2d)}

    posts = tiny_mttv()[0]
    with pytest.raises(StmineError, match="no part 'backbone'; its parts are vision, text, head"):
        train_only(posts, MttvTrainer.parts, ["backbone"])
    with pytest.raises(StmineError, match="nothing in vision can be trained"):
        train_only(posts, MttvTrainer.parts, ["vision"])


def test_a_pattern_that_finds_nothing_is_refused():
    model, _ = tiny_fisvl()
    with pytest.raises(StmineError, match="visoin"):
        freeze_by_name(model, ["visoin"])


def test_batchnorm_freezing_returns_the_norms_to_hold():
    model, _ = tiny_fisvl()
    norms = freeze_batchnorm(model)
    assert norms and all(isinstance(norm, nn.BatchNorm2d) for norm in norms)
    assert not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())

"""The released optimizer and schedule: step by step, then on a whole small model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from deterministic import named_tensor, named_weight
from safetensors.torch import load_file
from torch.optim.lr_scheduler import LambdaLR

from stmine_hf import MttvConfig, MttvForSequenceClassification
from stmine_hf.conversion.mttv import convert_name, convert_state_dict, official_config
from stmine_hf.training.mttv.bert_adam import BertAdam, released_optimizer, released_total_steps, warmup_linear

FIXTURES = Path(__file__).parents[3] / "fixtures" / "mttv"
TRAINING = json.loads((FIXTURES / "training.json").read_text())
TINY = json.loads((FIXTURES / "tiny_training.json").read_text())


def difference(ours: torch.Tensor, theirs) -> float:
    return (ours - torch.as_tensor(theirs)).abs().max().item()


@pytest.mark.parametrize("name", ["trajectory", "trajectory without schedule"])
def test_trajectory_parity(parity, name):
    facts = TRAINING[name]
    prefix = facts["weight0"].split("'")[1].rsplit("/", 1)[0]
    parameters = {
        key: torch.nn.Parameter(named_tensor(f"{prefix}/{key}", shape))
        for key, shape in {"weight": (4, 3), "bias": (3,)}.items()
    }
    groups = [{"params": [value], "weight_decay": facts["weight_decay"][key]} for key, value in parameters.items()]
    optimizer = BertAdam(groups, lr=facts["lr"])
    scheduled = facts["t_total"] > 0
    schedule = LambdaLR(
        optimizer, lambda step: warmup_linear(step, facts["t_total"], facts["warmup"]) if scheduled else 1.0
    )
    for number, step in enumerate(facts["steps"]):
        for key, value in parameters.items():
            gradient = named_tensor(f"{prefix}/grad_{key}/{number}", tuple(value.shape))
            value.grad = gradient * step["gradient_scale"]
        parity("learning rate", abs(optimizer.param_groups[0]["lr"] - step["lr_used"]), 1e-9)
        optimizer.step()
        schedule.step()
        for key, value in parameters.items():
            parity("BertAdam trajectory", difference(value.detach(), step[key]), 1e-6)
            after = step["gradient_norm_after_clipping"][key]
            parity("clipped gradient norm", abs(value.grad.norm().item() - after), 1e-6)
        state = optimizer.state[parameters["weight"]]
        parity("BertAdam moments", difference(state["exp_avg"], step["next_m"]), 1e-6)
        parity("BertAdam moments", difference(state["exp_avg_sq"], step["next_v"]), 1e-6)


def test_schedule_parity(parity):
    facts = TRAINING["schedule"]
    for fraction, factor in facts["factors [fraction, factor], warmup 0.1, t_total 100"]:
        parity("schedule factors", abs(warmup_linear(fraction * 100, 100) - factor), 1e-9)
    for step, factor in facts["factors of steps 0..9, warmup 0.1, t_total 7.3"]:
        parity("schedule factors", abs(warmup_linear(step, 7.3) - factor), 1e-9)
    for case in TRAINING["total steps"]["examples"]:
        total = released_total_steps(case["posts"], case["batch"], case["epochs"], case["accumulation"])
        parity("total steps", abs(total - case["t_total"]), 1e-9)


def test_parameter_groups_parity(parity):
    with torch.device("meta"):
        model = MttvForSequenceClassification(official_config("weibo"))
    optimizer, _ = released_optimizer(model, lr=1e-4, total_steps=10)
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        theirs = {convert_name(name) for name in TRAINING["parameter groups"]["groups"][str(group["weight_decay"])]}
        ours = {names[parameter] for parameter in group["params"]}
        parity(f"parameters in another group, decay {group['weight_decay']}", len(ours ^ theirs), 0)


def tiny_model() -> MttvForSequenceClassification:
    facts = TINY["config"]
    sizes = (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
        "vocab_size",
    )  # fmt: skip
    config = MttvConfig(
        text_config={key: facts[key] for key in sizes},
        num_encoder_layers=facts["encoder_layer_num"],
        num_global_tokens=facts["global_image_embeds"],
        num_region_tokens=facts["region_image_embeds"],
        vision_width=facts["img_hidden_sz"],
        cls_token_id=facts["cls_id"],
        sep_token_id=facts["sep_id"],
        dropout=0.0,
        num_labels=facts["n_classes"],
    )
    model = MttvForSequenceClassification(config)
    official = {name: named_weight(name, shape) for name, shape in TINY["keys"].items()}
    model.load_state_dict(convert_state_dict(official, config))
    return model.train()


def tiny_batch(step: int) -> dict[str, torch.Tensor]:
    rows = [torch.tensor(ids) for ids in TINY["input_ids"][step]]
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": pad(rows, batch_first=True),
        "attention_mask": pad([torch.ones_like(row) for row in rows], batch_first=True),
        "global_features": named_tensor(f"mttv/tiny/global/{step}", (len(rows), 16, 7, 7)).abs(),
        "region_features": named_tensor(f"mttv/tiny/region/{step}", (len(rows), 3, 16)).abs(),
        "labels": torch.tensor(TINY["targets"][step]),
    }


def test_eight_training_steps_parity(parity):
    facts = TINY["config"]
    model = tiny_model()
    total = released_total_steps(facts["train_data_len"], facts["batch_sz"], facts["max_epochs"])
    assert total == facts["t_total"]
    optimizer, schedule = released_optimizer(model, facts["lr"], total, facts["warmup"])
    for step, theirs in enumerate(TINY["losses"]):
        optimizer.zero_grad()
        loss = model(**tiny_batch(step)).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        parity("losses of 8 training steps", abs(loss.item() - theirs), 1e-5)
    ours, compared = dict(model.named_parameters()), set()
    for name, theirs in load_file(FIXTURES / "tiny_training.safetensors").items():
        mine = ours[convert_name(name)].detach()
        compared.add(convert_name(name))
        if not name.endswith("key.bias"):  # their gradients are rounding errors, which Adam blows up
            parity("every parameter after 8 training steps", difference(mine, theirs), 2e-5)
    assert compared == ours.keys()


def test_released_optimizer_leaves_frozen_parameters_out():
    model = tiny_model()
    model.mttv.global_proj.requires_grad_(False)
    optimizer, _ = released_optimizer(model, lr=1e-3, total_steps=10)
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert id(model.mttv.global_proj.weight) not in held
    assert len(held) == len(list(model.parameters())) - 2

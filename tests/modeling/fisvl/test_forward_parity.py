"""The full-size model after conversion against the authors' program: every stage, gradients, preprocessing.

Fixtures: tests/fixtures/fisvl, made by running the authors' code on weights and inputs that follow from names
(`tests/deterministic.py`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from deterministic import named_image, named_weights
from PIL import Image
from safetensors.torch import load_file

from stmine_hf import FisvlModel
from stmine_hf.conversion.fisvl import convert_name, convert_state_dict, official_config
from stmine_hf.modeling.fisvl.processing_fisvl import FisvlImageProcessor

FIXTURES = Path(__file__).parents[2] / "fixtures" / "fisvl"
FACTS = json.loads((FIXTURES / "forward.json").read_text())
MANIFEST = json.loads((FIXTURES / "state_dict_manifest.json").read_text())


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / "forward.safetensors")


@pytest.fixture(scope="module")
def model() -> FisvlModel:
    config = official_config()
    official = named_weights(MANIFEST["state_dict"])
    official |= {"temp": torch.tensor(0.07), "temp2": torch.tensor(0.07)}
    loaded = FisvlModel(config)
    loaded.load_state_dict(convert_state_dict(official, config))  # strict: nothing missing, nothing left over
    return loaded.eval()


@pytest.fixture(scope="module")
def pixel_values() -> torch.Tensor:
    images = [Image.fromarray(named_image(*FACTS["image_size"], seed)) for seed in FACTS["image_seeds"]]
    return FisvlImageProcessor()(images, return_tensors="pt")["pixel_values"]


def padded(captions: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [torch.tensor(ids) for ids in captions]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=FACTS["pad_id"])
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return ids, mask


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


def test_size_parity(model):
    assert sum(parameter.numel() for parameter in model.parameters()) == MANIFEST["parameters"] == 165_957_884


def test_preprocessing_parity(parity, expected, pixel_values):
    stride = FACTS["input_probe_stride"]
    parity("images to tensors", difference(pixel_values[:, :, ::stride, ::stride], expected["input_probe"]), 1e-6)
    probe = FACTS["resize_probe"]
    image = Image.fromarray(named_image(probe["height"], probe["width"], probe["seed"]))
    resized = FisvlImageProcessor()(image, return_tensors="pt")["pixel_values"][0]
    stride = probe["stride"]
    theirs = expected["resize_probe"].reshape(3, -1)
    parity("bicubic resize", difference(resized[:, ::stride, ::stride].reshape(3, -1), theirs), 1e-6)


@torch.no_grad()
def test_image_forward_parity(parity, expected, model, pixel_values):
    encoded, _ = model.vision_encoder(pixel_values)
    parity("Swin tokens", difference(encoded, expected["vision_encoder"]), 1e-5)
    tokens = model.vision_proj(encoded)
    parity("projected pooled token", difference(tokens[:, 0], expected["vision_proj_node0"]), 1e-5)
    conv, feature_map = model.conv_encoder(pixel_values)
    parity("ResNet pooled", difference(conv[:, 0], expected["conv_pooled"]), 1e-5)
    projected = model.conv_proj(conv[:, 0])
    parity("projected conv node", difference(projected, expected["conv_proj"]), 1e-5)
    local = model.sensing(feature_map)
    parity("scene fine-grained sensing", difference(local, expected["conv_local_fea1"]), 1e-5)
    nodes = torch.cat([projected[:, None], local[:, None], tokens], dim=1)
    for number, step in enumerate(model.graph, start=1):
        nodes = step(nodes)
        for node in (0, 2):
            theirs = expected[f"gcn_step{number}_node{node}"]
            parity(f"graph step {number}, node {node}", difference(nodes[:, node], theirs), 2e-4)
    parity("image head", difference(model.head_img(nodes[:, 2]), expected["head_img"]), 2e-4)
    embeds = model.get_image_features(pixel_values).pooler_output
    parity("image embedding", difference(embeds, expected["image_embedding"]), 1e-5)
    one = model.get_image_features(pixel_values[:1]).pooler_output
    parity("image embedding, batch of one", difference(one, expected["image_embedding"][:1]), 1e-5)


@torch.no_grad()
def test_text_forward_parity(parity, expected, model):
    ids, mask = padded(FACTS["caption_ids"])
    states = model.text_encoder(ids, attention_mask=None).last_hidden_state[:, 0]
    parity("BERT first token, padding attended", difference(states, expected["text_encoder_node0_padded"]), 1e-5)
    embeds = model.get_text_features(ids, mask).pooler_output
    parity("text embedding, padding attended", difference(embeds, expected["text_embedding_padded"]), 1e-5)
    alone = [model.get_text_features(torch.tensor([row])).pooler_output for row in FACTS["caption_ids"]]
    parity("text embedding, each alone", difference(torch.cat(alone), expected["text_embedding_alone"]), 1e-5)
    model.config.attend_padding = False
    try:
        embeds = model.get_text_features(ids, mask).pooler_output
    finally:
        model.config.attend_padding = True
    parity("text embedding, padding masked", difference(embeds, expected["text_embedding_masked"]), 1e-5)


@torch.no_grad()
def test_batch_statistics_parity(parity, expected, model, pixel_values):
    """Train mode without dropout: batch statistics are used and the running ones move, as in the released training."""
    theirs = {
        name.removeprefix("conv_train/"): value for name, value in expected.items() if name.startswith("conv_train/")
    }
    before = {
        name: value.clone() for name, value in model.state_dict().items() if "running" in name or "tracked" in name
    }
    model.conv_encoder.train()
    model.sensing.train()
    dropouts = [module for module in model.sensing.modules() if isinstance(module, torch.nn.Dropout)]
    rates = [module.p for module in dropouts], model.sensing.attention.dropout
    for module in dropouts:
        module.p = 0.0
    model.sensing.attention.dropout = 0.0
    try:
        conv, feature_map = model.conv_encoder(pixel_values)
        ours = {"local_fea1_dropout0": model.sensing(feature_map), "pooled": conv[:, 0]}
        moved = model.state_dict()
        compared = 0
        for name, value in theirs.items():
            if name in ours:
                parity(f"train mode: {name}", difference(ours[name], value.reshape(ours[name].shape)), 5e-5)
            else:
                mine = moved[convert_name("conv_encoder." + name)]
                parity(f"train mode: {name}", difference(mine.float(), value.float()), 1e-5)
            compared += 1
        assert compared == len(theirs) > 2
    finally:
        model.eval()
        for module, rate in zip(dropouts, rates[0], strict=True):
            module.p = rate
        model.sensing.attention.dropout = rates[1]
        model.load_state_dict(before, strict=False)


@pytest.mark.parametrize("epoch", [0, 5, 10])
def test_train_step_parity(parity, model, pixel_values, epoch):
    """Loss and the gradient of every parameter on one batch, before and after each switch of the schedule."""
    facts = json.loads((FIXTURES / "train_step.json").read_text())
    whole = load_file(FIXTURES / "train_step.safetensors")
    case, released = facts["case"], facts["config"]
    model.config.scene_beta_inter, model.config.scene_beta_intra = released["beta1"], released["beta2"]
    model.config.scene_margin = released["alpha_m"]
    ids, mask = padded(FACTS["caption_ids"][: len(case["idx"])])
    model.zero_grad(set_to_none=True)
    output = model(
        pixel_values=pixel_values,
        input_ids=ids,
        attention_mask=mask,
        image_ids=torch.tensor(case["idx"]),
        scene_labels=torch.tensor(case["label"]),
        caption_weights=torch.tensor(case["length"], dtype=torch.float64),
        epoch=epoch,
    )
    output.loss.backward()
    theirs = facts["epochs"][str(epoch)]
    for name, ours in {"contr": "contrastive", "affil": "affiliation", "scene": "scene"}.items():
        parity(f"epoch {epoch}: {ours} loss", abs(output.loss_dict[ours].item() - theirs["losses"][name]), 5e-6)
    parity(f"epoch {epoch}: loss", abs(output.loss.item() - theirs["losses"]["total"]), 1e-5)

    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    worst = 0.0
    for name, norm in theirs["grad_l2_norm"].items():
        if norm is not None and norm > 1e-5:
            ours_norm = official_gradient(name, gradients).norm().item()
            worst = max(worst, abs(ours_norm - norm) / norm)
    parity(f"epoch {epoch}: {len(theirs['grad_l2_norm'])} gradient norms, relative", worst, 1e-3)
    for key, gradient in whole.items():
        if key.startswith(f"epoch{epoch}/"):
            name = key.split("/", 1)[1]
            scale = max(1.0, gradient.abs().max().item())
            measured = difference(official_gradient(name, gradients), gradient) / scale
            parity(f"epoch {epoch}: gradient of {name}, of its maximum", measured, 1e-3)


def official_gradient(name: str, gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    """The gradient of an official parameter from ours: fused query-key-value tensors are three of ours."""
    if ".attn.qkv." in name and name.startswith("vision_encoder."):
        output = convert_name(name.replace("qkv", "proj"))
        return torch.cat([gradients[output.replace("o_proj", f"{part}_proj")] for part in "qkv"])
    return gradients[convert_name(name)]

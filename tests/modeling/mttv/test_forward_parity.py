"""The full-size models after conversion against the authors' program: every stage, gradients, pooling.

Fixtures: tests/fixtures/mttv, made by running the authors' code on weights and inputs that follow from names
(`tests/deterministic.py`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from deterministic import named_tensor, named_weights
from safetensors.torch import load_file

from stmine_hf import MttvForSequenceClassification, MttvModel
from stmine_hf.conversion.mttv import convert_name, convert_state_dict, official_config

FIXTURES = Path(__file__).parents[2] / "fixtures" / "mttv"
FORWARD = json.loads((FIXTURES / "forward.json").read_text())["variants"]
MANIFEST = json.loads((FIXTURES / "state_dict_manifest.json").read_text())["variants"]
DATASET = json.loads((FIXTURES / "dataset.json").read_text())
POOLING = json.loads((FIXTURES / "pooling.json").read_text())
PRESET = {"weibo": "weibo", "fakeddit6": "fakeddit_6_way"}


@pytest.fixture(scope="module", params=["weibo", pytest.param("fakeddit6", marks=pytest.mark.slow)])
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def official(variant) -> dict[str, torch.Tensor]:
    """The released state dict, filled by name; the shared tensors take the value of the text side."""
    facts = MANIFEST[variant]
    weights = named_weights({key: {**entry, "fill": key not in facts["tied"]} for key, entry in facts["keys"].items()})
    return weights | {key: weights[twin] for key, twin in facts["tied"].items()}


@pytest.fixture(scope="module")
def model(variant, official) -> MttvForSequenceClassification:
    config = official_config(PRESET[variant])
    loaded = MttvForSequenceClassification(config)
    loaded.load_state_dict(convert_state_dict(official, config))  # strict
    return loaded.eval()


@pytest.fixture(scope="module")
def expected(variant) -> dict[str, torch.Tensor]:
    tensors = load_file(FIXTURES / "forward.safetensors")
    return {name.split("/", 1)[1]: tensor for name, tensor in tensors.items() if name.startswith(variant + "/")}


@pytest.fixture(scope="module")
def inputs(variant) -> dict[str, torch.Tensor]:
    facts = FORWARD[variant]["inputs"]
    rows = [torch.tensor(ids) for ids in facts["input_ids"]]
    regions = named_tensor(f"mttv/{variant}/region", (3, 20, 2048)).abs()
    for row, kept in enumerate(facts["regions"]):
        regions[row, kept:] = 0
    return {
        "input_ids": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        "attention_mask": torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        "global_features": named_tensor(f"mttv/{variant}/global", (3, 2048, 7, 7)).abs(),
        "region_features": regions,
    }


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return (ours - theirs).abs().max().item()


def test_size_parity(variant, model):
    assert sum(parameter.numel() for parameter in model.parameters()) == MANIFEST[variant]["parameters"]
    assert len(list(model.parameters())) == MANIFEST[variant]["parameter_tensors"] == 109


@torch.no_grad()
def test_layers_parity(parity, variant, model, expected, inputs):
    seen = {}
    embeddings = model.mttv.encoder.embeddings
    hook = embeddings.register_forward_hook(lambda _, __, output: seen.update(embedded=output))
    outputs = model(**inputs, output_hidden_states=True)
    hook.remove()
    image = model.mttv._image_tokens(
        inputs["global_features"], inputs["region_features"][:, : model.config.num_region_tokens]
    )
    parity("image tokens", difference(image[..., :32], expected["img_encoder.out"]), 1e-5)
    border = model.config.num_image_tokens + 2
    embedded = seen["embedded"]
    parity("embeddings, image", difference(embedded[:, :border, :64], expected["img_embeddings.out"]), 1e-5)
    parity("embeddings, text", difference(embedded[:, border:, :16], expected["txt_embeddings.out"]), 1e-5)
    layers = torch.stack(outputs.hidden_states[1:])
    parity("six layers, first token", difference(layers[:, :, 0], expected["layers.first_token"]), 1e-5)
    whole = expected["layers.all_tokens_first8"]
    parity("layers 1 and 6, all tokens", difference(layers[[0, -1]][..., :8], whole), 1e-5)
    parity("pooled", difference(model.mttv(**inputs).pooler_output, expected["pooled"]), 1e-5)
    parity("logits", difference(outputs.logits, expected["logits"]), 1e-5)


@torch.no_grad()
def test_attention_kernels_agree(parity, variant, model, expected, inputs):
    for kernel in ("eager", "sdpa"):
        model.set_attn_implementation(kernel)
        parity(f"logits, {kernel} attention", difference(model(**inputs).logits, expected["logits"]), 1e-5)


@torch.no_grad()
def test_scalable_classifier_parity(parity, variant, model, expected, inputs):
    recalls = FORWARD[variant]["scalable"]["recalls"]
    try:
        for tau in (0.5, 1.0):
            theirs = {name.removeprefix(f"scalable.tau{tau}."): value for name, value in expected.items()}
            factors = model.fit_scaling_factors(recalls, tau)
            parity("scaling factors", difference(factors, theirs["factors"]), 1e-6)
            logits = model(**inputs).logits
            parity("scaled logits", difference(logits, theirs["scaled_logits"]), 2e-5)
            parity("scaled probabilities", difference(logits.softmax(-1), theirs["probabilities"]), 1e-5)
            # The loss that the released evaluation prints takes these probabilities for logits.
            reported = F.cross_entropy(logits.softmax(-1), torch.tensor(FORWARD[variant]["inputs"]["targets"]))
            parity("loss as the release reports it", difference(reported, theirs["reported_loss"]), 1e-5)
    finally:
        model.scaling_factors.fill_(1)


@torch.no_grad()
def test_label_order_parity(parity, variant, official, model, expected, inputs):
    """Rows follow labels by name: with the official order given, column k is label k of the config."""
    order = FORWARD[variant]["inputs"]["label_order"][::-1] if variant == "weibo" else [2, 0, 5, 4, 1, 3]
    config = model.config
    reordered = convert_state_dict(official, config, order)
    pooled = model.mttv(**inputs).pooler_output
    for row, label in enumerate(order):
        column = label if isinstance(label, int) else config.label2id[label]
        logits = pooled @ reordered["classifier.weight"][column]
        parity("logits under label order", difference(logits, expected["logits"][:, row]), 1e-5)


def test_gradients_parity(parity, variant, model, expected, inputs):
    model.zero_grad(set_to_none=True)
    output = model(**inputs, labels=torch.tensor(FORWARD[variant]["inputs"]["targets"]))
    output.loss.backward()
    parity("loss", difference(output.loss.detach(), expected["loss"]), 1e-5)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    theirs, worst = FORWARD[variant]["gradient_norms"], 0.0
    assert {convert_name(name) for name in theirs} == gradients.keys()
    for name, norm in theirs.items():
        if not name.endswith("key.bias"):  # zero in exact arithmetic
            ours_norm = gradients[convert_name(name)].double().norm().item()
            worst = max(worst, abs(ours_norm - norm) / norm)
    parity("gradient norms of all parameters, relative", worst, 1e-4)
    for name, gradient in expected.items():
        if name.startswith("grad."):
            key = name.removeprefix("grad.").removesuffix(".slice").removesuffix(".rows0-7")
            ours = gradients[convert_name(key)]
            if ours.shape != gradient.shape:
                ours = ours[: gradient.shape[0], : gradient.shape[1]]
            parity("gradients, stored slices", difference(ours, gradient), 1e-5)
    model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("item", [f"item {number}" for number in range(4)])
def test_missing_regions_parity(parity, item):
    """As the released loader: too few regions are filled up with zero rows, of too many the first are kept."""
    stored = {"item 0": 20, "item 1": 3, "item 2": 0, "item 3": 25}[item]
    rows = torch.arange(1.0, stored + 1)[None, :, None].expand(1, stored, 16)
    small = {"vocab_size": 200, "hidden_size": 12, "intermediate_size": 8}
    model = MttvModel(official_config("weibo", vision_width=16, text_config=small))
    _, regions = model._as_configured(None, rows, torch.zeros(1, 1, 12))
    theirs = torch.tensor(DATASET["missing pictures"][item]["region rows (first value of each)"])
    parity("regions, filled up and cut", difference(regions[0, :, 0], theirs), 0)


@pytest.mark.parametrize("tokens", [int(number) for number in POOLING["grids"]])
def test_pooling_parity(parity, tokens):
    theirs = load_file(FIXTURES / "pooling.safetensors")
    visual_map = named_tensor("mttv/pooling/map", (1, 2048, 7, 7)).abs()
    config = official_config("weibo", num_global_tokens=tokens)
    assert list(config.global_grid) == POOLING["grids"][str(tokens)]
    for pooling, pool in (("avg", F.adaptive_avg_pool2d), ("max", F.adaptive_max_pool2d)):
        cells = pool(visual_map, config.global_grid).flatten(2).transpose(1, 2)[0, :, :8]
        parity(f"{pooling} pooling", difference(cells, theirs[f"{pooling}/{tokens}"]), 1e-6)

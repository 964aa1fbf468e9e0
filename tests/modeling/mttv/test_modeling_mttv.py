"""MTTV as a transformers model: shapes, missing parts, gradients, saving and loading, and loading without us."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest
import torch
from deterministic import named_image
from helpers_mttv import save_tiny_mttv, tiny_mttv, tiny_mttv_config
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoProcessor,
    BertConfig,
    BertModel,
    ResNetModel,
    TimmWrapperConfig,
)

from stmine_hf import MttvConfig, MttvForSequenceClassification, MttvModel, MttvProcessor

IMAGE = Image.fromarray(named_image(50, 60, 4))
BOXES = [[5, 5, 40, 45], [10.5, 0, 60, 20]]


@pytest.fixture
def tiny() -> tuple[MttvForSequenceClassification, MttvProcessor]:
    return tiny_mttv()


@pytest.fixture
def inputs(tiny) -> dict[str, torch.Tensor]:
    texts = ["假新闻 fake news!", "看", "news " * 9]
    return dict(tiny[1](text=texts, images=[IMAGE, None, IMAGE], boxes=[BOXES, [], []]))


@pytest.fixture
def features() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {
        "input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "global_features": torch.randn(2, 32, 7, 7).abs(),
        "region_features": torch.randn(2, 3, 32).abs(),
    }


@torch.no_grad()
def test_shapes(tiny, inputs):
    model = tiny[0]
    outputs = model(**inputs, output_hidden_states=True)
    length = 2 + 4 + 3 + inputs["input_ids"].shape[1]
    assert outputs.logits.shape == (3, 2) and outputs.loss is None
    assert [state.shape for state in outputs.hidden_states] == [(3, length, 32)] * 3
    model.set_attn_implementation("eager")
    attentions = model(**inputs, output_attentions=True).attentions
    assert [weights.shape for weights in attentions] == [(3, 2, length, length)] * 2
    logits, hidden = model(**inputs, output_hidden_states=True, return_dict=False)
    torch.testing.assert_close(logits, outputs.logits)
    assert len(hidden) == 3


@torch.no_grad()
def test_every_input_counts(tiny, inputs):
    model = tiny[0]
    whole = model(**inputs).logits[0]
    for name in ("pixel_values", "region_pixel_values", "input_ids"):
        changed = {**inputs, name: inputs[name].flip(-1)}
        assert (model(**changed).logits[0] - whole).abs().max() > 1e-4, name


@torch.no_grad()
def test_a_post_does_not_depend_on_its_batch(tiny, inputs):
    model, processor = tiny
    together = model(**inputs).logits
    alone = model(**processor(text="看", images=[None], boxes=[[]])).logits
    torch.testing.assert_close(alone[0], together[1], atol=1e-6, rtol=1e-5)
    text_only = model(**processor(text="看")).logits
    torch.testing.assert_close(text_only[0], together[1], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_pixels_give_what_their_features_give(tiny, inputs):
    model = tiny[0]
    names = ("pixel_values", "region_pixel_values", "image_mask", "region_mask")
    global_features, region_features = model.mttv.get_visual_features(**{name: inputs[name] for name in names})
    assert global_features.shape == (3, 32, 4, 4) and region_features.shape == (3, 3, 32)
    assert not global_features[1].any() and not region_features[1].any() and not region_features[0, 2].any()
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    by_features = model(**text, global_features=global_features, region_features=region_features).logits
    torch.testing.assert_close(by_features, model(**inputs).logits)


@torch.no_grad()
def test_crops_go_through_the_encoder_together(tiny, inputs):
    runs = []
    tiny[0].mttv.vision_encoder.register_forward_hook(lambda module, args, output: runs.append(len(args[0])))
    tiny[0](**inputs)
    assert runs == [2 + 2]  # two images and two regions; what is missing is not run


@torch.no_grad()
def test_region_counts_and_texts_of_no_length(tiny, features):
    model = tiny[0]
    whole = model(**features).logits
    more = {**features, "region_features": torch.cat([features["region_features"], torch.ones(2, 4, 32)], dim=1)}
    torch.testing.assert_close(model(**more).logits, whole)
    fewer = {**features, "region_features": features["region_features"][:, :1]}
    padded = features["region_features"].clone()
    padded[:, 1:] = 0
    torch.testing.assert_close(model(**fewer).logits, model(**{**features, "region_features": padded}).logits)
    empty = {"input_ids": torch.zeros(2, 0, dtype=torch.long), "global_features": features["global_features"]}
    blank = {"input_ids": torch.zeros(2, 1, dtype=torch.long), "attention_mask": torch.zeros(2, 1, dtype=torch.long)}
    blank["global_features"] = features["global_features"]
    torch.testing.assert_close(model(**empty).logits, model(**blank).logits, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_missing_tokens_are_attended_as_released_or_masked(features):
    features["region_features"][0, 1:] = 0
    features["global_features"][1] = 0
    for attend in (True, False):
        model, _ = tiny_mttv(attend_missing=attend)
        logits = model(**features).logits
        model.mttv.region_proj.bias.data += torch.linspace(-5, 5, 32)
        model.mttv.global_proj.bias.data += torch.linspace(-5, 5, 32)
        masked = features | {
            "region_mask": torch.tensor([[1, 0, 0], [1, 1, 1]]),
            "image_mask": torch.tensor([1, 0]),
        }
        moved = model(**features).logits
        torch.testing.assert_close(model(**masked).logits, moved)
        assert (moved - logits).abs().max() > 1e-4
        model.mttv.region_proj.weight.data.zero_()
        model.mttv.global_proj.weight.data.zero_()
        text_only = {name: features[name] for name in ("input_ids", "attention_mask")}
        same = torch.allclose(model(**text_only).logits, model(**features).logits, atol=1e-5)
        assert same == attend  # with dead projections, only masks can tell a missing image


@torch.no_grad()
def test_mean_pooling_averages_what_is_attended_to(features):
    model, _ = tiny_mttv(sequence_pooling="mean", attend_missing=False)
    features["global_features"][1] = 0  # 4 global tokens of the second post are masked, as is its padding
    outputs = model.mttv(**features)
    attended = torch.tensor([1, 0, 0, 0, 0, 1, 1, 1, 1, *features["attention_mask"][1].tolist()]).bool()
    mean = outputs.last_hidden_state[1, attended].mean(dim=0)
    expected = torch.tanh(model.mttv.encoder.pooler.dense(mean))
    torch.testing.assert_close(outputs.pooler_output[1], expected, atol=1e-6, rtol=1e-5)
    first, _ = tiny_mttv()
    assert not torch.allclose(first.mttv(**features).pooler_output, outputs.pooler_output)


def test_token_types_are_built_inside(tiny, features):
    model = tiny[0]
    zeros = torch.zeros_like(features["input_ids"])
    torch.testing.assert_close(model(**features, token_type_ids=zeros).logits, model(**features).logits)


@torch.no_grad()
def test_padding_does_not_count(tiny, features):
    model = tiny[0]
    changed = features | {"input_ids": features["input_ids"].clone()}
    changed["input_ids"][1, 2:] = 30
    torch.testing.assert_close(model(**changed).logits, model(**features).logits, atol=1e-6, rtol=1e-5)


def test_scaling(tiny, features):
    model = tiny[0]
    plain = model(**features).logits.detach()
    factors = model.fit_scaling_factors([0.9, 0.5], tau=0.5)
    torch.testing.assert_close(factors, torch.tensor([0.9, 0.5]) ** -0.5)
    torch.testing.assert_close(model(**features).logits, plain * factors)
    model.config.scaling_mode = "shift"
    torch.testing.assert_close(model(**features).logits, plain + factors.log())
    torch.testing.assert_close(model.fit_scaling_factors([1, 0.0], tau=1), torch.tensor([1.0, 100.0]))
    torch.testing.assert_close(model.fit_scaling_factors([0.3, 0.2], tau=0), torch.ones(2))
    model.fit_scaling_factors([0.5, 1.0])
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.testing.assert_close(model(**features).logits, plain, atol=1e-6, rtol=1e-5)  # training: without factors


@pytest.mark.parametrize(
    ("recalls", "options", "message"),
    [
        ([0.5], {}, "one recall for each of the 2 labels"),
        ([0.5, 1.5], {}, "recalls from 0 to 1"),
        ([0.5, float("nan")], {}, "recalls from 0 to 1"),
        ([0.5, 0.5], {"min_recall": 0}, r"min_recall in \(0, 1\]"),
    ],
)
def test_wrong_recalls_are_told(tiny, recalls, options, message):
    with pytest.raises(ValueError, match=message):
        tiny[0].fit_scaling_factors(recalls, **options)


def test_gradients_reach_every_parameter_but_the_frozen_encoder(tiny, inputs):
    model = tiny[0].train()
    model(**inputs, labels=torch.tensor([0, 1, 0])).loss.backward()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {f"mttv.vision_encoder.{name}" for name, _ in model.mttv.vision_encoder.named_parameters()}
    assert not model.mttv.vision_encoder.training
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name in frozen), name


def test_a_trained_encoder_gets_gradients(inputs):
    model, _ = tiny_mttv(train_vision=True)
    model.train()
    assert model.mttv.vision_encoder.training
    model(**inputs, labels=torch.tensor([0, 1, 0])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_loss_goes_down(tiny, inputs):
    model, labels = tiny[0].train(), torch.tensor([0, 1, 0])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_gradient_checkpointing_changes_nothing(tiny, features):
    gradients = []
    for checkpointing in (False, True):
        model = copy.deepcopy(tiny[0]).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**features, labels=torch.tensor([0, 1])).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@torch.no_grad()
def test_sdpa_and_eager_agree(inputs, tmp_path):
    folder = save_tiny_mttv(tmp_path)
    load = MttvForSequenceClassification.from_pretrained
    eager, sdpa = (load(folder, attn_implementation=name) for name in ("eager", "sdpa"))
    assert eager.mttv.encoder.config._attn_implementation == "eager"
    assert sdpa.mttv.encoder.config._attn_implementation == "sdpa"
    torch.testing.assert_close(sdpa(**inputs).logits, eager(**inputs).logits, atol=1e-5, rtol=1e-4)
    eager.set_attn_implementation({"text_config": "sdpa"})  # and on a model in use; a ResNet would refuse
    assert torch.equal(sdpa(**inputs).logits, eager(**inputs).logits)


@torch.no_grad()
def test_bfloat16(tiny, inputs, tmp_path):
    expected = tiny[0](**inputs).logits
    half = MttvForSequenceClassification.from_pretrained(save_tiny_mttv(tmp_path), dtype=torch.bfloat16)
    logits = half(**inputs).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.15, rtol=0.1)


@pytest.mark.slow
@torch.no_grad()
def test_compile(tiny, features):
    compiled = torch.compile(tiny[0], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**features).logits, tiny[0](**features).logits, atol=1e-5, rtol=1e-4)


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and all buffers, those that are not saved too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@torch.no_grad()
def test_save_load_save(tiny, inputs, tmp_path):
    model = tiny[0]
    model.fit_scaling_factors([0.7, 0.4])
    model.save_pretrained(tmp_path / "first")
    loaded = MttvForSequenceClassification.from_pretrained(tmp_path / "first")
    assert not any(parameter.requires_grad for parameter in loaded.mttv.vision_encoder.parameters())
    before, after = state(model), state(loaded)
    assert before.keys() == after.keys()
    assert any("position_ids" in name for name in before) and "scaling_factors" in before
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)
    loaded.save_pretrained(tmp_path / "second")
    again = MttvForSequenceClassification.from_pretrained(tmp_path / "second")
    again.save_pretrained(tmp_path / "third")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "second" / file).read_bytes() == (tmp_path / "third" / file).read_bytes()
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    base = MttvModel.from_pretrained(tmp_path / "first")
    assert torch.equal(base(**inputs).pooler_output, model.mttv(**inputs).pooler_output)


def test_save_load_without_vision_encoder(tmp_path, features):
    model, _ = tiny_mttv(vision_config=None)
    model.save_pretrained(tmp_path)
    loaded = MttvForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**features).logits, model(**features).logits)
    assert json.loads((tmp_path / "config.json").read_text())["vision_config"] is None
    with pytest.raises(ValueError, match="no visual encoder"):
        loaded(input_ids=features["input_ids"], pixel_values=torch.zeros(2, 3, 32, 32))


def test_processor_save_load(tiny, inputs, tmp_path):
    tiny[1].save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path, trust_remote_code=True)
    assert (loaded.num_regions, loaded.max_tokens) == (3, 40)
    texts = ["假新闻 fake news!", "看", "news " * 9]
    again = loaded(text=texts, images=[IMAGE, None, IMAGE], boxes=[BOXES, [], []])
    assert all(torch.equal(again[name], tensor) for name, tensor in inputs.items())


def test_auto_classes(tmp_path):
    folder = save_tiny_mttv(tmp_path)
    assert type(AutoModel.from_pretrained(folder)) is MttvModel
    assert type(AutoModelForSequenceClassification.from_pretrained(folder)) is MttvForSequenceClassification
    assert type(AutoProcessor.from_pretrained(folder)) is MttvProcessor


REMOTE = """
import sys, torch
from PIL import Image
from transformers import AutoModel, AutoModelForSequenceClassification, AutoProcessor, pipeline
first, second = sys.argv[1:]
for turn, (folder, out) in enumerate([(first, second), (second, first + "-again")]):
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    base = AutoModel.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    inputs = processor(text="fake news", images=Image.new("RGB", (40, 30), "red"), boxes=[[1, 1, 9, 9]])
    logits = model(**inputs).logits
    assert base(**inputs).pooler_output.shape == (1, 32)
    if turn:
        assert torch.equal(logits, before)
    before = logits
    model.save_pretrained(out)
    processor.save_pretrained(out)
    classify = pipeline("fake-news-detection", model=folder, trust_remote_code=True)
    found = classify({"text": "fake news", "image": Image.new("RGB", (40, 30), "red"), "boxes": [[1, 1, 9, 9]]})
    assert abs(found["scores"]["fake"] - logits.softmax(-1)[0, 0].item()) < 1e-6
assert "stmine_hf" not in sys.modules
print("logits", logits.flatten().tolist())
"""


def test_loads_without_the_package(tmp_path):
    """Auto classes, pipeline and re-saving from a plain folder, in a process that cannot import us."""
    folder = save_tiny_mttv(tmp_path / "first")
    blocked = tmp_path / "site" / "stmine_hf"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('this process must do without stmine_hf')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    run = subprocess.run(
        [sys.executable, "-c", REMOTE, str(folder), str(tmp_path / "second")],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=900,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    files = {path.name for path in (tmp_path / "second").iterdir()}
    assert {f"{name}_mttv.py" for name in ("configuration", "modeling", "processing", "pipeline")} <= files
    model, processor = tiny_mttv()
    inputs = processor(text="fake news", images=Image.new("RGB", (40, 30), "red"), boxes=[[1, 1, 9, 9]])
    theirs = [float(number) for number in run.stdout.split("[")[1].rstrip("]\n").split(",")]
    torch.testing.assert_close(torch.tensor(theirs), model(**inputs).logits[0].detach())


def test_vision_encoders_of_other_kinds():
    """Feature maps and tokens (with or without class token) are read alike."""
    patches = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    for config in (
        {"model_type": "vit", **patches, "intermediate_size": 32},
        {
            "model_type": "swin",
            "image_size": 32,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 4,
        },
        {"model_type": "convnext", "hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2},
    ):
        model, processor = tiny_mttv(vision_config=config)
        maps = model.mttv.vision_encoder(torch.randn(2, 3, 32, 32))
        assert maps.shape == (2, 32, 4, 4), config["model_type"]
        assert model(**processor(text="a", images=IMAGE, boxes=BOXES)).logits.isfinite().all()


def test_of_several_maps_the_last_one_counts():
    stages = {"features_only": True, "out_indices": (0, 1)}
    config = TimmWrapperConfig(architecture="tf_efficientnet_lite0", model_args=stages)
    model, processor = tiny_mttv(vision_config=config, vision_width=24)
    assert model.mttv.vision_encoder(torch.randn(2, 3, 32, 32)).shape == (2, 24, 8, 8)
    assert model(**processor(text="a", images=IMAGE, boxes=BOXES)).logits.isfinite().all()


def test_from_backbones():
    sizes = dict(vocab_size=50, hidden_size=32, num_attention_heads=2, intermediate_size=64)
    bert = BertModel(BertConfig(num_hidden_layers=3, **sizes))
    resnet = ResNetModel(tiny_mttv_config().vision_config)
    model = MttvForSequenceClassification.from_backbones(
        bert, resnet, num_encoder_layers=2, cls_token_id=2, sep_token_id=3, num_labels=3
    )
    assert model.training and model.config.vision_width == 32 and model.config.num_labels == 3
    own = model.mttv.encoder
    assert len(own.encoder.layer) == 2
    assert torch.equal(own.encoder.layer[1].output.dense.weight, bert.encoder.layer[1].output.dense.weight)
    assert torch.equal(own.pooler.dense.weight, bert.pooler.dense.weight)
    types = own.embeddings.token_type_embeddings
    assert torch.equal(types.text.weight, types.picture.weight)
    assert torch.equal(types.text.weight, bert.embeddings.token_type_embeddings.weight)
    for name, tensor in resnet.state_dict().items():
        assert torch.equal(model.mttv.vision_encoder.encoder.state_dict()[name], tensor)


def test_a_new_classifier_on_a_trained_model(tiny, tmp_path):
    model = tiny[0]
    model.fit_scaling_factors([0.5, 0.5])
    model.save_pretrained(tmp_path / "two")
    six = MttvForSequenceClassification.from_pretrained(tmp_path / "two", num_labels=6, ignore_mismatched_sizes=True)
    model.mttv.save_pretrained(tmp_path / "base")
    headless = MttvForSequenceClassification.from_pretrained(tmp_path / "base")
    for loaded, labels in ((six, 6), (headless, 2)):
        assert loaded.scaling_factors.tolist() == [1] * labels
        assert 0 < loaded.classifier.weight.abs().max() <= 32**-0.5
        assert torch.equal(loaded.mttv.global_proj.weight, model.mttv.global_proj.weight)


def test_new_parts_start_as_in_the_released_code():
    torch.manual_seed(0)
    model = MttvForSequenceClassification(tiny_mttv_config(vision_width=512))
    bound = 512**-0.5
    for layer in (model.mttv.global_proj, model.mttv.region_proj):
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert 0 < layer.bias.abs().max() <= bound
    assert model.classifier.bias is None and model.classifier.weight.abs().max() <= 32**-0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_global_tokens": 10}, "num_global_tokens must be one of"),
        ({"num_region_tokens": -1}, "num_region_tokens must be 0 or more"),
        ({"num_encoder_layers": 7}, r"num_encoder_layers \(7\) must lie in 1"),
        ({"num_region_tokens": 60}, "max_position_embeddings is 64"),
        ({"global_pooling": "mean"}, "global_pooling must be one of"),
        ({"sequence_pooling": "max"}, "sequence_pooling must be one of"),
        ({"scaling_mode": "add"}, "scaling_mode must be one of"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"cls_token_id": 5000}, r"cls_token_id \(5000\) is not in text_config's vocabulary"),
        ({"text_config": {"model_type": "roberta"}}, "must be of type 'bert'"),
        ({"text_config": {"type_vocab_size": 1}}, "type_vocab_size must be at least 2"),
    ],
)
def test_contradictions_are_told(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_mttv_config(**fields)


def test_presets():
    assert MttvConfig().num_image_tokens == 10
    six = MttvConfig.preset("fakeddit_6_way")
    assert (six.num_region_tokens, six.num_labels, six.text_config.vocab_size) == (20, 6, 30522)
    assert six.id2label[4] == "manipulated content" and six.label2id["true"] == 0
    assert MttvConfig.preset("weibo").id2label == {0: "fake", 1: "real"}
    with pytest.raises(ValueError, match="expected a preset among"):
        MttvConfig.preset("twitter")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of input_ids and inputs_embeds"),
        ({"input_ids": torch.zeros(1, 65, dtype=torch.long)}, "at most 64 text tokens, found 65"),
        (
            {
                "input_ids": torch.zeros(1, 1, dtype=torch.long),
                "pixel_values": torch.zeros(1, 3, 32, 32),
                "global_features": torch.zeros(1, 32, 7, 7),
            },
            "pixel_values or precomputed features, found both",
        ),
    ],
)
def test_mistakes_are_told(tiny, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny[0](**arguments)


def test_no_region_tokens_and_many_classes():
    model, processor = tiny_mttv(num_region_tokens=0, num_global_tokens=1, id2label=None, label2id=None, num_labels=5)
    inputs = processor(text="news", images=IMAGE, boxes=BOXES)
    assert model(**inputs).logits.shape == (1, 5)
    found = model.attribute(**inputs, baseline_id=4, steps=64)
    assert found.regions.shape == (1, 0)
    torch.testing.assert_close(found.words.sum() + found.cells.sum(), found.evidence[0], atol=5e-3, rtol=2e-2)


def test_attribution_adds_up(tiny, inputs):
    model = tiny[0]
    found = model.attribute(**inputs, baseline_id=4, steps=64)
    total = found.words.sum(dim=1) + found.regions.sum(dim=1) + found.cells.sum(dim=(1, 2))
    assert found.evidence.abs().min() > 1e-3
    torch.testing.assert_close(total, found.evidence, atol=5e-3, rtol=2e-2)
    assert torch.equal(found.target, model(**inputs).logits.argmax(dim=-1))
    assert not found.words[1, 1:].any() and not found.regions[1].any() and not found.cells[1].any()
    other = model.attribute(**inputs, baseline_id=4, target=1 - found.target, steps=64)
    torch.testing.assert_close(other.words, -found.words, atol=1e-3, rtol=1e-2)  # two classes mirror each other
    assert all(parameter.grad is None for parameter in model.parameters())

"""SatForObjectDetection on tiny random models: shapes, independence, gradients, fusing, precision, saving, loading."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from helpers_sat import save_tiny_sat, tiny_sat
from safetensors.torch import save_file
from torch import Tensor, nn

from stmine_hf import SatConfig, SatForObjectDetection, SatModel
from stmine_hf.modeling.sat.losses_sat import detection_losses

VARIANTS: dict[str, dict] = {
    "coordinate attention": {},
    "no attention": {"attention": "none"},
    "ECA attention": {"attention": "eca"},
    "other widths": {
        "stem_channels": 4,
        "stage_channels": (12, 20, 28),
        "stage_blocks": (2, 1, 3),
        "neck_channels": 24,
        "head_channels": 10,
        "head_layers": 3,
        "reg_max": 5,
        "num_labels": 1,
        "id2label": {0: "deer"},
    },
    "no layers in the head": {"head_layers": 0},
    "fused": {"fused": True},
}


def make_batch(images: int = 3, size: tuple[int, int] = (64, 96), classes: int = 4, seed: int = 0) -> dict:
    """Random images with 0, 1, 2, ... boxes."""
    draw = torch.Generator().manual_seed(seed)
    labels = []
    for count in range(images):
        sides = 0.2 + 0.5 * torch.rand(count, 2, generator=draw)
        centres = sides / 2 + (1 - sides) * torch.rand(count, 2, generator=draw)
        ids = torch.randint(classes, (count,), generator=draw)
        labels.append({"boxes": torch.cat([centres, sides], dim=1), "class_labels": ids})
    return {"pixel_values": torch.randn(images, 3, *size, generator=draw), "labels": labels}


def tiny(variant: str = "coordinate attention", **overrides) -> SatForObjectDetection:
    return tiny_sat(**{**VARIANTS[variant], **overrides})[0]


def open_gates(model: SatForObjectDetection) -> SatForObjectDetection:
    """Gives zero weights and plain statistics values that matter, so that nothing is compared at its identity."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "gate" in name:
                tensor.normal_(0, 0.5, generator=draw)
            elif name.endswith(("running_mean", "normalization.bias")):
                tensor.normal_(0, 0.1, generator=draw)
            elif name.endswith(("running_var", "normalization.weight")):
                tensor.uniform_(0.5, 1.5, generator=draw)
    return model


def assert_equal_weights(one: nn.Module, other: nn.Module) -> None:
    """Bit for bit: parameters and every buffer."""
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = dict(getattr(one, kind)()), dict(getattr(other, kind)())
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name


# ---------------------------------------------------------------------------------------------------------------------
# Forward.


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("height, width", [(32, 32), (64, 96), (160, 32)])
@torch.no_grad()
def test_shapes_at_any_multiple_of_32(variant, height, width):
    model = tiny(variant)
    config = model.config
    points = sum(height * width // stride**2 for stride in (8, 16, 32))
    batch = make_batch(2, (height, width), config.num_labels)
    outputs = model(**batch)
    assert outputs.logits.shape == (2, points, config.num_labels)
    assert outputs.distance_logits.shape == (2, points, 4 * (config.reg_max + 1))
    assert outputs.pred_boxes.shape == (2, points, 4)
    assert outputs.input_sizes.tolist() == [[height, width]] * 2
    low, high = outputs.pred_boxes[..., :2] - outputs.pred_boxes[..., 2:] / 2, outputs.pred_boxes[..., :2]
    high = high + outputs.pred_boxes[..., 2:] / 2
    assert low.min() >= -1e-6 and high.max() <= 1 + 1e-6 and (outputs.pred_boxes[..., 2:] >= 0).all()
    assert outputs.loss.isfinite() and set(outputs.loss_dict) == {"quality_focal", "giou", "distribution_focal"}
    features = model.sat(batch["pixel_values"])
    for stride, feature_map, backbone_map, channels in zip(
        (8, 16, 32), features.feature_maps, features.backbone_maps, config.stage_channels, strict=True
    ):
        assert feature_map.shape == (2, config.neck_channels, height // stride, width // stride)
        assert backbone_map.shape == (2, channels, height // stride, width // stride)
    assert torch.equal(features.last_hidden_state, features.feature_maps[2])


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_images_do_not_depend_on_their_batch(variant):
    model, pixel_values = open_gates(tiny(variant)), make_batch()["pixel_values"]
    whole = model(pixel_values)
    for i in range(3):
        alone = model(pixel_values[i : i + 1])
        for name in ("logits", "distance_logits", "pred_boxes"):
            torch.testing.assert_close(alone[name], whole[name][i : i + 1], atol=2e-6, rtol=1e-5)


@torch.no_grad()
def test_return_dict_false_gives_a_tuple():
    model, batch = tiny(), make_batch()
    outputs, plain = model(**batch), model(**batch, return_dict=False)
    assert isinstance(plain, tuple) and torch.equal(plain[0], outputs.loss) and torch.equal(plain[2], outputs.logits)
    assert isinstance(model.sat(batch["pixel_values"], return_dict=False), tuple)


def test_what_does_not_fit_is_named():
    model = tiny()
    for size in ((60, 64), (64, 33), (16, 32)):
        with pytest.raises(ValueError, match=rf"multiples of 32, found {size[0]} x {size[1]}; SatImageProcessor pads"):
            model(torch.zeros(1, 3, *size))
    with pytest.raises(ValueError, match="expected labels for 2 images, found 3"):
        model(torch.zeros(2, 3, 32, 32), labels=make_batch(3)["labels"])
    for boxes in (torch.full((1, 4), 0.5), torch.tensor([[0.5, 0.5, 0.5, math.nan]] * 2)):
        labels = [{"boxes": boxes, "class_labels": torch.tensor([0, 1])}]
        with pytest.raises(ValueError, match=r"finite box for each class label, found .* for \[0, 1\] \(image 0 "):
            model(torch.zeros(1, 3, 32, 32), labels=labels)
    for wrong in (-1, 4):
        labels = [{"boxes": torch.full((2, 4), 0.5), "class_labels": torch.tensor([0, wrong])}]
        with pytest.raises(ValueError, match=rf"class_labels from 0 to 3, found {min(wrong, 0)} to {max(wrong, 0)};"):
            model(torch.zeros(1, 3, 32, 32), labels=labels)


@torch.no_grad()
def test_new_attention_is_the_identity():
    torch.manual_seed(0)
    plain = tiny("no attention")
    batch = make_batch()
    for variant in ("coordinate attention", "ECA attention"):
        model = tiny(variant)
        model.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(model(**batch).logits, plain(**batch).logits)
        opened = open_gates(copy.deepcopy(model))
        assert not torch.allclose(opened(**batch).logits, model(**batch).logits, atol=1e-4)


def test_initial_probability_and_spread():
    torch.manual_seed(0)
    model = SatForObjectDetection(SatConfig(class_prior=0.02)).eval()
    for level in model.head:
        bias = level.predictor.bias
        assert torch.allclose(bias[:80].sigmoid(), torch.tensor(0.02)) and not bias[80:].any()
        assert level.predictor.weight.std().item() == pytest.approx(0.01, rel=0.05)
    for block in model.sat.backbone.stages[2]:
        weight = block.branch[2].convolution.weight
        expected = math.sqrt(2 / (1 + 0.1**2) / weight[0].numel())
        assert weight.std().item() == pytest.approx(expected, rel=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# Training.


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_reaches_every_parameter(variant):
    model = open_gates(tiny(variant)).train()
    model(**make_batch(classes=model.config.num_labels)).loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("skip", [False, True])
def test_batch_without_boxes(skip):
    model = tiny(skip_batches_without_boxes=skip).train()
    batch = make_batch()
    batch["labels"] = [batch["labels"][0]] * 3
    loss = model(**batch).loss
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert loss.isfinite() and all(gradient is not None for gradient in gradients)  # no process waits for another
    assert (loss == 0) == skip and any(gradient.any() for gradient in gradients) != skip


@pytest.mark.parametrize("variant", ["coordinate attention", "no attention"])
def test_three_images_are_learned(variant):
    model, batch = tiny(variant).train(), make_batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_loss_is_not_the_one_transformers_guesses():
    """By the name of the class it would be the Hungarian loss of DETR."""
    model = tiny()
    assert model.loss_function is detection_losses and model.accepts_loss_kwargs is False


def test_same_seed_same_training_step():
    losses = [tiny().train()(**make_batch()).loss.item() for _ in range(2)]
    assert losses[0] == losses[1]


# ---------------------------------------------------------------------------------------------------------------------
# Faster and smaller.


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_fused_model_agrees_and_saves(variant, tmp_path):
    model = open_gates(tiny(variant))
    config, batch = model.config, make_batch()
    expected = model(batch["pixel_values"])
    fused = copy.deepcopy(model).train().fuse()
    assert fused.config.fused and fused.sat.config is fused.config and config.fused == (variant == "fused")
    assert not fused.training and not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    outputs = fused(batch["pixel_values"])
    for name in ("logits", "distance_logits", "pred_boxes"):
        torch.testing.assert_close(outputs[name], expected[name], atol=1e-5, rtol=1e-4)
    fused.save_pretrained(tmp_path)
    loaded, info = SatForObjectDetection.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_equal_weights(loaded, fused.fuse())  # twice is once
    assert torch.equal(loaded(batch["pixel_values"]).logits, outputs.logits)


@torch.no_grad()
def test_bfloat16_agrees():
    model = open_gates(tiny())
    half, batch = copy.deepcopy(model).bfloat16(), make_batch()
    exact = model(**batch)
    outputs = half(pixel_values=batch["pixel_values"].bfloat16(), labels=batch["labels"])
    assert outputs.logits.dtype == torch.bfloat16
    assert outputs.pred_boxes.dtype == outputs.loss.dtype == torch.float32
    assert (outputs.logits - exact.logits).abs().max() < 0.1
    assert (outputs.pred_boxes - exact.pred_boxes).abs().max() < 0.05
    assert abs(outputs.loss - exact.loss) < 0.05 * exact.loss


def test_autocast_trains():
    model, batch = tiny().train(), make_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(**batch)
    outputs.loss.backward()
    assert outputs.loss.dtype == torch.float32 and outputs.loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_strided_depthwise_convolutions_stay_in_32_bits_on_a_cpu():
    """Their gradients take ten times as long in 16 bits; the others gain."""
    model, kinds = tiny().train(), {}
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(lambda part, _, found, name=name: kinds.update({name: found.dtype}))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(**make_batch())
    modules = dict(model.named_modules())
    slow = {name for name in kinds if modules[name].groups > 1 and modules[name].stride != (1, 1)}
    assert slow and {kinds[name] for name in slow} == {torch.float32}
    assert {kind for name, kind in kinds.items() if name not in slow} == {torch.bfloat16}


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["coordinate attention", "ECA attention"])
def test_compiled_model_agrees(variant):
    """The whole graph for inference, at two sizes; training with breaks."""
    model = open_gates(tiny(variant))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for size in ((64, 96), (32, 64)):
            pixel_values = make_batch(2, size)["pixel_values"]
            ours, theirs = compiled(pixel_values), model(pixel_values)
            for name in ("logits", "pred_boxes", "input_sizes"):
                torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5)
    torch._dynamo.reset()
    training = torch.compile(model.train(), backend="aot_eager")
    training(**make_batch()).loss.backward()
    assert model.head[0].predictor.weight.grad.any()


# ---------------------------------------------------------------------------------------------------------------------
# Files.


@pytest.mark.parametrize("variant", VARIANTS)
def test_saving_and_loading_keeps_every_bit(variant, tmp_path):
    model = tiny(variant)
    batch = make_batch(classes=model.config.num_labels)
    model.train()(**batch)  # moves the batch statistics
    model.eval().save_pretrained(tmp_path / "once")
    once, info = SatForObjectDetection.from_pretrained(tmp_path / "once", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_equal_weights(once, model)
    once.save_pretrained(tmp_path / "twice")
    assert_equal_weights(SatForObjectDetection.from_pretrained(tmp_path / "twice"), model)
    with torch.no_grad():
        ours, theirs = once(**batch), model(**batch)
    assert all(torch.equal(ours[name], theirs[name]) for name in ("logits", "pred_boxes", "loss"))
    files = {path.name: path.read_bytes() for path in (tmp_path / "once").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "twice").iterdir()}
    assert {name for name in files if name.endswith(".py")} == {
        "configuration_sat.py",
        "losses_sat.py",
        "modeling_sat.py",
    }
    assert json.loads(files["config.json"])["auto_map"] == {
        "AutoConfig": "configuration_sat.SatConfig",
        "AutoModel": "modeling_sat.SatModel",
        "AutoModelForObjectDetection": "modeling_sat.SatForObjectDetection",
    }
    base = SatModel.from_pretrained(tmp_path / "once")
    assert_equal_weights(base, model.sat)


def test_code_files_are_copied_as_they_are(tmp_path):
    save_tiny_sat(tmp_path)
    source = Path(__file__).parents[3] / "modeling" / "sat"
    names = {path.name for path in source.glob("*_sat.py")}
    assert names == {path.name for path in tmp_path.glob("*.py")}
    assert all((tmp_path / name).read_bytes() == (source / name).read_bytes() for name in names)


def spreads(model: nn.Module) -> dict[str, float]:
    named = [*model.named_parameters(), *model.named_buffers()]
    assert all(tensor.isfinite().all() for _, tensor in named)
    return {name: (tensor.float() ** 2).mean().sqrt().item() for name, tensor in named}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_file_lacks_is_initialised_as_in_a_new_model(variant, tmp_path):
    """Loading builds on the meta device: what `_init_weights` forgets would be whatever was in memory."""
    wide = {**VARIANTS[variant], "stem_channels": 16, "stage_channels": (32, 32, 32), "attention_reduction": 2}
    new, folder = tiny_sat(**wide)[0], save_tiny_sat(tmp_path, **wide)
    kept: dict[str, Tensor] = {"sat.neck.laterals.0.bias": torch.full((new.config.neck_channels,), 7.0)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = SatForObjectDetection.from_pretrained(folder)
    assert (loaded.sat.neck.laterals[0].bias == 7).all()
    expected, found = spreads(new), spreads(loaded)
    assert expected.keys() == found.keys()
    for name, spread in expected.items():
        if name not in kept:
            assert found[name] == pytest.approx(spread, rel=0.6, abs=1e-3), name


def test_fine_tuning_on_other_classes_keeps_the_rest(tmp_path):
    model, folder = tiny(), save_tiny_sat(tmp_path)
    names = {0: "ship", 1: "tank"}
    tuned = SatForObjectDetection.from_pretrained(
        folder, id2label=names, label2id={"ship": 0, "tank": 1}, ignore_mismatched_sizes=True
    )
    assert tuned.head[0].predictor.out_channels == 2 + 32 and tuned.config.id2label == names
    assert_equal_weights(tuned.sat, model.sat)
    assert torch.allclose(tuned.head[0].predictor.bias[:2].sigmoid(), torch.tensor(0.01))


def test_training_with_channels_last_gives_the_same_loss_and_gradients():
    batch, found = make_batch(), []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = open_gates(tiny(attention="none")).train().to(memory_format=layout)
        shuffled = []
        block = model.sat.backbone.stages[0][0]
        block.register_forward_hook(lambda module, inputs, output, to=shuffled: to.append(output))
        model(**batch).loss.backward()
        assert shuffled[0].is_contiguous(memory_format=layout)
        found.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()) + 1e-6)

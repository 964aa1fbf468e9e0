"""Weights of another model: what fits is taken, classes by name; folded batch norms get true statistics."""

import copy
import json

import pytest
import torch
from helpers_sat import save_tiny_sat, tiny_sat
from safetensors.torch import load_file, save_file

from stmine_hf.errors import StmineError
from stmine_hf.training.sat.warm_start import load_matching_weights, recalibrate_batchnorm


def test_the_same_design_is_taken_whole(tmp_path):
    source = save_tiny_sat(tmp_path, seed=1)
    model, _ = tiny_sat(seed=2)
    matching = load_matching_weights(model, str(source))
    expected = load_file(source / "model.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert sorted(matching.whole) == sorted(expected) and not (matching.parts or matching.new or matching.unused)
    assert str(matching) == f"{len(expected)} of {len(expected)} tensors loaded"


def test_of_another_design_what_fits_is_taken(tmp_path):
    source = save_tiny_sat(tmp_path, seed=1, attention="none", stage_blocks=(2, 2, 1))
    model, _ = tiny_sat(seed=2, attention="coordinate", stem_channels=4, attention_reduction=4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    matching = load_matching_weights(model, str(source))
    expected = load_file(source / "model.safetensors")
    for name, tensor in model.state_dict().items():
        fits = name in expected and expected[name].shape == tensor.shape
        assert fits == (name in matching.whole) != (name in matching.new)
        assert torch.equal(tensor, expected[name] if fits else before[name])
    assert {name.split(".")[1] for name in matching.new} == {"neck", "backbone"}
    assert matching.unused and all(name.startswith("sat.backbone.stages.0.1.") for name in matching.unused)
    assert "sat.neck.attention (" in str(matching) and "unused: sat.backbone.stages (" in str(matching)


def test_new_classes_start_anew_and_common_ones_keep_their_rows(tmp_path):
    source = save_tiny_sat(tmp_path, seed=1)  # deer, ebike, person, target
    model, _ = tiny_sat(seed=2, id2label={0: "person", 1: "lamp"})
    fresh = model.head[1].predictor.weight.detach().clone()
    matching = load_matching_weights(model, str(source))
    old = load_file(source / "model.safetensors")["head.1.predictor.weight"]
    got = model.head[1].predictor.weight
    assert torch.equal(got[2:], old[4:])  # the four sides' distributions
    assert torch.equal(got[0], old[2]) and torch.equal(got[1], fresh[1])
    assert len(matching.parts) == 6 and not matching.new
    assert set(map(tuple, matching.parts.values())) == {("person",)}
    assert model.head[0].predictor.bias[1].item() == pytest.approx(-4.595, abs=1e-3)  # as probable as any new class


def test_halved_weights_are_a_start_for_new_classes(tmp_path):
    """Published repositories store matrices in float16."""
    source = save_tiny_sat(tmp_path, seed=1)
    stored = load_file(source / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in stored.items()}, source / "model.safetensors", {"format": "pt"})
    model, _ = tiny_sat(seed=2, id2label={0: "person", 1: "lamp"})
    load_matching_weights(model, str(source))
    old, got = stored["head.1.predictor.weight"], model.head[1].predictor.weight
    assert got.dtype == torch.float32
    assert torch.equal(got[2:], old[4:].half().float()) and torch.equal(got[0], old[2].half().float())


def test_as_many_but_other_classes_are_not_mistaken_for_the_same(tmp_path):
    source = save_tiny_sat(tmp_path, seed=1)
    model, _ = tiny_sat(seed=2, id2label={0: "person", 1: "lamp", 2: "deer", 3: "sofa"})
    load_matching_weights(model, str(source))
    old = load_file(source / "model.safetensors")["head.0.predictor.weight"]
    got = model.head[0].predictor.weight
    assert torch.equal(got[[0, 2]], old[[2, 0]]) and not torch.equal(got[[1, 3]], old[[1, 3]])


def test_boxes_of_another_fineness_start_anew(tmp_path):
    source = save_tiny_sat(tmp_path, seed=1, reg_max=3)
    model, _ = tiny_sat(seed=2)
    matching = load_matching_weights(model, str(source))
    assert len(matching.new) == 6 and all(".predictor." in name for name in matching.new)


def test_a_source_that_is_none_is_explained(tmp_path):
    model, _ = tiny_sat()
    with pytest.raises(StmineError, match=r"no weights to start from\. Expected a folder or a Hub id"):
        load_matching_weights(model, str(tmp_path))
    source = save_tiny_sat(tmp_path / "sat")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "model_type": "yolos"}))
    with pytest.raises(StmineError, match="found one of type 'yolos'"):
        load_matching_weights(model, str(source))
    (source / "config.json").write_text(json.dumps(config))
    save_file({"other": torch.zeros(1)}, source / "model.safetensors")
    with pytest.raises(StmineError, match="none of its 1 tensors fits"):
        load_matching_weights(model, str(source))
    (source / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(StmineError, match="no weights to start from"):
        load_matching_weights(model, str(source))


def test_a_fused_model_gets_batch_norms_back(tmp_path):
    fused = folded_sat().fuse()
    fused.save_pretrained(tmp_path)
    model, _ = tiny_sat(seed=2)
    matching = load_matching_weights(model, str(tmp_path))
    assert not (matching.new or matching.unused)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(image).logits, fused(image).logits, atol=1e-5, rtol=1e-4)


def folded_sat():
    """A tiny model whose batch norms say nothing of what they meet, as if they came from a runtime."""
    model, _ = tiny_sat()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0)
            norm.weight.fill_((1 + norm.eps) ** 0.5)
            norm.bias.copy_(0.3 * torch.randn(norm.bias.shape, generator=generator))
        model.head[0].predictor.weight.normal_(generator=generator)
    return model


def test_recalibration_keeps_the_function_and_finds_the_statistics():
    model = folded_sat()
    before = copy.deepcopy(model)
    batches = [3 * torch.randn(8, 3, 64, 64) for _ in range(6)]
    count = recalibrate_batchnorm(model, batches)
    assert count == sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert not model.training
    with torch.no_grad():
        for name in ("logits", "distance_logits"):
            torch.testing.assert_close(model(batches[0])[name], before(batches[0])[name], atol=1e-4, rtol=1e-4)
    # What a norm says is what it meets: the first layer by hand.
    norm, layer = model.sat.backbone.stem.normalization, before.sat.backbone.stem.convolution
    met = torch.stack([layer(batch) for batch in batches])  # (batches, B, C, H, W)
    torch.testing.assert_close(norm.running_mean, met.mean(dim=(0, 1, 3, 4)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm.running_var, met.var(dim=(1, 3, 4)).mean(dim=0), atol=1e-5, rtol=1e-4)


def test_after_recalibration_training_mode_computes_the_same_function():
    torch.manual_seed(0)
    image = 3 * torch.randn(32, 3, 64, 64)
    with torch.no_grad():
        folded = folded_sat()
        expected = folded(image).logits
        off = (folded.train()(image).logits - expected).abs().mean()
        model = folded_sat()
        recalibrate_batchnorm(model, [image])
        near = (model.train()(image).logits - expected).abs().mean()
    assert near < 1e-3 < 100 * near < off


def test_recalibration_without_a_batch_is_refused():
    with pytest.raises(StmineError, match="No batch"):
        recalibrate_batchnorm(tiny_sat()[0], [])

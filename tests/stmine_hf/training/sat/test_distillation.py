"""Distillation: zero where pupil and teacher agree, the formulas, mirror images, views that follow from their seed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from helpers_sat import save_tiny_sat, tiny_sat
from PIL import Image

from stmine_hf import SatForObjectDetection, SatImageProcessor
from stmine_hf.training.sat.distillation import (
    Views,
    class_distillation,
    distance_distillation,
    distillation_losses,
    map_distillation,
    predict,
    teach,
)

RANDOM = ("ColorJitter", "RandomGrayscale")
ROOT = Path(__file__).parents[4]


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def images(count: int, width: int = 80, height: int = 60) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(count)]


def test_predictions_are_the_models(pixels):
    model, _ = tiny_sat()
    levels, maps = predict(model, pixels)
    assert [tuple(x.shape[-2:]) for x in levels] == [(8, 12), (4, 6), (2, 3)]
    features = model.sat(pixels)
    blocks = sum(model.config.stage_blocks)
    assert len(maps) == blocks + 3
    ends = [sum(model.config.stage_blocks[: stage + 1]) - 1 for stage in range(3)]
    expected = (*features.backbone_maps, *features.feature_maps)
    for ours, theirs in zip([*(maps[end] for end in ends), *maps[blocks:]], expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    outputs = torch.cat([x.flatten(2) for x in levels], dim=2).transpose(1, 2)
    expected = model(pixels)
    torch.testing.assert_close(outputs, torch.cat([expected.logits, expected.distance_logits], dim=-1))


def test_lesson_is_the_mean_of_image_and_mirror_image(pixels):
    model, _ = tiny_sat()
    lesson = teach(model, pixels)
    assert lesson.probabilities.shape == (2, 126, 4) and lesson.distributions.shape == (2, 126, 4, 8)
    torch.testing.assert_close(lesson.distributions.sum(-1), torch.ones(2, 126, 4))
    mirrored = teach(model, pixels.flip(-1))
    for level, (start, height, width) in enumerate([(0, 8, 12), (96, 4, 6), (120, 2, 3)]):
        points = slice(start, start + height * width)
        for ours, theirs, sides in (
            (lesson.probabilities, mirrored.probabilities, None),
            (lesson.distributions, mirrored.distributions, [2, 1, 0, 3]),
        ):
            theirs = theirs[:, points].unflatten(1, (height, width)).flip(2).flatten(1, 2)
            torch.testing.assert_close(
                ours[:, points], theirs if sides is None else theirs[:, :, sides], msg=str(level)
            )
    outputs = model(pixels)
    there = model(pixels.flip(-1)).logits[0, 12 * 3 + 11 - 5].sigmoid()  # row 3, column 5 of the finest level
    torch.testing.assert_close(lesson.probabilities[0, 12 * 3 + 5], (outputs.logits[0, 41].sigmoid() + there) / 2)


def test_losses_vanish_where_both_agree_and_only_there(pixels):
    model, _ = tiny_sat(head_init_std=0.3)
    symmetric = torch.cat([pixels, pixels.flip(-1)])[:, :, :, :64]
    lesson = teach(model, symmetric)
    levels, _ = predict(model, symmetric)
    outputs = torch.cat([x.flatten(2) for x in levels], dim=2).transpose(1, 2)
    lesson.probabilities = outputs[..., :4].sigmoid().detach()
    lesson.distributions = outputs[..., 4:].unflatten(-1, (4, -1)).softmax(-1).detach()
    losses = distillation_losses(model, symmetric, lesson)
    assert set(losses) == {"classes", "distances", "maps"}
    assert all(abs(loss.item()) < 1e-5 for loss in losses.values())
    other, _ = tiny_sat(seed=1, head_init_std=0.3)
    assert all(loss.item() > 1e-3 for loss in distillation_losses(other, symmetric, lesson).values())


def test_formulas():
    generator = torch.Generator().manual_seed(0)
    logits, sides = torch.randn(2, 5, 3, generator=generator), torch.randn(2, 5, 32, generator=generator)
    p = torch.rand(2, 5, 3, generator=generator)
    q = torch.rand(2, 5, 4, 8, generator=generator).softmax(dim=-1)
    weights = p.amax(dim=-1)
    classes = distances = 0.0
    for b in range(2):
        for n in range(5):
            for c in range(3):
                s, t = logits[b, n, c].sigmoid().item(), p[b, n, c].item()
                classes += t * np.log(t / s) + (1 - t) * np.log((1 - t) / (1 - s))
            found = sides[b, n].reshape(4, 8).softmax(dim=-1).double().numpy()
            target = q[b, n].double().numpy()
            distances += weights[b, n].item() * (target * np.log(target / found)).sum()
    total = weights.sum().item()
    assert class_distillation(logits, p, weights).item() == pytest.approx(classes / total, rel=1e-4)
    assert distance_distillation(sides, q, weights).item() == pytest.approx(distances / total, rel=1e-4)
    assert class_distillation(logits, p * 1e-6, weights * 1e-6).isfinite()  # nothing in sight
    maps = [torch.randn(1, 2, 4, 4, generator=generator) for _ in range(2)]
    assert map_distillation(maps, maps).item() == 0
    shifted = map_distillation([maps[0] + maps[0].std(), maps[1]], maps).item()
    assert shifted == pytest.approx(0.5, rel=1e-4)


def test_views_follow_from_their_seed_and_are_padded_with_zero():
    processor = SatImageProcessor(size={"height": 64, "width": 64})
    views = Views([images(2), images(1, 16, 64)], [0.5, 0.5], processor, scale=(0.5, 0.5), mix=0)
    first = views.batch(6, 96, seed=1)
    assert first.shape == (6, 3, 96, 96) and first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, views.batch(6, 96, seed=1)) and not torch.equal(first, views.batch(6, 96, seed=2))
    seen = (first != 0).any(dim=1).flatten(1).sum(dim=1)
    assert set(seen.tolist()) <= {32 * 24, 32 * 8}  # half of the 64 px that the image is fitted in
    state = torch.get_rng_state()
    views.batch(1, 32, seed=3)
    assert torch.equal(state, torch.get_rng_state())


def test_views_are_blended_or_pasted_into_as_often_as_asked():
    processor = SatImageProcessor(size={"height": 32, "width": 32})
    flat = [[Image.new("RGB", (32, 32), (shade, shade, shade))] for shade in (40, 120, 200)]
    views = Views(flat, [1.0, 1.0, 1.0], processor, scale=(1.0, 1.0))
    views.change.transforms = [t for t in views.change.transforms if type(t).__name__ != "ColorJitter"]
    pure = torch.stack([processor(group[0], return_tensors="pt")["pixel_values"][0, :, 0, 0] for group in flat])
    batch = views.batch(300, 32, seed=0)
    known = (batch[:, None] - pure[None, :, :, None, None]).abs().amax(dim=2) < 1e-3  # (300, 3, 32, 32)
    whole = known.all(dim=(2, 3)).any(dim=1)  # one shade: left alone, or mixed with its like
    pasted = known.any(dim=1).all(dim=(1, 2)) & ~whole  # two shades, each pixel one of them
    blended = ~whole & ~pasted
    assert 0.4 < whole.float().mean() < 0.7  # 1/3, and a third of the rest
    assert 0.1 < pasted.float().mean() < 0.35 and 0.1 < blended.float().mean() < 0.35


def test_views_are_what_the_image_processor_makes():
    """Channels, mean and deviation: a grey-free image, no colour change, no mirror, scale 1."""
    processor = SatImageProcessor(size={"height": 64, "width": 64})
    red = [Image.new("RGB", (64, 64), (250, 20, 90))]
    views = Views([red], [1.0], processor, scale=(1.0, 1.0), mix=0)
    views.change.transforms = [t for t in views.change.transforms if type(t).__name__ not in RANDOM]
    expected = processor(red[0], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(views.batch(1, 64, seed=0), expected, rtol=1e-4, atol=1e-4)


def load_script():
    spec = importlib.util.spec_from_file_location("distill_sat", ROOT / "examples" / "distill_sat.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.slow
def test_script_trims_distils_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    for split, number in (("train", 4), ("val", 2)):
        (data / "images").mkdir(parents=True, exist_ok=True)
        rows = images(number)
        names = [f"{split}_{i}.png" for i in range(number)]
        for name, image in zip(names, rows, strict=True):
            image.save(data / "images" / name)
        box = {"category_id": 1, "bbox": [10, 10, 30, 30], "area": 900, "iscrowd": 0}
        document = {
            "images": [{"id": i, "file_name": name, "width": 80, "height": 60} for i, name in enumerate(names)],
            "annotations": [{"id": i, "image_id": i, **box} for i in range(number)],
            "categories": [{"id": i + 1, "name": n} for i, n in enumerate(("deer", "ebike", "person", "target"))],
        }
        (data / "annotations").mkdir(exist_ok=True)
        (data / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    (tmp_path / "more").mkdir()
    images(1)[0].save(tmp_path / "more" / "a.png")
    (tmp_path / "more" / "b.jpg").write_bytes(b"no image")
    parent_design = {"stem_channels": 8, "stage_channels": (8, 16, 24), "attention": "none"}
    parent = save_tiny_sat(tmp_path / "parent", **parent_design)

    script = load_script()
    small = {"stem_channels": 6, "middle_channels": (3, 6, 8), "head_channels": (12,)}
    monkeypatch.setattr(script.SatConfig, "preset", lambda name: SimpleNamespace(**small))
    monkeypatch.setattr(script, "SIDES", (32, 64))
    monkeypatch.setattr(script, "PIXELS", 64 * 64 * 2)
    monkeypatch.setattr(script, "CALIBRATION", 8)
    arguments = ["distill_sat.py", "--parent", str(parent), "--data_dir", str(data), "--warmup_steps", "2"]
    arguments += ["--images", str(tmp_path / "more"), "--save_steps", "2", "--steps", "6"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path / "whole")])
    script.main()
    assert "4 images of data, 1 others; 1 skipped" in capsys.readouterr().out
    written = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert [entry["step"] for entry in written["history"]] == [2, 4, 6] and "ap" in written["validation"]
    assert written["parameters"] == sum(
        p.numel() for p in SatForObjectDetection.from_pretrained(tmp_path / "whole" / "best").parameters()
    )
    settings = yaml.safe_load((tmp_path / "whole" / "config.yaml").read_text())
    assert (settings["steps"], settings["maps_weight"], settings["data_dir"]) == (6, 5.0, str(data))

    out = tmp_path / "halves"
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(out)])
    save, calls = torch.save, []

    def stop_after_two(*given, **options):
        save(*given, **options)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(script.torch, "save", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        script.main()
    monkeypatch.setattr(script.torch, "save", save)
    script.main()
    assert "Resuming from step 4" in capsys.readouterr().out
    whole, halves = (
        SatForObjectDetection.from_pretrained(folder / "best").state_dict() for folder in (tmp_path / "whole", out)
    )
    for name, tensor in whole.items():
        torch.testing.assert_close(halves[name], tensor, msg=name)
    config = json.loads((out / "best" / "config.json").read_text())
    assert config["middle_channels"] == [3, 6, 8] and config["fused"] is False

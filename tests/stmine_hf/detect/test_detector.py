"""A detector at work: the model's own answers, whatever the batch, fused or not; settings that tell runs apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers_sat import save_tiny_sat, tiny_sat
from PIL import Image

from stmine_hf.detect import Detector
from stmine_hf.detect.batches import detect_batch, prepare
from stmine_hf.errors import StmineError
from stmine_hf.modeling.sat.modeling_sat import SatConvLayer

ROOT = Path(__file__).parents[3]
THRESHOLD = 0.0099  # the tiny model's scores are all near 0.01


def noise() -> list[Image.Image]:
    sizes = [(90, 60), (60, 90), (80, 80), (91, 60), (1, 1), (400, 9)]
    return [Image.effect_noise(size, 90).convert("RGB") for size in sizes]


def lively(model):
    """The same model with batch statistics that are not those of a fresh one."""
    torch.manual_seed(7)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def test_answers_are_the_models_own():
    model, processor = tiny_sat()
    lively(model)
    detector = Detector(model, processor, threshold=THRESHOLD)
    images = noise()
    found = detector(images)
    assert sum(map(len, found)) > 50
    for image, detections in zip(images, found, strict=True):
        with torch.no_grad():
            outputs = model(**processor(image, return_tensors="pt"))
        sizes = [(image.height, image.width)]
        (expected,) = processor.post_process_object_detection(outputs, threshold=THRESHOLD, target_sizes=sizes)
        assert [one.label for one in detections] == expected["labels"].tolist()
        assert [one.name for one in detections] == [
            model.config.id2label[label] for label in expected["labels"].tolist()
        ]
        assert [one.score for one in detections] == pytest.approx(expected["scores"].tolist(), abs=1e-5)
        for one, box in zip(detections, expected["boxes"].tolist(), strict=True):
            assert one.box == pytest.approx(box, abs=1e-3 * max(image.size))
            assert 0 <= one.box[0] <= one.box[2] <= image.width and 0 <= one.box[1] <= one.box[3] <= image.height


def test_fusing_changes_no_answer_and_not_the_given_model():
    model, processor = tiny_sat()
    lively(model)
    detector = Detector(model, processor, threshold=THRESHOLD)
    pixels = processor(noise()[0], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        plain, fused = model(pixel_values=pixels), detector._model(pixel_values=pixels)
    assert (plain.logits.sigmoid() - fused.logits.sigmoid()).abs().max() < 1e-5
    assert (plain.pred_boxes - fused.pred_boxes).abs().max() < 1e-5
    assert not model.config.fused and isinstance(
        next(part for part in model.modules() if isinstance(part, SatConvLayer)).normalization, torch.nn.BatchNorm2d
    )


def test_the_batch_changes_nothing():
    model, processor = tiny_sat()
    prepared = [prepare(processor, image) for image in noise()]
    together = detect_batch(model, processor, prepared, threshold=THRESHOLD)
    alone = [detect_batch(model, processor, [one], threshold=THRESHOLD)[0] for one in prepared]
    for one, other in zip(together, alone, strict=True):
        assert one["labels"].tolist() == other["labels"].tolist()
        assert torch.allclose(one["boxes"], other["boxes"], atol=1e-3)
    assert detect_batch(model, processor, [], threshold=THRESHOLD) == []


def test_only_the_labels_asked_for():
    model, processor = tiny_sat()
    images = noise()[:3]
    everything = Detector(model, processor, threshold=THRESHOLD)(images)
    some = Detector(model, processor, threshold=THRESHOLD, labels=["Person ", "deer"])(images)
    expected = [[one for one in found if one.name in ("person", "deer")] for found in everything]
    assert [list(found) for found in some] == expected and any(expected) and some != everything
    with pytest.raises(StmineError, match=r"has no class 'persons'. Of its 4, did you mean person"):
        Detector(model, processor, labels=["persons"])


@pytest.mark.parametrize("threshold", [-0.1, 1.0, 40])
def test_thresholds_that_are_no_scores(threshold):
    with pytest.raises(StmineError, match="threshold: expected a score from 0 to below 1"):
        Detector(*tiny_sat(), threshold=threshold)


def test_settings_tell_runs_apart(tmp_path):
    model, processor = tiny_sat()
    first = Detector(model, processor)
    saved = Detector.load(save_tiny_sat(tmp_path / "my-model"), device="cpu")
    assert saved.settings == {**first.settings, "model": "my-model"} and str(tmp_path) not in str(saved.settings)
    identities = {
        first.identity,
        Detector(tiny_sat(seed=1)[0], processor).identity,
        Detector(*tiny_sat(size=96)).identity,
        Detector(*tiny_sat(id2label={0: "a", 1: "b", 2: "c", 3: "d"})).identity,
    }
    assert len(identities) == 4
    assert Detector(model, processor, labels=["ebike", "deer"]).settings["labels"] == ["deer", "ebike"]


def test_the_example_prints_and_draws_what_is_found(tmp_path):
    save_tiny_sat(tmp_path / "hub_cards" / "sat-coco-small", class_prior=0.6)  # so sure that all is above 0.4
    noise()[0].save(tmp_path / "street.jpg")
    words = [sys.executable, ROOT / "examples" / "detect.py", "street.jpg"]
    done = subprocess.run(words, cwd=tmp_path, check=True, timeout=300, capture_output=True, text=True)
    assert done.stdout.startswith("street.jpg: ") and " at " in done.stdout
    with Image.open(tmp_path / "outputs" / "detect" / "street.png") as drawn:
        assert drawn.size == (90, 60)

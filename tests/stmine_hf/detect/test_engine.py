"""SAT in every engine: scores and boxes within the stated tolerance."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers_sat import confident_sat, tiny_sat
from PIL import Image

from stmine_hf import Detector
from stmine_hf.detect import detect_images
from stmine_hf.detect.engine import SCORE_LIMIT, difference
from stmine_hf.errors import StmineError
from stmine_hf.inference.engines import has_bfloat16

ENGINES = ["torch", "onnx", "openvino"]


def drawings(count: int) -> list[Image.Image]:
    chance = np.random.default_rng(0)
    return [Image.fromarray(chance.integers(0, 255, (48, 64 + 8 * n, 3), dtype=np.uint8)) for n in range(count)]


@pytest.mark.parametrize("name", ENGINES)
def test_scores_and_boxes_agree_with_pytorch(name):
    model, processor = tiny_sat()
    detector = Detector(model, processor, engine=name)
    for image in drawings(3):
        inputs = detector.prepare(image).pixel_values[None]
        found = detector._model(pixel_values=inputs)
        with torch.inference_mode():
            expected = model(pixel_values=inputs)
        assert difference((expected.logits, expected.pred_boxes), (found.logits, found.pred_boxes)) <= 1
        assert float((expected.logits.sigmoid() - found.logits.sigmoid()).abs().max()) <= SCORE_LIMIT
    assert {one.split("-")[0] for one in detector.engines} == {name.split("-")[0]}


@pytest.mark.parametrize("side", [None, 32])
def test_a_folder_in_an_engine_has_the_same_objects(tmp_path, side):
    (tmp_path / "images").mkdir()
    for number, image in enumerate(drawings(4)):
        image.save(tmp_path / f"images/{number}.png")
    results = {}
    for name in ("torch", "onnx"):
        detector = Detector(*confident_sat(), threshold=0.5, slice=side, engine=name)
        report = detect_images(detector, tmp_path / "images", tmp_path / name, progress=False)
        assert report.engines == [name] and report.objects > 0
        results[name] = json.loads((tmp_path / name / "detections.json").read_text())
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary.get("engines", ["torch"]) == [name]
    assert len(results["torch"]) == len(results["onnx"])
    for ours, theirs in zip(results["torch"], results["onnx"], strict=True):
        assert ours["category"] == theirs["category"] and abs(ours["score"] - theirs["score"]) <= SCORE_LIMIT
        np.testing.assert_allclose(ours["bbox"], theirs["bbox"], atol=0.1)


def test_what_counts_as_too_far():
    logits = torch.tensor([[[2.0], [-5.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.4], [0.2, 0.2, 0.1, 0.1]]])
    assert difference((logits, boxes), (logits, boxes)) == 0
    assert difference((logits, boxes), (logits + torch.tensor([0.0, 4.0])[:, None], boxes)) > 1
    moved = boxes.clone()
    moved[0, 1] += 0.3  # nothing is shown there
    assert difference((logits, boxes), (logits, moved)) == 0
    moved[0, 0, 0] += 0.003
    assert difference((logits, boxes), (logits, moved)) > 1
    for given in ((logits, boxes * torch.nan), (logits * torch.nan, boxes)):
        assert not difference((logits, boxes), given) <= 1


def test_an_engine_is_worth_while_for_what_is_left_of_a_folder_alone(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    expected: list[int | None] = []
    for number, image in enumerate(drawings(3)):
        image.save(tmp_path / f"images/{number}.png")
        detector = Detector(*tiny_sat())
        monkeypatch.setattr(detector, "expect", expected.append)
        detect_images(detector, tmp_path / "images", tmp_path / "found", progress=False)
    assert expected == [1, 1, 1]


@pytest.mark.skipif(not has_bfloat16(), reason="needs a processor that multiplies 16-bit floats")
def test_16_bits_are_refused_where_they_change_scores():
    detector = Detector(*confident_sat(), engine="torch-bf16")
    with pytest.raises(StmineError, match=r"torch-bf16 differs from PyTorch by .* use --engine auto"):
        detector(drawings(1)[0])


def test_a_wrong_engine_is_named_before_the_model_is_loaded():
    with pytest.raises(StmineError, match="engine: expected one of auto, torch"):
        Detector("no/such-model", engine="fast")

"""NanoDet-m after conversion against the official program: preprocessing, every stage, decoding.

Fixtures: tests/fixtures/sat, made by running the official code on weights and inputs that follow from names
(`tests/deterministic.py`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from deterministic import named_image, named_tensor, named_weights
from helpers_sat import multiply_adds
from safetensors.torch import load_file
from torch import Tensor
from torchvision.ops import box_convert

from stmine_hf import SatForObjectDetection, SatImageProcessor
from stmine_hf.conversion.sat import convert_state_dict, official_config
from stmine_hf.modeling.sat.image_processing_sat import place_image, warp
from stmine_hf.modeling.sat.losses_sat import distances_to_boxes, expected_distances, level_points

FIXTURES = Path(__file__).parents[2] / "fixtures" / "sat"
DECODE = json.loads((FIXTURES / "decode.json").read_text())
MANIFEST = json.loads((FIXTURES / "state_dict_manifest.json").read_text())
IMAGES = ("image0", "image1")
FITS = {"pad": "", "letterbox": "legacy_letterbox."}


def official_weights() -> dict[str, Tensor]:
    weights = named_weights(MANIFEST["entries"])
    return weights | {"head.distribution_project.project": torch.linspace(0, 7, 8)}


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return load_file(FIXTURES / "forward.safetensors")


@pytest.fixture(scope="module")
def model() -> SatForObjectDetection:
    config = official_config("nanodet-m")
    loaded = SatForObjectDetection(config)
    loaded.load_state_dict(convert_state_dict(official_weights(), config))  # strict: nothing missing, none left over
    return loaded.eval()


def image(name: str):
    facts = DECODE[name]
    return named_image(facts["height"], facts["width"], facts["seed"])


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return (ours - theirs).abs().max().item()


def excess(ours: Tensor, theirs: Tensor, relative: float = 1e-4) -> float:
    """Greatest difference beyond the relative tolerance."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs() - relative * theirs.abs()).clamp(min=0).max().item()


def test_size_parity(model):
    assert sum(parameter.numel() for parameter in model.parameters()) == MANIFEST["parameters_used"] == 950_036


@pytest.mark.parametrize("size", [320, 416])
def test_operations_parity(size):
    assert multiply_adds(official_config("nanodet-m"), size) == MANIFEST["macs_conv_only"][str(size)]


@pytest.mark.parametrize("name", IMAGES)
def test_preprocessing_parity(parity, expected, name):
    facts, pixels = DECODE[name], image(name)
    place = place_image(facts["height"], facts["width"], 320, 320, "pad")
    warped = warp(torch.from_numpy(pixels).permute(2, 0, 1), place).flip(0).permute(1, 2, 0)  # BGR, channels last
    parity("warped image, grey levels", difference(warped, expected[f"{name}.warped_u8_bgr_hwc"].float()), 0)
    assert hashlib.sha256(warped.byte().numpy().tobytes()).hexdigest() == facts["warped_u8_sha256"]
    assert [place.height, place.width] == facts["warped_hw"]
    for fit, prefix in FITS.items():
        case = facts[prefix.strip(".")] if prefix else facts
        place = place_image(facts["height"], facts["width"], 320, 320, fit)
        matrix = [[place.scale_x, 0, place.offset_x], [0, place.scale_y, place.offset_y], [0, 0, 1]]
        parity(f"warp matrix, {fit}", difference(torch.tensor(matrix), torch.tensor(case["warp_matrix"])), 1e-12)
        pixel_values = SatImageProcessor(fit=fit)(pixels, return_tensors="pt")["pixel_values"]
        assert list(pixel_values.shape[2:]) == case["input_hw" if prefix else "padded_hw"]
        theirs = expected[f"{name}.{prefix}input_slice"]
        parity(f"image to tensor, {fit}", difference(pixel_values[:, :, ::8, ::8], theirs), 1e-6)


@pytest.mark.parametrize("name", IMAGES)
@torch.no_grad()
def test_forward_parity(parity, expected, model, name):
    pixel_values = SatImageProcessor()(image(name), return_tensors="pt")["pixel_values"]
    features = model.sat(pixel_values)
    stages = {
        "backbone": zip(("stage2", "stage3", "stage4"), features.backbone_maps, strict=True),
        "pan": zip(("p3", "p4", "p5"), features.feature_maps, strict=True),
    }
    for part, maps in stages.items():
        for level, ours in maps:
            assert list(ours.shape) in DECODE[name]["shapes"][part]
            sliced = ours[:, :: max(1, ours.shape[1] // 8), ::4, ::4]
            parity(f"{part} maps", excess(sliced, expected[f"{name}.{part}.{level}_slice"]), 1e-5)
    for fit, prefix in FITS.items():
        pixel_values = SatImageProcessor(fit=fit)(image(name), return_tensors="pt")["pixel_values"]
        outputs = model(pixel_values)
        predictions = torch.cat([outputs.logits, outputs.distance_logits], dim=-1)
        whole = f"{name}.{prefix}head_preds"
        theirs = expected[whole] if whole in expected else expected[f"{whole}_every_7th_point"]
        ours = predictions if whole in expected else predictions[:, ::7]
        parity(f"predictions, {fit}", excess(ours, theirs), 1e-5)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("fit", FITS)
@torch.no_grad()
def test_detection_parity(parity, model, name, fit):
    facts = DECODE[name]
    case = facts[FITS[fit].strip(".")] if FITS[fit] else facts
    processor = SatImageProcessor(fit=fit)
    outputs = model(**processor(image(name), return_tensors="pt"))
    compare_detections(parity, processor, outputs, case["detections"], (facts["height"], facts["width"]))


def test_made_up_detection_parity(parity):
    """Decoding and suppression by themselves, on predictions as scattered as those of a trained model."""
    case = DECODE["made_up_predictions"]
    predictions = named_tensor(case["name"], case["shape"])
    logits, distance_logits = 1.2 * predictions[..., :80] - 5, 2 * predictions[..., 80:]
    height, width = case["input_hw"]
    points, strides = level_points([(height // s, width // s) for s in (8, 16, 32)], (8, 16, 32))
    boxes = distances_to_boxes(points, expected_distances(distance_logits) * strides[:, None])
    extent = torch.tensor([width, height, width, height])
    pred_boxes = box_convert((boxes / extent).clamp(0, 1), "xyxy", "cxcywh")
    for level in case["centre_points"]:
        for stored in level["points"]:
            at = stored["index"]
            parity("centre points", difference(points[at], torch.tensor(stored["center_xy"])), 0)
            distances = expected_distances(distance_logits[0, at]) * strides[at]
            parity("distances, px", difference(distances, torch.tensor(stored["distances_ltrb_pixels"])), 1e-3)
            decoded = box_convert(pred_boxes[0, at], "cxcywh", "xyxy") * extent
            parity("boxes, px", difference(decoded, torch.tensor(stored["box_clamped"])), 1e-2)
    outputs = {"logits": logits, "pred_boxes": pred_boxes, "input_sizes": torch.tensor([[height, width]])}
    assert (logits.sigmoid() > 0.05).sum() == case["candidates_over_0_05"]
    compare_detections(parity, SatImageProcessor(), outputs, case["detections"], tuple(case["original_hw"]))


def compare_detections(parity, processor, outputs, stored, size: tuple[int, int]) -> None:
    """Labels in order, scores and boxes of the input and of the image."""
    for sizes, key in ((None, "box_network_xyxy"), ([size], "box_original_xyxy")):
        (ours,) = processor.post_process_object_detection(outputs, threshold=0.05, target_sizes=sizes)
        assert len(ours["scores"]) == 100
        first = slice(0, len(stored))
        assert ours["labels"][first].tolist() == [row["label"] for row in stored]
        scores = torch.tensor([row["score"] for row in stored])
        parity("scores of detections", difference(ours["scores"][first], scores), 1e-5)
        boxes = torch.tensor([row[key] for row in stored])
        parity(f"boxes of detections ({key.split('_')[1]}), px", difference(ours["boxes"][first], boxes), 1e-2)

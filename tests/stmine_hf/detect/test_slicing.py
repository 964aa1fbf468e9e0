"""Slices of large images: every object once, in pixels of the image."""

import json

import numpy as np
import pytest
import torch
from helpers_sat import confident_sat
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.ops import box_convert

from stmine_hf import Detector, SatConfig, SatForObjectDetection, SatImageProcessor
from stmine_hf.detect.batches import detect_batch, prepare
from stmine_hf.detect.images import detect_images
from stmine_hf.detect.slicing import Slices, detect_sliced, merged, slices_of_image
from stmine_hf.errors import StmineError
from stmine_hf.evaluation.detection import evaluate_detection
from stmine_hf.images import limits, tile_windows

SIZE = (300, 200)


def seen(objects, windows, least=4):
    """What a perfect detector finds in each window: the parts of the objects in it, whole ones with a score of 0.9."""
    results = []
    for left, top, width, height in windows:
        boxes, scores, labels = [], [], []
        for label, (x1, y1, x2, y2) in objects:
            part = [max(x1, left), max(y1, top), min(x2, left + width), min(y2, top + height)]
            if part[2] - part[0] < least or part[3] - part[1] < least:
                continue
            whole = part == [x1, y1, x2, y2]
            boxes.append([part[0] - left, part[1] - top, part[2] - left, part[3] - top])
            scores.append(0.9 if whole else 0.6)
            labels.append(label)
        results.append(
            {
                "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                "scores": torch.tensor(scores),
                "labels": torch.tensor(labels, dtype=torch.long),
            }
        )
    return results


def test_objects_on_borders_are_found_once_and_whole():
    windows = tile_windows(*SIZE, 100, 0.2)
    objects = [(0, (85, 85, 99, 99)), (0, (70, 10, 90, 30)), (1, (72, 12, 88, 28)), (0, (150, 150, 168, 165))]
    found = merged(windows, seen(objects, windows), SIZE, 0.6)
    assert sorted(zip(found["labels"].tolist(), map(tuple, found["boxes"].int().tolist()), strict=True)) == sorted(
        (label, tuple(box)) for label, box in objects
    )


def test_an_object_larger_than_a_slice_becomes_one_box():
    windows = tile_windows(*SIZE, 100, 0.3)
    objects = [(0, (20, 40, 270, 80))]
    found = merged(windows, seen(objects, windows), SIZE, 0.6)
    assert found["boxes"].int().tolist() == [[20, 40, 270, 80]]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(40, 120), st.floats(0.3, 0.6))
def test_objects_smaller_than_the_overlap_are_found_exactly(seed, side, overlap):
    rng = np.random.default_rng(seed)
    windows = tile_windows(*SIZE, side, overlap)
    most = int(side * overlap) - 4
    objects = []
    for x in range(5, SIZE[0] - 45, 48):  # apart from each other
        for y in range(5, SIZE[1] - 45, 48):
            width, height = rng.integers(5, max(6, min(most, 40)), 2)
            objects.append((int(rng.integers(0, 3)), (x, y, x + int(width), y + int(height))))
    found = merged(windows, seen(objects, windows), SIZE, 0.6)
    boxes = sorted(zip(found["labels"].tolist(), map(tuple, found["boxes"].int().tolist()), strict=True))
    assert boxes == sorted((label, tuple(box)) for label, box in objects)
    assert (found["scores"] == 0.9).all()


def test_neighbours_of_one_class_stay_two():
    windows = tile_windows(200, 100, 100, 0.5)
    objects = [(0, (80, 40, 96, 56)), (0, (97, 40, 113, 56)), (0, (80, 57, 96, 73))]
    assert len(merged(windows, seen(objects, windows), (200, 100), 0.6)["scores"]) == 3


def test_nothing_found():
    windows = tile_windows(*SIZE, 100, 0.2)
    for found in (merged([], [], SIZE, 0.6), merged(windows, seen([], windows), SIZE, 0.6)):
        assert found["boxes"].shape == (0, 4) and found["scores"].shape == (0,) and found["labels"].dtype == torch.long


def test_slices_show_the_image(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8))
    for (left, top, width, height), piece in slices_of_image(image, Slices(32, 0.5)):
        assert piece == image.crop((left, top, left + width, top + height))


@pytest.mark.parametrize("side, overlap", [(0, 0.2), (31, 0.2), (5000, 0.2), (320, -0.1), (320, 0.95)])
def test_slices_that_make_no_sense_are_refused(side, overlap):
    with pytest.raises(StmineError, match="expected"):
        Slices(side, overlap)


def test_one_slice_gives_what_the_image_gives():
    torch.manual_seed(0)
    model = SatForObjectDetection(SatConfig(id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1})).eval()
    processor = SatImageProcessor(size={"height": 64, "width": 64})
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    options = {"threshold": 0.0, "nms_threshold": 0.6}
    whole = detect_batch(model, processor, [prepare(processor, image)], **options)[0]
    sliced = detect_sliced(model, processor, slices_of_image(image, Slices(64)), image.size, batch_size=2, **options)
    assert len(whole["scores"])

    def rows(found):  # those of one score come in any order
        boxes = [tuple(round(side, 3) for side in box) for box in found["boxes"].tolist()]
        return sorted(zip(found["scores"].tolist(), found["labels"].tolist(), boxes, strict=True))

    assert rows(sliced) == rows(whole)


# ---- the detector and its results ----


@pytest.fixture(scope="module")
def detector():
    model, processor = confident_sat()
    return Detector((model, processor), threshold=0.5, slice=40, overlap=0.25, max_boxes=500)


def write_scene(path, width=150, height=100, **options):
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(3).integers(0, 256, (3, height, width), dtype=np.uint8)
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", **options}
    with rasterio.open(
        path, "w", crs="EPSG:32631", transform=rasterio.Affine(1, 0, 5e5, 0, -1, 5e6), **profile
    ) as file:
        file.write(pixels)
    return path


def test_a_scene_on_disk_gives_what_the_image_gives(detector, tmp_path, monkeypatch):
    path = write_scene(tmp_path / "scene.tif", tiled=True, blockxsize=16, blockysize=16)
    whole = detector(Image.open(path))
    assert len(whole) > 5 and detector(path).detections == whole.detections
    monkeypatch.setattr(limits, "LARGE", 100)  # as a scene of 10,000 pixels is read
    assert detector(path).detections == whole.detections
    assert detector.settings["slice"] == 40 and detector.settings["overlap"] == 0.25


def test_results_of_a_folder_of_scenes(detector, tmp_path):
    (tmp_path / "scenes").mkdir()
    path = write_scene(tmp_path / "scenes" / "scene.tif")
    (tmp_path / "scenes" / "cut.tif").write_bytes(path.read_bytes()[:3000])
    out = tmp_path / "out"
    report = detect_images(detector, tmp_path / "scenes", out, formats=["geojson"], save_crops=True, progress=False)
    assert report.images == 1 and [skip.path for skip in report.skipped] == ["cut.tif"]
    rows = json.loads((out / "detections.json").read_text())
    assert len(rows) == len(detector(path)) == len(list((out / "crops").rglob("*.jpg")))
    features = json.loads((out / "detections.geojson").read_text())["features"]
    assert len(features) == len(rows)
    left, top = rows[0]["bbox"][:2]
    assert features[0]["properties"]["crs"] == "EPSG:32631"
    assert features[0]["properties"]["crs_polygon"][0] == pytest.approx([5e5 + left, 5e6 - top], abs=0.01)
    again = detect_images(detector, tmp_path / "scenes", out, formats=["geojson"], save_crops=True, progress=False)
    assert again.unchanged == 1 and again.detected == 0


def test_large_scenes_are_shown_reduced(detector, tmp_path, monkeypatch):
    monkeypatch.setattr("stmine_hf.detect.images._MOST_SHOWN", 60)
    path = write_scene(tmp_path / "scene.tif")
    detect_images(detector, path, tmp_path / "out", progress=False)
    with Image.open(tmp_path / "out" / "images" / "scene.tif.jpg") as shown:
        assert shown.size == (60, 40)


def test_evaluation_of_slices_is_that_of_the_merged_boxes(detector):
    model, processor = confident_sat()
    images = [
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (100, 150, 3), dtype=np.uint8)) for n in (1, 2)
    ]
    slices = Slices(40, 0.25)
    truth = []
    for image in images:
        pieces = slices_of_image(image, slices)
        found = detect_sliced(model, processor, pieces, image.size, batch_size=4, threshold=0.05)
        boxes = box_convert(found["boxes"], "xyxy", "xywh").tolist()
        truth.append({"image": image, "objects": {"bbox": boxes, "category": found["labels"].tolist()}})
    report = evaluate_detection(model, processor, truth, slices=slices, batch_size=3, progress=False)
    assert report.metrics["ap"] > 0.99 and report.to_dict()["slices"] == {"side": 40, "overlap": 0.25}
    whole = evaluate_detection(model, processor, truth, progress=False)
    assert whole.metrics["ap"] < 0.5 and "slices" not in whole.to_dict()

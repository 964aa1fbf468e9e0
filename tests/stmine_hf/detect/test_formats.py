"""Several sources, crops and the formats of other tools."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from helpers_sat import confident_sat
from PIL import Image

from stmine_hf.detect import Detector, detect_images
from stmine_hf.detect.results import OtherResultsError
from stmine_hf.detect.sources import jobs_of
from stmine_hf.errors import StmineError

ALL = ("coco", "yolo", "csv", "jsonl", "json")


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(confident_sat(), threshold=0.5, max_boxes=5)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in" / "more").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for name in ("a.jpg", "a.png", "more/b.jpg"):
        Image.fromarray(noise.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


def test_all_formats_say_the_same(detector, folder, tmp_path):
    out = tmp_path / "out"
    detect_images(detector, folder, out, formats=ALL, progress=False)
    rows = json.loads((out / "detections.json").read_text())
    boxes = [row["bbox"] for row in rows]
    assert len(boxes) == 15
    coco = json.loads((out / "coco.json").read_text())
    assert [one["bbox"] for one in coco["annotations"]] == boxes
    assert [one["file_name"] for one in coco["images"]] == ["a.jpg", "a.png", "more/b.jpg"]
    assert {one["image_id"] for one in coco["annotations"]} == {one["id"] for one in coco["images"]}
    assert {one["id"]: one["name"] for one in coco["categories"]} == detector.names
    with open(out / "detections.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["file_name"], row["category"], float(row["score"])) for row in table] == [
        (row["file_name"], row["category"], row["score"]) for row in rows
    ]
    assert float(table[0]["right"]) == pytest.approx(boxes[0][0] + boxes[0][2], abs=0.02)
    lines = [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]
    assert [one["bbox"] for line in lines for one in line["detections"]] == boxes
    assert [line["file_name"] for line in lines] == ["a.jpg", "a.png", "more/b.jpg"]
    files = sorted(path.relative_to(out / "labels").as_posix() for path in (out / "labels").rglob("*.txt"))
    assert files == ["a.png.txt", "a.txt", "more/b.txt"]
    label, x, y, width, height, score = map(float, (out / "labels" / "a.txt").read_text().split("\n")[0].split())
    assert label == rows[0]["category_id"] and score == pytest.approx(rows[0]["score"], abs=1e-5)
    assert [90 * (x - width / 2), 60 * (y - height / 2), 90 * width, 60 * height] == pytest.approx(boxes[0], abs=0.01)
    assert (out / "classes.txt").read_text().splitlines() == list(detector.names.values())


def test_a_second_run_brings_the_formats_up_to_date(detector, folder, tmp_path):
    out = tmp_path / "out"
    detect_images(detector, folder, out, progress=False)
    (folder / "a.png").unlink()
    report = detect_images(detector, folder, out, formats=ALL, progress=False)
    assert (report.detected, report.unchanged) == (0, 2) and (out / "labels" / "a.txt").is_file()
    (folder / "more" / "b.jpg").unlink()
    detect_images(detector, folder, out, formats=ALL, progress=False)
    assert [path.name for path in (out / "labels").rglob("*.txt")] == ["a.txt"]
    assert len(json.loads((out / "coco.json").read_text())["images"]) == 1


def test_a_file_of_the_user_is_not_replaced(detector, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "detections.csv").write_text("mine")
    with pytest.raises(StmineError, match=r"detections\.csv exists"):
        detect_images(detector, folder, tmp_path / "out", formats=["csv"], progress=False)
    assert (tmp_path / "out" / "detections.csv").read_text() == "mine"


def test_an_unknown_format_lists_those_there_are(detector, folder, tmp_path):
    with pytest.raises(StmineError, match="expected json, coco, yolo, csv, geojson, jsonl, or"):
        detect_images(detector, folder, tmp_path / "out", formats=["csv", "xml"], progress=False)


def test_geojson_of_georeferenced_images(detector, folder, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(1).integers(0, 256, (3, 60, 90), dtype=np.uint8)
    transform = rasterio.transform.from_origin(500_000, 5_000_000, 10, 10)
    meta = {"driver": "GTiff", "width": 90, "height": 60, "count": 3, "dtype": "uint8", "crs": "EPSG:32631"}
    with rasterio.open(folder / "scene.tif", "w", transform=transform, photometric="RGB", **meta) as file:
        file.write(pixels)
    report = detect_images(detector, folder, tmp_path / "out", formats=["geojson"], progress=False)
    assert len(report.remarks) == 1 and report.remarks[0].startswith("3 of 4 images do not say where")
    features = json.loads((tmp_path / "out" / "detections.geojson").read_text())["features"]
    assert len(features) == 5 and {one["properties"]["image"] for one in features} == {"scene.tif"}
    rows = [r for r in json.loads((tmp_path / "out" / "detections.json").read_text()) if r["file_name"] == "scene.tif"]
    left, top = rows[0]["bbox"][:2]
    (expected_x,), (expected_y,) = rasterio.warp.transform(
        "EPSG:32631", "EPSG:4326", [500_000 + 10 * left], [5_000_000 - 10 * top]
    )
    ring = features[0]["geometry"]["coordinates"][0]
    assert ring[0] == pytest.approx([expected_x, expected_y], abs=1e-6) and ring[0] == ring[-1] and len(ring) == 5


def test_crops(detector, folder, tmp_path):
    out = tmp_path / "out"
    detect_images(detector, folder, out, save_crops=True, progress=False)
    rows = json.loads((out / "detections.json").read_text())
    crops = sorted(path.relative_to(out / "crops").as_posix() for path in (out / "crops").rglob("*.jpg"))
    assert len(crops) == len(rows) and {crop.split("/")[0] for crop in crops} == {row["category"] for row in rows}
    first = rows[0]
    with Image.open(out / "crops" / first["category"] / "a-1.jpg") as crop:
        assert crop.size == pytest.approx(tuple(first["bbox"][2:]), abs=1.01)
    with pytest.raises(OtherResultsError, match="save_crops"):
        detect_images(detector, folder, out, progress=False)
    Image.new("RGB", (90, 60)).save(folder / "a.jpg")
    detect_images(Detector(confident_sat(), threshold=0.5, max_boxes=5), folder, out, save_crops=True, progress=False)
    left = [path for path in (out / "crops").rglob("a-*.jpg")]
    assert len(left) == sum(row["file_name"] == "a.jpg" for row in json.loads((out / "detections.json").read_text()))


def test_several_sources_are_one_run(detector, folder, tmp_path):
    sources = [folder / "a.png", folder / "more", folder / "a.png"]
    report = detect_images(detector, sources, tmp_path / "out", progress=False)
    names = [one["file_name"] for one in json.loads((tmp_path / "out" / "summary.json").read_text())["images"]]
    assert report.images == 2 and names == ["a.png", "more/b.jpg"]
    again = detect_images(detector, sources, tmp_path / "out", progress=False)
    assert (again.detected, again.unchanged) == (0, 2)


def test_patterns_videos_and_images_make_jobs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "x.mp4").write_bytes(b"video")
    (folder / "more" / "x.mp4").write_bytes(b"video")
    (folder / "[1].jpg").write_bytes((folder / "a.jpg").read_bytes())
    jobs = jobs_of(["**/*.jpg", "x.mp4", "more/x.mp4", "camera"])
    assert [(job.kind, job.name) for job in jobs] == [
        ("images", "in"), ("video", "x"), ("video", "x-2"), ("camera", "camera"),
    ]  # fmt: skip
    assert jobs[0].source == ["[1].jpg", "a.jpg", "more/b.jpg"]
    assert jobs_of(["[1].jpg"])[0].source == ["[1].jpg"]
    with pytest.raises(StmineError, match=r"\*\.gif: no file matches"):
        jobs_of(["*.gif"])

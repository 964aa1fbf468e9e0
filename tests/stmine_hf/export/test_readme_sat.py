"""The README of an exported detector: its code alone finds what `stmine detect` finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from documents import python_blocks
from PIL import Image

from stmine_hf.cards.street_drawing import draw_street
from stmine_hf.cli import main
from stmine_hf.export.sat import FORMATS, export_sat
from stmine_hf.loading import load_sat

REPOSITORY = Path(__file__).parents[3] / "hub_cards" / "sat-coco-small"
MOST_LINES = {"onnxruntime": 25, "openvino": 26, "ncnn": 32}
# Before an import, so that the code runs as in a process where this package is not installed.
ALONE = """import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("stmine_hf", "modeling", "torch", "torchvision", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def code_of(folder: Path) -> str:
    (code,) = python_blocks(folder / "README.md")
    return code


def run_readme(folder: Path, image: Path) -> list:
    """What the code prints, in the folder of the export, without this package."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE + code_of(folder), str(image)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def run_detect(image: Path, model: Path, out: Path) -> list:
    with pytest.raises(SystemExit) as end:
        main(["detect", str(image), "--model", str(model), "--out", str(out), "--json"])
    assert not end.value.code
    rows = json.loads((out / "detections.json").read_text(encoding="utf-8"))
    return sorted(rows, key=lambda row: -row["score"])


def assert_same(found: list, expected: list, scores: float = 1e-3, pixels: float = 0.15) -> None:
    """Equal up to the rounding of grey levels, and of the boxes in detections.json to a tenth of a pixel."""
    assert len(found) == len(expected) > 0
    for (name, score, box), row in zip(found, expected, strict=True):
        left, top, width, height = row["bbox"]
        assert name == row["category"] and score == pytest.approx(row["score"], abs=scores)
        assert box == pytest.approx([left, top, left + width, top + height], abs=pixels)


@pytest.mark.parametrize("format", FORMATS)
def test_the_code_finds_what_detect_finds(format, tmp_path):
    model, processor = load_sat(REPOSITORY)
    street = tmp_path / "street.png"
    draw_street().save(street)
    export_sat(model, processor, tmp_path / "model", format=format, images=[draw_street()])
    found = run_readme(tmp_path / "model", street)
    # One grey level moves some 8-bit activations.
    near = {"int8": {"scores": 0.02, "pixels": 1.0}, "fp16": {"scores": 5e-3, "pixels": 1.0}}.get(format, {})
    assert_same(found, run_detect(street, tmp_path / "model", tmp_path / "found"), **near)
    code = code_of(tmp_path / "model").splitlines()
    assert len([line for line in code if line.strip()]) <= MOST_LINES[FORMATS[format].packages[0]]


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_the_code_with_suppression_in_the_network_finds_the_same(format, tmp_path):
    street = tmp_path / "street.png"
    draw_street().save(street)
    export_sat(*load_sat(REPOSITORY), tmp_path / "model", format=format, nms=True)
    code = code_of(tmp_path / "model")
    assert "selected_boxes" in code and "area" not in code
    found = run_readme(tmp_path / "model", street)
    assert_same(found, run_detect(street, tmp_path / "model", tmp_path / "found"))


@pytest.mark.parametrize("fit", ["pad", "letterbox", "stretch"])
@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_every_way_to_place_an_image_is_written_down(fit, order, tmp_path):
    model, processor = load_sat(REPOSITORY)
    processor.fit, processor.channel_order = fit, order
    processor.size = {"height": 256, "width": 320}
    image = tmp_path / "image.png"
    draw_street().resize((750, 400)).save(image)
    export_sat(model, processor, tmp_path / "model", size=(256, 320))
    assert_same(run_readme(tmp_path / "model", image), run_detect(image, tmp_path / "model", tmp_path / "found"))


def test_nothing_found_is_an_empty_list(tmp_path):
    for format in ("onnx", "ncnn"):
        export_sat(*load_sat(REPOSITORY), tmp_path / format, format=format)
        Image.new("RGB", (70, 50), "white").save(tmp_path / "blank.png")
        assert run_readme(tmp_path / format, tmp_path / "blank.png") == []


@pytest.mark.parametrize("format", ["onnx", "int8"])
def test_settings_are_in_the_file_itself(format, tmp_path):
    model, processor = load_sat(REPOSITORY)
    export_sat(model, processor, tmp_path, format=format, images=[draw_street()])
    held = {prop.key: json.loads(prop.value) for prop in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert held == json.loads((tmp_path / "export.json").read_text())["settings"]
    assert held["names"][5] == "bus" and len(held["names"]) == 80
    assert (held["threshold"], held["nms_iou"], held["max_detections"]) == (0.4, 0.6, 100)
    assert held["size"] == [processor.size["height"], processor.size["width"]]

"""FISVL and MTTV in other runtimes: PyTorch's answers for any number of rows, READMEs whose code works alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from documents import python_blocks
from helpers import save_tiny_fisvl, tiny_fisvl
from helpers_mttv import save_tiny_mttv, tiny_mttv
from PIL import Image

from stmine_hf.cli import main
from stmine_hf.errors import StmineError
from stmine_hf.export.fisvl import export_fisvl
from stmine_hf.export.formats import OnnxPart
from stmine_hf.export.mttv import export_mttv
from stmine_hf.export.parts import in_batches
from stmine_hf.inference.fixed_pool import FixedPool
from stmine_hf.outputs import OutputError

ALONE = """import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("stmine_hf", "modeling", "torch", "torchvision", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run_readme(folder: Path, *arguments: object) -> dict:
    """What the code of the README prints, in the folder of the export, without this package."""
    (code,) = python_blocks(folder / "README.md")
    assert len([line for line in code.splitlines() if line.strip()]) <= 28
    words = [sys.executable, "-c", ALONE + code, *map(str, arguments)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def run(line: str) -> int:
    try:
        main(line.split())
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def image(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((70, 50)).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.mark.parametrize(
    ("overrides", "format"),
    [({}, "onnx"), ({"attend_padding": True}, "onnx"), ({}, "openvino"), ({}, "fp16")],
)
def test_both_towers_answer_as_pytorch(overrides, format, image, tmp_path):
    model, processor = tiny_fisvl(**overrides)
    report = export_fisvl(model, processor, tmp_path / "out", format=format)
    assert {Path(name).stem for name in report.differences} == {"image", "text"} and report.inputs == 10
    near = 1e-2 if format == "fp16" else 1e-5
    assert max(report.differences.values()) < near
    sentence = "Two planes - near a harbour."
    found = run_readme(tmp_path / "out", sentence, image)
    with torch.no_grad():
        inputs = processor(images=[Image.open(image)], text=[sentence], return_tensors="pt")
        expected = (
            model.get_image_features(inputs.pixel_values).pooler_output[0]
            @ (model.get_text_features(inputs.input_ids, inputs.attention_mask).pooler_output[0])
        )
    assert found == {str(image): pytest.approx(float(expected), abs=max(near, 1e-4))}


@pytest.mark.parametrize("tower", ["image", "text"])
def test_the_readme_of_a_tower_alone_prints_embeddings(tower, image, tmp_path):
    model, processor = tiny_fisvl()
    export_fisvl(model, processor, tmp_path / "out", tower=tower)
    given = {"image": str(image), "text": "Two planes - near a harbour."}[tower]
    with torch.no_grad():
        if tower == "image":
            inputs = processor(images=[Image.open(image)], return_tensors="pt")
            expected = model.get_image_features(inputs.pixel_values).pooler_output[0]
        else:
            inputs = processor(text=[given], return_tensors="pt")
            expected = model.get_text_features(inputs.input_ids, inputs.attention_mask).pooler_output[0]
    assert run_readme(tmp_path / "out", given) == {given: pytest.approx(expected.tolist(), abs=1e-4)}


@pytest.mark.parametrize(
    ("overrides", "format"),
    [
        ({}, "onnx"),
        ({}, "openvino"),
        ({"num_region_tokens": 0}, "onnx"),
        ({"global_pooling": "max", "attend_missing": False}, "onnx"),
        ({"sequence_pooling": "mean"}, "onnx"),
    ],
)
def test_posts_are_classified_as_by_pytorch(overrides, format, image, tmp_path):
    model, processor = tiny_mttv(**overrides)
    report = export_mttv(model, processor, tmp_path / "out", format=format)
    assert max(report.differences.values()) < 1e-4 and report.inputs == 10
    for text, images in (("这是一条假新闻", [image]), ("news [SEP]x", []), ("", [image])):
        found = run_readme(tmp_path / "out", text, *images)
        opened = Image.open(image) if images else None
        inputs = processor(text=[text], images=[opened], return_tensors="pt")
        with torch.no_grad():
            expected = model(**inputs).logits.softmax(dim=-1)[0].tolist()
        assert found == pytest.approx(dict(zip(["fake", "real"], expected, strict=True)), abs=1e-4), text


def test_settings_are_in_the_files_themselves(tmp_path):
    export_fisvl(*tiny_fisvl(), tmp_path)
    settings = json.loads((tmp_path / "export.json").read_text())["settings"]
    for file in ("image.onnx", "text.onnx"):
        held = {prop.key: json.loads(prop.value) for prop in onnx.load(tmp_path / file).metadata_props}
        assert held == settings and held["max_tokens"] == 47
    inputs = onnxruntime.InferenceSession(tmp_path / "text.onnx").get_inputs()
    assert [(one.name, one.shape) for one in inputs] == [
        ("input_ids", ["batch", "length"]),
        ("attention_mask", ["batch", "length"]),
    ]


def test_a_model_that_differs_is_refused_and_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(OnnxPart, "limit", -1.0)
    with pytest.raises(StmineError, match=r"image\.onnx: the onnx model differs from PyTorch by"):
        export_fisvl(*tiny_fisvl(), tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_a_users_file_is_not_replaced(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(OutputError, match="is not listed as written by stmine"):
        export_fisvl(*tiny_fisvl(), tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_model_without_a_visual_encoder_is_refused(tmp_path):
    with pytest.raises(StmineError, match="has no visual encoder"):
        export_mttv(*tiny_mttv(vision_config=None), tmp_path)


@pytest.mark.parametrize(("method", "save"), [("fisvl", save_tiny_fisvl), ("mttv", save_tiny_mttv)])
def test_the_commands(method, save, tmp_path, capsys):
    model = save(tmp_path / "model")
    capsys.readouterr()
    assert run(f"export {method} --model {model} --out {tmp_path}/out --json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["inputs"] == 10 and all(value < 1e-4 for value in document["differences"].values())
    assert run(f"export {method} --model {model} --out {tmp_path}/out --format ncnn") == 2
    printed = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "expected one of onnx, fp16, int8, openvino, found 'ncnn'" in printed


@pytest.mark.parametrize(("size", "grid"), [((12, 12), (16, 16)), ((7, 7), (5, 1)), ((9, 4), (3, 4))])
def test_fixed_pooling_is_adaptive_pooling(size, grid):
    maps = torch.randn(2, 3, *size)
    expected = torch.nn.functional.adaptive_avg_pool2d(maps, grid)
    torch.testing.assert_close(FixedPool(size, grid)(maps), expected)


def test_batches_of_the_comparison_have_different_sizes():
    sizes = [rows.stop - rows.start for rows in in_batches(10)]
    assert sum(sizes) == 10 and len(set(sizes)) >= 3

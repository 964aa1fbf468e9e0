"""SAT in other runtimes: the same answers as PyTorch, at every size the format allows, and clear refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_sat import save_tiny_sat, tiny_sat
from PIL import Image

from stmine_hf.cli import main
from stmine_hf.errors import StmineError
from stmine_hf.export.export_sat import export_sat
from stmine_hf.export.graphs_sat import MapsGraph, decode
from stmine_hf.export.runtimes_sat import NcnnSat, OnnxSat, is_exported, open_exported
from stmine_hf.loading import load_sat

SIZE = 64
REPOSITORY = Path(__file__).parents[3] / "hub_cards" / "sat-coco-small"


def pictures(count: int = 6) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    sizes = [(64, 64), (64, 40), (30, 64)]
    return [
        Image.fromarray(generator.integers(0, 256, size=(*sizes[number % 3][::-1], 3), dtype=np.uint8))
        for number in range(count)
    ]


@pytest.fixture(params=["none", "eca", "coordinate"])
def detector(request):
    model, processor = tiny_sat(attention=request.param)
    torch.manual_seed(1)
    for parameter in model.parameters():  # gates start as zero, class scores all alike: nothing to tell apart
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model, processor


@torch.no_grad()
def test_decoding_raw_maps_is_the_end_of_forward(detector):
    model, _ = detector
    for shape in ((2, 3, 64, 96), (1, 3, 32, 32)):
        pixel_values = torch.randn(shape)
        expected = model(pixel_values)
        logits, pred_boxes, distance_logits = decode(MapsGraph(model)(pixel_values), model.config)
        torch.testing.assert_close(logits, expected.logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(pred_boxes, expected.pred_boxes, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(distance_logits, expected.distance_logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_onnx_answers_as_pytorch_for_any_batch_and_size(detector, tmp_path):
    model, processor = detector
    report = export_sat(model, processor, tmp_path, format="onnx", size=SIZE, pictures=pictures())
    assert (report.format, report.inputs) == ("onnx", 6)
    assert report.score_difference < 1e-5 and report.box_difference < 1e-2
    assert report.file_bytes == (tmp_path / "model.onnx").stat().st_size
    exported, saved_processor = open_exported(tmp_path)
    assert isinstance(exported, OnnxSat) and saved_processor.to_dict() == processor.to_dict()
    for shape in ((1, 3, 64, 64), (3, 3, 32, 96), (2, 3, 160, 64)):
        pixel_values = torch.randn(shape)
        ours, theirs = model(pixel_values), exported(pixel_values)
        torch.testing.assert_close(theirs.logits, ours.logits, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(theirs.pred_boxes, ours.pred_boxes, rtol=1e-3, atol=1e-4)
        assert theirs.input_sizes.tolist() == ours.input_sizes.tolist()


@torch.no_grad()
def test_ncnn_answers_as_pytorch_on_the_padded_input(detector, tmp_path):
    model, processor = detector
    report = export_sat(model, processor, tmp_path, format="ncnn", size=SIZE)
    assert report.score_difference < 1e-5 and report.inputs == 1
    exported, _ = open_exported(tmp_path)
    assert isinstance(exported, NcnnSat)
    small = torch.randn(2, 3, 32, 64)
    ours, theirs = model(torch.nn.functional.pad(small, (0, 0, 0, 32))), exported(small)
    torch.testing.assert_close(theirs.logits, ours.logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(theirs.pred_boxes, ours.pred_boxes, rtol=1e-3, atol=1e-4)
    assert theirs.input_sizes.tolist() == [[64, 64]] * 2
    with pytest.raises(StmineError, match=r"takes inputs of 64 x 64 pixels, found \(96, 64\)"):
        exported(torch.randn(1, 3, 96, 64))


def test_int8_is_smaller_and_near(tmp_path):
    model, processor = load_sat(REPOSITORY)  # an untrained model's scores are all alike, its weights next to 0
    processor.size = {"height": SIZE, "width": SIZE}
    float_report = export_sat(model, processor, tmp_path / "float", format="onnx", size=SIZE)
    report = export_sat(model, processor, tmp_path / "int8", format="int8", size=SIZE, pictures=pictures())
    assert report.file_bytes < float_report.file_bytes / 2
    assert 0 < report.score_difference < 0.1
    assert isinstance(open_exported(tmp_path / "int8")[0], OnnxSat)


def test_a_second_export_replaces_the_first(tmp_path):
    model, processor = tiny_sat()
    export_sat(model, processor, tmp_path, format="ncnn", size=SIZE)
    export_sat(model, processor, tmp_path, format="onnx", size=SIZE)
    assert sorted(path.suffix for path in tmp_path.glob("model.*")) == [".onnx"]


def test_the_model_given_stays_as_it_was(tmp_path):
    model, processor = tiny_sat()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_sat(model, processor, tmp_path, size=SIZE)
    assert not model.config.fused and not hasattr(model.config, "export_size")
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "coreml"}, "expected one of onnx, ncnn, int8, found 'coreml'"),
        ({"size": 100}, "expected multiples of 32 pixels, found 100 x 100"),
        ({"size": 0}, "expected multiples of 32 pixels"),
        ({"format": "int8"}, "int8 needs pictures"),
    ],
)
def test_what_cannot_be_exported_is_refused(options, message, tmp_path):
    with pytest.raises(StmineError, match=message):
        export_sat(*tiny_sat(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_an_export_is_refused(tmp_path):
    assert not is_exported(tmp_path)
    with pytest.raises(StmineError, match="expected an exported detector"):
        open_exported(tmp_path)


def test_a_missing_runtime_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pnnx", None)
    with pytest.raises(StmineError, match=r"needs the package pnnx: pip install 'stmine-hf\[export\]'"):
        export_sat(*tiny_sat(), tmp_path, format="ncnn", size=SIZE)


def run(line: str) -> int:
    """The exit code of `stmine LINE`."""
    try:
        main(line.split())
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_writes_a_model_that_loads_as_any_detector(tmp_path, capsys):
    model = save_tiny_sat(tmp_path / "model")
    shots = tmp_path / "shots"
    shots.mkdir()
    for number, picture in enumerate(pictures(3)):
        picture.save(shots / f"{number}.png")
    (shots / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "onnx"
    capsys.readouterr()
    assert run(f"export sat --model {model} --out {out} --pictures {shots} --size 64 --json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["inputs"] == 3 and document["score_difference"] < 1e-5 and document["folder"] == str(out)
    assert isinstance(load_sat(out)[0], OnnxSat)


def test_the_command_refuses_a_folder_without_pictures(tmp_path, capsys):
    model = save_tiny_sat(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    assert run(f"export sat --model {model} --out {tmp_path}/out --pictures {tmp_path}/empty") == 1
    assert "expected a folder with pictures" in capsys.readouterr().err

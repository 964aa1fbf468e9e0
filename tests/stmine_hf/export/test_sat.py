"""SAT in other runtimes: the same answers as PyTorch, at every size the format allows, and clear refusals."""

from __future__ import annotations

import copy
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers_sat import save_tiny_sat, tiny_sat
from PIL import Image

import stmine_hf.export.exported
import stmine_hf.export.int8
from stmine_hf import SatForObjectDetection, SatImageProcessor
from stmine_hf.cli import main
from stmine_hf.commands.export import CHECKED_IMAGES, _spread
from stmine_hf.detect.graphs import MapsGraph, decode
from stmine_hf.errors import StmineError
from stmine_hf.export.ncnn import NcnnSat
from stmine_hf.export.onnx import OnnxSat, write_onnx
from stmine_hf.export.sat import export_sat, is_exported, open_exported
from stmine_hf.loading import load_sat
from stmine_hf.outputs import OutputError

SIZE = 64
REPOSITORY = Path(__file__).parents[3] / "hub_cards" / "sat-coco-small"


def images(count: int = 6) -> list[Image.Image]:
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
    report = export_sat(model, processor, tmp_path, format="onnx", size=SIZE, images=images())
    assert (report.format, report.inputs) == ("onnx", 10)
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
    assert report.score_difference < 1e-5 and report.inputs == 10
    exported, _ = open_exported(tmp_path)
    assert isinstance(exported, NcnnSat)
    small = torch.randn(2, 3, 32, 64)
    ours, theirs = model(torch.nn.functional.pad(small, (0, 0, 0, 32))), exported(small)
    torch.testing.assert_close(theirs.logits, ours.logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(theirs.pred_boxes, ours.pred_boxes, rtol=1e-3, atol=1e-4)
    assert theirs.input_sizes.tolist() == [[64, 64]] * 2
    with pytest.raises(StmineError, match=r"takes inputs of 64 x 64 pixels, found \(96, 64\)"):
        exported(torch.randn(1, 3, 96, 64))


def trained() -> tuple[SatForObjectDetection, SatImageProcessor]:
    """The shipped detector at a small size: an untrained model's scores are all alike."""
    model, processor = load_sat(REPOSITORY)
    processor.size = {"height": SIZE, "width": SIZE}
    return model, processor


def test_int8_is_smaller_and_near(tmp_path):
    model, processor = trained()
    float_report = export_sat(model, processor, tmp_path / "float", format="onnx", size=SIZE)
    report = export_sat(model, processor, tmp_path / "int8", format="int8", size=SIZE, images=images())
    assert report.file_bytes < float_report.file_bytes / 2
    assert 0 < report.score_difference < 0.1
    assert isinstance(open_exported(tmp_path / "int8")[0], OnnxSat)


def test_int8_of_an_untrained_model_is_near_too(detector, tmp_path):
    """Its weights are so small that a 32-bit bias in their scale overflows, unless the scale is widened."""
    model, processor = detector
    fresh, _ = tiny_sat(attention=model.config.attention)
    for number, network in enumerate((model, fresh)):
        report = export_sat(network, processor, tmp_path / str(number), format="int8", size=SIZE, images=images())
        assert report.score_difference < 0.02, number


def test_int8_weights_and_biases_overflow_nowhere(tmp_path):
    """Two products of an unsigned byte and a weight fit 16 bits, where processors without VNNI add them."""
    export_sat(*tiny_sat(), tmp_path, format="int8", size=SIZE, images=images())
    graph = onnx.load(tmp_path / "model.onnx").graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in source]
    model = tiny_sat()[0]
    whole, stem, first = (
        sum(isinstance(layer, torch.nn.Conv2d) for layer in part.modules())
        for part in (model, model.sat.backbone.stem, model.sat.backbone.stages[0])
    )
    assert len(convolutions) == whole - stem - first, "all but those that see fine detail"
    for node in convolutions:
        weight, bias = (arrays[source[name]] for name in node.input[1:])
        assert weight.dtype == np.int8 and 2 * 255 * np.abs(weight.astype(int)).max() < 2**15, node.name
        assert bias.dtype == np.int32 and np.abs(bias.astype(np.int64)).max() < 2**31 - 1, node.name


@pytest.mark.parametrize("bias", [0.0, float("nan")])
def test_an_int8_model_of_no_use_is_refused_and_not_written(tmp_path, monkeypatch, bias):
    def spoiled(model, path, inputs):
        model = copy.deepcopy(model)
        for level in model.head:  # every class everywhere as probable as not
            level.predictor.weight.data.zero_()
            level.predictor.bias.data.fill_(bias)
        write_onnx(model, path)

    monkeypatch.setattr(stmine_hf.export.int8, "write_int8", spoiled)
    model, processor = trained()
    with pytest.raises(StmineError, match=r"above 0.3 differ from PyTorch's by (0.5|0.4\d|nan) on average, where at"):
        export_sat(model, processor, tmp_path, format="int8", size=SIZE, images=images())
    assert not is_exported(tmp_path)


def test_a_float_model_that_differs_is_refused_and_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(stmine_hf.export.exported, "LIMIT", -1.0)
    with pytest.raises(StmineError, match=r"the onnx model differs from PyTorch by \S+ in a class probability"):
        export_sat(*tiny_sat(), tmp_path, size=SIZE)
    assert not is_exported(tmp_path)


def test_a_second_export_replaces_the_first(tmp_path):
    model, processor = tiny_sat()
    export_sat(model, processor, tmp_path, format="ncnn", size=SIZE)
    export_sat(model, processor, tmp_path, format="onnx", size=SIZE)
    assert sorted(path.suffix for path in tmp_path.glob("model.*")) == [".onnx"]


def test_a_failed_export_leaves_the_one_before(tmp_path, monkeypatch):
    export_sat(*tiny_sat(), tmp_path, size=SIZE)
    before = (tmp_path / "model.onnx").read_bytes()
    monkeypatch.setattr(stmine_hf.export.exported, "LIMIT", -1.0)
    with pytest.raises(StmineError, match="it was not written"):
        export_sat(*tiny_sat(attention="eca"), tmp_path, size=SIZE)
    assert (tmp_path / "model.onnx").read_bytes() == before and open_exported(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "model.ncnn.bin"])
def test_a_users_file_is_neither_replaced_nor_removed(tmp_path, name):
    if name == "model.ncnn.bin":
        export_sat(*tiny_sat(), tmp_path, size=SIZE)  # what is put beside an export later stays there
        (tmp_path / name).write_bytes(b"mine")
        export_sat(*tiny_sat(), tmp_path, size=SIZE)
    else:
        (tmp_path / name).write_bytes(b"mine")
        with pytest.raises(OutputError, match="is not listed as written by stmine"):
            export_sat(*tiny_sat(), tmp_path, size=SIZE)
    assert (tmp_path / name).read_bytes() == b"mine"


def test_an_export_is_not_mixed_with_other_files(tmp_path):
    (tmp_path / "thesis.docx").write_bytes(b"mine")
    (tmp_path / ".DS_Store").write_bytes(b"")
    with pytest.raises(OutputError, match=r"holds other files \(thesis\.docx\).* choose a new or an empty folder"):
        export_sat(*tiny_sat(), tmp_path, size=SIZE)
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"thesis.docx", ".DS_Store"}


def test_an_export_of_version_0_1_opens_and_is_not_replaced(tmp_path):
    export_sat(*tiny_sat(), tmp_path, size=SIZE)
    for name in ("export.json", ".stmine-outputs.jsonl"):
        (tmp_path / name).unlink()
    assert isinstance(open_exported(tmp_path)[0], OnnxSat)
    with pytest.raises(OutputError, match="is not listed as written by stmine"):
        export_sat(*tiny_sat(), tmp_path, size=SIZE)


@pytest.mark.parametrize("format", ["onnx", "ncnn"])
def test_a_flipped_byte_is_noticed(tmp_path, format):
    export_sat(*tiny_sat(), tmp_path, format=format, size=SIZE)
    files = [path for path in tmp_path.iterdir() if path.suffix in (".onnx", ".bin", ".param", ".json")]
    generator = np.random.default_rng(0)
    for path in (path for path in files if path.name != "export.json"):
        content = path.read_bytes()
        for place in generator.integers(len(content), size=25):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(StmineError, match="is damaged or was changed"):
                open_exported(tmp_path)
        path.write_bytes(content)
    open_exported(tmp_path)


@pytest.mark.parametrize("files", [None, [], "x", {"../config.json": "0"}, {"model.onnx": 3}])
def test_an_odd_manifest_is_refused_by_name(tmp_path, files):
    export_sat(*tiny_sat(), tmp_path, format="onnx", size=SIZE)
    (tmp_path / "export.json").write_text(json.dumps({"format": "onnx", "files": files}))
    with pytest.raises(StmineError, match=r"export.json: expected the names|is damaged or was changed"):
        open_exported(tmp_path)


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
        ({"format": "coreml"}, "expected one of onnx, ncnn, int8, openvino, fp16, found 'coreml'"),
        ({"size": 100}, "expected multiples of 32 pixels, found 100 x 100"),
        ({"size": 0}, "expected multiples of 32 pixels"),
        ({"format": "int8"}, "int8 needs images"),
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
    for number, image in enumerate(images(3)):
        image.save(shots / f"{number}.png")
    (shots / "broken.jpg").write_bytes(b"no image")
    out = tmp_path / "onnx"
    capsys.readouterr()
    assert run(f"export sat --model {model} --out {out} --images {shots} --size 64 --json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["inputs"] == 10 and document["score_difference"] < 1e-5 and document["folder"] == str(out)
    assert isinstance(load_sat(out)[0], OnnxSat)


def test_images_are_taken_from_all_over_a_set():
    assert _spread("abc") == ["a", "b", "c"] and _spread([]) == []
    chosen = _spread(range(1000))
    assert len(set(chosen)) == CHECKED_IMAGES and chosen[-1] > 990
    assert all(abs(b - a - 1000 / CHECKED_IMAGES) < 1 for a, b in pairwise(chosen))


def test_the_command_refuses_a_folder_without_images(tmp_path, capsys):
    model = save_tiny_sat(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    assert run(f"export sat --model {model} --out {tmp_path}/out --images {tmp_path}/empty") == 1
    assert "expected a folder with images to check with" in capsys.readouterr().err


def test_the_command_scores_int8_and_sets_its_ranges_on_train_images(tmp_path, capsys, monkeypatch):
    model, data = save_tiny_sat(tmp_path / "model", class_prior=0.3), tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "annotations").mkdir()
    for split, shades in {"train": (60, 80), "val": (200, 220, 240)}.items():
        images, boxes = [], []
        for shade in shades:
            Image.new("RGB", (64, 48), (shade,) * 3).save(data / "images" / f"{shade}.png")
            images.append({"id": shade, "file_name": f"{shade}.png", "width": 64, "height": 48})
            boxes.append({"id": shade, "image_id": shade, "category_id": 1, "bbox": [8, 8, 30, 30]})
        document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "deer"}]}
        (data / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    seen = []
    write = stmine_hf.export.int8.write_int8
    monkeypatch.setattr(stmine_hf.export.int8, "write_int8", lambda *given: (seen.extend(given[2]), write(*given)))
    words = f"export sat --model {model} --format int8 --size 64 --dataset coco_json --data-dir {data}"
    capsys.readouterr()
    assert run(f"{words} --out {tmp_path}/int8 --json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["ap"]) == {"pytorch", "int8"} and document["inputs"] == 10
    assert document["loss"] == document["ap"]["pytorch"] - document["ap"]["int8"]
    assert len(seen) == 2 and max(float(x.max()) for x in seen) <= 0, "dark ones, padded with 0: those to train"
    assert run(f"{words} --out {tmp_path}/again --split train") == 0
    printed = capsys.readouterr().out
    assert "AP on coco_json train, pytorch: " in printed and "AP on coco_json train, int8: " in printed
    assert "class probabilities differ by at most" in printed and "; box sides differ by at most" in printed

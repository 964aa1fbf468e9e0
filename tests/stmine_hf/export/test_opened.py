"""Exports of FISVL and MTTV as models: the commands and doors take their folders, and refuse what they cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import save_tiny_fisvl
from helpers_mttv import save_tiny_mttv
from helpers_sat import tiny_sat
from PIL import Image

from stmine_hf import ImageIndex, PostClassifier
from stmine_hf.cli import main
from stmine_hf.errors import StmineError
from stmine_hf.export.fisvl import ExportedFisvl, export_fisvl
from stmine_hf.export.mttv import ExportedMttv, export_mttv
from stmine_hf.export.sat import export_sat
from stmine_hf.inference.exported import Export
from stmine_hf.inference.scope import Scope
from stmine_hf.loading import load_fisvl, load_mttv
from stmine_hf.search.embedding import embed_images, embed_texts

SENTENCE = "Two planes - near a harbour."


def images(count: int = 12) -> list[Image.Image]:
    chance = np.random.default_rng(0)
    shots = (chance.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(count))
    return [Image.fromarray(shot).resize((40, 30)) for shot in shots]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Of images."""
    (tmp_path / "images").mkdir()
    for number, image in enumerate(images()):
        image.save(tmp_path / "images" / f"{number:02d}.png")
    return tmp_path / "images"


@pytest.fixture
def model(tmp_path) -> Path:
    saved = save_tiny_fisvl(tmp_path / "model")
    Scope("LATIN", 0.9, least_fit=0.9).save(saved)
    return saved


def exported(model: Path, out: Path, **options: object) -> Path:
    export_fisvl(*load_fisvl(model, device="cpu"), out, **options)
    return out


def run(*words: object) -> int:
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def names(hits: list) -> list[str]:
    return [Path(hit.path).name for hit in hits]


@pytest.mark.parametrize(("format", "near"), [("onnx", 1e-5), ("openvino", 1e-5), ("fp16", 1e-2), ("int8", 0.15)])
def test_fisvl_in_every_format_embeds_as_pytorch(format, near, model, tmp_path):
    network, processor = load_fisvl(model, device="cpu")
    report = export_fisvl(network, processor, tmp_path / "out", format=format, images=images())
    assert report.format == format and report.inputs == 10 and max(report.answer_differences.values()) < near
    opened, own = load_fisvl(tmp_path / "out")
    assert isinstance(opened, ExportedFisvl)
    for many in (1, 3):
        ours, theirs = (embed_images(*pair, images(many)) for pair in ((network, processor), (opened, own)))
        assert float((ours - theirs).abs().max()) < near
    texts = [SENTENCE, "", "a plane", "green trees " * 40]
    ours, theirs = (embed_texts(*pair, texts) for pair in ((network, processor), (opened, own)))
    assert float((ours - theirs).abs().max()) < near


@pytest.mark.parametrize(("format", "near"), [("onnx", 1e-4), ("openvino", 1e-4), ("fp16", 2e-2), ("int8", 0.2)])
def test_mttv_in_every_format_classifies_as_pytorch(format, near, tmp_path):
    model = save_tiny_mttv(tmp_path / "model")
    network, processor = load_mttv(model, device="cpu")
    report = export_mttv(network, processor, tmp_path / "out", format=format, images=images())
    assert report.inputs == 10 and report.answer_differences[next(iter(report.differences))] < near
    posts = [{"text": "这是一条假新闻", "image": images(1)[0]}, {"text": "新闻"}, {"image": images(2)[1]}]
    ours, theirs = PostClassifier(model)(posts), PostClassifier(tmp_path / "out")(posts)
    for mine, other in zip(ours, theirs, strict=True):
        assert other.scores == pytest.approx(mine.scores, abs=near)


def test_an_index_of_an_export_says_so_and_mixes_with_the_model(model, folder, tmp_path):
    onnx = exported(model, tmp_path / "onnx")
    built = ImageIndex.build(folder, tmp_path / "index", model=onnx, progress=False)
    kept = json.loads((tmp_path / "index" / "index.json").read_text())["model"]
    assert kept["export"] == "onnx" and kept["source"] == str(onnx)
    own = ImageIndex.build(folder, tmp_path / "own", model=model, progress=False)
    for query in (SENTENCE, images(3)[2]):
        found, expected = built.query(query, k=5), own.query(query, k=5)
        assert names(found) == names(expected)
        np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-4)
    for index, other in (("index", model), ("own", onnx)):
        again = ImageIndex.open(tmp_path / index, model=other)
        assert names(again.query(SENTENCE, k=5)) == names(own.query(SENTENCE, k=5))


def test_integers_are_not_mixed_with_the_model(model, folder, tmp_path):
    int8 = exported(model, tmp_path / "int8", format="int8", images=images())
    ImageIndex.build(folder, tmp_path / "index", model=int8, progress=False).query(SENTENCE)
    with pytest.raises(StmineError, match=r"exported too coarsely to be mixed \(index: int8, now: the model itself\)"):
        ImageIndex.open(tmp_path / "index", model=model).query(SENTENCE)


def test_a_tower_alone_serves_its_half(model, folder, tmp_path):
    image = exported(model, tmp_path / "image", tower="image")
    text = exported(model, tmp_path / "text", tower="text")
    assert not (image / "text.onnx").exists() and not (text / "image.onnx").exists()
    index = ImageIndex.build(folder, tmp_path / "index", model=image, progress=False)
    assert names(index.query(images(1)[0], k=1)) == ["00.png"]
    with pytest.raises(StmineError, match=r"expected the network 'text', found image alone. Export the model again"):
        ImageIndex.open(tmp_path / "index").query(SENTENCE)
    searched = ImageIndex.open(tmp_path / "index", model=text).query(SENTENCE, k=5)
    whole = ImageIndex.build(folder, tmp_path / "whole", model=model, progress=False).query(SENTENCE, k=5)
    assert names(searched) == names(whole)
    with pytest.raises(StmineError, match="expected the network 'image', found text alone"):
        ImageIndex.build(folder, tmp_path / "none", model=text, progress=False)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_sentence_is_searched_without_pytorch(format, model, folder, tmp_path):
    out = exported(model, tmp_path / "out", format=format)
    ImageIndex.build(folder, tmp_path / "index", model=out, progress=False)
    code = f"""
import sys
from stmine_hf.cli import main
try:
    main(["search", {str(tmp_path / "index")!r}, {SENTENCE!r}, "--json"])
except SystemExit as end:
    assert not end.code
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr


def test_the_commands_take_the_folders(model, folder, tmp_path, capsys):
    onnx = exported(model, tmp_path / "onnx")
    assert run("index", folder, "--model", onnx, "--out", tmp_path / "index") == 0
    assert run("search", tmp_path / "index", SENTENCE, "--json") == 0
    posts = save_tiny_mttv(tmp_path / "posts")
    assert run("export", "mttv", "--model", posts, "--out", tmp_path / "mttv", "--json") == 0
    capsys.readouterr()
    assert run("classify", "--text", "新闻", "--image", folder / "00.png", "--model", tmp_path / "mttv", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert run("classify", "--text", "新闻", "--image", folder / "00.png", "--model", posts, "--json") == 0
    assert found["score"] == pytest.approx(json.loads(capsys.readouterr().out)["score"], abs=1e-4)


def test_what_an_export_cannot_do_is_refused(model, folder, tmp_path, capsys):
    posts = save_tiny_mttv(tmp_path / "posts")
    export_mttv(*load_mttv(posts, device="cpu"), tmp_path / "mttv")
    opened, _ = load_mttv(tmp_path / "mttv")
    assert isinstance(opened, ExportedMttv)
    for call in (lambda: opened.mttv, opened.attribute):
        with pytest.raises(StmineError, match="explain a prediction: use the model that it was made from"):
            call()
    with pytest.raises(StmineError, match="cannot read global_features"):
        opened(torch.zeros(1, 1, dtype=torch.int64), global_features=torch.zeros(1, 4, 2, 2))
    with pytest.raises(StmineError, match="for gradients and losses use the model"):
        load_fisvl(exported(model, tmp_path / "onnx"))[0](None)
    words = ["classify", "--text", "新闻", "--model", tmp_path / "mttv", "--explain", tmp_path / "why.html"]
    assert run(*words) == 0, "words are left out one by one, which needs no more than predictions"
    assert run(*words, "--image", folder / "00.png") == 1
    assert run("export", "fisvl", "--model", tmp_path / "onnx", "--out", tmp_path / "again") == 1
    assert run("detect", folder, "--model", tmp_path / "mttv", "--out", tmp_path / "found") == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert "an exported model cannot" in printed and "is an export already" in printed
    assert "expected a SAT model, found one of type 'mttv'" in printed


def test_a_changed_file_is_refused(model, tmp_path):
    onnx = exported(model, tmp_path / "onnx")
    for name in ("image.onnx", "tokenizer.json", "config.json"):
        content = (onnx / name).read_bytes()
        (onnx / name).write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        with pytest.raises(StmineError, match=f"{name} is damaged or was changed"):
            load_fisvl(onnx)
        (onnx / name).write_bytes(content)
    assert Export.open(onnx, "fisvl").parts == ("image", "text")
    with pytest.raises(StmineError, match="expected an export of a mttv model, found 'fisvl'"):
        Export.open(onnx, "mttv")


def test_an_export_in_another_format_replaces_the_first(model, tmp_path):
    exported(model, tmp_path / "out", format="openvino")
    exported(model, tmp_path / "out", format="onnx", tower="image")
    found = sorted(path.name for path in (tmp_path / "out").iterdir() if path.suffix in (".onnx", ".xml", ".bin"))
    assert found == ["image.onnx"] and load_fisvl(tmp_path / "out")


@pytest.mark.parametrize("options", [{"format": "ncnn"}, {"tower": "audio"}, {"format": "int8"}])
def test_what_cannot_be_written_is_refused(options, model, tmp_path):
    with pytest.raises(StmineError, match=r"format: expected one of onnx, fp16|tower: expected one|int8 needs images"):
        exported(model, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["onnx", "openvino", "fp16", "int8"])
def test_a_detector_with_its_suppression_finds_the_same(format, tmp_path):
    model, processor = tiny_sat()
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    report = export_sat(model, processor, tmp_path, format=format, size=64, images=images(4), nms=True)
    assert report.inputs >= 10
    settings = json.loads((tmp_path / "export.json").read_text())["settings"]
    assert settings["nms"] is True


def test_ncnn_has_no_suppression(tmp_path):
    with pytest.raises(StmineError, match="ncnn has no suppression of its own: omit --nms"):
        export_sat(*tiny_sat(), tmp_path / "out", format="ncnn", size=64, nms=True)

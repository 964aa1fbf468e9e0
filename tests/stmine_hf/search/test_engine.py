"""FISVL in every engine: embeddings within the stated tolerance, and an index that says which engines embedded it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers import save_tiny_fisvl, tiny_fisvl
from PIL import Image

from stmine_hf import ImageIndex
from stmine_hf.errors import StmineError
from stmine_hf.inference import engines
from stmine_hf.inference.shards import write_manifest
from stmine_hf.outputs import Outputs
from stmine_hf.search import store
from stmine_hf.search.embedding import embed_images, embed_texts
from stmine_hf.search.engine import IMAGE_LIMIT, TEXT_LIMIT, EngineEncoder

ENGINES = ["torch", "torch-bf16", "onnx", "openvino"]
SENTENCES = ["a plane", "two planes near a large building", "a river", "ships", "a", "a river near a building"]


def drawings(count: int) -> list[Image.Image]:
    chance = np.random.default_rng(0)
    return [Image.fromarray(chance.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("name", ENGINES)
def test_embeddings_agree_with_pytorch(name):
    model, processor = tiny_fisvl()
    encoder = EngineEncoder(model, name)
    images, expected = embed_images(encoder, processor, drawings(5), batch_size=2), None
    expected = embed_images(model, processor, drawings(5))
    assert float((images * expected).sum(dim=1).min()) >= 1 - IMAGE_LIMIT
    texts, expected = (
        embed_texts(encoder, processor, SENTENCES, batch_size=4),
        embed_texts(model, processor, SENTENCES),
    )
    assert float((texts * expected).sum(dim=1).min()) >= 1 - TEXT_LIMIT
    assert {one.split("-")[0] for one in encoder.image.used} == {name.split("-")[0]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for number, image in enumerate(drawings(6)):
        image.save(tmp_path / f"images/{number}.png")
    save_tiny_fisvl(tmp_path / "model")
    return tmp_path


def build(folder, **options) -> ImageIndex:
    return ImageIndex.build(
        folder / "images", folder / "index", model=folder / "model", batch_size=2, progress=False, **options
    )


def manifest(folder):
    found = store.read_manifest(folder / "index" / store.FINISHED)
    assert found is not None
    return found


def test_an_index_says_which_engines_embedded_it_and_grows_with_any(folder):
    index = build(folder, engine="onnx")
    assert manifest(folder).engines == ["onnx"] == index.report.engines
    assert "onnx" in index.report.engine
    alone = index.query(folder / "images/3.png", k=1)[0]
    assert alone.path.name == "3.png" and alone.score > 1 - IMAGE_LIMIT
    drawings(7)[6].save(folder / "images/6.png")
    grown = build(folder)  # too few for a measurement
    assert (grown.report.embedded, grown.report.engines, grown.report.engine) == (1, ["torch"], "")
    assert manifest(folder).engines == ["onnx", "torch"]
    assert len(grown.query(folder / "images/6.png")) == 7


def test_an_index_of_an_earlier_version_opens_and_counts_as_pytorchs(folder):
    build(folder, engine="torch")
    content = json.loads((folder / "index" / store.FINISHED).read_text())
    assert content.pop("engines") == ["torch"]
    with Outputs(folder / "index") as outputs:
        write_manifest(outputs, store.FINISHED, content)
    assert len(ImageIndex.open(folder / "index").query("a plane")) == 6
    drawings(7)[6].save(folder / "images/6.png")
    build(folder, engine="openvino")
    assert manifest(folder).engines == ["torch", "openvino"]  # in 32 bits, as everywhere with the graph


def test_sentences_in_an_engine_find_the_same(folder):
    build(folder)
    expected = ImageIndex.open(folder / "index", engine="torch").search(SENTENCES, k=3)
    found = ImageIndex.open(folder / "index", engine="openvino").search(SENTENCES, k=3)
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_allclose([hit.score for hit in ours.hits], [hit.score for hit in theirs.hits], atol=0.02)


def test_an_engine_beyond_the_tolerance_embeds_nothing(folder, monkeypatch):
    def apart(self, network, graph):
        return lambda pixel_values: (-torch.ones(len(pixel_values), 32),)

    monkeypatch.setattr(engines._Onnx, "open", apart)
    with pytest.raises(StmineError, match="onnx differs from PyTorch by"):
        build(folder, engine="onnx")
    assert not (folder / "index" / store.FINISHED).exists()


def test_a_wrong_engine_is_named_before_the_model_is_loaded(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(StmineError, match="engine: expected one of auto, torch"):
        ImageIndex.build(tmp_path / "images", tmp_path / "index", model=tmp_path / "none", engine="fast")

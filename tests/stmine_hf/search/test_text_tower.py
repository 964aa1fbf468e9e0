"""Sentences embedded by the text tower in the user's cache: the same answers, and no PyTorch."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import save_tiny_fisvl
from PIL import Image

from stmine_hf.errors import StmineError
from stmine_hf.inference.scope import Scope
from stmine_hf.loading import load_fisvl
from stmine_hf.outputs import sha256_of
from stmine_hf.search import ImageIndex, text_export
from stmine_hf.search.embedder import Embedder
from stmine_hf.search.embedding import embed_texts
from stmine_hf.search.text_tower import GRAPH, MANIFEST, TOKENIZER, find_tower, sealed, tower_folder

TEXTS = [
    "many planes near a terminal", "Ships, in the harbour .", "", "   ", ".", "a", "机场 附近 有 飞机", "самолёты",
    "🛩️ planes 🌊", "green trees " * 500, "a" * 5000, "二" * 300, "[CLS] [SEP] [MASK] <person>", "storage-tanks/roads",
    "\uff26\uff55\uff4c\uff4c width ½ ﬁ", "tab\tand\nline", "nul\0 and \u200d joiner", "\ud7ff\ue000",
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(tmp_path):
    """A folder with a model that has a scope."""
    folder = save_tiny_fisvl(tmp_path / "model")
    Scope("LATIN", 0.9, least_fit=0.9).save(folder)
    return folder


@pytest.fixture
def index(model, tmp_path):
    """An index whose model has a tower in the cache."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    built = ImageIndex.build(folder, tmp_path / "index", model=model, progress=False)
    assert find_tower(model) is None
    built.start_faster()
    assert find_tower(model) is not None
    return tmp_path / "index"


def kept(model):
    """A tower of a model, written into the cache."""
    embedder = Embedder(model)
    embedder.text("planes")
    embedder.keep_tower()
    return find_tower(model)


def uses_torch(embedder):
    return "_loaded" in vars(embedder)


@pytest.mark.parametrize(
    "overrides, settings",
    [
        ({}, {}),
        ({"attend_padding": True}, {}),
        ({}, {"clean_captions": False, "max_tokens": 9}),
        ({}, {"max_words": 3}),
    ],
)
def test_it_reads_and_embeds_as_the_model_does(tmp_path, overrides, settings):
    folder = save_tiny_fisvl(tmp_path / "model", **overrides)
    file = folder / "processor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    model, processor = load_fisvl(folder)
    tower = kept(folder)
    for texts in (TEXTS, *([text] for text in TEXTS)):
        expected = processor(text=texts, return_tensors="np")
        ids, mask = tower.ids(texts)
        np.testing.assert_array_equal(ids, expected["input_ids"])
        np.testing.assert_array_equal(mask, expected["attention_mask"])
        np.testing.assert_allclose(tower.texts(texts), embed_texts(model, processor, texts).numpy(), atol=1e-4)


_SEARCH = """
import sys
from stmine_hf.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({"torch", "transformers"} & sys.modules.keys()), file=sys.stderr)
"""


@pytest.mark.parametrize("more", [["--json"], ["--out", "answers", "--json"], ["--out", "answers"]])
def test_a_search_imports_neither_torch_nor_transformers(index, model, tmp_path, more):
    command = [sys.executable, "-c", _SEARCH, "search", str(index), "many planes near a terminal", *more]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "torch" not in done.stderr and "transformers" not in done.stderr, done.stderr
    if "--out" in more:
        assert (tmp_path / "answers" / "hits.png").is_file() and (tmp_path / "answers" / "hits.html").is_file()
    if "--json" in more:
        found = json.loads(done.stdout)
        opened = ImageIndex.open(index, model=load_fisvl(model))
        hits = opened.query("many planes near a terminal")
        assert [one["path"] for one in found["hits"]] == [str(hit.path) for hit in hits]
        np.testing.assert_allclose([one["score"] for one in found["hits"]], [hit.score for hit in hits], atol=1e-4)
        assert found["warning"] == opened.check("many planes near a terminal", hits).message


def test_rankings_remarks_and_refusals_equal_those_of_torch(index, model):
    fast, slow = ImageIndex.open(index), ImageIndex.open(index, model=load_fisvl(model))
    for text in ("planes", "a plane near the sea", "港口", "two ships / three boats", "green trees " * 99):
        ours, theirs = fast.query(text, k=12), slow.query(text, k=12)
        assert [hit.path for hit in ours] == [hit.path for hit in theirs]
        np.testing.assert_allclose([hit.score for hit in ours], [hit.score for hit in theirs], atol=1e-4)
        assert fast.reads(text) == slow.reads(text)
        remarks = [opened.check(text, hits) for opened, hits in ((fast, ours), (slow, theirs))]
        assert remarks[0] is not None and remarks[0].message == remarks[1].message
    for opened in (fast, slow):
        with pytest.raises(StmineError, match="cannot search for"):
            opened.query("самолёты")
    assert [answer.hits[0].path for answer in fast.search(["planes", "ships"])] == [
        answer.hits[0].path for answer in slow.search(["planes", "ships"])
    ]
    assert not uses_torch(fast._embedder)


def test_an_image_is_embedded_by_the_model(index, tmp_path):
    opened = ImageIndex.open(index)
    image = tmp_path / "images" / "03.png"
    assert opened.query(image, k=1)[0].path == image
    assert uses_torch(opened._embedder)
    answers = ImageIndex.open(index).search(["planes", str(image)], k=1)
    assert answers[1].hits[0].path == image


def _other_bytes(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _of_another_model(folder, tmp_path):
    """The tower of another model, with checksums of its own and the identity of the first."""
    other = tower_folder(save_tiny_fisvl(tmp_path / "other", seed=1))
    kept(tmp_path / "other")
    shutil.copy(other / GRAPH, folder / GRAPH)
    settings = json.loads((folder / MANIFEST).read_text())["settings"]
    files = {name: sha256_of(folder / name) for name in (GRAPH, TOKENIZER)}
    (folder / MANIFEST).write_text(json.dumps(sealed(settings, files)))


def _whole_of_another_model(folder, tmp_path):
    other = tower_folder(save_tiny_fisvl(tmp_path / "other", seed=1))
    kept(tmp_path / "other")
    shutil.copytree(other, folder, dirs_exist_ok=True)


DAMAGES = {
    "graph": lambda folder, _: _other_bytes(folder / GRAPH),
    "tokenizer": lambda folder, _: _other_bytes(folder / TOKENIZER),
    "manifest": lambda folder, _: (folder / MANIFEST).write_text(
        (folder / MANIFEST).read_text().replace('"max_words": 30', '"max_words": 1')
    ),
    "no JSON": lambda folder, _: (folder / MANIFEST).write_text("{"),
    "another JSON": lambda folder, _: (folder / MANIFEST).write_text("[1]"),
    "no graph": lambda folder, _: (folder / GRAPH).unlink(),
    "no manifest": lambda folder, _: (folder / MANIFEST).unlink(),
    "graph of another model": _of_another_model,
    "tower of another model": _whole_of_another_model,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_tower_changes_no_answer(index, model, tmp_path, damage):
    expected = ImageIndex.open(index, model=load_fisvl(model)).query("planes", k=12)
    DAMAGES[damage](tower_folder(model), tmp_path)
    opened = ImageIndex.open(index)
    hits = opened.query("planes", k=12)
    assert [(hit.path, hit.score) for hit in hits] == [(hit.path, hit.score) for hit in expected]
    assert uses_torch(opened._embedder)
    opened.start_faster()  # and it is written anew
    if damage != "tower of another model":
        assert find_tower(model) is not None


def test_a_model_that_is_not_the_indexs_is_refused_also_by_its_tower(index, tmp_path):
    other = save_tiny_fisvl(tmp_path / "other", seed=1)
    assert kept(other) is not None
    with pytest.raises(StmineError, match="was made with another model"):
        ImageIndex.open(index, model=other).query("planes")


def test_changed_files_of_a_model_have_no_tower(index, model):
    file = model / "processor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_words": 2}))
    assert find_tower(model) is None
    opened = ImageIndex.open(index)
    opened.query("planes")
    assert uses_torch(opened._embedder)


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(index, model, cache):
    shutil.rmtree(cache)
    cache.write_text("a file")
    opened = ImageIndex.open(index)
    assert len(opened.query("planes")) == 10
    opened.start_faster()
    assert cache.read_text() == "a file"


def test_without_the_packages_nothing_is_written(model, monkeypatch, cache):
    monkeypatch.setattr(text_export.importlib.util, "find_spec", lambda name: None)
    assert kept(model) is None and not cache.exists()


def test_models_in_memory_adapters_and_other_devices_have_no_tower(index, model):
    assert Embedder(load_fisvl(model))._tower is None
    assert Embedder(model, "meta")._tower is None
    assert Embedder(model, "cpu")._tower is not None
    (model / "adapter_config.json").write_text("{}")
    assert Embedder(model)._tower is None


def test_without_a_home_there_is_no_tower(model, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pathlib.Path.home", nowhere)
    assert kept(model) is None


def test_the_towers_used_last_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("stmine_hf.search.text_tower.MOST_TOWERS", 2)
    models = [save_tiny_fisvl(tmp_path / str(seed), seed=seed) for seed in range(3)]
    assert kept(models[0]) and kept(models[1]) and find_tower(models[0])  # used after the second one was written
    assert kept(models[2])
    assert [find_tower(one) is not None for one in models] == [True, False, True]
    assert not tower_folder(models[1]).exists()

"""Searches outside of what the model reads: translated, refused, or said to fit nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import save_tiny_fisvl
from PIL import Image

from stmine_hf.cli import main
from stmine_hf.data.toy.toy_scenes import write_scenes
from stmine_hf.errors import StmineError
from stmine_hf.inference.scope import NOTHING_FITS, Scope
from stmine_hf.search import ImageIndex

SHIPPED = Path(__file__).parents[3] / "hub_cards" / "fisvl-lite-rsicd"


@pytest.fixture
def index(tmp_path) -> ImageIndex:
    (tmp_path / "images").mkdir()
    for number in range(4):
        Image.effect_noise((40, 40), 20 * number).save(tmp_path / "images" / f"{number}.png")
    model = save_tiny_fisvl(tmp_path / "model")
    Scope("LATIN", 1.0, least_fit=2.0).save(model)  # that nothing reaches
    return ImageIndex.build(tmp_path / "images", tmp_path / "my.index", model=model, progress=False)


def run(*words, capsys) -> tuple[str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert not end.value.code
    return capsys.readouterr()


def test_chinese_is_searched_by_its_place_words(index):
    assert index.reads("机场上停着许多飞机") == "an airport with planes, planes"
    assert index.query("港口", k=3) == index.query("a port with ships", k=3)
    assert index.reads("a port with ships") == "a port with ships"


@pytest.mark.parametrize("sentence", ["人工智能", "самолёты", "飛行機", "비행기"])
def test_what_the_model_cannot_read_is_refused(index, sentence):
    with pytest.raises(StmineError, match=r"reads English|letters only"):
        index.query(sentence)


def test_command_says_what_was_searched_for_and_that_nothing_fits(index, tmp_path, capsys):
    out, err = run("search", tmp_path / "my.index", "港口", "--json", capsys=capsys)
    found = json.loads(out)
    assert found["read_as"] == "a port with ships" and found["warning"].startswith("No good match")
    assert "a port with ships" in err and "Warning: No good match" in err
    out, err = run("search", tmp_path / "my.index", tmp_path / "images" / "1.png", "--json", capsys=capsys)
    assert "warning" not in json.loads(out) and "Warning" not in err


def test_nothing_is_said_of_a_model_without_a_scope(index, tmp_path):
    (tmp_path / "model" / "scope.json").unlink()
    plain = ImageIndex.open(tmp_path / "my.index")
    assert plain.check("zzz qqq", plain.query("zzz qqq")) is None and plain.reads("港口") == "港口"


def test_shipped_model_knows_nonsense_from_places(tmp_path):
    if not (SHIPPED / "model.safetensors").is_file():
        pytest.skip("needs the shipped checkpoint: no hub_cards/fisvl-lite-rsicd/model.safetensors in this checkout")
    folder = write_scenes(tmp_path / "scenes", count=24, size=128)
    index = ImageIndex.build(folder, tmp_path / "my.index", model=SHIPPED, progress=False)
    for sentence in ("zzz qqq", "asdf", "qwe rty uiop", "xkcd foo bar", "jkl jkl jkl"):
        warned = index.check(sentence, index.query(sentence))
        assert warned is not None and warned.kind == NOTHING_FITS, sentence
    for sentence in ("many planes at an airport", "a river between green trees", "several ships at a port", "机场"):
        assert index.check(sentence, index.query(sentence)) is None, sentence

"""Search of the demo: folders, indexes and uploads; what a visitor may not reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_fisvl
from PIL import Image

from stmine_hf.demo import ImageSearch, limits, searching
from stmine_hf.errors import StmineError
from stmine_hf.images import PixelOptions, open_image
from stmine_hf.search import ImageIndex


@pytest.fixture(scope="module")
def loaded():
    return tiny_fisvl()


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in {"red.png": (200, 30, 30), "green.png": (30, 200, 30), "blue.png": (30, 30, 200)}.items():
        Image.new("RGB", (48, 40), colour).save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(searching, "cache", lambda part: folder)
    return folder


def test_sentences_and_images_find_images(loaded, images):
    search = ImageSearch(loaded, images)
    found = search.search("many planes", top=2)
    assert len(search) == 3 and [match.rank for match in found] == [1, 2]
    assert found[0].score >= found[1].score and found[0].image.size == (48, 40)
    like = search.search(Image.new("RGB", (48, 40), (30, 30, 200)), top=1)[0]
    assert like.name == "blue.png" and like.score == pytest.approx(1, abs=1e-4)
    assert search.heat_map(like, "a river").size == like.image.size


def test_a_folder_is_embedded_once_for_each_model(loaded, images, own_cache):
    assert ImageSearch(loaded, images)._index.report.embedded == 3
    assert ImageSearch(loaded, images)._index.report.embedded == 0
    assert ImageSearch(tiny_fisvl(seed=1), images)._index.report.embedded == 3
    assert len(list(own_cache.iterdir())) == 2 and len(list(images.iterdir())) == 3


def test_an_index_opens_as_it_is(loaded, images, tmp_path):
    ImageIndex.build(images, tmp_path / "my.index", model=loaded, progress=False)
    search = ImageSearch(loaded, tmp_path / "my.index")
    assert len(search) == 3 and search.skipped == [] and len(search.search("planes", top=9)) == 3


def test_of_an_index_of_tiles_the_tiles_are_shown_as_it_reads_them(loaded, tmp_path):
    (tmp_path / "deep").mkdir()
    values = np.linspace(0, 4000, 64 * 96).astype(np.uint16).reshape(64, 96)
    Image.fromarray(values).save(tmp_path / "deep" / "x.png")
    options = PixelOptions(stretch="0,8000")
    ImageIndex.build(
        tmp_path / "deep", tmp_path / "t.index", model=loaded, tile=32, overlap=0, pixels=options, progress=False
    )
    found = ImageSearch(loaded, tmp_path / "t.index").search("planes", top=6)
    whole = open_image(tmp_path / "deep" / "x.png", options=options)
    assert len(found) == 6 and len({match.name for match in found}) == 6
    for match in found:
        left, top = map(int, match.name.removeprefix("x.png at ").split(","))
        assert match.image.tobytes() == whole.crop((left, top, left + 32, top + 32)).tobytes()


def test_uploads_are_searched_and_forgotten(loaded, images):
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    search = ImageSearch(loaded, sorted(images.iterdir()))
    assert len(search) == 3 and len(search.skipped) == 1 and "broken.png" in search.skipped[0].path
    kept = search.search("planes", top=1)[0].path
    assert kept.exists() and images not in kept.parents
    del search
    assert not kept.exists()


def test_bad_uploads_are_told(loaded, images, tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(StmineError, match="None of these files is an image"):
        ImageSearch(loaded, [tmp_path / "text.png"])
    with pytest.raises(StmineError, match="No images to search"):
        ImageSearch(loaded, [])
    monkeypatch.setattr(limits, "MAX_IMAGES", 2)
    with pytest.raises(StmineError, match="3 images; at most 2"):
        ImageSearch(loaded, sorted(images.iterdir()))


def test_a_stranger_reaches_no_file_by_its_name(loaded, images):
    search = ImageSearch(loaded, images)
    by_path = search.search(str(images / "red.png"), top=1)[0]
    assert by_path.score < 0.999, "taken for a sentence, not opened"
    assert search.search("nosuch.png", top=1), "nor is it told whether there is such a file"


def test_a_stranger_stays_within_the_given_folder(loaded, images, tmp_path):
    search = ImageSearch(loaded, "pictures", within=tmp_path)
    assert len(search.search("planes")) == 3
    for path in ("..", str(tmp_path.parent), "pictures/../.."):
        with pytest.raises(StmineError, match="outside"):
            ImageSearch(loaded, path, within=tmp_path)
    outside = ImageIndex.build(images, tmp_path / "shared" / "index", model=loaded, progress=False)
    assert len(outside) == 3
    assert ImageSearch(loaded, "index", within=tmp_path / "shared").search("planes") == []


def test_nothing_to_search_for_is_told(loaded, images):
    search = ImageSearch(loaded, images)
    match = search.search("planes", top=1)[0]
    for sentence in ("", "  ", "?!"):
        with pytest.raises(StmineError, match="Nothing to search for"):
            search.search(sentence)
        with pytest.raises(StmineError, match="Nothing to search for"):
            search.heat_map(match, sentence)
    with pytest.raises(StmineError, match="300 are allowed"):
        search.search("x" * 301)


def test_images_that_went_away_are_left_out(loaded, images):
    search = ImageSearch(loaded, images)
    (images / "red.png").unlink()
    assert {match.name for match in search.search("planes")} == {"green.png", "blue.png"}

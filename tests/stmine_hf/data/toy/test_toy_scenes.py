"""Toy scenes: the same by seed, different by seed, as promised in number and form, and loadable through both doors."""

import json

import numpy as np
import pytest
from PIL import Image

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.captioned_images import count_words
from stmine_hf.data.toy.toy_scenes import MEAN_WORDS, SCENE_KINDS, draw_scene, write_scenes


@pytest.mark.parametrize("kind", SCENE_KINDS)
def test_a_scene_is_given_by_kind_and_seed(kind):
    image, captions = draw_scene(kind, 3, size=64)
    again, same = draw_scene(kind, 3, size=64)
    other, _ = draw_scene(kind, 4, size=64)
    assert image.tobytes() == again.tobytes() and captions == same
    assert image.tobytes() != other.tobytes()
    assert image.mode == "RGB" and image.size == (64, 64)
    assert np.asarray(image).std() > 5, "not a blank"
    assert len(set(captions)) == 5
    for caption in captions:
        assert caption.endswith(" .") and caption == caption.lower() and 4 <= count_words(caption) <= 20


def test_the_size_changes_the_image_not_the_scene():
    small, captions = draw_scene("stadium", 1, size=64)
    large, same = draw_scene("stadium", 1, size=128)
    assert captions == same
    difference = np.asarray(large.reduce(2), float) - np.asarray(small, float)
    assert np.abs(difference).mean() < 12


def test_seeds_may_be_any_integer():
    assert draw_scene("desert", -1, size=32)[0].size == (32, 32)
    assert draw_scene("desert", 10**12, size=32)[0].size == (32, 32)


@pytest.mark.parametrize(
    ("kind", "size", "message"), [("moon", 64, "'moon': expected one of airport"), ("pond", 8, "32")]
)
def test_impossible_scenes(kind, size, message):
    with pytest.raises(ValueError, match=message):
        draw_scene(kind, 0, size=size)


def test_the_mean_caption_length_is_as_noted():
    words = [count_words(c) for kind in SCENE_KINDS for seed in range(4) for c in draw_scene(kind, seed, size=32)[1]]
    assert np.mean(words) == pytest.approx(MEAN_WORDS, abs=0.5)


def test_builder(tmp_path):
    options = {"count": 40, "seed": 5, "size": 48, "cache_dir": tmp_path}
    sets = load_dataset("toy_scenes", **options)
    assert {split: len(rows) for split, rows in sets.items()} == {"train": 28, "val": 6, "test": 6}
    row = sets["train"][1]
    assert row["image"].size == (48, 48)
    assert (row["filename"], row["image_id"], len(row["captions"])) == ("baseballfield_1.jpg", 1, 5)
    assert sets["train"].features["label"].int2str(row["label"]) == "baseballfield"
    assert all(0.95 <= weight <= 1 for weight in row["caption_weights"])
    assert len({i for rows in sets.values() for i in rows["image_id"]}) == 40
    stream = load_dataset("toy_scenes", split="val", streaming=True, **options)
    assert stream.num_shards == 6
    assert [r["captions"] for r in stream] == sets["val"]["captions"][:]
    assert load_dataset("toy_scenes", split="train", **{**options, "seed": 6})[1]["captions"] != row["captions"]


def test_builder_refusals(tmp_path):
    with pytest.raises(DataError, match=r"drawn, not read.*loads as rsicd"):
        load_dataset("toy_scenes", data_dir=tmp_path, cache_dir=tmp_path)
    with pytest.raises(DataError, match="count >= 1"):
        load_dataset("toy_scenes", count=0, cache_dir=tmp_path)
    with pytest.raises(DataError, match="no split 'val' here, only train"):
        load_dataset("toy_scenes", count=1, size=32, split="val", cache_dir=tmp_path)
    with pytest.raises(DataError, match="no option place; its options are: count, seed, size"):
        load_dataset("toy_scenes", place="pond", cache_dir=tmp_path)


def test_a_written_folder_loads_as_rsicd(tmp_path):
    images = write_scenes(tmp_path / "scenes", count=20, seed=2, size=40)
    assert images == tmp_path / "scenes/images"
    assert len(list(images.iterdir())) == 20
    with Image.open(images / "airport_0.jpg") as image:
        assert image.size == (40, 40)
    sets = load_dataset("rsicd", data_dir=tmp_path / "scenes", cache_dir=tmp_path / "cache")
    assert {split: len(rows) for split, rows in sets.items()} == {"train": 14, "val": 3, "test": 3}
    assert min(sets["train"]["label"]) >= 0, "every kind is a class of RSICD"
    first = (tmp_path / "scenes/dataset.json").read_text(encoding="utf-8")
    write_scenes(tmp_path / "scenes", count=20, seed=2, size=40)
    assert (tmp_path / "scenes/dataset.json").read_text(encoding="utf-8") == first
    assert len(json.loads(first)["images"]) == 20

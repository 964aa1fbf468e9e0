"""Weibo in the authors' layout: labels, images, further rows, and the two validation splits."""

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from stmine_hf import MttvConfig
from stmine_hf.data import DataError, load_dataset

RUMOUR = "【紧急扩散】明天起全市停水三天请大家提前储水转发给家人"


@pytest.fixture
def load(tmp_path):
    """`load_dataset` with a cache of the test's own."""
    return lambda **options: load_dataset("weibo", cache_dir=tmp_path / "cache", **options)


def row(number: int, label: str, text: str, **extra) -> dict:
    return {"id": f"{number}.jpg", "label": label, "text": text, "img": f"images/{number}.jpg", **extra}


def write(file: Path, rows: list[dict]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in rows), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "weibo"
    write(folder / "train.jsonl", [row(1, "real", "今日晴天适合出游"), row(2, "fake", f"{RUMOUR}1")])
    write(folder / "dev.jsonl", [row(3, "fake", f"{RUMOUR}2"), row(4, "real", "市图书馆周末开放新馆")])
    write(folder / "test.jsonl", [row(5, "real", "另一件事情")])
    extra = [row(6, "fake", f"{RUMOUR}1", split="train", post=1), row(7, "real", "另一件事情", split="test", post=2)]
    write(folder / "extra_same_post.jsonl", extra)
    (folder / "images").mkdir()
    for number in (1, 2, 3, 5, 6, 7):
        Image.new("RGB", (10 + number, 9)).save(folder / "images" / f"{number}.jpg")
    return folder


def test_authors_files(folder, load):
    with pytest.warns(
        UserWarning, match=r"weibo: 5 posts; noted 1: 1 x image not found .* \(dev.jsonl, line 2, images/4.jpg\)$"
    ):
        sets = load(data_dir=folder)
    assert {split: rows["post_id"][:] for split, rows in sets.items()} == {
        "train": ["1.jpg", "2.jpg"],
        "val": ["3.jpg", "4.jpg"],
        "test": ["5.jpg"],
    }
    first, second = sets["train"]
    assert (first["image"].size, first["filename"], first["text"]) == ((11, 9), "1.jpg", "今日晴天适合出游")
    assert (first["label"], second["label"]) == (1, 0), "by name, although a real post comes first"
    assert second["group"] == sets["val"][0]["group"] != first["group"], "one rumour on both sides"
    assert sets["test"]["group"][:] == [-1], "the test split is not looked at"


@pytest.mark.filterwarnings("ignore:weibo")
def test_labels_are_those_of_the_model(folder, load):
    names = load(data_dir=folder, split="train").features["label"].names
    assert dict(enumerate(names)) == MttvConfig.preset("weibo").id2label


def test_texts_without_images_take_those_of_another_folder(folder, tmp_path, load):
    (folder / "images").rename(tmp_path / "pictures")
    with pytest.warns(UserWarning, match="5 x image not found"):
        rows = load(data_dir=folder, split="train")
    assert [one["image"] for one in rows] == [None, None] and rows["filename"][:] == ["1.jpg", "2.jpg"]
    with pytest.warns(UserWarning, match="1 x image not found"):
        rows = load(data_dir=folder, split="train", image_dir=tmp_path / "pictures")
    assert [one["image"].size for one in rows] == [(11, 9), (12, 9)]


@pytest.mark.filterwarnings("ignore:weibo")
def test_further_rows_go_to_the_split_they_name(folder, load):
    sets = load(data_dir=folder, extra="extra_same_post.jsonl")
    assert {split: rows["post_id"][:] for split, rows in sets.items()} == {
        "train": ["1.jpg", "2.jpg", "6.jpg"],
        "val": ["3.jpg", "4.jpg"],
        "test": ["5.jpg", "7.jpg"],
    }
    train = sets["train"]
    assert train["group"][1] == train["group"][2], "a post's rows are of one event"
    with pytest.raises(DataError, match=r"no file .*weibo/gone.jsonl \(option extra\)"):
        load(data_dir=folder, extra="gone.jsonl")


@pytest.mark.filterwarnings("ignore:weibo")
def test_validation_by_events_keeps_relatives_together(folder, load):
    for seed in range(4):
        sets = load(data_dir=folder, validation="events", validation_share=0.5, validation_seed=seed)
        sides = [set(sets[split]["group"]) for split in ("train", "val") if split in sets]
        assert not set.intersection(*sides) and sum(len(sets[split]) for split in ("train", "val")) == 4
        assert sets["test"]["post_id"][:] == ["5.jpg"]
    with pytest.raises(DataError, match="validation has to be released or events, got 'dev'"):
        load(data_dir=folder, validation="dev")


def test_what_is_expected_and_where_to_get_it(tmp_path, load):
    with pytest.raises(
        DataError, match=r"expected train.jsonl, dev.jsonl.* Get it from https://github.com/cqu-wb/MTTV"
    ):
        load(data_dir=tmp_path)
    write(tmp_path / "train.jsonl", [row(1, "rumour", "x"), row(2, "", "y")])
    with pytest.raises(
        DataError, match=r"1 x unknown label 'rumour', expected fake or real \(train.jsonl, line 1\), 1 x no label \("
    ):
        load(data_dir=tmp_path)


def test_real_posts_with_images(shared_data, load):
    folder = shared_data / "fake_news/weibo"
    sets = load(data_dir=folder)
    assert {split: Counter(rows["label"]) for split, rows in sets.items()} == {
        "train": {0: 31, 1: 34},
        "val": {0: 4, 1: 3},
        "test": {0: 8, 1: 1},
    }
    assert all(one["image"].width <= 256 for rows in sets.values() for one in rows)
    more = load(data_dir=folder, extra="extra_same_post.jsonl")
    assert sum(map(len, more.values())) == 81 + 159
    assert {split: len(rows) for split, rows in more.items()} == {"train": 65 + 137, "val": 7 + 16, "test": 9 + 6}


@pytest.mark.filterwarnings("ignore:weibo")
def test_real_texts_and_the_images_that_exist(shared_data, load):
    folders = {"data_dir": shared_data / "fake_news/weibo_text", "image_dir": shared_data / "fake_news/weibo/images"}
    sets = load(**folders)
    assert {split: Counter(rows["label"]) for split, rows in sets.items()} == {
        "train": {0: 3253, 1: 3211},
        "val": {0: 362, 1: 357},
        "test": {0: 901, 1: 939},
    }
    assert len({i for rows in sets.values() for i in rows["post_id"]}) == 9023, "two ids are made unique"
    without = {split: rows.data.column("image").null_count for split, rows in sets.items()}
    assert without == {"train": 6464 - 65, "val": 719 - 7, "test": 1840 - 9}
    held = load(**folders, validation="events")
    assert {split: len(rows) for split, rows in held.items()} == {"train": 6464, "val": 719, "test": 1840}
    assert Counter(held["val"]["label"]) == pytest.approx({0: 361.5, 1: 357}, abs=1)
    assert not set(held["train"]["group"]) & set(held["val"]["group"])
    assert len(set(held["val"]["group"])) > 300
    assert held["test"]["post_id"][:] == sets["test"]["post_id"][:] and set(held["test"]["group"]) == {-1}

"""Fakeddit in its own layout and as cut for the sample: three kinds of labels, images by id."""

import json
from collections import Counter

import pytest
from PIL import Image

from stmine_hf import MttvConfig
from stmine_hf.data import DataError, load_dataset

COLUMNS = ["author", "clean_title", "domain", "hasImage", "id", "image_url", "score", "title", "upvote_ratio"]
COLUMNS += ["2_way_label", "3_way_label", "6_way_label"]
POSTS = [  # id, clean_title, hasImage, labels
    ("aa1", "a cat in a hat", "True", "1", "0", "0"),
    ("bb2", "face in a rock", "True", "0", "2", "2"),
    ("cc3", 'the "onion', "False", "0", "2", "1"),
    ("dd4", "old poster", "True", "0", "1", "5"),
]


@pytest.fixture
def load(tmp_path):
    """`load_dataset` with a cache of the test's own."""
    return lambda **options: load_dataset("fakeddit", cache_dir=tmp_path / "cache", **options)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "fakeddit"
    (folder / "public_image_set").mkdir(parents=True)
    lines = ["\t".join(COLUMNS)]
    for post_id, title, has_image, *labels in POSTS:
        known = dict(zip(("id", "clean_title", "hasImage"), (post_id, title, has_image), strict=True))
        known |= dict(zip(COLUMNS[-3:], labels, strict=True))
        lines.append("\t".join(known.get(name, "") for name in COLUMNS))
    for name in ("multimodal_train.tsv", "multimodal_validate.tsv", "multimodal_test_public.tsv", "all_train.tsv"):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        lines.pop(1)
    for number, name in enumerate(("aa1.jpg", "bb2.png", "cc3.jpg")):
        Image.new("RGB", (10 + number, 9)).save(folder / "public_image_set" / name)
    return folder


@pytest.mark.filterwarnings("ignore:fakeddit")
def test_original_files(folder, load):
    sets = load(data_dir=folder)
    assert {split: len(rows) for split, rows in sets.items()} == {"train": 4, "val": 3, "test": 2}
    rows = list(sets["train"])
    assert [(row["post_id"], row["text"], row["group"]) for row in rows] == [(p[0], p[1], -1) for p in POSTS]
    assert [row["image"] and row["image"].size for row in rows] == [(10, 9), (11, 9), None, None]
    assert [row["filename"] for row in rows] == ["aa1.jpg", "bb2.png", "", "dd4.jpg"]


def test_images_that_should_be_there_are_missed(folder, load):
    with pytest.warns(UserWarning, match=r"3 x image not found .* \(multimodal_train.tsv, line 5, dd4.jpg; "):
        load(data_dir=folder)


@pytest.mark.filterwarnings("ignore:fakeddit")
@pytest.mark.parametrize(
    ("labels", "expected"), [("2_way", [1, 0, 0, 0]), ("3_way", [0, 2, 2, 1]), ("6_way", [0, 2, 1, 5])]
)
def test_labels_are_those_of_the_file_and_of_the_model(folder, load, labels, expected):
    rows = load(data_dir=folder, labels=labels, split="train")
    assert rows["label"][:] == expected
    assert dict(enumerate(rows.features["label"].names)) == MttvConfig.preset(f"fakeddit_{labels}").id2label


def test_the_sample_with_its_own_image_names(tmp_path, load):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (7, 7)).save(tmp_path / "images/x.jpg")
    row = {"id": "q", "title": "A Cat!", "text": "a cat", "img": "images/x.jpg", "2_way_label": 1, "6_way_label": 0}
    (tmp_path / "with_images.jsonl").write_text(json.dumps(row))
    (loaded,) = load(data_dir=tmp_path, split="train")
    assert (loaded["text"], loaded["label"], loaded["image"].size, loaded["filename"]) == ("a cat", 1, (7, 7), "x.jpg")
    with pytest.raises(DataError, match=r"with_images.jsonl has no column 3_way_label, but id, title, text"):
        load(data_dir=tmp_path, labels="3_way")


def test_bad_labels_and_options(tmp_path, load):
    rows = ["id\tclean_title\t2_way_label", "a\tx\t1", "b\ty\t7", "c\tz\t", "d\tw\t0.0", "e\tv"]
    (tmp_path / "text_train.tsv").write_text("\n".join(rows))
    with pytest.warns(
        UserWarning, match=r"2 posts; skipped 3 rows: .*1 x unknown label '7', expected 0 or 1 \(.*line 3"
    ):
        loaded = load(data_dir=tmp_path, split="train")
    assert (loaded["post_id"][:], loaded["label"][:]) == (["a", "d"], [1, 0])
    with pytest.raises(DataError, match="labels has to be 2_way or 3_way or 6_way, got '5_way'"):
        load(data_dir=tmp_path, labels="5_way")
    with pytest.raises(DataError, match=r"give its folder as data_dir.*multimodal_train.tsv.*entitize/Fakeddit"):
        load()


def test_real_sample(shared_data, load):
    folder = shared_data / "fake_news/fakeddit_sample"
    sets = load(data_dir=folder, labels="6_way")
    assert {split: Counter(rows["label"]) for split, rows in sets.items()} == {
        "train": {0: 4063, 1: 599, 2: 1828, 3: 192, 4: 2925, 5: 388},
        "val": {0: 3955, 1: 592, 2: 1874, 3: 214, 4: 2995, 5: 366},
        "test": {0: 3963, 1: 598, 2: 1878, 3: 189, 4: 2968, 5: 402},
    }
    assert sets["train"].data.column("image").null_count == 9995 - 97, "97 images are found by id"
    imaged = load(data_dir=folder, files={"train": "with_images.jsonl"}, split="train")
    assert Counter(imaged["label"]) == {0: 48, 1: 49}
    assert all(row["image"].width <= 256 and row["text"] for row in imaged)

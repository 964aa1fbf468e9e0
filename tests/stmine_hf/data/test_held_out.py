"""Rows held out for validation: the same ones each time, and nothing of one image or event on both sides."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from PIL import Image

from stmine_hf.data import DataError, take_rows
from stmine_hf.data.event_clusters import hold_out
from stmine_hf.data.held_out import TrainedOn, data_fingerprint, groups_of, with_validation


def picture(seed: int, size: int = 64) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)


def post_rows(texts, labels, groups=None, images=None):
    features = datasets.Features(
        {
            "post_id": datasets.Value("string"),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["fake", "real"]),
            "group": datasets.Value("int64"),
            "filename": datasets.Value("string"),
            "image": datasets.Image(),
        }
    )
    rows = [
        {
            "post_id": str(place),
            "text": text,
            "label": label,
            "group": -1 if groups is None else groups[place],
            "filename": "",
            "image": None if images is None else images[place],
        }
        for place, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    return datasets.Dataset.from_list(rows, features)


def boxed(images, names=None, categories=None):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "filename": datasets.Value("string"),
            "objects": {
                "category": datasets.Sequence(datasets.ClassLabel(names=["cat", "dog"])),
                "bbox": datasets.Sequence(datasets.Sequence(datasets.Value("float32"))),
            },
        }
    )
    rows = [
        {
            "image": image,
            "filename": names[place] if names else f"{place}.png",
            "objects": {"category": [categories[place] if categories else 0], "bbox": [[1, 1, 5, 5]]},
        }
        for place, image in enumerate(images)
    ]
    return datasets.Dataset.from_list(rows, features)


WORDS = "shark flood bridge fire storm rumour train snow moon river market dance school plane ocean desert".split()  # noqa: SIM905


def texts(count: int) -> list[str]:
    return [
        f"{WORDS[n % 16]} {WORDS[n // 16]} number {chr(97 + n)}{chr(98 + n)}{chr(99 + n)}" * 2 for n in range(count)
    ]


def test_a_validation_split_stays_and_rows_are_held_out_where_there_is_none():
    rows = boxed([picture(seed) for seed in range(20)], categories=[0, 1] * 10)
    kept, said = with_validation({"train": rows, "val": rows.select([0])}, "boxes")
    assert len(kept["val"]) == 1 and said is None
    split, said = with_validation({"train": rows, "test": rows.select([0])}, "boxes")
    assert (len(split["train"]), len(split["val"]), len(split["test"])) == (16, 4, 1)
    assert "4 images held out of 20" in said and "20 groups" in said
    again, _ = with_validation({"train": rows}, "boxes")
    assert again["val"]["filename"] == split["val"]["filename"]
    held = [objects["category"][0] for objects in split["val"]["objects"]]
    assert sorted(held) == [0, 0, 1, 1]
    assert not set(split["val"]["filename"]) & set(split["train"]["filename"])


def test_copies_of_an_image_are_one_group(tmp_path):
    whole, other = picture(1, 96), picture(2, 96)
    plain = Image.new("RGB", (40, 40), "white")
    whole.save(tmp_path / "a.jpg", quality=40)
    with Image.open(tmp_path / "a.jpg") as encoded:
        copies = [
            whole,
            whole.resize((48, 48)),
            encoded.convert("RGB"),
            other,
            plain,
            Image.new("RGB", (40, 44), "white"),
        ]
    groups = groups_of(boxed(copies), "boxes")
    assert groups[0] == groups[1] == groups[2] and len(set(groups)) == 4
    names = [f"dog_{n}_jpg.rf.{'0123456789abcdef' * 2}.jpg" for n in (1, 1, 2)]
    assert groups_of(boxed([picture(seed) for seed in (3, 4, 5)], names), "boxes") == [0, 0, 2]


def test_posts_of_one_event_text_or_group_stay_together():
    own = texts(12)
    groups = groups_of(post_rows([*own, "RT: " + own[3] + "!!"], [0, 1] * 6 + [0]), "posts")
    assert groups[12] == groups[3] and len(set(groups)) == 12
    split, said = with_validation({"train": post_rows(own * 2, [0, 1] * 12)}, "posts")
    assert not set(split["val"]["text"]) & set(split["train"]["text"]) and "image or event" in said
    given = groups_of(post_rows(own, [0, 1] * 6, groups=[7, 7, 9, -1, -1, 9, *range(20, 26)]), "posts")
    assert given[0] == given[1] and given[2] == given[5] and given[3] != given[4]


def test_too_few_rows_and_rows_of_one_event_are_errors():
    with pytest.raises(DataError, match=r"has 3 posts and no validation split: expected 4 rows"):
        with_validation({"train": post_rows(texts(3), [0, 1, 0])}, "posts")
    with pytest.raises(DataError, match="of which can be held out"):
        with_validation({"train": post_rows(["the same words again"] * 8, [0, 1] * 4)}, "posts")
    with pytest.raises(DataError, match="no split train; it has test"):
        with_validation({"test": post_rows(texts(4), [0, 1, 0, 1])}, "posts")


def test_labels_of_few_rows_do_not_leave_the_validation_rows_out():
    """A label of one row has none to spare, but a set of many such labels has."""
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=[f"c{n}" for n in range(20)]),
            "group": datasets.Value("int64"),
        }
    )
    rows = [{"text": text, "label": max(0, n - 4), "group": -1} for n, text in enumerate(texts(24))]
    made, _ = with_validation({"train": datasets.Dataset.from_list(rows, features)}, "posts")
    assert 4 <= len(made["val"]) <= 6 and len(made["val"]) + len(made["train"]) == 24


def test_a_run_whose_rows_another_rule_held_out_is_told_from_one_of_this_rule():
    """An earlier rule held out by label alone wherever that gave a row: of many labels of one row nearly none."""
    labels = [0, 0, 0, 0, 0, 0, *range(1, 15)]
    features = datasets.Features(
        {
            "post_id": datasets.Value("string"),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(num_classes=15),
            "group": datasets.Value("int64"),
        }
    )
    posts = [
        {"post_id": str(n), "text": text, "label": label, "group": -1}
        for n, (text, label) in enumerate(zip(texts(20), labels, strict=True))
    ]
    rows = datasets.Dataset.from_list(posts, features)
    earlier = hold_out(groups_of(rows, "posts"), labels, 0.2)
    kept = rows.select([row for row in range(20) if row not in earlier])
    made, _ = with_validation({"train": rows}, "posts")
    assert 0 < len(earlier) < len(made["val"])
    with pytest.raises(DataError, match=rf"trained on {len(kept)} rows \(digest .*would be {len(made['train'])} rows"):
        TrainedOn(0.2, data_fingerprint(kept)).require_same(made, "")
    for most in (None, 5):
        settings = {"hold_out": 0.2, "max_train_posts": most}
        trained = take_rows(made, "train", most)
        TrainedOn.of(settings, data_fingerprint(trained)).require_same(made, "")
    TrainedOn(0.2).require_same(made, "")  # of a run that does not say

"""YOLO's layout: its folders and data.yaml, its fractions, and lines that are not as they should be."""

from pathlib import Path

import pytest
from PIL import Image

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.boxed_images import category_ids, category_label


@pytest.fixture
def load(tmp_path):
    """`load_dataset("yolo_txt")` with a cache of the test's own."""
    return lambda folder, **options: load_dataset("yolo_txt", data_dir=folder, cache_dir=tmp_path / "cache", **options)


def write(folder: Path, image: str, lines: str | None = "0 0.5 0.5 0.5 0.5\n", labels: str | None = None) -> None:
    """An image of 40 x 30 pixels and its text file, `images` replaced by `labels` in the path."""
    (folder / image).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / image)
    if lines is not None:
        file = (folder / (labels or image.replace("images", "labels"))).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(lines)


def names_of(sets) -> dict[str, list[str]]:
    return {split: rows["filename"][:] for split, rows in sets.items()}


def test_rows(tmp_path, load, recwarn):
    folder = tmp_path / "set"
    write(folder, "images/train/b.jpg", "1 0.5 0.5 1 1\n\n0 0.25 0.5 0.25 0.2\n1 0.1 0.1 0.1 0.5 0.5 0.5 0.5 0.2")
    write(folder, "images/train/a.png", None)
    write(folder, "images/val/c.jpg", "")
    (folder / "data.yaml").write_text("nc: 2\nnames: [dog, person]\n")
    sets = load(folder)
    assert not recwarn
    assert names_of(sets) == {"train": ["a.png", "b.jpg"], "val": ["c.jpg"]}
    empty, row = sets["train"]
    assert empty["objects"]["bbox"] == [] == sets["val"][0]["objects"]["bbox"]
    assert row["objects"]["bbox"] == [
        pytest.approx((0, 0, 40, 30)),
        pytest.approx((5, 12, 10, 6)),
        pytest.approx((4, 3, 16, 12)),  # around the outline
    ]
    assert row["objects"]["category"] == [1, 0, 1]
    assert row["objects"]["area"] == pytest.approx([1200, 60, 192])
    assert (row["image_id"], row["objects"]["id"], row["source"]) == (2, [1, 2, 3], "")
    assert category_label(sets["val"].features).names == ["dog", "person"]
    assert category_ids(sets["val"].features) == [1, 2]


@pytest.mark.parametrize(
    ("paths", "yaml", "expected"),
    [
        (["images/a.jpg", "images/deep/b.jpg"], "", {"train": ["a.jpg", "b.jpg"]}),
        (["train/images/a.jpg", "valid/images/b.jpg"], "", {"train": ["a.jpg"], "val": ["b.jpg"]}),
        (
            ["train/images/a.jpg", "valid/images/b.jpg"],
            "train: ../train/images\nval: ../valid/images\n",
            {"train": ["a.jpg"], "val": ["b.jpg"]},
        ),
        (
            ["images/train2017/a.jpg", "images/val2017/b.jpg", "images/extra/c.jpg"],
            "path: .\ntrain: [images/train2017, images/extra]\nval: images/val2017\ntest:\n",
            {"train": ["a.jpg", "c.jpg"], "val": ["b.jpg"]},
        ),
        (
            ["coco/images/a.jpg", "coco/images/b.jpg"],
            "path: coco\ntrain: train.txt\nval: list.txt\n",
            {"train": ["b.jpg"], "val": ["a.jpg"]},
        ),
    ],
)
def test_layouts(tmp_path, load, paths, yaml, expected):
    folder = tmp_path / "set"
    for path in paths:
        write(folder, path)
    (folder / "my.yaml").write_text(f"{yaml}names:\n  0: dog\n  2: cat\n")
    (folder / "train.txt").write_text("./images/b.jpg\n")
    if (folder / "coco").is_dir():
        (folder / "coco/list.txt").write_text("images/a.jpg\n\n")
    sets = load(folder)
    assert names_of(sets) == expected
    assert all(len(row["objects"]["bbox"]) == 1 for rows in sets.values() for row in rows)
    assert category_label(sets["train"].features).names == ["dog", "cat"]


@pytest.mark.parametrize("by", ["option", "classes.txt", "obj.names"])
def test_names_and_places_without_yaml(tmp_path, load, by):
    folder = tmp_path / "set"
    write(folder, "pictures/train/a.jpg", labels="labels/train/a.txt")
    write(folder, "pictures/train/b.jpg", labels="pictures/train/b.txt")
    write(folder, "pictures/train/c.jpg", labels="labels/c.txt")
    if by != "option":
        (folder / by).write_text("dog\nperson\n")
    options = {"classes": ["dog", "person"]} if by == "option" else {}
    rows = load(folder, split="train", image_dir=str(folder / "pictures"), **options)
    assert category_label(rows.features).names == ["dog", "person"]
    assert [len(objects["bbox"]) for objects in rows["objects"]] == [1, 1, 1]


def test_bad_lines_are_dropped_and_counted(tmp_path, load):
    folder = tmp_path / "set"
    lines = [
        "0 0.5 0.5 0.5 0.5",
        "0 0.5 0.5 0.5 0.5",
        "1 0.5 0.5 0.5 0.5",
        "-1 0.5 0.5 0.5 0.5",
        "0 0.5 0.5 0.5",
        "0 0.5 0.5 0.5 0.5 0.9",
        "dog 0.5 0.5 0.5 0.5",
        "0.5 0.5 0.5 0.5 0.5",
        "nan 0.5 0.5 0.5 0.5",
        "0 nan 0.5 0.5 0.5",
        "0 0.5 0.5 0 0.5",
        "0 20 15 10 10",
        "0 1 0.5 0.5 0.5",
        "0 0.995 0.5 0.03 0.5",
    ]
    write(folder, "images/train/a.jpg", "\n".join(lines))
    write(folder, "images/train/broken.jpg")
    (folder / "images/train/broken.jpg").write_bytes(b"no image")
    (folder / "classes.txt").write_text("dog\n")
    with pytest.warns(UserWarning) as caught:
        (row,) = load(folder, split="train")
    assert row["objects"]["bbox"][0] == [10, 7.5, 20, 15]
    assert row["objects"]["bbox"][1] == [30, 7.5, 10, 15], "clipped"
    assert len(row["objects"]["bbox"]) == 3, "a fifth of a pixel outside is rounding"
    message = str(caught[0].message)
    for part in (
        "yolo_txt: 1 image with 3 boxes; skipped 1 image: 1 x unreadable (broken.txt",
        "dropped 11 boxes: 5 x malformed (a.txt, line 5",
        "2 x of an unknown category (a.txt, line 3, class 1; a.txt, line 4, class -1), "
        "1 x listed twice (a.txt, line 2)",
        "1 x not finite",
        "1 x of no area",
        "1 x outside its image (a.txt, line 12, [600, 300, 400, 300] in 40 x 30)",
        "corrected 1: 1 x box clipped to its image (a.txt, line 13",
    ):
        assert part in message


def test_a_split_without_labels_is_left_out(tmp_path, load):
    folder = tmp_path / "set"
    write(folder, "images/train/a.jpg")
    write(folder, "images/val/b.jpg", None)
    (folder / "classes.txt").write_text("dog\n")
    with pytest.warns(UserWarning, match=r"1 x in a split without any label file \(.*b.jpg, .*labels/val/b.txt\)"):
        assert names_of(load(folder)) == {"train": ["a.jpg"]}
    (folder / "labels/train/a.txt").unlink()
    with pytest.raises(DataError, match=r"no usable image in .*skipped 2 images: 2 x in a split without"):
        load(folder)


def test_listed_images_that_are_not_there(tmp_path, load):
    folder = tmp_path / "set"
    write(folder, "images/a.jpg")
    (folder / "list.txt").write_text("images/a.jpg\nimages/gone.jpg\nimages/a.jpg\n")
    (folder / "data.yaml").write_text("train: list.txt\nnames: [dog]\n")
    with pytest.warns(UserWarning, match=r"skipped 1 image: 1 x no such file \(.*images/gone.jpg\)"):
        assert names_of(load(folder)) == {"train": ["a.jpg"]}


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (None, r"no names of the classes in .*expected data.yaml with `names`.* Found \[images/, labels/\]"),
        ("names: 5", "no names of the classes"),
        ("names: [a, 'b", r"data.yaml is not YAML \(while scanning a quoted scalar.*line 1, column"),
        ("names: [a, a]", "two classes in .* have one name: a, a"),
    ],
)
def test_refusals(tmp_path, load, yaml, message):
    folder = tmp_path / "set"
    write(folder, "images/train/a.jpg")
    if yaml is not None:
        (folder / "data.yaml").write_text(yaml)
    with pytest.raises(DataError, match=message):
        load(folder)


def test_no_images(tmp_path, load):
    (tmp_path / "set/images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"yolo_txt: expected images/train and labels/train.* found \[images/\]"):
        load(tmp_path / "set", classes=["dog"])


@pytest.mark.parametrize("layout", ["images/train/a.jpg", "train/images/a.jpg", "a.jpg"])
def test_label_files_without_an_image_are_counted(tmp_path, load, layout):
    folder = tmp_path / "set"
    write(folder, layout)
    labels = (folder / layout.replace("images", "labels")).parent
    (labels / "gone.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (labels / "also gone.txt").write_text("0 0.5 0.5 0.5 0.5 0.1 0.2\n")
    (labels / "notes.txt").write_text("labelled by hand\n")
    (folder / "classes.txt").write_text("dog\n")
    with pytest.warns(UserWarning, match="skipped 2 images: 2 x label file without an image .*also gone.txt"):
        assert names_of(load(folder)) == {"train": ["a.jpg"]}

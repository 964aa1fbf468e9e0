"""COCO's layout read and written: small folders drawn here, every kind of bad entry, and real COCO where present."""

import json
from pathlib import Path

import datasets
import pytest
from PIL import Image

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.boxed_images import category_ids, category_label
from stmine_hf.data.coco_json import CocoJson, split_of, to_coco

CATEGORIES = [{"id": 13, "name": "stop sign"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]


@pytest.fixture
def load(tmp_path):
    """`load_dataset` with a cache of the test's own."""
    return lambda folder, name="coco_json", **options: load_dataset(
        name, data_dir=folder, cache_dir=tmp_path / "cache", **options
    )


def image(image_id, filename: str, **extra) -> dict:
    return {"id": image_id, "file_name": filename, "width": 40, "height": 30, **extra}


def box(box_id, image_id, *bbox: float, category_id=1, **extra) -> dict:
    area = bbox[2] * bbox[3]
    fields = {"bbox": list(bbox), "category_id": category_id, "area": area, "iscrowd": 0, **extra}
    return {"id": box_id, "image_id": image_id, **fields}


def write(
    folder: Path,
    images: list,
    annotations: list,
    categories: list = CATEGORIES,
    file: str = "annotations/instances_train.json",
    image_dir: str = "images",
) -> Path:
    """A folder with one JSON and an image of 40 x 30 pixels for each entry that has a plain file name."""
    (folder / image_dir).mkdir(parents=True, exist_ok=True)
    for entry in images:
        if isinstance(entry, dict) and "/" not in entry.get("file_name", "/"):
            Image.new("RGB", (40, 30)).save(folder / image_dir / entry["file_name"])
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / file).write_text(json.dumps(content))
    return folder


TWO = [image(9, "a.jpg", source="CAMO"), image(4, "b.jpg")]
BOXES = [box(5, 9, 1.25, 2.5, 10, 12), box(6, 9, 0, 0, 40, 30, category_id=90, iscrowd=1), box(8, 4, 3, 4, 5, 6)]


def test_rows(tmp_path, load, recwarn):
    rows = load(write(tmp_path / "set", TWO, BOXES), split="train")
    assert not recwarn
    first, second = rows
    assert first.pop("image").size == (40, 30)
    assert first == {
        "image_id": 9,
        "filename": "a.jpg",
        "width": 40,
        "height": 30,
        "objects": {
            "id": [5, 6],
            "bbox": [[1.25, 2.5, 10, 12], [0, 0, 40, 30]],
            "category": [0, 2],
            "area": [120, 1200],
            "iscrowd": [False, True],
        },
        "source": "CAMO",
    }
    assert (second["image_id"], second["source"], second["objects"]["id"]) == (4, "", [8])
    assert category_label(rows.features).names == ["person", "stop sign", "toothbrush"], "by ascending id"
    assert category_ids(rows.features) == [1, 13, 90]


@pytest.mark.parametrize(
    ("file", "images", "split"),
    [
        ("annotations/instances_train.json", "images", "train"),
        ("annotations/instances_train2017.json", "train2017", "train"),
        ("annotations/instances_val2014.json", "images/val2014", "val"),
        ("annotations/val.json", "val", "val"),
        ("annotations/boxes.json", "images", "train"),
        ("instances_test.json", "test", "test"),
        ("test-dev.json", ".", "test"),
        ("_annotations.coco.json", ".", "train"),
        ("valid/_annotations.coco.json", "valid", "val"),
    ],
)
def test_layouts(tmp_path, load, file, images, split):
    sets = load(write(tmp_path / "set", TWO, BOXES, file=file, image_dir=images))
    assert {name: len(rows) for name, rows in sets.items()} == {split: 2}


def test_an_image_of_the_own_split_comes_first(tmp_path, load):
    folder = tmp_path / "set"
    for split, colour in (("train", "red"), ("val", "blue")):
        file = f"annotations/instances_{split}2017.json"
        write(folder, [image(1, "a.png")], [], file=file, image_dir=f"{split}2017")
        Image.new("RGB", (40, 30), colour).save(folder / f"{split}2017/a.png")
    (folder / "annotations/captions_train2017.json").write_text("[]")
    sets = load(folder)
    assert sets["train"][0]["image"].getpixel((0, 0)) == (255, 0, 0)
    assert sets["val"][0]["image"].getpixel((0, 0)) == (0, 0, 255)


def test_files_and_image_dir_by_option(tmp_path, load):
    folder = write(tmp_path / "set", TWO, BOXES, file="one.json", image_dir="../elsewhere")
    write(folder, TWO[:1], BOXES[:1], file="two.json", image_dir="../elsewhere")
    options = {"files": {"val": "two.json", "train": "one.json"}, "image_dir": str(tmp_path / "elsewhere")}
    with pytest.warns(UserWarning, match="noted 1: 1 x image in two splits"):
        assert {split: len(rows) for split, rows in load(folder, **options).items()} == {"train": 2, "val": 1}
    whole = {"files": {"test": str(folder / "two.json")}, "image_dir": tmp_path / "elsewhere"}
    assert {split: len(rows) for split, rows in load(folder, **whole).items()} == {"test": 1}
    with pytest.raises(DataError, match=r"names one.json, two.json in .* do not state the split"):
        load(folder)
    with pytest.raises(DataError, match=r"no file .*three.json \(option files\)"):
        load(folder, files={"train": "three.json"})
    for files in ({"training": "one.json"}, {}, "one.json"):
        with pytest.raises(DataError, match=r"files has to say the file of each split \(train, val, test\)"):
            load(folder, files=files)
    with pytest.raises(DataError, match=r"no folder .*nowhere \(image_dir\)"):
        load(folder, files={"train": "one.json"}, image_dir=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"skipped 2 images: .*give image_dir"):
        load(folder, files={"train": "one.json"})


def test_two_files_of_one_split(tmp_path, load):
    folder = write(tmp_path / "set", TWO, BOXES, file="annotations/instances_train2014.json")
    write(folder, TWO, BOXES, file="annotations/instances_train2017.json")
    with pytest.raises(DataError, match=r"train2014.json and instances_train2017.json in .* both for train.*files="):
        load(folder)


def test_bad_boxes_are_dropped_and_counted(tmp_path, load):
    bad = [
        box(10, 9, 40, 0, 5, 5),
        box(11, 9, 3, 3, 0, 5),
        box(12, 9, float("nan"), 3, 5, 5),
        box(13, 9, 3, 3, 5, float("inf")),
        box(14, 9, 3, 3, 5, 5, category_id=2),
        box(15, 9, 3, 3, 5, 5, category_id=None),
        box(16, 77, 3, 3, 5, 5),
        {**box(17, 9, 3, 3, 5, 5), "bbox": [1, 2, 3]},
        {**box(18, 9, 3, 3, 5, 5), "bbox": ["1", 2, 3, 4]},
        {**box(19, 9, 3, 3, 5, 5), "bbox": None},
        {**box(20, 9, 3, 3, 5, 5), "bbox": [True, 2, 3, 4]},
        {**box(21, 9, 3, 3, 5, 5), "bbox": [10**400, 2, 3, 4]},
        {"id": 22, "image_id": 9, "category_id": 1},
        {"id": 23},
        "nonsense",
        None,
    ]
    clipped = box(24, 9, -5, 25, 10, 10)
    folder = write(tmp_path / "set", TWO, [*BOXES, *bad, clipped])
    with pytest.warns(UserWarning) as caught:
        rows = load(folder, split="train")
    assert len(caught) == 1, "one summary"
    message = str(caught[0].message)
    assert message.startswith("coco_json: 2 images with 4 boxes; dropped 16 boxes: ")
    for part in (
        "1 x of no image in the list (instances_train.json, annotations[9], image_id 77)",
        "2 x of an unknown category (instances_train.json, annotations[7], category 2; ",
        "1 x outside its image (instances_train.json, annotations[3], [40, 0, 5, 5] in 40 x 30",
        "1 x of no area",
        "2 x not finite",
        "9 x malformed (",
        "); corrected 1: 1 x box clipped to its image (instances_train.json, annotations[19], [-5, 25, 10, 10]",
    ):
        assert part in message
    assert rows[0]["objects"]["id"] == [5, 6, 24]
    assert rows[0]["objects"]["bbox"][2] == [0, 25, 5, 5]


def test_odd_but_usable_entries(tmp_path, load, recwarn):
    annotations = [
        {"id": 3, "image_id": 9, "bbox": [1, 1, 4, 5], "category_id": 1},
        {**box(4, 9, 1, 1, 4, 5), "area": None, "iscrowd": True},
        {**box(0, 9, 2, 2, 4, 5)},
        {**box("x", 9, 3, 3, 4, 5)},
        {"image_id": 9, "bbox": [4, 4, 4, 5], "category_id": 1},
    ]
    images = [{"id": 9, "file_name": "a.jpg"}, image(4, "b.jpg", width=0, source=5)]
    first, second = load(write(tmp_path / "set", images, annotations), split="train")
    assert not recwarn
    assert first["objects"]["area"] == [20] * 5
    assert first["objects"]["iscrowd"] == [False, True, False, False, False]
    assert first["objects"]["id"] == [3, 4, 5, 6, 7], "numbered where there is no id or one below 1"
    assert second["objects"]["bbox"] == [] and second["width"] == 40, "an image without boxes is kept"
    assert second["source"] == ""


def test_bad_images_are_left_out_and_counted(tmp_path, load):
    images = [
        *TWO,
        image(1, "elsewhere/missing.jpg"),
        image(2, "broken.jpg"),
        image(3, "shape.jpg", width=30, height=40),
        {"id": 7},
        {"file_name": "c.jpg"},
        {"id": [1], "file_name": "c.jpg"},
        "nonsense",
    ]
    folder = write(tmp_path / "set", images, [*BOXES, box(50, 1, 1, 1, 2, 2), box(51, 2, 1, 1, 2, 2)])
    (folder / "images/broken.jpg").write_bytes(b"no image")
    with pytest.warns(UserWarning) as caught:
        rows = load(folder, split="train")
    assert rows["image_id"][:] == [9, 4]
    message = str(caught[0].message)
    assert message.startswith("coco_json: 2 images with 3 boxes; skipped 7 images: ")
    assert "1 x no such file (instances_train.json, images[2], elsewhere/missing.jpg" in message
    assert "1 x unreadable (instances_train.json, images[3], " in message
    assert "4 x malformed (instances_train.json, images[5] (KeyError: 'file_name'); " in message
    assert "images[4], shape.jpg: 30 x 40, its file 40 x 30" in message
    assert "dropped" not in message, "boxes of an image that is left out are not counted by themselves"


def test_duplicate_ids(tmp_path, load):
    images = [image(1, "a.jpg"), image(2, "b.jpg"), image(2, "c.jpg"), image(3, "a.jpg"), image(1, "a.jpg")]
    annotations = [
        box(10, 1, 1, 1, 5, 5),
        box(10, 1, 1, 1, 5, 5),  # the same again
        box(10, 1, 2, 2, 5, 5),  # another box of that id
        box(11, 3, 1, 1, 5, 5),  # the same, through the image's second id
        box(12, 3, 3, 3, 5, 5),
        box(13, 2, 1, 1, 5, 5),  # whose is it?
        box(14, 1, 1, 1, 5, 5),  # two equal boxes of one image are the annotator's business
    ]
    with pytest.warns(UserWarning) as caught:
        (row,) = load(write(tmp_path / "set", images, annotations), split="train")
    assert row["image_id"] == 1
    assert row["objects"]["id"] == [10, 15, 12, 14]
    assert row["objects"]["bbox"] == [[1, 1, 5, 5], [2, 2, 5, 5], [3, 3, 5, 5], [1, 1, 5, 5]]
    message = str(caught[0].message)
    for part in (
        "skipped 2 images: 2 x two images of one id (instances_train.json, images[1], b.jpg; ",
        "dropped 2 boxes: 2 x listed twice (instances_train.json, annotations[1]; instances_train.json, annotations[3",
        "2 x image listed twice: merged (instances_train.json, images[3], a.jpg",
        "1 x box whose id is in use: given a new one (instances_train.json, annotations[2], id 10",
    ):
        assert part in message


def test_ids_that_are_no_numbers(tmp_path, load):
    images = [image("x9", "a.jpg"), image("x4", "b.jpg")]
    annotations = [box(5, "x9", 1, 1, 5, 5), box(6, "x4", 2, 2, 5, 5), box(7, "x4", 2, 2, 5, 5)]
    with pytest.warns(UserWarning, match="image ids that are no numbers: all renumbered"):
        rows = load(write(tmp_path / "set", images, annotations), split="train")
    assert rows["image_id"][:] == [1, 2]
    assert [objects["id"] for objects in rows["objects"]] == [[5], [6, 7]]


def test_categories_of_all_splits_together(tmp_path, load):
    folder = write(tmp_path / "set", TWO, BOXES)
    twice = [*CATEGORIES, {"id": 91, "name": "person"}, {"id": 7, "name": "cat"}]
    val = [box(1, 9, 1, 1, 5, 5, category_id=91), box(2, 9, 2, 2, 5, 5, category_id=7)]
    write(folder, TWO, val, twice, "annotations/instances_val.json")
    with pytest.warns(UserWarning) as caught:
        sets = load(folder)
    assert "category with the name of another: merged (1 and 91 are 'person'" in str(caught[0].message)
    assert "2 x image in two splits (a.jpg in train, val; b.jpg" in str(caught[0].message)
    for rows in sets.values():
        assert category_label(rows.features).names == ["person", "cat", "stop sign", "toothbrush"]
        assert category_ids(rows.features) == [1, 7, 13, 90]
    assert sets["val"][0]["objects"]["category"] == [0, 1]
    write(folder, TWO, val, [{"id": 1, "name": "dog"}], "annotations/instances_val.json")
    with pytest.raises(DataError, match=r"instances_val.json, categories\[0\]: category 1 is 'dog' here and 'person'"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [{"fi', r"instances_train.json is not JSON \(.*line 1 column 14.*cut short"),
        ("", "is not JSON"),
        ("[]", r"expected {\"images\": .*found no list images, annotations, categories"),
        ('{"images": [], "annotations": {}, "categories": []}', "found no list annotations"),
        ('{"images": [], "annotations": [], "categories": []}', "list of categories is empty"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1}]}',
            r"categories\[0\]: expected an id and a name",
        ),
        ('{"images": [], "annotations": [], "categories": [5]}', r"categories\[0\]: expected an id and a name"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": [1], "name": "a"}]}',
            r"id has to be a whole number, not \[1\]",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
            "no usable image in .*: the annotations name no image",
        ),
    ],
)
def test_broken_files(tmp_path, load, text, message):
    (tmp_path / "set/annotations").mkdir(parents=True)
    (tmp_path / "set/annotations/instances_train.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "set")


def test_nothing_left(tmp_path, load):
    folder = write(tmp_path / "set", TWO, [box(5, 9, 50, 50, 5, 5)])
    with pytest.raises(DataError, match=r"2 images with 0 boxes; dropped 1 box: .*outside.*Nothing is left to load"):
        load(folder)
    for image in (folder / "images").iterdir():
        image.write_bytes(b"")
    with pytest.raises(DataError, match=r"0 images with 0 boxes; skipped 2 images: .*unreadable.*Nothing is"):
        load(folder)
    for image in (folder / "images").iterdir():
        image.unlink()
    with pytest.raises(DataError, match=r"no usable image in .*skipped 2 images: 2 x no such file \(.*a.jpg"):
        load(folder)


def test_images_without_any_box_are_a_set(tmp_path, load, recwarn):
    rows = load(write(tmp_path / "set", TWO, []), split="train")
    assert not recwarn and [objects["bbox"] for objects in rows["objects"]] == [[], []]
    assert to_coco(rows)["annotations"] == []


def test_missing_folder_and_files_tell_what_is_expected(tmp_path, load):
    with pytest.raises(DataError, match=r"coco_json: give the set's folder as data_dir. Expected there: annotations/"):
        load(None)
    with pytest.raises(DataError, match=r"no folder .*absent. Expected: annotations/instances_train.json"):
        load(tmp_path / "absent")
    (tmp_path / "set/images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"expected annotations/instances_train.json .* found \[images/\]"):
        load(tmp_path / "set")
    with pytest.raises(DataError, match="no option sources; its options are: image_dir, files"):
        load(tmp_path / "set", sources=["CAMO"])


def test_the_cache_follows_the_folder(tmp_path, load):
    folder = write(tmp_path / "set", TWO, BOXES)
    assert load(folder, split="train")[1]["width"] == 40
    Image.new("RGB", (80, 60)).save(folder / "images/b.jpg")
    with pytest.warns(UserWarning, match="boxes scaled to the size of the file .*b.jpg: 40 x 30, its file 80 x 60"):
        row = load(folder, split="train")[1]
    assert row["width"] == 80 and row["objects"]["bbox"] == [[6, 8, 10, 12]]
    write(folder, TWO, BOXES[:2])
    assert load(folder, split="train")[1]["objects"]["bbox"] == []


def test_streaming_yields_the_same_rows(tmp_path, load):
    folder = write(tmp_path / "set", TWO, BOXES)
    whole, stream = load(folder, split="train"), load(folder, split="train", streaming=True)
    assert stream.num_shards == 2, "every row is a shard: workers and shuffling act on rows"
    for a, b in zip(whole, stream, strict=True):
        assert {**a, "image": None} == {**b, "image": None}
    assert to_coco(stream) == to_coco(whole)
    assert category_ids(stream.features) == [1, 13, 90]


def test_images_stay_where_they_are_and_parquet_holds_them(tmp_path, load):
    folder = write(tmp_path / "set", TWO, BOXES)
    (arrow,) = load(folder, split="train[:1]").with_format("arrow")
    assert arrow["image"].to_pylist() == [{"bytes": None, "path": str(folder / "images/a.jpg")}]
    builder = CocoJson(data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare(str(tmp_path / "hub"), file_format="parquet")
    expected = to_coco(load(folder, split="train"))
    (folder / "images/a.jpg").unlink()
    (file,) = (tmp_path / "hub").glob("*.parquet")
    rows = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    assert rows[0]["image"].size == (40, 30) and to_coco(rows) == expected


def test_there_and_back(tmp_path, load):
    folder = write(tmp_path / "set", TWO, BOXES)
    written = to_coco(load(folder, split="train"))
    original = json.loads((folder / "annotations/instances_train.json").read_text())
    assert written["images"] == original["images"] and written["annotations"] == original["annotations"]
    assert written["categories"] == sorted(CATEGORIES, key=lambda category: category["id"])
    (folder / "annotations/instances_train.json").write_text(json.dumps(written))
    assert to_coco(load(folder, split="train")) == written


def test_to_coco_of_plain_rows(tmp_path, load):
    rows = load(write(tmp_path / "set", TWO, BOXES), split="train")
    plain = list(rows)
    assert to_coco(plain, rows.features) == to_coco(rows)
    with pytest.raises(ValueError, match="give features"):
        to_coco(plain)
    with pytest.raises(ValueError, match=r"image_id 9 occurs twice \(a.jpg, a.jpg\): give one split at a time"):
        to_coco(plain * 2, rows.features)
    plain[1]["objects"]["id"] = [5]
    assert [a["id"] for a in to_coco(plain, rows.features)["annotations"]] == [1, 2, 3], "ids that occur twice"
    plain[1]["objects"]["id"] = [0]
    assert [a["id"] for a in to_coco(plain, rows.features)["annotations"]] == [1, 2, 3], "COCO takes 0 for no match"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("annotations/instances_val.json", "val"),
        ("annotations/instances_minival.json", None),
        ("validation/_annotations.coco.json", "val"),
        ("annotations/image_info_test-dev2017.json", "test"),
        ("annotations/training_boxes.json", None),
    ],
)
def test_split_of_a_name(name, split):
    assert split_of(name) == split


def test_real_coco(tmp_path, shared_data, load, recwarn):
    from pycocotools.coco import COCO

    folder = shared_data / "detection/coco_small"
    sets = load(folder)
    assert not recwarn, "nothing to mend in it"
    for split, images, boxes, crowds, empty in (("train", 343, 2973, 29, 3), ("val", 242, 1995, 19, 1)):
        rows = sets[split]
        objects = rows["objects"][:]
        assert len(rows) == images
        assert sum(len(one["id"]) for one in objects) == boxes
        assert sum(sum(one["iscrowd"]) for one in objects) == crowds
        assert sum(not one["id"] for one in objects) == empty
        original = json.loads((folder / f"annotations/instances_{split}.json").read_text())
        written = to_coco(rows)
        kept = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        key = lambda annotation: annotation["id"]  # noqa: E731
        theirs = [{name: annotation[name] for name in kept} for annotation in original["annotations"]]
        assert sorted(written["annotations"], key=key) == sorted(theirs, key=key), "to the last digit"
        assert [{"id": c["id"], "name": c["name"]} for c in original["categories"]] == written["categories"]
        coco = COCO()
        coco.dataset = written
        coco.createIndex()
        assert len(coco.getCatIds()) == 80 and len(coco.getImgIds()) == images

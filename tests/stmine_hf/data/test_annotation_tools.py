"""LabelMe, CVAT and Label Studio in their own formats, by whatever shapes people draw; folders that say a layout."""

from __future__ import annotations

import base64
import json
import warnings
from pathlib import Path

import pytest
from data_folders import WRITERS, source
from PIL import Image

from stmine_hf.data import DataError, load_dataset, read_dataset
from stmine_hf.data.annotated_images import ellipse, turned
from stmine_hf.data.label_studio import names_of
from stmine_hf.data.layouts import layout_of


def paint(path: Path, size=(200, 100)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (255, 0, 0)).save(path)
    return path


def put(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def load(tmp_path):
    """Rows of the train split, and counts by (fate, reason)."""

    def load(name, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows, findings = read_dataset(
                name, data_dir=tmp_path / "set", split="train", cache_dir=tmp_path / "cache", **options
            )
        return rows, {(one["fate"], one["reason"]): one["count"] for one in findings.listed()}

    return load


def boxes(row, rows) -> list[tuple]:
    names = rows.features["objects"]["category"].feature.names
    objects = row["objects"]
    return [
        (names[label], *(round(value, 2) for value in bbox))
        for label, bbox in zip(objects["category"], objects["bbox"], strict=True)
    ]


# ---- LabelMe ----

RECTANGLE = {"label": "cat", "shape_type": "rectangle", "points": [[60, 50], [10, 20]]}


def labelme(path: Path, *shapes, **content) -> Path:
    return put(path, {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imageData": None, **content})


def test_images_that_only_labelme_holds(tmp_path, load, monkeypatch):
    encoded = base64.b64encode(paint(tmp_path / "elsewhere.png").read_bytes()).decode()
    for name, data in (("a", encoded), ("b", f"data:image/png;base64,{encoded}"), ("c", "no base64"), ("d", None)):
        labelme(tmp_path / f"set/{name}.json", RECTANGLE, imagePath=f"gone/{name}.jpg", imageData=data)
    rows, found = load("labelme_json")
    assert rows["filename"][:] == ["a.jpg", "b.jpg"] and all(image.size == (200, 100) for image in rows["image"])
    assert boxes(rows[0], rows) == [("cat", 10, 20, 50, 30)]
    assert ("skipped", "no such file") in found
    assert ("noted", "image read from imageData: it has no file") in found
    monkeypatch.setattr("stmine_hf.data.annotated_images.MOST_INSIDE", len(encoded))
    rows, found = load("labelme_json")
    assert rows["filename"][:] == ["a.jpg"]
    assert ("noted", "imageData that exceeds the limit for all images") in found


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (RECTANGLE, (10, 20, 50, 30)),
        ({"shape_type": "polygon", "points": [[10, 20], [60, 30], [30, 50.5]]}, (10, 20, 50, 30.5)),
        ({"points": [[10, 20], [60, 20], [60, 50], [10, 50]]}, (10, 20, 50, 30)),  # before version 3
        ({"shape_type": "circle", "points": [[50, 50], [80, 90]]}, (0, 0, 100, 100)),
        ({"shape_type": "rectangle", "points": [[10, 20], [60, 20], [60, 50], [10, 50]]}, (10, 20, 50, 30)),
        ({"shape_type": "rotation", "points": [[40, 10], [60, 30], [40, 50], [20, 30]]}, (20, 10, 40, 40)),
        ({"shape_type": "mask", "points": [[10, 20], [60, 50]], "mask": "iVBOR"}, (10, 20, 50, 30)),
        ({"shape_type": "rectangle", "points": [["10", "20"], ["60.0", "50"]]}, (10, 20, 50, 30)),
    ],
)
def test_shapes_of_labelme(tmp_path, load, shape, box):
    paint(tmp_path / "set/a.jpg")
    labelme(tmp_path / "set/a.json", {"label": "cat", **shape}, imagePath="a.jpg", imageWidth=200, imageHeight=100)
    rows, found = load("labelme_json")
    assert boxes(rows[0], rows) == [("cat", *box)]
    assert ("not used", "outline") in found or shape.get("shape_type") == "rectangle"


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"shape_type": "point", "points": [[1, 2]]}, ("not used", "shape without an area (point)")),
        ({"shape_type": "line", "points": [[1, 2], [3, 4]]}, ("not used", "shape without an area (line)")),
        ({"shape_type": "linestrip", "points": [[1, 2]] * 3}, ("not used", "shape without an area (linestrip)")),
        ({"shape_type": "rectangle", "points": [[1, 2]]}, ("dropped", "malformed")),
        ({"shape_type": "polygon", "points": [[1, 2], [3, 4]]}, ("dropped", "malformed")),
        ({"shape_type": "circle", "points": [[1, 2]]}, ("dropped", "malformed")),
        ({"shape_type": "polygon", "points": [[1, 2], [3, None], [4, 5]]}, ("dropped", "malformed")),
        ({"shape_type": "polygon", "points": None}, ("dropped", "malformed")),
        ({"label": None, "shape_type": "rectangle", "points": [[1, 2], [3, 4]]}, ("dropped", "malformed")),
        ({"shape_type": "rectangle", "points": [[1, 2], [1, 9]]}, ("dropped", "of no area")),
    ],
)
def test_shapes_that_are_no_boxes_are_counted(tmp_path, load, shape, reason):
    paint(tmp_path / "set/a.jpg")
    labelme(tmp_path / "set/a.json", RECTANGLE, {"label": "cat", **shape}, imagePath="a.jpg")
    rows, found = load("labelme_json")
    assert boxes(rows[0], rows) == [("cat", 10, 20, 50, 30)] and found[reason] == 1


def test_parts_of_one_group_are_one_object(tmp_path, load):
    paint(tmp_path / "set/a.jpg")
    parts = [{**RECTANGLE, "group_id": 3}, {**RECTANGLE, "points": [[80, 10], [90, 30]], "group_id": "3"}]
    other = {**RECTANGLE, "points": [[1, 1], [5, 5]], "group_id": None}
    labelme(tmp_path / "set/a.json", *parts, other, {**other, "label": "dog", "group_id": 3}, imagePath="a.jpg")
    rows, found = load("labelme_json")
    assert sorted(boxes(rows[0], rows)) == [("cat", 1, 1, 4, 4), ("cat", 10, 10, 80, 40), ("dog", 1, 1, 4, 4)]
    assert found["not used", "parts of one group (the box around them counts)"] == 1


@pytest.mark.parametrize(
    ("json_at", "image_at", "said"),
    [
        ("a.json", "a.jpg", "a.jpg"),
        ("ann/a.json", "img/a.jpg", "..\\img\\a.jpg"),
        ("ann/a.json", "images/a.jpg", "a.jpg"),
        ("a.json", "images/a.jpg", "C:\\Users\\me\\a.jpg"),
        ("a.json", "a.jpg", "before_it_was_renamed.png"),
        ("a.json", "a.JPG", "a.jpg"),
        ("labels/x/a.json", "images/x/a.jpg", "../../images/x/a.jpg"),
    ],
)
def test_images_of_labelme(tmp_path, load, json_at, image_at, said):
    paint(tmp_path / "set" / image_at)
    labelme(tmp_path / "set" / json_at, RECTANGLE, imagePath=said)
    rows, _ = load("labelme_json")
    assert boxes(rows[0], rows) == [("cat", 10, 20, 50, 30)]


def test_an_image_of_another_json_is_not_taken(tmp_path, load):
    paint(tmp_path / "set/a.jpg")
    labelme(tmp_path / "set/a.json", RECTANGLE, imagePath="gone.jpg")
    labelme(tmp_path / "set/b.json", RECTANGLE, {**RECTANGLE, "label": "dog"}, imagePath="a.jpg")
    put(tmp_path / "set/notes.json", {"mine": 1})
    put(tmp_path / "set/torn.json", '{"shapes": [')
    rows, found = load("labelme_json")
    assert len(rows) == 1 and len(boxes(rows[0], rows)) == 2
    assert found["skipped", "no such file"] == 1 and found["skipped", "not a JSON of LabelMe"] == 2


def test_splits_classes_and_sizes_of_labelme(tmp_path, load):
    for split, label in (("train", "cat"), ("valid", "dog")):
        paint(tmp_path / f"set/{split}/a.jpg", (400, 200))
        shape = {**RECTANGLE, "label": label}
        labelme(tmp_path / f"set/{split}/a.json", shape, imagePath="a.jpg", imageWidth=200, imageHeight=100)
    rows, found = load("labelme_json")
    assert boxes(rows[0], rows) == [("cat", 20, 40, 100, 60)] and len(rows) == 1  # resized since
    assert rows.features["objects"]["category"].feature.names == ["cat", "dog"]
    rows, found = load("labelme_json", classes=["cat"])
    assert found["dropped", "of an unknown category"] == 1
    with pytest.raises(DataError, match=r"two classes in .* have one name: cat, cat"):
        load("labelme_json", classes=["cat", "cat"])


# ---- CVAT ----


def cvat(folder: Path, *shapes: str, image: str = 'name="a.jpg" width="200" height="100"', labels=("dog", "cat")):
    head = "".join(f"<label><name>{name}</name></label>" for name in labels)
    inside = f"<meta><task><labels>{head}</labels></task></meta><image id='0' {image}>{''.join(shapes)}</image>"
    put(folder / "annotations.xml", f'<?xml version="1.0" encoding="utf-8"?><annotations>{inside}</annotations>')


BOX = '<box label="cat" source="manual" occluded="0" xtl="10" ytl="20" xbr="60" ybr="50" z_order="0"/>'


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (BOX, (10, 20, 50, 30)),
        ('<box label="cat" xtl="50" ytl="40" xbr="100" ybr="60" rotation="90.00"/>', (65, 25, 20, 50)),
        ('<polygon label="cat" points="10.0,20.0;60.0,30.0;30.0,50.5"/>', (10, 20, 50, 30.5)),
        ('<ellipse label="cat" cx="50" cy="40" rx="20" ry="10"/>', (30, 30, 40, 20)),
        ('<ellipse label="cat" cx="50" cy="40" rx="20" ry="10" rotation="90"/>', (40, 20, 20, 40)),
        ('<mask label="cat" rle="3, 4" left="10" top="20" width="50" height="30"/>', (10, 20, 50, 30)),
        (
            '<skeleton label="cat"><points label="1" points="10,20" outside="0"/><points label="2" points="60,50"/>'
            '<points label="3" points="0,0" outside="1"/></skeleton>',
            (10, 20, 50, 30),
        ),
        (
            '<cuboid label="cat" xtl1="10" ytl1="20" xbl1="10" ybl1="40" xtr1="40" ytr1="20" xbr1="40" ybr1="40" '
            'xtl2="50" ytl2="25" xbl2="50" ybl2="50" xtr2="60" ytr2="25" xbr2="60" ybr2="50"/>',
            (10, 20, 50, 30),
        ),
    ],
)
def test_shapes_of_cvat(tmp_path, load, shape, box):
    paint(tmp_path / "set/images/a.jpg")
    cvat(tmp_path / "set", shape)
    rows, found = load("cvat_xml")
    assert boxes(rows[0], rows) == [("cat", *box)]
    assert (("not used", "outline") in found) == (shape != BOX)
    assert rows.features["objects"]["category"].feature.names == ["dog", "cat"]  # as the file lists them


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ('<points label="cat" points="1,2;3,4"/>', ("not used", "shape without an area (points)")),
        ('<polyline label="cat" points="1,2;3,4"/>', ("not used", "shape without an area (polyline)")),
        ('<tag label="cat"/>', ("not used", "tag")),
        (
            '<box label="cat" outside="1" xtl="1" ytl="2" xbr="6" ybr="5"/>',
            ("not used", "object outside of the image"),
        ),
        ('<box label="cat" xtl="1" ytl="2" xbr="6"/>', ("dropped", "malformed")),
        ('<box xtl="1" ytl="2" xbr="6" ybr="5"/>', ("dropped", "malformed")),
        ('<polygon label="cat" points=""/>', ("dropped", "malformed")),
    ],
)
def test_shapes_of_cvat_that_are_no_boxes(tmp_path, load, shape, reason):
    paint(tmp_path / "set/images/a.jpg")
    cvat(tmp_path / "set", BOX, shape)
    rows, found = load("cvat_xml")
    assert boxes(rows[0], rows) == [("cat", 10, 20, 50, 30)] and found[reason] == 1


def test_attributes_and_occluded_objects_of_cvat_are_counted(tmp_path, load):
    paint(tmp_path / "set/images/a.jpg")
    attribute = '<attribute name="colour">red</attribute>'
    cvat(tmp_path / "set", BOX.replace('occluded="0"', 'occluded="1"').replace("/>", f">{attribute * 2}</box>"))
    _, found = load("cvat_xml")
    assert found["not used", "attribute"] == 2 and found["not used", "occluded"] == 1


@pytest.mark.parametrize("at", ["images/a.jpg", "a.jpg", "images/Train/a.jpg", "images/sub/a.jpg"])
def test_images_and_subsets_of_cvat(tmp_path, load, at):
    paint(tmp_path / "set" / at)
    name = "sub/a.jpg" if "sub" in at else "a.jpg"
    cvat(tmp_path / "set", BOX, image=f'name="{name}" subset="Train" width="200" height="100"')
    rows, _ = load("cvat_xml")
    assert len(rows) == 1


def test_video_of_cvat_is_refused(tmp_path, load):
    track = '<track id="0" label="cat"><box frame="0" xtl="1" ytl="2" xbr="6" ybr="5" outside="0"/></track>'
    put(tmp_path / "set/annotations.xml", f"<annotations>{track}</annotations>")
    with pytest.raises(DataError, match=r"annotations\.xml: CVAT for video 1\.1.*Export the task as CVAT for images"):
        load("cvat_xml")


# ---- Label Studio ----


def region(label="cat", size=(200, 100), **value) -> dict:
    value = {"x": 5, "y": 20, "width": 25, "height": 30, "rotation": 0, "rectanglelabels": [label], **value}
    return {"type": "rectanglelabels", "value": value, "original_width": size[0], "original_height": size[1]}


def task(*results, image="/data/upload/1/0123abcd-a.jpg", **annotation) -> dict:
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 1, "result": list(results), **annotation}]}


@pytest.mark.parametrize(
    ("result", "box"),
    [
        (region(), (10, 20, 50, 30)),
        (region(size=(400, 200)), (10, 20, 50, 30)),  # resized since
        (region(x=50, y=40, width=10, height=40, rotation=90), (60, 40, 40, 20)),
        (region(x=50, y=40, width=10, height=40, rotation=-90), (100, 20, 40, 20)),
        (region(points=[[5, 20], [30, 30], [10, 50]], polygonlabels=["cat"]), (10, 20, 50, 30)),
        (
            {**region(), "value": {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["cat"]}},
            (80, 30, 40, 40),
        ),
    ],
)  # fmt: skip
def test_shapes_of_label_studio(tmp_path, load, result, box):
    paint(tmp_path / "set/images/a.jpg")
    put(tmp_path / "set/project-1.json", [task(result)])
    rows, _ = load("label_studio")
    assert boxes(rows[0], rows) == [("cat", *box)]


def test_a_shape_and_its_label_may_be_two_results(tmp_path, load):
    paint(tmp_path / "set/images/a.jpg")
    value = region()["value"]
    value.pop("rectanglelabels")
    shape = {**region(), "type": "rectangle", "value": value, "id": "r1"}
    label = {"type": "labels", "value": {**value, "labels": ["cat"]}, "id": "r1"}
    choice = {"type": "choices", "value": {"choices": ["sunny"]}, "id": "c1"}
    text = {"type": "textarea", "value": {"text": ["a cat"]}, "id": "t1"}
    put(tmp_path / "set/project-1.json", [task(shape, label, choice, text)])
    rows, found = load("label_studio")
    assert boxes(rows[0], rows) == [("cat", 10, 20, 50, 30)]
    assert found["not used", "choices"] == found["not used", "textarea"] == 1


def test_which_annotation_of_a_task_counts(tmp_path, load):
    for number in range(6):
        paint(tmp_path / f"set/images/{number}.jpg")

    def own(number, *annotations, **more):
        data = {"id": number, "data": {"image": f"/data/upload/1/0123abcd-{number}.jpg"}, **more}
        return {**data, "annotations": list(annotations)}

    old = {"result": [region(label="old")], "created_at": "2024-01-01T00:00:00Z"}
    new = {"result": [region(label="new")], "created_at": "2024-02-01T00:00:00Z"}
    tasks = [
        own(0, new, old),
        own(1, {**old, "ground_truth": True}, new),
        own(2, old, {**new, "was_cancelled": True}),
        own(3, {**new, "was_cancelled": True}),
        own(4, predictions=[{"result": [region(label="guess")]}]),
        own(5, {"result": []}),
    ]
    put(tmp_path / "set/tasks.json", tasks)
    rows, found = load("label_studio")
    shown = {row["filename"]: [box[0] for box in boxes(row, rows)] for row in rows}
    assert shown == {"0.jpg": ["new"], "1.jpg": ["old"], "2.jpg": ["old"], "5.jpg": []}
    assert found["skipped", "skipped by the annotator"] == found["skipped", "not annotated"] == 1
    assert found["noted", "task with several annotations: the ground truth or the newest counts"] == 2
    assert found["not used", "prediction"] == 1


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"value": {"format": "rle", "rle": [1], "brushlabels": ["cat"]}}, "brush stroke, whose box is not known"),
        (region(x=None), "malformed"),
        ({**region(), "value": {**region()["value"], "rectanglelabels": []}}, "malformed"),
        ({"type": "rectanglelabels", "value": region(rotation=30)["value"]}, "malformed"),
    ],
)  # fmt: skip
def test_regions_that_cannot_be_used_are_dropped_by_name(tmp_path, load, result, reason):
    paint(tmp_path / "set/images/a.jpg")
    paint(tmp_path / "set/images/b.jpg")
    put(tmp_path / "set/tasks.json", [task(result), {**task(region(), image="/data/upload/1/b.jpg"), "id": 2}])
    rows, found = load("label_studio")
    assert [len(row["objects"]["id"]) for row in rows] == [0, 1] and found["dropped", reason] == 1


def test_an_image_turned_in_the_tool_is_left_out(tmp_path, load):
    paint(tmp_path / "set/images/a.jpg")
    paint(tmp_path / "set/images/b.jpg")
    other = {**task(region(), image="b.jpg"), "id": 2}
    put(tmp_path / "set/tasks.json", [task({**region(), "image_rotation": 90}), other])
    rows, found = load("label_studio")
    assert [row["filename"] for row in rows] == ["b.jpg"]
    assert found["skipped", "image rotated in the tool: boxes may refer to either orientation"] == 1


@pytest.mark.parametrize(
    ("address", "at"),
    [
        ("/data/upload/1/0123abcd-a.jpg", "images/0123abcd-a.jpg"),
        ("/data/upload/1/0123abcd-a.jpg", "a.jpg"),
        ("/data/local-files/?d=cats/a.jpg", "images/cats/a.jpg"),
        ("/data/local-files/?d=cats%2Fmy%20a.jpg", "cats/my a.jpg"),
        ("s3://bucket/cats/a.jpg", "images/a.jpg"),
        ("https://host/cats/a.jpg?X-Amz-Signature=1", "images/cats/a.jpg"),
        ("images/a.jpg", "images/a.jpg"),
    ],
)
def test_addresses_of_images(tmp_path, load, address, at):
    paint(tmp_path / "set" / at)
    put(tmp_path / "set/tasks.json", [task(region(), image=address)])
    rows, found = load("label_studio")
    assert boxes(rows[0], rows) == [("cat", 10, 20, 50, 30)]
    assert not any(fate in ("noted", "skipped") for fate, _ in found)


def test_two_uploads_of_one_name_are_not_guessed(tmp_path, load):
    paint(tmp_path / "set/images/a.jpg")
    paint(tmp_path / "set/images/b.jpg")
    addresses = ["/data/upload/1/0123abcd-a.jpg", "/data/upload/1/4567abcd-a.jpg", "b.jpg"]
    put(tmp_path / "set/tasks.json", [{**task(region(), image=one), "id": n} for n, one in enumerate(addresses)])
    rows, found = load("label_studio")
    assert [row["filename"] for row in rows] == ["b.jpg"] and found["skipped", "no such file"] == 2


def test_json_min(tmp_path, load):
    paint(tmp_path / "set/images/a.jpg")
    value = {**region()["value"], "original_width": 200, "original_height": 100}
    item = {"id": 1, "image": "/data/upload/1/0123abcd-a.jpg", "label": [value], "annotator": 1, "annotation_id": 1}
    newer = {**item, "label": [{**value, "x": 10}], "updated_at": "2024-02-01"}
    put(tmp_path / "set/project.json", [{**newer, "annotation_id": 2}, {**item, "updated_at": "2024-01-01"}])
    rows, found = load("label_studio")
    assert boxes(rows[0], rows) == [("cat", 20, 20, 50, 30)]
    assert found["noted", "task with several annotations: the ground truth or the newest counts"] == 1


def test_names_of_addresses():
    assert names_of("/data/upload/1/0a1b2c3d-car.jpg") == ["0a1b2c3d-car.jpg", "car.jpg"]
    assert names_of("/data/local-files/?d=/cars/car.png") == ["cars/car.png", "/cars/car.png"]
    assert names_of("a car") == names_of("http://[") == names_of("") == []


# ---- all three ----


@pytest.mark.parametrize("name", ["labelme_json", "cvat_xml", "label_studio"])
@pytest.mark.parametrize("content", ["", "{}", "[]", "[1]", "null", '{"shapes": 3}', "<annotations/>", "<a>", "[{}]"])
def test_odd_files_are_refused_by_name(tmp_path, load, name, content):
    paint(tmp_path / "set/a.jpg")
    put(tmp_path / f"set/odd.{'xml' if name == 'cvat_xml' else 'json'}", content)
    with pytest.raises(DataError, match=r"odd\.|expected .*|no object|no usable image"):
        load(name)


@pytest.mark.parametrize("name", [*WRITERS, "coco_json", "indiscernible"])
def test_a_folder_says_its_layout(tmp_path, name):
    source(name, tmp_path / "set")
    layout = "coco_json" if name == "indiscernible" else name
    assert layout_of(tmp_path / "set") == layout
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_name = load_dataset(layout, data_dir=tmp_path / "set", split="train", cache_dir=tmp_path / "cache")
        by_folder = load_dataset(str(tmp_path / "set"), kind="boxes", split="train", cache_dir=tmp_path / "cache")
    assert by_folder.to_dict() == by_name.to_dict()


def test_tables_and_exports_are_no_layouts(tmp_path):
    paint(tmp_path / "hub/train/a.jpg")
    put(tmp_path / "hub/train/metadata.jsonl", '{"file_name": "a.jpg", "objects": {"bbox": [], "category": []}}\n')
    put(tmp_path / "table/train.json", [{"image": "a.jpg", "bbox": [1, 2, 3, 4], "category": "cat"}])
    assert layout_of(tmp_path / "hub") is None and layout_of(tmp_path / "table") is None


@pytest.mark.parametrize("degrees", [0, 15, 45, 90, 135, 200, -30])
def test_turned_shapes_are_inside_their_box(degrees):
    x, y, w, h = ellipse(50, 40, 20, 10, degrees)
    left, top, wide, high = turned((30, 30, 40, 20), degrees, (50, 40))
    assert left <= x + 1e-6 and top <= y + 1e-6 and left + wide >= x + w - 1e-6 and top + high >= y + h - 1e-6
    assert x + w / 2 == pytest.approx(50) and y + h / 2 == pytest.approx(40)

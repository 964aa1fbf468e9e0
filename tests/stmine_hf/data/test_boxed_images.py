"""What becomes of images and boxes, whatever their layout: sizes, EXIF, borders, counts."""

import math
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image, ImageOps

from stmine_hf.data import load_dataset
from stmine_hf.data.boxed_images import (
    Box,
    BoxRecord,
    category_ids,
    category_label,
    number_rows,
    place_boxes,
    row_features,
)
from stmine_hf.data.coco_json import to_coco
from stmine_hf.data.findings import Findings
from stmine_hf.data.names import ImageFiles, Wanted
from stmine_hf.data.toy import toy_camouflage
from stmine_hf.images.header import ORIENTATION


def record(path, *bboxes, size=None, **fields) -> BoxRecord:
    boxes = [Box(f"box {i}", bbox, 0) for i, bbox in enumerate(bboxes)]
    return BoxRecord("a.json", "train", path.name, str(path), (0, 0), boxes, size=size, **fields)


@pytest.fixture
def image(tmp_path):
    """An image of 40 x 30 pixels."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def bboxes_of(placed: BoxRecord) -> list[tuple]:
    return [box.bbox for box in placed.boxes]


@pytest.mark.parametrize(
    ("bbox", "expected", "message"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), ""),
        ((0, 0, 40, 30), (0, 0, 40, 30), ""),
        ((-0.3, 29, 4, 1.2), (-0.3, 29, 4, 1.2), ""),  # rounding of the tool that wrote it
        (
            (-5, -5, 10, 10),
            (0, 0, 5, 5),
            "corrected 1: 1 x box clipped to its image (box 0, [-5, -5, 10, 10] in",
        ),
        ((30, 20, 99, 99), (30, 20, 10, 10), "clipped"),
        ((-10, -10, 90, 90), (0, 0, 40, 30), "clipped"),
        ((40, 0, 5, 5), None, "dropped 1 box: 1 x outside its image (box 0, [40, 0, 5, 5] in 40 x 30)"),
        ((-5, 3, 5, 5), None, "outside"),
        ((3, 99, 5, 5), None, "outside"),
        ((3, 3, 0, 5), None, "of no area"),
        ((3, 3, 5, -1), None, "of no area"),
        ((math.nan, 3, 5, 5), None, "not finite"),
        ((3, 3, math.inf, 5), None, "not finite"),
    ],
)
def test_borders(image, bbox, expected, message):
    findings = Findings()
    placed = place_boxes(record(image, bbox), findings)
    assert [pytest.approx(expected)] == bboxes_of(placed) if expected else placed.boxes == []
    assert message in str(findings) and bool(findings) == bool(message)
    assert placed.size == (40, 30)


@pytest.mark.parametrize(
    ("area", "bbox", "expected"),
    [
        (None, (1, 1, 4, 5), 20),
        (7.5, (1, 1, 4, 5), 7.5),  # of the outline
        (0.0, (1, 1, 4, 5), 20),
        (math.nan, (1, 1, 4, 5), 20),
        (7.5, (-2, 1, 3, 5), 5),  # no more than what is left of the box
        (2.5, (-2, 1, 3, 5), 2.5),
    ],
)
def test_areas(image, area, bbox, expected):
    given = record(image)
    given.boxes = [Box("", bbox, 0, area=area)]
    (box,) = place_boxes(given, Findings()).boxes
    assert box.area == expected


def test_boxes_follow_a_resized_image(image):
    findings = Findings()
    given = record(image, (10, 20, 40, 40), size=(80, 60))
    given.boxes[0].area = 800.0
    (box,) = place_boxes(given, findings).boxes
    assert box.bbox == (5, 10, 20, 20) and box.area == 200
    assert "corrected 1: 1 x boxes scaled to the size of the file (a.json, a.png: 80 x 60, its file 40 x 30)" in str(
        findings
    )
    assert bboxes_of(place_boxes(record(image, (0, 0, 81, 61), size=(81, 61)), Findings())) == [
        pytest.approx((0, 0, 40, 30))
    ], "sides are rounded one by one"


def test_a_size_of_another_shape_cannot_be_trusted(image):
    findings = Findings()
    assert place_boxes(record(image, (0, 0, 5, 5), size=(30, 40)), findings) is None
    assert "skipped 1 image: 1 x size of another shape than the file's" in str(findings)
    assert "a.png: 30 x 40, its file 40 x 30" in str(findings)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_boxes_with_the_image(tmp_path, orientation, suffix):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[8:24, 32:56] = 255  # the box [32, 8, 24, 16]
    stored = Image.fromarray(pixels)
    exif = stored.getexif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    decoded = datasets.Image().decode_example({"path": str(path), "bytes": None})
    assert decoded.size == ImageOps.exif_transpose(Image.open(path)).size
    ys, xs = np.nonzero(np.asarray(decoded.convert("L")) > 127)
    shown = (xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min())
    turned = orientation >= 5
    given = (32, 8, 24, 16) if turned else shown  # without a change of size nothing tells that they were not turned
    placed = place_boxes(record(path, given, size=(64, 48)), findings := Findings())
    assert placed.size == decoded.size
    assert bboxes_of(placed) == [shown]
    assert ("boxes turned with the image" in str(findings)) == turned
    assert ("turned by its EXIF, and no size states it" in str(findings)) == (orientation in (2, 3, 4))
    if turned:
        placed = place_boxes(record(path, shown, size=(48, 64)), findings := Findings())
        assert bboxes_of(placed) == [shown] and not findings, "boxes of the turned image stay"


def test_fractions_of_the_sides(image):
    assert bboxes_of(place_boxes(record(image, (0.25, 0.5, 0.5, 0.5), size=(1, 1)), findings := Findings())) == [
        (10, 15, 20, 15)
    ]
    assert not findings


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 cut"])
def test_unreadable_images(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    assert place_boxes(record(tmp_path / "a.jpg"), findings := Findings()) is None
    assert "skipped 1 image: 1 x unreadable (a.json, " in str(findings)


def test_findings_count_all_and_show_the_first():
    findings = Findings()
    assert not findings and str(findings) == ""
    for number in range(5):
        findings.drop("of no area", f"box {number}")
    findings.drop("not finite", "box 9")
    findings.skip("no such file", "a.jpg")
    assert str(findings) == (
        "skipped 1 image: 1 x no such file (a.jpg); "
        "dropped 6 boxes: 5 x of no area (box 0; box 1; box 2; ...), 1 x not finite (box 9)"
    )
    other = findings.copy()
    other.correct("x", "y")
    assert findings.number("corrected") == 0 and other.number("dropped") == 6


def test_numbers_for_what_has_none(image):
    records = [place_boxes(record(image, (1, 1, 2, 2), (2, 2, 3, 3)), Findings()) for _ in range(2)]
    records[0].boxes[1].id = 7
    rows = number_rows(records)
    assert [row["image_id"] for row in rows] == [1, 2]
    assert [row["objects"]["id"] for row in rows] == [[8, 7], [9, 10]]


def test_images_by_name(tmp_path, image):
    (tmp_path / "folder.png").mkdir()
    files = ImageFiles([tmp_path / "absent", tmp_path])
    assert files.find([Wanted("a.png")], Findings()) == [str(image)]
    assert files.find([Wanted("images\\train\\a.png")], Findings()) == [str(image)], "a path of another machine"
    for name in ("folder.png", "", ".", "b.png", "a\0.png", "x" * 5000):
        assert files.find([Wanted(name)], Findings()) == [None]


def test_category_ids_travel_with_the_features(tmp_path):
    features = row_features(["person", "stop sign"], [1, 13])
    assert category_label(features).names == ["person", "stop sign"]
    objects = {"id": [1], "bbox": [[0.0, 0, 1, 1]], "category": [1], "area": [1.0], "iscrowd": [False]}
    row = {"image_id": 1, "filename": "a", "width": 2, "height": 2, "objects": objects, "source": "", "image": None}
    rows = datasets.Dataset.from_list([row] * 3, features=features)
    assert category_ids(rows.filter(lambda row: True).shuffle(seed=0).select([0]).features) == [1, 13]
    rows.to_parquet(tmp_path / "a.parquet")
    again = datasets.Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path))
    assert category_ids(again.features) == [1, 13]
    lost = datasets.Features({"objects": {"category": datasets.Sequence(datasets.ClassLabel(names=["a", "b"]))}})
    assert category_ids(lost) == [1, 2]


def test_three_layouts_of_one_set_say_the_same(tmp_path):
    folder, names = tmp_path / "set", toy_camouflage.ANIMAL_KINDS
    toy_camouflage.write_camouflage(folder, count=8, seed=1, size=64)
    options = {"data_dir": folder, "split": "train", "cache_dir": tmp_path / "cache"}
    coco = load_dataset("coco_json", **options).remove_columns("image")  # the images are moved below
    for part in ("images/train", "labels/train", "Annotations"):
        (folder / part).mkdir(parents=True)
    for row in coco:
        stem, width, height = Path(row["filename"]).stem, row["width"], row["height"]
        lines, tags = [], [f"<size><width>{width}</width><height>{height}</height></size>"]
        for (x, y, w, h), label in zip(row["objects"]["bbox"], row["objects"]["category"], strict=True):
            lines.append(f"{label} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}")
            corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
            bndbox = "".join(f"<{tag}>{value}</{tag}>" for tag, value in corners.items())
            tags.append(f"<object><name>{names[label]}</name><bndbox>{bndbox}</bndbox></object>")
        (folder / f"images/{stem}.jpg").rename(folder / f"images/train/{stem}.jpg")
        (folder / f"labels/train/{stem}.txt").write_text("\n".join(lines))
        (folder / f"Annotations/{stem}.xml").write_text(f"<annotation>{''.join(tags)}</annotation>")
    options["image_dir"] = str(folder / "images/train")
    voc = load_dataset("voc_xml", classes=names, **options)
    yolo = load_dataset("yolo_txt", classes=names, **{**options, "image_dir": str(folder / "images")})
    assert [a["bbox"] for a in to_coco(coco)["annotations"]], "something to compare"
    for other in (voc, yolo):
        for ours, theirs in zip(coco, other, strict=True):
            assert ours["filename"] == theirs["filename"]
            assert ours["objects"]["category"] == theirs["objects"]["category"]
            np.testing.assert_allclose(ours["objects"]["bbox"], theirs["objects"]["bbox"], atol=1e-6)
            assert [w * h for _, _, w, h in ours["objects"]["bbox"]] == pytest.approx(theirs["objects"]["area"])


@pytest.mark.parametrize(("size", "orientation"), [((40, 40), 6), ((40, 30), 3), ((40, 30), 8)])
def test_a_side_that_no_size_tells_is_noted(tmp_path, size, orientation):
    image = Image.new("RGB", size)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(tmp_path / "a.jpg", exif=exif)
    stated = (1, 1) if size[0] != size[1] else size  # fractions, as YOLO's
    place_boxes(record(tmp_path / "a.jpg", (0, 0, 0.5, 0.5), size=stated), findings := Findings())
    assert findings.counts["noted"] == {
        "image turned by its EXIF, and no size states it: boxes assumed to refer to the upright image": 1
    }
    record_without = record(tmp_path / "a.jpg", size=stated)
    record_without.boxes.clear()
    place_boxes(record_without, findings := Findings())
    assert not findings

"""Pascal VOC's layout: its folders, its counting from 1, and XML files that are not as they should be."""

from pathlib import Path

import pytest
from PIL import Image

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.boxed_images import category_ids, category_label
from stmine_hf.data.coco_json import to_coco


@pytest.fixture
def load(tmp_path):
    """`load_dataset("voc_xml")` with a cache of the test's own."""
    return lambda folder, **options: load_dataset("voc_xml", data_dir=folder, cache_dir=tmp_path / "cache", **options)


def item(name: str, *corners: float | str, extra: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=False)
    return f"<object><name>{name}</name>{extra}<bndbox>{''.join(f'<{t}>{c}</{t}>' for t, c in tags)}</bndbox></object>"


def write(
    folder: Path,
    stem: str,
    *objects: str,
    annotations: str = "Annotations",
    images: str = "JPEGImages",
    filename: str | None = None,
    size: str = "<size><width>40</width><height>30</height><depth>3</depth></size>",
    database: str = "The VOC2007 Database",
    suffix: str = ".jpg",
) -> None:
    (folder / annotations).mkdir(parents=True, exist_ok=True)
    (folder / images).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / images / f"{stem}{suffix}")
    head = f"<filename>{filename or stem + suffix}</filename><source><database>{database}</database></source>{size}"
    (folder / annotations / f"{stem}.xml").write_text(f"<annotation>{head}{''.join(objects)}</annotation>")


def write_lists(folder: Path, **stems: str) -> None:
    (folder / "ImageSets/Main").mkdir(parents=True)
    for split, text in stems.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text(text)


DOG, PERSON = item("dog", 1, 1, 40, 30), item("person", 11, 6, 20, 15)


def test_rows_of_the_published_layout(tmp_path, load, recwarn):
    folder = tmp_path / "VOC2007"
    whole = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    difficult = item("person", 1.5, 2, 3, 4, extra=f"{whole}<difficult>1</difficult><truncated>1</truncated>")
    write(folder, "000005", DOG, PERSON)
    write(folder, "000007", difficult, database="Unknown")
    write(folder, "000009")
    write(folder, "000012", item("aeroplane", 1, 1, 2, 2))
    write_lists(
        folder, train="000007\n000005\n", val="000009 -1\n\n000009\n", trainval="000005\n", dog_train="000012 1"
    )
    sets = load(folder)
    assert not recwarn
    assert {split: rows["filename"][:] for split, rows in sets.items()} == {
        "train": ["000007.jpg", "000005.jpg"],
        "val": ["000009.jpg"],
    }
    assert category_label(sets["val"].features).names == ["dog", "person"], "of the listed files, by the alphabet"
    assert category_ids(sets["val"].features) == [1, 2]
    first, second = sets["train"]
    assert second["objects"]["bbox"] == [[0, 0, 40, 30], [10, 5, 10, 10]], "the last pixel belongs to the box"
    assert second["objects"]["category"] == [0, 1] and second["objects"]["area"] == [1200, 100]
    assert (second["source"], second["width"], second["height"]) == ("The VOC2007 Database", 40, 30)
    assert first["objects"]["bbox"] == [[0.5, 1, 2.5, 3]] and first["objects"]["iscrowd"] == [True]
    assert first["source"] == "", "LabelImg's Unknown says nothing"
    assert sets["val"][0]["objects"]["bbox"] == []
    assert [image_id for rows in sets.values() for image_id in rows["image_id"]] == [1, 2, 3]
    assert [a["id"] for rows in sets.values() for a in to_coco(rows)["annotations"]] == [1, 2, 3]


def test_other_layouts(tmp_path, load):
    flat, splits, lower = tmp_path / "flat", tmp_path / "splits", tmp_path / "lower"
    write(flat, "b", PERSON, annotations=".", images=".", suffix=".PNG")
    write(flat, "a", DOG, annotations=".", images=".")
    Image.new("RGB", (40, 30)).save(flat / "unlabelled.jpg")
    assert {split: rows["filename"][:] for split, rows in load(flat).items()} == {"train": ["a.jpg", "b.PNG"]}
    for name in ("train", "valid", "test"):
        write(splits, f"in_{name}", DOG, annotations=name, images=name)
    assert {split: rows["filename"][:] for split, rows in load(splits).items()} == {
        "train": ["in_train.jpg"],
        "val": ["in_valid.jpg"],
        "test": ["in_test.jpg"],
    }
    write(lower, "a", DOG, annotations="annotations", images="images", filename="renamed_since.jpg")
    write(lower, "b", DOG, annotations="annotations", images="images", filename="c.jpg")
    (lower / "images/b.jpg").rename(lower / "images/c.jpg")
    write_lists(lower, trainval="b\na\n")
    assert load(lower, split="train")["filename"][:] == ["c.jpg", "a.jpg"]
    (lower / "images").rename(tmp_path / "pictures")
    assert len(load(lower, split="train", image_dir=str(tmp_path / "pictures"))) == 2


def test_zero_based_corners(tmp_path, load):
    write(tmp_path / "set", "a", item("dog", 0, 0, 40, 30), item("dog", 5, 6, 15, 16))
    rows = load(tmp_path / "set", split="train", one_based=False)
    assert rows[0]["objects"]["bbox"] == [[0, 0, 40, 30], [5, 6, 10, 10]]
    with pytest.warns(UserWarning, match=r"1 x box clipped .*Annotations/a.xml, object 1, \[-1, -1, 41, 31\]"):
        load(tmp_path / "set", split="train")


@pytest.mark.parametrize("by", ["option", "file"])
def test_given_classes(tmp_path, load, by):
    folder = tmp_path / "set"
    write(folder, "a", PERSON, item(" dog ", 1, 1, 5, 5), item("cat", 1, 1, 5, 5))
    if by == "file":
        (folder / "classes.txt").write_text("person\ndog\n\n")
    with pytest.warns(UserWarning, match=r"dropped 1 box: 1 x of an unknown category .*a.xml, object 3, 'cat'"):
        rows = load(folder, split="train", **({"classes": ["person", "dog"]} if by == "option" else {}))
    assert category_label(rows.features).names == ["person", "dog"]
    assert rows[0]["objects"]["category"] == [0, 1]
    (folder / "classes.txt").write_text("person\ndog\nperson\n")
    with pytest.raises(DataError, match=r"two classes in .*set have one name: person, dog, person"):
        load(folder, **({"classes": ["person", "dog", "person"]} if by == "option" else {}))


def test_bad_entries_are_counted(tmp_path, load):
    folder = tmp_path / "set"
    write(
        folder,
        "a",
        DOG,
        item("dog", 1, 1, 5),
        item("dog", 1, 1, 5, "five"),
        item("", 1, 1, 5, 5),
        "<object><name>dog</name><polygon/></object>",
        item("dog", 5, 5, 4, 4),
        item("dog", 50, 5, 60, 9),
        item("dog", "nan", 5, 60, 9),
        item("dog", 31, 1, 60, 9),
    )
    write(folder, "b", DOG, size="")
    write(folder, "c", DOG, size="<size><width>0</width><height>0</height></size>")
    write(folder, "d", DOG, size="<size><width>30</width><height>40</height></size>")
    write(folder, "e", DOG)
    (folder / "Annotations/e.xml").write_text("<annotation>\n<object><name>dog</nam></object></annotation>")
    write(folder, "f", DOG)
    (folder / "JPEGImages/f.jpg").unlink()
    write(folder, "g", DOG)
    (folder / "JPEGImages/g.jpg").write_bytes(b"no image")
    (folder / "Annotations/h.xml").write_bytes(b'<?xml version="1.0" encoding="klingon"?><annotation/>')
    write_lists(folder, train="\n".join("abcdefghi"))
    with pytest.warns(UserWarning) as caught:
        rows = load(folder, split="train")
    assert rows["filename"][:] == ["a.jpg", "b.jpg", "c.jpg"]
    assert rows[0]["objects"]["bbox"] == [[0, 0, 40, 30], [30, 0, 10, 9]]
    message = str(caught[0].message)
    for part in (
        "voc_xml: 3 images with 4 boxes; skipped 6 images: ",
        "1 x not XML (Annotations/e.xml (mismatched tag: line 2, column ",
        "1 x no such file (Annotations/f.xml, f.jpg)",
        "2 x no annotation that can be read (Annotations/h.xml (LookupError: unknown encoding: klingon); ",
        "1 x unreadable (Annotations/g.xml, ",
        "1 x size of another shape",
        "4 x malformed (Annotations/a.xml, object 2 (no bndbox/ymax); Annotations/a.xml, object 3 (could not convert",
        "1 x of no area",
        "1 x outside its image",
        "1 x not finite",
        "1 x box clipped",
    ):
        assert part in message


def test_refusals(tmp_path, load):
    folder = tmp_path / "set"
    (folder / "Annotations").mkdir(parents=True)
    with pytest.raises(DataError, match=r"voc_xml: expected Annotations/\*.xml.* found \[Annotations/\]"):
        load(folder)
    write(folder, "a")
    with pytest.raises(DataError, match=r"no object in any of the 1 XML files .*the option classes"):
        load(folder)
    assert load(folder, classes=["dog"])["train"][0]["objects"]["bbox"] == []
    (folder / "Annotations/a.xml").write_text("<annotation")
    with pytest.raises(DataError, match=r"no usable image in .*1 x not XML \(Annotations/a.xml \(unclosed token"):
        load(folder)
    with pytest.raises(DataError, match=r"no option colour; its options are: image_dir, classes, one_based"):
        load(folder, colour="red")

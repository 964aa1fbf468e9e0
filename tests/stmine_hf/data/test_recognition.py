"""What a path holds is recognised by names, and said; what is not there is an error at once."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.recognition import recognize


def write_csv(path: Path, *rows: list) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def write_image(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)
    return path


@pytest.mark.parametrize(
    ("header", "kind", "mapping"),
    [
        (["file", "sentence"], "captions", {"image": "file", "captions": "sentence"}),
        (["File Name", "caption"], "captions", {"image": "File Name", "captions": "caption"}),
        (["Image", "Caption_1", "Caption_2"], "captions", {"image": "Image", "captions": ["Caption_1", "Caption_2"]}),
        (["content", "photo", "verdict"], "posts", {"text": "content", "label": "verdict", "image": "photo"}),
        (["图片", "标题", "标签"], "posts", {"text": "标题", "label": "标签", "image": "图片"}),
        (["text", "label", "event"], "posts", {"text": "text", "label": "label", "group": "event"}),
        (
            ["filename", "class", "xmin", "ymin", "xmax", "ymax"],
            "boxes",
            {"image": "filename", "category": "class", "bbox": ["xmin", "ymin", "xmax", "ymax"]},
        ),
    ],
)
def test_columns_are_known_by_their_names(tmp_path, header, kind, mapping):
    path = write_csv(tmp_path / "mine.csv", header, ["1"] * len(header))
    found = recognize(str(path), kind)
    assert {part: found.column_mapping[part] for part in mapping} == mapping
    assert found.options.get("bbox_format") == ("xyxy" if kind == "boxes" else None)
    assert all(any(str(part) in line for line in found.taken) for part in mapping)


def test_a_column_that_is_given_wins(tmp_path):
    path = write_csv(tmp_path / "mine.csv", ["file", "text", "title"], ["a", "b", "c"])
    assert recognize(str(path), "captions", {"captions": "title"}).column_mapping["captions"] == "title"


def test_a_table_with_corners_is_read_as_it_was_recognised(tmp_path):
    write_image(tmp_path / "a.png")
    rows = [["filename", "class", "x1", "y1", "x2", "y2"], ["a.png", "cat", 5, 5, 25, 20]]
    found = recognize(str(write_csv(tmp_path / "boxes.csv", *rows)), "boxes")
    loaded = load_dataset(found.dataset, kind="boxes", column_mapping=found.column_mapping, **found.options)
    assert loaded["train"][0]["objects"]["bbox"] == [[5, 5, 20, 15]]


def test_layouts_are_known_by_their_files(tmp_path):
    coco = {"images": [], "annotations": [], "categories": []}
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "coco" / "annotations" / "instances_train.json").write_text(json.dumps(coco))
    found = recognize(str(tmp_path / "coco"), "boxes")
    assert (found.dataset, found.data_dir) == ("coco_json", str(tmp_path / "coco"))
    alone = tmp_path / "boxes.json"
    alone.write_text(json.dumps(coco))
    found = recognize(str(alone), "boxes")
    assert (found.dataset, found.data_dir, found.options) == (
        "coco_json",
        str(tmp_path),
        {"files": {"train": "boxes.json"}},
    )
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "dataset.json").write_text('{"images": []}')
    assert recognize(str(tmp_path / "scenes"), "captions").dataset == "rsicd"
    assert (
        recognize("toy_posts", "posts").dataset == "toy_posts" and recognize("org/name", "posts").dataset == "org/name"
    )


@pytest.mark.parametrize("path", ["nowhere", "nowhere.csv", "empty", "empty.csv", "toy_posts"])
def test_what_is_not_there_is_an_error(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty.csv").touch()
    with pytest.raises(DataError, match=r"no such file or folder|is empty|has no rows of boxes"):
        recognize(path, "boxes")


def test_a_wrong_path_is_told_before_anything_large_is_imported():
    code = (
        "import sys; from stmine_hf.data.paths import require_data\n"
        "try: require_data('nowhere')\nexcept Exception: pass\n"
        "assert not {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

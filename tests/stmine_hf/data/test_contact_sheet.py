"""The sheet of images with boxes: as many as asked for, boxes where they belong."""

import numpy as np
import pytest

from stmine_hf.data import load_dataset
from stmine_hf.data.contact_sheet import category_colour, contact_sheet


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return load_dataset("toy_camouflage", count=5, size=64, split="train", cache_dir=tmp_path_factory.mktemp("cache"))


def test_boxes_are_drawn_where_they_are(rows):
    with_boxes = rows.filter(lambda row: len(row["objects"]["bbox"]) == 1).select([0])
    (row,) = with_boxes
    sheet = np.asarray(contact_sheet(with_boxes, side=64), int)
    assert sheet.shape == (64, 64, 3)
    left, top = (64 - row["width"]) // 2, (64 - row["height"]) // 2
    x, y, width, height = (int(value) for value in row["objects"]["bbox"][0])
    colour = np.array(category_colour(row["objects"]["category"][0]))
    drawn = (sheet == colour).all(axis=-1)[top : top + row["height"], left : left + row["width"]]
    ys, xs = np.nonzero(drawn)
    assert abs(xs.min() - x) <= 1 and abs(ys.min() - y) <= 1
    assert drawn[y : y + height + 1, x].mean() > 0.8 and drawn[y + height - 1, x : x + width].mean() > 0.8


def test_the_sheet_takes_what_there_is(rows):
    assert contact_sheet(rows, side=32).size == (5 * 32, 32)
    assert contact_sheet(rows, side=32, columns=2).size == (64, 96)
    assert contact_sheet(rows, side=32, count=3, columns=2).size == (64, 64)
    assert contact_sheet(rows.select([]), side=32).size == (32, 32)
    assert contact_sheet(iter(rows), rows.features, side=200).size == (1000, 200), "images are not enlarged"


def test_crowds_and_boxes_at_the_border(rows):
    row = {**rows[0], "objects": {**rows[0]["objects"]}}
    bboxes = [[0.0, 0.0, 64.0, 48.0], [-0.4, 10.0, 1.0, 1.0], [60.0, 40.0, 10.0, 20.0]]
    row["objects"] = {"bbox": bboxes, "category": [0, 1, 5], "iscrowd": [True, False, True]}
    assert contact_sheet([row], rows.features, side=64).size == (64, 64)


def test_refusals(rows):
    with pytest.raises(ValueError, match="give features"):
        contact_sheet(list(rows))
    with pytest.raises(ValueError, match="at least 1: 24, 0, 240"):
        contact_sheet(rows, columns=0)

"""`stmine evaluate sat`: tables, files, JSON, and every mistake in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_sat import save_tiny_sat

from stmine_hf.cli import main


def run(*words) -> int:
    """The exit code of `stmine evaluate sat WORDS`."""
    try:
        main(["evaluate", "sat", *map(str, words)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_sat(tmp_path_factory.mktemp("model") / "tiny", class_prior=0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six images in the layout of COCO, two of them without boxes."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    images, boxes = [], []
    for number in range(1, 7):
        Image.effect_noise((80, 60), 80).convert("RGB").save(folder / "images" / f"{number}.jpg")
        source = "CAMO" if number % 2 else "SIRST"
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 80, "height": 60, "source": source})
        if number < 5:
            box = {"bbox": [5 * number, 5, 30, 40], "area": 1200, "iscrowd": 0}
            boxes.append({"id": number, "image_id": number, "category_id": 1 + number % 2, **box})
    categories = [{"id": 1, "name": "deer"}, {"id": 2, "name": "person"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return folder


def test_prints_saves_and_speaks_json(capsys, model, data, tmp_path):
    words = ["--dataset", "coco_json", "--data-dir", data, "--model", model]
    out = tmp_path / "results"
    assert run(*words, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "6 images, 4 boxes" in printed and "CAMO" in printed and "by class" in printed
    files = {"results.json", "detections.json", "pr_curve.png", "worst_misses.png"}
    written = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert written <= files and {name for name in files if name in printed} == written
    assert run(*words, "--fit", "stretch", "--limit", 2, "--json") == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["fit"] == "stretch" and scored["images"] == 2 and "ap" in scored["metrics"]


def test_a_table_of_ones_own(capsys, model, data, tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("photo,l,t,r,b,animal\n1.jpg,5,5,35,45,person\n1.jpg,0,0,9,9,deer\n2.jpg,10,5,40,45,deer\n")
    words = ["--dataset", table, "--option", f"image_dir={data}/images", "--option", "bbox_format=xyxy"]
    words += ["--split", "train", "--column", "image=photo", "--column", "bbox=l,t,r,b", "--model", model, "--json"]
    assert run(*words, "--column", "category=animal") == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["images"] == 2 and scored["boxes"] == 3
    assert run(*words) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "no column 'objects.category' (category), but photo, l, t, r, b, animal" in said


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["--dataset", "coco_json", "--data-dir", "{data}", "--fit", "squash"], 2, ["expected pad, letterbox or"]),
        (["--dataset", "coco_json", "--data-dir", "{data}", "--split", "test"], 1, ["no split 'test'"]),
        (["--dataset", "coco_json", "--data-dir", "{data}", "--option", "nosuch=1"], 1, ["no option nosuch"]),
        (["--dataset", "nosuch"], 1, ["unknown data set 'nosuch'"]),
        (["--dataset", "toy_scenes", "--option", "count=3"], 1, ["toy_scenes has no rows of boxes"]),
        (["--dataset", "{data}", "--column", "bbox"], 2, ["expected PART=COLUMN"]),
        (["--dataset", "coco_json", "--data-dir", "{data}", "--out", "{data}/images/1.jpg"], 1, ["found a file"]),
    ],
    ids=["fit", "split", "option", "data set", "captions", "column", "out"],
)
def test_what_the_user_can_mend(capsys, model, data, words, code, parts):
    assert run(*(word.format(data=data) for word in words), "--model", model) == code
    printed = capsys.readouterr()
    assert printed.out == "" and all(part in " ".join(printed.err.split()) for part in parts), printed.err

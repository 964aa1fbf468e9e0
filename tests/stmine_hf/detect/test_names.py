"""Annotated copies: a name for each image, whatever the images are called."""

import json
import os
import sys
from pathlib import Path

import pytest
from helpers_sat import tiny_sat
from PIL import Image

from stmine_hf.detect import Detector, detect_images
from stmine_hf.detect.names import AnnotatedNames
from stmine_hf.errors import StmineError
from stmine_hf.printing import printable

CLASHING = ["x.png", "x.png.jpg", "x", "x.jpg", "y/z.webp", "y/z.webp.jpg", "y/z.webp.JPG", "v", "v.jpg/in.png"]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(*tiny_sat())


def fill(folder: Path, names) -> dict[str, tuple[int, int]]:
    """Images of a size each, by which a copy can be told."""
    sizes = {name: (40 + number, 30) for number, name in enumerate(names)}
    for name, size in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "grey").save(folder / name, "PNG")
    return sizes


def copies(out: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for entry in json.loads((out / "summary.json").read_text(encoding="utf-8"))["images"]:
        with Image.open(out / entry["annotated"]) as image:
            found[entry["file_name"]] = image.size
    return found


@pytest.mark.parametrize("order", [1, -1])
def test_no_two_images_share_a_copy(detector, tmp_path, order):
    sizes = fill(tmp_path / "in", CLASHING)
    report = detect_images(detector, tmp_path / "in", tmp_path / "out", progress=False)
    assert report.images == len(CLASHING) and not report.skipped
    assert copies(tmp_path / "out") == sizes
    names = [entry["annotated"] for entry in json.loads((tmp_path / "out" / "summary.json").read_text())["images"]]
    assert len({name.casefold() for name in names}) == len(names) and "images/x.jpg" in names
    again = detect_images(detector, tmp_path / "in", tmp_path / "out", progress=False)
    assert again.unchanged == len(CLASHING)


def test_images_that_come_later_leave_the_copies_of_the_others(detector, tmp_path):
    first = fill(tmp_path / "in", ["a.png"])
    detect_images(detector, tmp_path / "in", tmp_path / "out", progress=False)
    late = fill(tmp_path / "new", ["other", "a.png.jpg"])
    (tmp_path / "new" / "a.png.jpg").rename(tmp_path / "in" / "a.png.jpg")
    report = detect_images(detector, tmp_path / "in", tmp_path / "out", progress=False)
    assert (report.unchanged, report.detected) == (1, 1)
    assert copies(tmp_path / "out") == {**first, "a.png.jpg": late["a.png.jpg"]}


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "名" * 82 + ".jpg", "n" * 240 + ".webp", "d" * 250 + "/x.png"])
def test_long_names_are_cut_and_marked(detector, tmp_path, name):
    sizes = fill(tmp_path / "in", [name, "short.png"])
    report = detect_images(detector, tmp_path / "in", tmp_path / "out", progress=False)
    assert report.images == 2 and not report.skipped and copies(tmp_path / "out") == sizes


def test_names_differ_wherever_the_paths_do(tmp_path):
    names = AnnotatedNames(tmp_path, {})
    paths = [f"{'n' * 220}{number}.png" for number in range(50)] + ["A.jpg", "a.jpg", "a.JPG"]
    chosen = [names.choose(path, ".jpg") for path in paths]
    assert len({name.casefold() for name in chosen}) == len(paths)
    assert all(len(os.fsencode(Path(name).name)) <= 200 for name in chosen)
    assert [names.choose(path, ".jpg") for path in paths] == chosen


def test_the_copies_never_fall_on_the_images(detector, tmp_path):
    sizes = fill(tmp_path / "images", ["a.jpg"])
    content = (tmp_path / "images" / "a.jpg").read_bytes()
    with pytest.raises(StmineError, match="contains the input"):
        detect_images(detector, tmp_path / "images", tmp_path, progress=False)
    assert (tmp_path / "images" / "a.jpg").read_bytes() == content and sizes


def test_a_folder_of_version_0_1_is_resumed(detector, tmp_path):
    fill(tmp_path / "in", ["a.png", "b.jpg"])
    out = tmp_path / "out"
    detect_images(detector, tmp_path / "in", out, progress=False)
    (out / "images").rename(out / "pictures")
    journal = (out / "journal.jsonl").read_text().replace('"images/', '"pictures/')
    (out / "journal.jsonl").write_text(journal)
    (out / ".stmine-outputs.jsonl").unlink()
    fill(tmp_path / "in", ["c.png"])
    report = detect_images(detector, tmp_path / "in", out, progress=False)
    assert (report.unchanged, report.detected) == (2, 1)
    entries = json.loads((out / "summary.json").read_text())
    assert entries["num_images"] == 3
    assert [one["annotated"] for one in entries["images"]] == [
        "pictures/a.png.jpg",
        "pictures/b.jpg",
        "images/c.png.jpg",
    ]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_name_that_is_not_utf8_costs_itself(detector, tmp_path):
    fill(tmp_path / "in", ["a.png"])
    Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/caf\xe9.png")).write_bytes((tmp_path / "in/a.png").read_bytes())
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in\xe9"))
    (tmp_path / "in").rename(folder)
    report = detect_images(detector, folder, tmp_path / "out", progress=False)
    assert report.images == 1 and [skip.reason for skip in report.skipped] == [
        "its name is not valid UTF-8: rename it"
    ]
    assert json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["source"] == r"in\udce9"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain é 名.jpg", "plain é 名.jpg"),
        ("\x1b[2J\x1b]0;owned\x07.png", r"\x1b[2J\x1b]0;owned\x07.png"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("caf\udce9", r"caf\udce9"),
        ("\x9b31m", r"\x9b31m"),
    ],
)
def test_terminals_are_told_nothing(text, shown):
    assert printable(text) == shown

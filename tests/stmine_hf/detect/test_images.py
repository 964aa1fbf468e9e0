"""Images and folders: what is written, what is done again, what a kill costs, and every bad file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers_sat import tiny_sat
from PIL import Image
from pycocotools.coco import COCO

import stmine_hf.detect.images as module
from stmine_hf.detect import Detector, detect_images
from stmine_hf.errors import StmineError

THRESHOLD = 0.00995  # the tiny model's scores are all near 0.01


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(*tiny_sat(), threshold=THRESHOLD)


def draw(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Seven images, two of them in a subfolder."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for number in range(5):
        draw(number, 90 - number, 60).save(folder / f"{number}.jpg")
    draw(5).save(folder / "more" / "five.png")
    draw(6).save(folder / "more" / "six.webp")
    return folder


def run(detector, source, out, **options):
    return detect_images(detector, source, out, progress=False, **options)


def document(out: Path, name: str = "detections.json"):
    return json.loads((out / name).read_text(encoding="utf-8"))


def test_what_is_written(detector, folder, tmp_path):
    out = tmp_path / "out"
    report = run(detector, folder, out, batch_size=3)
    assert (report.images, report.detected, report.unchanged, report.skipped) == (7, 7, 0, [])
    rows, summary = document(out), document(out, "summary.json")
    assert len(rows) == report.objects == summary["objects"] > 10
    assert sum(report.classes.values()) == len(rows) and summary["classes"] == report.classes
    assert summary["threshold"] == THRESHOLD and summary["source"] == "pictures" and str(tmp_path) not in str(summary)
    names = [image["file_name"] for image in summary["images"]]
    assert names == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "more/five.png", "more/six.webp"]
    for image in summary["images"]:
        with Image.open(out / image["annotated"]) as annotated:
            assert annotated.size == (image["width"], image["height"]) and annotated.format == "JPEG"
        found = [row for row in rows if row["image_id"] == image["id"]]
        expected = detector([Image.open(folder / image["file_name"])])[0]
        assert len(found) == image["objects"] == len(expected)
        for row, one in zip(found, expected, strict=True):
            left, top, right, bottom = one.box
            assert row["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=0.1)
            assert (row["category_id"], row["category"]) == (one.label, one.name)
            assert row["file_name"] == image["file_name"] and row["score"] > THRESHOLD
    assert summary["images"][-1]["annotated"] == "images/more/six.webp.jpg"


def test_the_json_is_coco_results(detector, folder, tmp_path):
    run(detector, folder, tmp_path / "out")
    coco = COCO()
    summary = document(tmp_path / "out", "summary.json")
    categories = [{"id": label, "name": name} for label, name in detector.names.items()]
    coco.dataset = {"images": summary["images"], "categories": categories, "annotations": []}
    coco.createIndex()
    assert len(coco.loadRes(str(tmp_path / "out" / "detections.json")).anns) == summary["objects"]


def test_a_second_run_does_only_what_is_new(detector, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(detector, folder, out)
    first = document(out, "summary.json")
    annotated = {path: path.stat().st_mtime_ns for path in (out / "images").rglob("*.jpg")}

    again = run(detector, folder, out)
    assert (again.images, again.detected, again.unchanged) == (7, 0, 7)
    assert document(out, "summary.json") == first

    draw(50).save(folder / "0.jpg")  # another image under an old name
    draw(51).save(folder / "new.jpg")
    (out / "images" / "1.jpg").unlink()
    (folder / "2.jpg").unlink()
    third = run(detector, folder, out)
    assert (third.images, third.detected, third.unchanged) == (7, 3, 4)
    images = {image["file_name"]: image["id"] for image in document(out, "summary.json")["images"]}
    assert "2.jpg" not in images and images["new.jpg"] == 8
    for image in first["images"]:
        assert images.get(image["file_name"], image["id"]) == image["id"]  # ids stay
    untouched = out / "images" / "4.jpg"
    assert untouched.stat().st_mtime_ns == annotated[untouched]
    expected = detector([Image.open(folder / "0.jpg")])[0]
    found = [row for row in document(out) if row["file_name"] == "0.jpg"]
    assert [row["score"] for row in found] == pytest.approx([one.score for one in expected], abs=1e-4)


def test_limit_and_then_the_rest(detector, folder, tmp_path):
    assert run(detector, folder, tmp_path / "out", limit=2).images == 2
    rest = run(detector, folder, tmp_path / "out")
    assert (rest.detected, rest.unchanged, rest.images) == (5, 2, 7)


def test_results_inside_the_folder_are_not_images_of_it(detector, folder, tmp_path):
    with pytest.raises(StmineError, match="lies in the input"):
        run(detector, folder, folder / "found")
    assert not (folder / "found").exists()
    assert run(detector, folder, tmp_path / "found").images == 7
    (tmp_path / "found").rename(folder / "found")  # as version 0.1 may have written them
    assert run(detector, folder, folder / "found").unchanged == 7


def test_other_settings_need_another_folder(detector, folder, tmp_path):
    run(detector, folder, tmp_path / "out")
    before = document(tmp_path / "out")
    other = Detector(*tiny_sat(), threshold=0.2)
    with pytest.raises(StmineError, match=rf"other settings \(threshold {THRESHOLD}\): choose another folder"):
        run(other, folder, tmp_path / "out")
    with pytest.raises(StmineError, match=r"other settings \(model SatForObjectDetection, classes None\)"):
        run(Detector(*tiny_sat(seed=1), threshold=THRESHOLD, labels=["deer"]), folder, tmp_path / "out")
    with pytest.raises(StmineError, match="holds the results of a folder: choose another"):
        run(detector, folder / "0.jpg", tmp_path / "out")
    assert document(tmp_path / "out") == before


def test_a_broken_off_line_of_the_journal_costs_its_image(detector, folder, tmp_path):
    out = tmp_path / "out"
    run(detector, folder, out)
    whole = document(out)
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (out / "journal.jsonl").write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
    report = run(detector, folder, out)
    assert (report.detected, report.unchanged) == (2, 5)
    assert sorted(map(str, document(out))) == sorted(map(str, whole))
    assert (out / "journal.jsonl").read_bytes().splitlines(keepends=True) == lines


def test_stopped_in_the_middle_it_goes_on_with_the_batch_it_was_at(detector, folder, tmp_path, monkeypatch):
    out, batches = tmp_path / "out", []
    begin = detector.begin

    def interrupted(images, **options):
        batches.append(len(images))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return begin(images, **options)

    monkeypatch.setattr(detector, "begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(detector, folder, out, batch_size=2)
    assert not (out / "detections.json").exists()
    monkeypatch.setattr(detector, "begin", begin)
    report = run(detector, folder, out, batch_size=2)
    assert (report.unchanged, report.detected) == (4, 3)
    fresh = run(detector, folder, tmp_path / "fresh", batch_size=2)
    assert report.classes == fresh.classes and document(out) == document(tmp_path / "fresh")


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from helpers_sat import tiny_sat
from stmine_hf.detect import Detector, detect_images
detector, seen = Detector(*tiny_sat(), threshold={threshold}), []
begin = detector.begin
def killed(images, **options):
    seen.append(len(images))
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return begin(images, **options)
detector.begin = killed
detect_images(detector, {source!r}, {out!r}, batch_size=2, progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_run_loses_at_most_its_last_three_batches(detector, folder, tmp_path):
    out = tmp_path / "out"
    tests = str(Path(__file__).parents[2])
    code = KILLED.format(tests=tests, threshold=THRESHOLD, source=str(folder), out=str(out))
    done = subprocess.run([sys.executable, "-c", code], timeout=300)
    assert done.returncode == -signal.SIGKILL
    report = run(detector, folder, out, batch_size=2)
    # The copies of the two batches before were being drawn and written.
    assert report.unchanged in (0, 2, 4) and (report.unchanged + report.detected, report.images) == (7, 7)


def test_ctrl_c_while_images_are_read_keeps_what_is_done():
    """Also where reading is slower than the model."""
    from stmine_hf.detect import images as rooms

    class Block(rooms.DetectBlock):
        def __init__(self):
            self._batch_size, self._detector = 4, SimpleNamespace(slices=None)

        def _load(self, file):
            if file == 13:
                raise KeyboardInterrupt
            return rooms._Loaded(file, None, SimpleNamespace(prepared=None))

        def _begin(self, images, highest):
            return lambda: [[] for _ in images]

        def _annotated(self, loaded, number, in_batch, highest):
            return loaded[0]

    done = []
    with pytest.raises(KeyboardInterrupt):
        for batch in Block()._whole(range(100)):
            done += batch
    assert done == [*range(12)]


@pytest.mark.parametrize(("failing", "error"), [(False, KeyboardInterrupt), (True, ZeroDivisionError)])
def test_what_stops_while_copies_are_drawn_leaves_no_gap(monkeypatch, failing, error):
    """What comes after a gap would get the numbers of the images in it."""
    from stmine_hf.detect import images as rooms

    class Block(rooms.DetectBlock):
        def __init__(self):
            self._batch_size, self._detector = 4, SimpleNamespace(slices=None)

        def _load(self, file):
            return rooms._Loaded(file, None, SimpleNamespace(prepared=None))

        def _begin(self, images, highest):
            return lambda: [[] for _ in images]

        def _annotated(self, loaded, number, in_batch, highest):
            if failing and loaded[0] == 21:
                raise ZeroDivisionError
            return loaded[0]

    results, calls = rooms._results, []

    def interrupted(drawn):
        calls.append(1)
        if len(calls) == 4 and not failing:
            raise KeyboardInterrupt
        return results(drawn)

    monkeypatch.setattr(rooms, "_results", interrupted)
    done = []
    with pytest.raises(error):
        for batch in Block()._whole(range(100)):
            done += batch
    assert done == [*range(20)]


def test_two_runs_at_once_are_refused(detector, folder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(StmineError, match="another run is writing"):
        run(detector, folder, out, batch_size=1, show=lambda image: bool(run(detector, folder, out)))


def test_a_single_image_is_done_anew_each_time(detector, folder, tmp_path):
    out = tmp_path / "out"
    for threshold in (THRESHOLD, 0.2):
        report = run(Detector(*tiny_sat(), threshold=threshold), folder / "0.jpg", out)
        assert (report.images, report.detected) == (1, 1)
    assert document(out) == [] and document(out, "summary.json")["threshold"] == 0.2
    assert {path.name for path in out.glob("[!.]*")} == {"images", "detections.json", "summary.json"}
    assert (out / "images" / "0.jpg").is_file()


def test_show_gets_each_annotated_image_and_may_end_the_run(detector, folder, tmp_path):
    shown: list[Image.Image] = []

    def show(image):
        shown.append(image)
        return len(shown) < 3

    report = run(detector, folder, tmp_path / "out", show=show, batch_size=2)
    assert report.images == 3 and [image.size for image in shown] == [(90, 60), (89, 60), (88, 60)]


# ---------------------------------------------------------------------------------------------------------------------
# Bad and odd images.


def test_bad_files_are_skipped_and_counted(detector, folder, tmp_path):
    whole = (folder / "0.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("not an image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image, and not named as one")
    (folder / "link.jpg").symlink_to(folder / "nowhere.jpg")
    report = run(detector, folder, tmp_path / "out", batch_size=2)
    assert report.images == 7
    reasons = {skip.path: skip.reason for skip in report.skipped}
    assert reasons.keys() == {"cut.jpg", "text.jpg", "empty.png", "link.jpg"}
    assert "cut short" in reasons["cut.jpg"] and reasons["empty.png"] == "empty file"
    assert document(tmp_path / "out", "summary.json")["skipped"] == [skip._asdict() for skip in report.skipped]
    again = run(detector, folder, tmp_path / "out", batch_size=2)
    assert (again.unchanged, len(again.skipped)) == (7, 4)


@pytest.mark.parametrize(
    ("name", "reason"), [("cut.jpg", "cut short"), ("text.png", "not an image"), ("gone.jpg", "found nothing")]
)
def test_one_bad_image_alone_is_a_clear_error(detector, tmp_path, name, reason):
    if name == "cut.jpg":
        draw(0, 300, 300).save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:900])
    elif name == "text.png":
        (tmp_path / name).write_text("text")
    with pytest.raises(StmineError, match=rf"{name}.*{reason}"):
        run(detector, tmp_path / name, tmp_path / "out")


def test_a_folder_without_images(detector, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StmineError, match=r"found no images in .*empty"):
        run(detector, tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty" / "bad.jpg").write_text("text")
    with pytest.raises(StmineError, match=r"not one image of .*empty could be read \(bad.jpg: not an image"):
        run(detector, tmp_path / "empty", tmp_path / "out")


def test_a_file_in_the_place_of_the_results(detector, folder, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StmineError, match="expected a folder to write to, found a file"):
        run(detector, folder, tmp_path / "out")


def save_odd(kind: str, path: Path) -> tuple[int, int]:
    """Writes an image of some odd kind; its upright size."""
    plain = draw(1, 90, 60)
    if kind == "16-bit":
        Image.fromarray(np.linspace(0, 4000, 5400).astype(np.uint16).reshape(60, 90)).save(path)
    elif kind == "animated":
        plain.save(path, save_all=True, append_images=[draw(2, 90, 60)])
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        plain.save(path, exif=exif)
        return 60, 90
    elif kind == "1x1":
        plain.resize((1, 1)).save(path)
        return 1, 1
    elif kind == "long":
        plain.resize((12000, 200)).save(path)
        return 12000, 200
    else:
        plain.convert(kind).save(path)
    return 90, 60


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("L", "png"), ("1", "png"), ("P", "gif"), ("RGBA", "png"), ("LA", "png"), ("CMYK", "jpg"), ("16-bit", "png"),
     ("animated", "gif"), ("rotated", "jpg"), ("1x1", "png"), ("long", "jpg")],
)  # fmt: skip
def test_images_of_every_kind(detector, tmp_path, kind, suffix):
    path = tmp_path / f"odd.{suffix}"
    size = save_odd(kind, path)
    report = run(detector, path, tmp_path / "out")
    (image,) = document(tmp_path / "out", "summary.json")["images"]
    assert report.images == 1 and (image["width"], image["height"]) == size
    with Image.open(tmp_path / "out" / image["annotated"]) as annotated:
        assert annotated.size == size and annotated.mode == "RGB" and not annotated.getexif()
    for row in document(tmp_path / "out"):
        x, y, w, h = row["bbox"]
        assert x >= 0 and y >= 0 and x + w <= size[0] + 0.02 and y + h <= size[1] + 0.02


def test_images_over_the_limit_are_skipped(detector, folder, tmp_path, monkeypatch):
    """The limit itself (twice Pillow's, 179 megapixels) would take seconds to write."""
    monkeypatch.setattr("stmine_hf.images.limits.MAX_PIXELS", 89 * 60)
    report = run(detector, folder, tmp_path / "out")
    assert [skip.path for skip in report.skipped] == ["0.jpg", "more/five.png", "more/six.webp"]
    assert "cut it into tiles or shrink it" in report.skipped[0].reason and report.images == 4


def test_an_image_above_pillows_warning_is_taken(detector, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)  # Pillow warns above, refuses above twice as many
    draw(0, 90, 60).save(tmp_path / "large.png")
    assert run(detector, tmp_path / "large.png", tmp_path / "out").images == 1
    assert not [warning for warning in recwarn if "Bomb" in warning.category.__name__]


def test_large_images_are_read_again_for_drawing(detector, folder, tmp_path, monkeypatch):
    kept = run(detector, folder, tmp_path / "kept")
    opened = []
    real = module.open_image
    monkeypatch.setattr(module, "open_image", lambda path, **options: (opened.append(path), real(path, **options))[1])
    monkeypatch.setattr("stmine_hf.images.limits.LARGE", 100)
    again = run(detector, folder, tmp_path / "again")
    assert len(opened) == 14 and again.classes == kept.classes
    for path in (tmp_path / "kept" / "images").rglob("*.jpg"):
        other = tmp_path / "again" / path.relative_to(tmp_path / "kept")
        assert path.read_bytes() == other.read_bytes()


def test_images_wider_than_a_jpeg_can_be(detector, tmp_path):
    draw(0).resize((66_000, 2)).save(tmp_path / "strip.png")
    run(detector, tmp_path / "strip.png", tmp_path / "out")
    with Image.open(tmp_path / "out" / "images" / "strip.png") as annotated:
        assert annotated.size == (66_000, 2) and annotated.format == "PNG"


def test_the_folder_is_not_held_in_memory(detector, folder, tmp_path, monkeypatch):
    """Reading stays a batch and a few ahead of the model."""
    for number in range(40):
        draw(number).save(folder / f"many{number:02}.jpg")
    read, lead = [], []
    real, detect = module.open_image, detector.detect
    monkeypatch.setattr(module, "open_image", lambda path, **options: (read.append(path), real(path, **options))[1])

    def slow(images, **options):
        time.sleep(0.02)
        lead.append(len(read))
        return detect(images)

    monkeypatch.setattr(detector, "detect", slow)
    run(detector, folder, tmp_path / "out", batch_size=4)
    workers = min(4, max(2, os.cpu_count() or 1))
    assert all(ahead <= 4 * (number + 1) + 4 + 2 * workers for number, ahead in enumerate(lead))


def test_a_class_just_below_its_threshold_is_named(folder, tmp_path):
    model, processor = tiny_sat()
    names = sorted(model.config.id2label.values())
    low = Detector(model, processor, threshold=0.0)
    best = {
        name: max(found.score for one in low([str(folder)]) for found in one if found.name == name) for name in names
    }
    first, *others = sorted(names, key=lambda name: -best[name])
    limits = {"*": 0.99, first: best[first] / 2, others[0]: best[others[0]] * 1.5}
    for batch_size in (1, 3):
        report = run(
            Detector(model, processor, threshold=limits), folder, tmp_path / f"out{batch_size}", batch_size=batch_size
        )
        assert report.nearly == {others[0]: pytest.approx(best[others[0]], abs=1e-6)}
    again = run(Detector(model, processor, threshold=limits), folder, tmp_path / "out3")
    assert again.unchanged == 7 and again.nearly == {}
    narrow = Detector(model, processor, threshold=limits, classes=[first])
    assert run(narrow, folder, tmp_path / "narrow").nearly == {}
    sliced = Detector(model, processor, threshold=limits, slice=64)
    assert run(sliced, folder, tmp_path / "sliced").nearly == {}

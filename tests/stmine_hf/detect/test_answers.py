"""The detector in Python: whatever holds an image, one or many, with the numbers of `stmine detect`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers_sat import confident_sat, save_tiny_sat
from PIL import Image

import stmine_hf
from stmine_hf.detect import Detector, detect_images
from stmine_hf.errors import StmineError
from stmine_hf.inference.answers import BadItemError
from stmine_hf.outputs import OutputError


@pytest.fixture(scope="module")
def detector() -> Detector:
    return stmine_hf.Detector(confident_sat(), threshold=0.5, batch_size=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for number in range(3):
        pixels = noise.integers(0, 256, (60, 90 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "bad.jpg").write_text("no image")
    return folder


def test_every_form_of_an_image_gives_one_answer(detector, folder):
    path = folder / "0.png"
    expected = detector(path)
    assert len(expected) and (expected.width, expected.height, expected.source) == (90, 60, str(path))
    array = np.asarray(Image.open(path))
    file = io.BytesIO()
    Image.open(path).save(file, "PNG")
    for form in (str(path), Image.open(path), array, file.getvalue(), array[:, ::-1][:, ::-1]):
        assert list(detector(form)) == list(expected)
    assert list(detector(array[..., 0])) == list(detector(Image.fromarray(array[..., 0])))


def test_a_folder_gives_what_the_command_writes(detector, folder, tmp_path):
    answers = detector(folder)
    assert [Path(answer.source).name for answer in answers] == ["0.png", "1.png", "2.png", "bad.jpg"]
    assert [answer.error is None for answer in answers] == [True, True, True, False]
    assert answers.failed == [answers[3]] and "not an image" in answers[3].error
    report = detect_images(detector, folder, tmp_path / "out", batch_size=2, progress=False)
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert report.objects == len(rows) == sum(map(len, answers)) > 10
    found = [(one.name, round(one.score, 5)) for answer in answers for one in answer]
    assert found == [(row["category"], row["score"]) for row in rows]
    table = answers.to_pandas()
    assert len(table) == len(rows) + 1 and list(table.columns)[:4] == ["name", "score", "left", "top"]
    assert table.score[:-1].round(5).tolist() == [row["score"] for row in rows]
    assert "not an image" in table.error.iloc[-1]


def test_a_bad_one_of_many_is_an_answer_and_a_single_one_an_error(detector, folder):
    answers = detector([folder / "0.png", folder / "nosuch.jpg", b"no image", "http://a/b.jpg", folder / "1.png", 7])
    assert [answer.error for answer in answers[0:5:4]] == [None, None]
    reasons = [answer.error for answer in answers.failed]
    assert len(reasons) == 4
    parts = ["file not found", "not an image", "download the image", "found int"]
    for reason, part in zip(reasons, parts, strict=True):
        assert part in reason
    assert answers[4] == detector(folder / "1.png")
    for bad, part in [
        (folder / "nosuch.jpg", "nosuch.jpg: file not found"),
        (b"no image", "bytes: not an image"),
        (np.zeros((3, 4, 4), np.float32), "found float32 with the shape"),
    ]:
        with pytest.raises(ValueError, match=part) as refused:
            detector(bad)
        assert isinstance(refused.value, StmineError)
    with pytest.raises(StmineError, match="found NoneType"):
        detector(None)
    assert detector([]) == [] and next(iter(detector([]).to_pandas())) == "name"


def test_an_answer_as_dictionary_table_and_image(detector, folder, tmp_path):
    answer = detector(folder / "0.png")
    document = answer.to_dict()
    assert json.loads(json.dumps(document)) == document and len(document["detections"]) == len(answer)
    assert sum(answer.counts.values()) == len(answer) == len(answer.to_pandas())
    drawn = answer.plot()
    assert drawn.size == (90, 60) and np.any(np.asarray(drawn) != np.asarray(Image.open(folder / "0.png")))
    assert Image.open(answer.save(tmp_path / "drawn.png")).size == (90, 60)
    assert json.loads(answer.save(tmp_path / "answer.json").read_text()) == document
    answer.save(tmp_path / "drawn.png")  # its own file
    (tmp_path / "mine.png").write_text("mine")
    for taken in (tmp_path / "mine.png", folder / "0.png"):
        with pytest.raises(OutputError):
            answer.save(taken)
    assert (tmp_path / "mine.png").read_text() == "mine"
    with pytest.raises(BadItemError, match=r"expected a name that ends with \.jpg"):
        answer.save(tmp_path / "drawn.gif")
    with pytest.raises(AttributeError):
        answer.width = 5


def test_thresholds_of_single_classes(folder):
    model, processor = confident_sat()
    both = (0.5, 0.7)
    at = {one: Detector(model, processor, threshold=one, max_boxes=10**6)(folder / "0.png") for one in both}
    mixed = Detector(model, processor, threshold={"deer": 0.7, "*": 0.5}, max_boxes=10**6)
    expected = [one for one in at[0.5] if one.name != "deer" or one.score > 0.7]
    assert list(mixed(folder / "0.png")) == expected and expected != list(at[0.5]) and expected != list(at[0.7])
    assert mixed.settings["threshold"] == {"*": 0.5, "deer": 0.7}
    with pytest.raises(StmineError, match=r"no class 'dear'.*did you mean deer"):
        Detector(model, processor, threshold={"dear": 0.7})
    with pytest.raises(StmineError, match="from 0 to below 1, found 40"):
        Detector(model, processor, threshold={"deer": 40})


def test_iou_and_most_boxes(detector, folder):
    model, processor = confident_sat()
    many = Detector(model, processor, threshold=0.5, iou=0.99, max_boxes=10**6)(folder / "0.png")
    few = Detector(model, processor, threshold=0.5, max_boxes=3)(folder / "0.png")
    assert len(many) > len(detector(folder / "0.png")) > len(few) == 3
    assert list(few) == list(detector(folder / "0.png"))[:3]
    only = Detector(model, processor, threshold=0.5, classes=["deer"], max_boxes=3)(folder / "0.png")
    assert [one.name for one in only] == ["deer"] * 3
    for wrong in ({"iou": 0}, {"max_boxes": 0}, {"batch_size": 0}):
        with pytest.raises(StmineError, match=next(iter(wrong))):
            Detector(model, processor, **wrong)


def test_a_model_by_its_folder(tmp_path, folder):
    saved = save_tiny_sat(tmp_path / "model")
    assert Detector(model=saved, device="cpu").settings == Detector.load(saved, device="cpu").settings

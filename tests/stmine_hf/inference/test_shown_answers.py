"""How answers look when a person prints them, or a list of them, or ends a notebook's cell with one."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from stmine_hf.detect import Detection, ImageAnswer
from stmine_hf.images import Window
from stmine_hf.posts import PostAnswer
from stmine_hf.search import Hit, SearchAnswer


def test_a_hit_is_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert repr(Hit(1, 0.31249, tmp_path / "images" / "a.jpg")) == "Hit(1, 0.312, 'images/a.jpg')"
    hit = Hit(
        2, -0.5, Path("/far/b.tif"), Window(0, 256, 128, 128), ((8, 47),), datetime(2024, 5, 6, tzinfo=timezone.utc)
    )
    assert repr(hit) == "Hit(2, -0.500, '/far/b.tif', window=(0, 256, 128, 128), time=2024-05-06T00:00)"


def test_an_answer_of_a_search_is_a_list_to_read():
    hits = (Hit(1, 0.31249, Path("/far/a.jpg")), Hit(2, 0.2, Path("/far/b\x1b[2J.jpg")))
    answer = SearchAnswer("many planes", hits, warning="nothing fits well")
    assert repr(answer) == "SearchAnswer('many planes', 2 hits, best 0.312 '/far/a.jpg', with a warning)"
    assert str(answer).split("\n") == [
        "many planes",
        "   1  0.312  /far/a.jpg",
        "   2  0.200  /far/b\\x1b[2J.jpg",
        "Warning: nothing fits well",
    ]
    assert repr(SearchAnswer("", error="no word")) == "SearchAnswer('', error='no word')"
    assert in_a_notebook(answer) == str(answer)


def test_detections_are_short():
    found = Detection(3, "traffic light", 0.87654, (1.4, 2.6, 30.0, 40.0))
    assert repr(found) == "Detection('traffic light', 0.88, box=(1, 3, 30, 40))"
    assert repr(found._replace(track=7)).endswith("track=7)")
    answer = ImageAnswer("street.jpg", 640, 480, (found, found))
    assert repr(answer) == "ImageAnswer('street.jpg', 640 x 480 px, 2 traffic light)"
    assert len(str(answer).split("\n")) == 3 and "0.88  traffic light" in str(answer)
    assert repr(ImageAnswer(None, 6, 4)) == "ImageAnswer(an image, 6 x 4 px, nothing found)"
    assert repr(ImageAnswer("bad.jpg", error="empty file")) == "ImageAnswer('bad.jpg', error='empty file')"
    assert in_a_notebook(answer) == str(answer)


def test_a_prediction_is_one_line():
    answer = PostAnswer("7", "x" * 200, "fake", 0.91234, {"real": 0.08766, "fake": 0.91234}, warning="too short")
    assert repr(answer) == f"PostAnswer('fake', 0.912, id='7', text='{'x' * 39}…', warning='too short')"
    assert repr(PostAnswer(1, "", error="no text")) == "PostAnswer(id=1, text='', error='no text')"


def in_a_notebook(answer) -> str:
    written = []

    class Printer:
        text = written.append

    answer._repr_pretty_(Printer(), False)
    return "".join(written)

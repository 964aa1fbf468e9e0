"""Objects followed through a video: the same number from frame to frame."""

from __future__ import annotations

import json

import pytest
from helpers_sat import tiny_sat
from videos import write_video

from stmine_hf.detect import Detection, Detector, detect_video
from stmine_hf.detect.tracking import ObjectTracker
from stmine_hf.errors import StmineError

pytest.importorskip("trackers")


def moving(frame: int) -> list[Detection]:
    """A deer that goes right, a person that goes left through it, and one that is less sure in some frames."""
    weak = 0.3 if frame % 3 == 1 else 0.9
    return [
        Detection(0, "deer", 0.9, (10 + 3 * frame, 20, 40 + 3 * frame, 60)),
        Detection(2, "person", 0.8, (90 - 3 * frame, 20, 120 - 3 * frame, 60)),
        Detection(2, "person", weak, (10, 100 + frame, 40, 140 + frame)),
        Detection(1, "ebike", 0.25, (200, 200, 220, 220)),  # never above the threshold
    ]


def test_numbers_stay_and_weak_frames_do_not_end_a_track():
    tracker = ObjectTracker(Detector(*tiny_sat(), threshold=0.4), rate=25)
    frames = [tracker.follow(moving(frame)) for frame in range(20)]
    assert all(one.name != "ebike" for frame in frames for one in frame)
    for frame in frames[2:]:
        assert sorted((one.track, one.name) for one in frame) == sorted((one.track, one.name) for one in frames[2])
        assert len(frame) == 3 and len({one.track for one in frame}) == 3
    assert tracker.counts == {"person": 2, "deer": 1} and {one.track for one in frames[-1]} == {1, 2, 3}
    deer = {one.track for frame in frames[2:] for one in frame if one.name == "deer"}
    assert len(deer) == 1


def test_a_video_has_numbers_and_counts(tmp_path, monkeypatch):
    detector = Detector(*tiny_sat(), threshold=0.4)
    count = iter(range(100))
    shares = set()

    def detect(prepared, *, share=1.0):
        shares.add(share)
        return [[one for one in moving(next(count)) if one.score > 0.4 * share] for _ in prepared]

    monkeypatch.setattr(detector, "detect", detect)
    video = write_video(tmp_path / "street.mp4", 8)
    report = detect_video(detector, video, tmp_path / "out", track=True, formats=["csv", "jsonl"], progress=False)
    assert report.tracks == {"person": 2, "deer": 1} and shares == {0.5}
    rows = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {row["track"] for row in rows if row["image_id"] == 7} == {1, 2, 3}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["tracks"] == {"person": 2, "deer": 1} and summary["track"]
    assert (tmp_path / "out" / "detections.csv").read_text().count("\n") == len(rows) + 1
    with pytest.raises(StmineError, match="coco is for images; of a video expected json, csv, jsonl"):
        detect_video(detector, video, tmp_path / "other", formats=["coco"], progress=False)
    assert not (tmp_path / "other").exists()


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "trackers", None)
    with pytest.raises(StmineError, match=r"pip install 'stmine-hf\[track\]'"):
        ObjectTracker(Detector(*tiny_sat()), rate=25)

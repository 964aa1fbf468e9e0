"""The detector of the demo: thresholds of one's own, images, videos."""

from __future__ import annotations

import pytest
from helpers_sat import tiny_sat
from PIL import Image
from videos import frame_image, write_video

from stmine_hf.demo import ObjectFinder, limits, samples
from stmine_hf.demo.texts import class_name
from stmine_hf.errors import StmineError
from stmine_hf.loading import labels_of
from stmine_hf.methods import METHODS

IMAGE = Image.effect_noise((90, 60), 90).convert("RGB")
LOW = 0.0099  # the tiny model's scores are all near 0.01


@pytest.fixture(scope="module")
def finder() -> ObjectFinder:
    return ObjectFinder(tiny_sat())


def test_boxes_are_found_counted_and_drawn(finder):
    found = finder.find(IMAGE, LOW)
    assert found.boxes and {box.name for box in found.boxes} <= set(finder.names)
    assert sum(found.counts.values()) == len(found.boxes)
    assert found.image.size == IMAGE.size and found.image.tobytes() != IMAGE.tobytes()


def test_a_visitors_threshold_is_nobody_elses(finder):
    many, none = finder.find(IMAGE, LOW), finder.find(IMAGE, 0.9)
    assert many.boxes and not none.boxes and none.image.tobytes() == IMAGE.tobytes()
    assert finder.find(IMAGE, LOW).boxes == many.boxes
    for threshold in (-0.1, 1, float("nan")):
        with pytest.raises(StmineError, match="threshold"):
            finder.find(IMAGE, threshold)


def test_a_video_comes_back_annotated(finder, tmp_path, monkeypatch):
    frames = [frame_image(number, 96, 64) for number in range(6)]
    video = write_video(tmp_path / "street.mp4", frames)
    found = finder.find_in_video(video, LOW, out=tmp_path / "found")
    assert found.video == tmp_path / "found" / "street.mp4" and found.video.stat().st_size > 0
    assert found.frames == 6 and not found.cut and sum(found.counts.values()) > 0
    monkeypatch.setattr(limits, "MAX_VIDEO_FRAMES", 4)
    cut = finder.find_in_video(video, LOW, out=tmp_path / "cut")
    assert cut.frames == 4 and cut.cut


def test_bad_videos_are_told(finder, tmp_path, monkeypatch):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(StmineError, match=r"text\.mp4"):
        finder.find_in_video(tmp_path / "text.mp4")
    with pytest.raises(StmineError, match="found none"):
        finder.find_in_video(tmp_path / "nosuch.mp4")
    video = write_video(tmp_path / "wide.mp4", [frame_image(number, 96, 64) for number in range(2)])
    monkeypatch.setattr(limits, "MAX_VIDEO_PIXELS", 96 * 60)
    with pytest.raises(StmineError, match="96 x 64 pixels"):
        finder.find_in_video(video)
    monkeypatch.setattr(limits, "MAX_VIDEO_BYTES", 10)
    with pytest.raises(StmineError, match="MB are allowed"):
        finder.find_in_video(video)


@pytest.mark.parametrize("name", METHODS["sat"].checkpoints)
def test_classes_have_chinese_names(name):
    labels = labels_of(name, METHODS["sat"])
    assert labels
    for label in labels.values():
        assert not class_name(label.replace("_", " "), "zh").isascii(), label


@pytest.mark.slow
def test_the_drawn_street_shows_what_is_plainly_in_it():
    found = ObjectFinder().find(samples.street())
    assert {"bus", "stop sign", "traffic light", "clock"} <= set(found.counts)

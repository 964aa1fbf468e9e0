"""Videos and cameras: every frame in order at its time, broken ones counted, clear words where there is nothing."""

from __future__ import annotations

import json
import struct
import sys
from contextlib import nullcontext
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from helpers_sat import tiny_sat
from PIL import Image
from videos import frame_image, read_video, spoil_frame, turn_video, write_sound, write_video

from stmine_hf.detect import (
    Detection,
    Detector,
    camera,
    detect_video,
    source_kind,
    video_reading,
    video_writing,
)
from stmine_hf.detect import video as module
from stmine_hf.errors import StmineError


@pytest.fixture
def detector(monkeypatch) -> Detector:
    """Finds the bright square of `frame_image`, whatever the network says: so frames can be told apart."""
    detector = Detector(*tiny_sat())
    monkeypatch.setattr(detector, "prepare", lambda image: np.asarray(image).max(axis=-1) > 180)

    def detect(masks):
        found = []
        for mask in masks:
            rows, columns = np.nonzero(mask)
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None
            found.append([Detection(0, "deer", 0.9, tuple(map(float, box)))] if box else [])
        return found

    monkeypatch.setattr(detector, "detect", detect)
    return detector


def run(detector, source, out, **options):
    return detect_video(detector, source, out, progress=False, **options)


def document(out: Path, name: str = "detections.json"):
    return json.loads((out / name).read_text(encoding="utf-8"))


def lefts(out: Path) -> dict[int, float]:
    """Frame -> left side of the square found in it."""
    return {row["image_id"]: row["bbox"][0] for row in document(out)}


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "libx264")])
def test_every_frame_in_order(detector, tmp_path, name, codec):
    video = write_video(tmp_path / name, 12, codec=codec)
    out = tmp_path / "out"
    report = run(detector, video, out, batch_size=5)
    assert (report.frames, report.broken, report.missing, report.objects) == (12, 0, 0, 12)
    assert lefts(out) == pytest.approx({number: 4 * number for number in range(12)}, abs=2)
    assert [row["seconds"] for row in document(out)] == pytest.approx([number / 10 for number in range(12)])
    frames, seconds, rate = read_video(out / "a.mp4")
    assert len(frames) == 12 and frames[0].shape == (48, 64, 3) and rate == 10
    assert seconds == pytest.approx([number / 10 for number in range(12)])
    summary = document(out, "summary.json")
    assert (summary["frames"], summary["width"], summary["height"], summary["source"]) == (12, 64, 48, name)
    assert summary["classes"] == {"deer": 12} and str(tmp_path) not in json.dumps(summary)


def test_boxes_are_drawn_where_the_square_is(detector, tmp_path):
    run(detector, write_video(tmp_path / "a.mp4", 6), tmp_path / "out")
    plain, _, _ = read_video(tmp_path / "a.mp4")
    drawn, _, _ = read_video(tmp_path / "out" / "a.mp4")
    for number in range(6):
        changed = np.abs(drawn[number].astype(int) - plain[number]).max(axis=-1) > 60
        assert changed[8:20, max(0, 4 * number - 2) : 4 * number + 10].any(), number


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24), Fraction(25, 2)])
def test_the_frame_rate_is_kept(detector, tmp_path, rate):
    report = run(detector, write_video(tmp_path / "a.mp4", 5, rate=rate), tmp_path / "out")
    assert report.frame_rate == pytest.approx(float(rate)) and read_video(tmp_path / "out" / "a.mp4")[2] == rate


def test_uneven_times_are_kept(detector, tmp_path):
    """A recording that stood still for a while."""
    video = write_video(tmp_path / "a.mkv", 6, pts=[0, 1, 2, 12, 13, 14])
    report = run(detector, video, tmp_path / "out")
    seconds = read_video(tmp_path / "out" / "a.mp4")[1]
    assert report.frames == 6 and seconds == pytest.approx([0, 0.1, 0.2, 1.2, 1.3, 1.4], abs=0.2)
    assert [row["seconds"] for row in document(tmp_path / "out")] == pytest.approx([0, 0.1, 0.2, 1.2, 1.3, 1.4])


UNEVEN = {
    "a screen": [*range(0, 1000, 16), *range(2000, 12_000, 1000)],
    "a gap": [0, 33, 67, 5000, 5033],
    "a phone": [0, 41, 62, 103, 145, 166, 208, 251],
    "thirds": [round(number * 1000 / 3) for number in range(9)],
    "a late start": [4000, 4040, 4080, 7000],
}


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("name", UNEVEN)
def test_each_frame_is_shown_at_its_own_time(detector, tmp_path, monkeypatch, name, codec):
    if codec == "mpeg4":
        monkeypatch.setattr(video_writing, "_ENCODERS", {"mpeg4": {}})
    times = UNEVEN[name]
    write_video(tmp_path / "a.mkv", len(times), rate=1000, pts=times)
    report = run(detector, tmp_path / "a.mkv", tmp_path / "out")
    frames, seconds, _ = read_video(tmp_path / "out" / "a.mp4")
    assert report.frames == len(frames) == len(times)
    expected = [(time - times[0]) / 1000 for time in times]
    assert [second - seconds[0] for second in seconds] == pytest.approx(expected, abs=0.002)
    assert sorted({row["seconds"] for row in document(tmp_path / "out")}) == pytest.approx(expected, abs=0.002)


def with_cover(path, *, frames=0, cover_first=True, audio=False):
    """A film (or none) and a cover image in one file, as taggers write them; perhaps with a second of audio."""
    with av.open(str(path), "w") as container:

        def add_cover():
            stream = container.add_stream("mjpeg", rate=1)
            stream.width, stream.height, stream.pix_fmt = 96, 96, "yuvj420p"
            stream.disposition = av.stream.Disposition.attached_pic
            return stream

        cover = add_cover() if cover_first else None
        film = container.add_stream("libx264", rate=10) if frames else None
        if film is not None:
            film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16000) if audio else None
        cover = cover or add_cover()
        container.mux(cover.encode(av.VideoFrame.from_image(Image.new("RGB", (96, 96), "red"))))
        container.mux(cover.encode(None))
        for number in range(frames):
            container.mux(film.encode(av.VideoFrame.from_image(frame_image(number))))
        if film is not None:
            container.mux(film.encode(None))
        if sound is not None:
            tone = np.sin(np.arange(16000) / 20).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.rate = 16000
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("cover_first", [True, False])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_cover_is_not_the_film(detector, tmp_path, suffix, cover_first):
    path = with_cover(tmp_path / f"a.{suffix}", frames=10, cover_first=cover_first)
    report = run(detector, path, tmp_path / "out")
    assert (report.frames, report.width, report.height) == (10, 64, 48)


def test_a_song_with_a_cover_is_refused(detector, tmp_path):
    path = with_cover(tmp_path / "song.mp4", audio=True)
    with pytest.raises(StmineError, match=r"song.mp4: there is no video in this file .*, only a cover image"):
        run(detector, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_audio_is_kept_on_request(detector, tmp_path):
    path = with_cover(tmp_path / "a.mp4", frames=10, audio=True)

    def packets(path):
        with av.open(str(path)) as container:
            audio = container.streams.best("audio")
            return audio and [bytes(packet) for packet in container.demux(audio) if packet.size]

    assert run(detector, path, tmp_path / "mute").audio == "" and packets(tmp_path / "mute" / "a.mp4") is None
    report = detect_video(detector, path, tmp_path / "out", audio=True, progress=False)
    kept, there = packets(tmp_path / "out" / "a.mp4"), packets(path)
    assert report.audio == "aac" and kept and set(kept) <= set(there) and len(there) - len(kept) <= 1  # of priming
    silent = write_video(tmp_path / "silent.mp4", 4)
    with pytest.raises(StmineError, match=r"silent.mp4: --audio was given, but there is no audio"):
        detect_video(detector, silent, tmp_path / "no", audio=True, progress=False)


def test_frames_that_would_fill_the_memory_are_refused_unseen(detector, tmp_path, monkeypatch):
    source = write_video(tmp_path / "a.mp4", 4)
    monkeypatch.setattr(video_reading, "MAX_FRAME_PIXELS", 64 * 48 - 1)
    with pytest.raises(StmineError, match=r"a.mp4.*(over the limit|no video in this file|cannot be read)"):
        run(detector, source, tmp_path / "out")
    monkeypatch.setattr(video_reading, "MAX_FRAME_PIXELS", 64 * 48)
    assert run(detector, source, tmp_path / "out").frames == 4
    monkeypatch.setattr(video_reading, "_MANY_PIXELS", 10)
    monkeypatch.setattr(module, "_FRAMES_BYTES", 10)
    assert run(detector, source, tmp_path / "again").frames == 4
    assert document(tmp_path / "again") == document(tmp_path / "out")


def test_limit(detector, tmp_path):
    report = run(detector, write_video(tmp_path / "a.mp4", 12), tmp_path / "out", limit=5)
    assert (report.frames, report.missing, report.stopped) == (5, 0, False)
    assert len(read_video(tmp_path / "out" / "a.mp4")[0]) == 5


def test_odd_sizes(detector, tmp_path):
    """The encoder's colours come in blocks of two by two pixels: the last column and row are padded."""
    odd = [frame_image(number).resize((63, 47)) for number in range(3)]
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 63, 47, "yuv420p"
        for image in odd:
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))
    report = run(detector, tmp_path / "a.avi", tmp_path / "out")
    assert (report.width, report.height) == (63, 47)
    assert read_video(tmp_path / "out" / "a.mp4")[0][0].shape == (48, 64, 3)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_videos_of_phones_are_turned(detector, tmp_path, degrees):
    """Upright, the square is on the right half (90: top left goes to top right), at the bottom, on the left."""
    video = write_video(tmp_path / "a.mp4", [frame_image(0)] * 3)
    turn_video(video, degrees)
    report = run(detector, video, tmp_path / "out")
    upright = frame_image(0).rotate(-degrees, expand=True)
    assert (report.width, report.height) == upright.size
    rows, columns = np.nonzero(np.asarray(upright.convert("L")) > 180)
    x, y, w, h = document(tmp_path / "out")[0]["bbox"]
    assert (x, y) == pytest.approx((columns.min(), rows.min()), abs=2) and (w, h) == pytest.approx((8, 8), abs=3)
    assert read_video(tmp_path / "out" / "a.mp4")[0][0].shape[:2] == upright.size[::-1]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda image: image[::-1, ::-1].swapaxes(0, 1)),
        ((0, 1, -1, 0), lambda image: image[::-1].swapaxes(0, 1)),
        ((1, 0, 0, 1), lambda image: image),
    ],
)
def test_mirrored_videos_are_seen_as_players_show_them(detector, tmp_path, monkeypatch, matrix, expected):
    video = write_video(tmp_path / "a.mp4", 1)
    seen = []
    prepare = detector.prepare
    monkeypatch.setattr(detector, "prepare", lambda image: (seen.append(np.asarray(image)), prepare(image))[1])
    run(detector, video, tmp_path / "plain")
    content = video.read_bytes()
    a, b, c, d = (value << 16 for value in matrix)
    start = content.index(b"tkhd") + 44  # of the matrix, behind the times, the track and its layer
    stored = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    video.write_bytes(content[:start] + stored + content[start + 36 :])
    run(detector, video, tmp_path / "mirrored")
    assert (seen[1] == expected(seen[0])).all()


def test_without_h264_it_is_mpeg_4(detector, tmp_path, monkeypatch):
    monkeypatch.setattr(video_writing, "_ENCODERS", {"no_such_encoder": {}, "mpeg4": {}})
    run(detector, write_video(tmp_path / "a.mp4", 4), tmp_path / "out")
    with av.open(str(tmp_path / "out" / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        assert len(list(container.decode(video=0))) == 4
    monkeypatch.setattr(video_writing, "_ENCODERS", {"no_such_encoder": {}})
    with pytest.raises(StmineError, match=r"can write neither H.264 nor MPEG-4"):
        run(detector, tmp_path / "a.mp4", tmp_path / "out2")


# ---------------------------------------------------------------------------------------------------------------------
# Broken ones.


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
@pytest.mark.parametrize("number", [0, 3])
def test_a_broken_frame_costs_itself_and_what_hangs_on_it(detector, tmp_path, name, codec, number):
    video = write_video(tmp_path / name, 12, codec=codec)
    spoil_frame(video, number)
    out = tmp_path / "out"
    report = run(detector, video, out)
    assert report.broken >= 1 and report.frames + report.broken == 12 and report.frames >= 7
    assert report.missing == 0 and len(read_video(out / "a.mp4")[0]) == report.frames
    summary = document(out, "summary.json")
    assert (summary["frames"], summary["broken"]) == (report.frames, report.broken)
    good = [row for row in document(out) if row["image_id"] >= 7]  # from the next key frame on, all is well
    assert [row["bbox"][0] for row in good[-3:]] == pytest.approx([36, 40, 44], abs=2)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "libx264")])
def test_a_file_cut_short_gives_what_it_has(detector, tmp_path, name, codec):
    video = write_video(tmp_path / name, 40, codec=codec, faststart=name == "a.mp4")
    content = video.read_bytes()
    video.write_bytes(content[: int(0.7 * len(content))])
    report = run(detector, video, tmp_path / "out")
    assert 5 <= report.frames < 40 and not report.stopped
    if name != "a.mkv":  # Matroska does not say how many frames there are
        assert report.frames + report.broken + report.missing == 40 and report.missing > 0


def test_frames_that_change_size_are_brought_to_the_first(detector, tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", 4)
    decoded = video_reading.VideoReader.frames

    def shrinking(reader):
        for number, seconds, frame in decoded(reader):
            yield number, seconds, frame.reformat(width=32, height=24) if number >= 2 else frame

    monkeypatch.setattr(video_reading.VideoReader, "frames", shrinking)
    report = run(detector, video, tmp_path / "out")
    assert (report.frames, report.width, report.height) == (4, 64, 48)
    assert [round(row["bbox"][2] / 8) for row in document(tmp_path / "out")] == [1, 1, 1, 1]


def test_frames_that_no_converter_takes_are_counted(detector, tmp_path, monkeypatch):
    upright, seen = module.upright, []

    def picky(image, rotation):
        seen.append(image)
        if len(seen) == 3:
            raise ValueError("odd frame")
        return upright(image, rotation)

    monkeypatch.setattr(module, "upright", picky)
    report = run(detector, write_video(tmp_path / "a.mp4", 6), tmp_path / "out")
    assert (report.frames, report.broken) == (5, 1)


def test_a_failing_model_is_no_broken_frame(detector, tmp_path, monkeypatch):
    def failing(image):
        raise ValueError("no such layer")

    monkeypatch.setattr(detector, "prepare", failing)
    with pytest.raises(ValueError, match="no such layer"):
        run(detector, write_video(tmp_path / "a.mp4", 3), tmp_path / "out")
    assert not list((tmp_path / "out").glob("[!.]*")) and not list((tmp_path / "out").glob("*.mp4"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.mp4", None, "expected a video, found nothing"),
        ("zero.mp4", b"", "the file is empty"),
        ("text.mp4", b"hello\n" * 200, "neither an image nor a video that can be read"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n", "video"),
        ("image.mp4", "png", "expected an image or a video, found a file of the format"),
        ("sound.m4a", "sound", "there is no video in this file"),
        ("index.mp4", "cut", "cut short may lack its index"),
    ],
)
def test_files_that_are_no_videos(detector, tmp_path, name, content, message):
    path = tmp_path / name
    if content == "png":
        frame_image(0).save(path, "PNG")
    elif content == "sound":
        write_sound(path)
    elif content == "cut":  # the index of an MP4 stands at its end
        write_video(tmp_path / "whole.mp4", 20)
        path.write_bytes((tmp_path / "whole.mp4").read_bytes()[:2000])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(StmineError, match=rf"{name}.*{message}"):
        run(detector, path, tmp_path / "out")
    assert not (tmp_path / "out" / "detections.json").exists()


def test_not_one_frame(detector, tmp_path):
    video = write_video(tmp_path / "a.avi", 3, codec="mpeg4")
    for number in range(3):
        try:
            spoil_frame(video, number)
        except AssertionError:  # equal to another one, spoiled with it
            continue
    with pytest.raises(StmineError, match=r"a.avi: not one frame could be decoded \(3 broken ones\)"):
        run(detector, video, tmp_path / "out")
    assert not list((tmp_path / "out").glob("[!.]*")) and not list((tmp_path / "out").glob("*.mp4"))


def test_results_do_not_fall_on_other_things(detector, tmp_path):
    video = write_video(tmp_path / "a.mp4", 3)
    with pytest.raises(StmineError, match="contains the input"):
        run(detector, video, tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mp4").write_bytes(b"mine")
    with pytest.raises(StmineError, match=r"a\.mp4 exists and is not listed as written by stmine"):
        run(detector, video, tmp_path / "out")
    assert (tmp_path / "out" / "a.mp4").read_bytes() == b"mine"
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "summary.json").write_text("mine")
    with pytest.raises(StmineError, match=r"summary\.json exists and is not listed as written by stmine"):
        run(detector, video, tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").glob("[!.]*")] == ["summary.json"], "refused before the work"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "journal.jsonl").write_text("{}\n")
    with pytest.raises(StmineError, match="holds the results of a folder"):
        run(detector, video, tmp_path / "folder")
    with pytest.raises(StmineError, match="expected a folder to write to, found a file"):
        run(detector, video, video)


def test_ctrl_c_keeps_what_was_done(detector, tmp_path, monkeypatch):
    video, seen = write_video(tmp_path / "a.mp4", 30), []
    detect = detector.detect

    def interrupted(masks):
        seen.append(len(masks))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return detect(masks)

    monkeypatch.setattr(detector, "detect", interrupted)
    report = run(detector, video, tmp_path / "out", batch_size=2)
    assert report.stopped and 1 <= report.frames <= 6 and report.missing == 0
    assert len(read_video(tmp_path / "out" / "a.mp4")[0]) == report.frames == len(document(tmp_path / "out"))
    assert document(tmp_path / "out", "summary.json")["stopped"] is True


def test_show_gets_each_frame_and_may_end_the_run(detector, tmp_path):
    shown: list[Image.Image] = []

    def show(image):
        shown.append(image)
        return len(shown) < 4

    report = run(detector, write_video(tmp_path / "a.mp4", 9), tmp_path / "out", show=show)
    assert report.stopped and report.frames == len(shown) == 4


def test_without_pyav_the_extra_is_named(detector, tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", 3)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(StmineError, match=r"pip install 'stmine-hf\[video\]'"):
        run(detector, video, tmp_path / "out")


# ---------------------------------------------------------------------------------------------------------------------
# Cameras.


def test_what_a_source_is(tmp_path):
    video = write_video(tmp_path / "a.mp4", 3)
    frame_image(0).save(tmp_path / "a.jpg")
    assert [source_kind(name) for name in ("camera", "camera:1", "/dev/video3")] == ["camera"] * 3
    assert [source_kind(path) for path in (video, tmp_path / "a.jpg", tmp_path)] == ["video", "images", "images"]
    for name in ("camera:x", "cameras", str(tmp_path / "nosuch")):
        with pytest.raises(StmineError, match="found nothing"):
            source_kind(name)


@pytest.fixture
def devices(monkeypatch, tmp_path):
    """Stands in for the system's cameras: {device: video file}; what was asked for is noted in `asked`."""
    real, given, asked = av.open, {}, []

    def opened(file, *arguments, format=None, **options):
        if format not in ("v4l2", "avfoundation", "dshow"):
            return real(file, *arguments, format=format, **options)
        asked.append((file, format))
        if file not in given:
            raise av.error.FileNotFoundError(2, "No such file or directory", file)
        return real(str(given[file]))

    monkeypatch.setattr(av, "open", opened)
    given["asked"] = asked
    return given


@pytest.mark.parametrize(
    ("platform", "source", "device", "format"),
    [
        ("linux", "camera", "/dev/video0", "v4l2"),
        ("linux", "camera:2", "/dev/video2", "v4l2"),
        ("linux", "/dev/video1", "/dev/video1", "v4l2"),
        ("darwin", "camera:1", "1", "avfoundation"),
        ("win32", "camera:1", "video=Back", "dshow"),
    ],
)
def test_cameras_of_each_system(detector, devices, tmp_path, monkeypatch, platform, source, device, format):
    monkeypatch.setattr(camera.sys, "platform", platform)
    monkeypatch.setattr(camera, "camera_names", lambda av, kind: ["Front", "Back"])
    monkeypatch.setattr("stmine_hf.outputs.only_writer", lambda folder, file: nullcontext())
    devices[device] = write_video(tmp_path / "seen.mp4", 6)
    report = run(detector, source, tmp_path / "out", limit=4)
    assert devices["asked"] == [(device, format)] and report.frames == 4
    assert len(read_video(tmp_path / "out" / "camera.mp4")[0]) == 4
    assert document(tmp_path / "out", "summary.json")["source"] == "camera"


def test_a_camera_is_looked_at_frame_by_frame_until_ctrl_c(detector, devices, tmp_path, monkeypatch):
    monkeypatch.setattr(camera.sys, "platform", "linux")
    devices["/dev/video0"] = write_video(tmp_path / "seen.mp4", 20)
    batches, detect = [], detector.detect

    def interrupted(masks):
        batches.append(len(masks))
        if len(batches) == 6:
            raise KeyboardInterrupt
        return detect(masks)

    monkeypatch.setattr(detector, "detect", interrupted)
    report = run(detector, "camera", tmp_path / "out", batch_size=8)
    assert set(batches) == {1} and report.stopped and 3 <= report.frames <= 5


def test_no_camera_is_a_clear_error(detector, devices, tmp_path, monkeypatch):
    monkeypatch.setattr(camera.sys, "platform", "linux")
    monkeypatch.setattr(camera, "camera_names", lambda av, kind: ["/dev/video7"])
    with pytest.raises(StmineError, match=r"camera /dev/video3: cannot be opened .*found here: /dev/video7\."):
        run(detector, "camera:3", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(camera.sys, "platform", "plan9")
    with pytest.raises(StmineError, match=r"cameras of this system \(plan9\) cannot be opened"):
        run(detector, "camera", tmp_path / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="asks for a device of Linux")
def test_a_device_that_is_not_there(detector, tmp_path):
    with pytest.raises(StmineError, match="/dev/video99: cannot be opened"):
        run(detector, "camera:99", tmp_path / "out")


@pytest.mark.parametrize(
    "times", [[0, 0.1, 1e9, 1e9 + 0.1], [9000.0 * n for n in range(12)], [0, 1e13], [-5, -4, 0, 1], [0, 0, 0, 0]]
)
def test_a_clock_that_jumps_costs_no_frame(tmp_path, times):
    """An MP4 with hours between frames cannot be closed: all results of the video were lost at its end."""
    with video_writing.VideoWriter(tmp_path / "a.mp4", Fraction(10), None) as video:
        for number, seconds in enumerate(times):
            video.write(Image.new("RGB", (64, 48), (20 * number, 0, 0)), seconds)
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    assert len(shown) == len(times) and all(a < b for a, b in pairwise(shown))
    assert all(b - a <= 2**28 / 60_000 + 1e-6 for a, b in pairwise(shown))

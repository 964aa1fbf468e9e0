"""`stmine detect`: images, folders and videos, and every mistake in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers_sat import save_tiny_sat
from PIL import Image
from videos import read_video, write_video

from stmine_hf.cli import main

THRESHOLD = 0.0099  # the tiny model's scores are all near 0.01


def run(*words) -> int:
    """The exit code of `stmine detect WORDS`."""
    try:
        main(["detect", *map(str, words)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def error_line(capsys) -> str:
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "detecting" not in line]
    assert printed.out == "" and len(lines) == 1 and lines[0].startswith("error: "), printed
    return lines[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_sat(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "street"
    folder.mkdir()
    for number in range(3):
        Image.effect_noise((90 - number, 60), 80).convert("RGB").save(folder / f"{number}.jpg")
    (folder / "bad.jpg").write_text("no image")
    return folder


def test_a_folder(capsys, model, folder, tmp_path):
    out = tmp_path / "out"
    words = [folder, "--out", out, "--model", model, "--threshold", THRESHOLD]
    assert run(*words, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["images"], first["detected"], first["unchanged"]) == (3, 3, 0)
    assert first["objects"] == len(json.loads((out / "detections.json").read_text())) > 0
    assert [row["path"] for row in first["skipped"]] == ["bad.jpg"] and first["skipped"][0]["reason"]
    assert run(*words) == 0
    printed = capsys.readouterr().out
    assert f"{first['objects']} objects in 3 of 3 images" in printed
    assert "3 images were already done" in printed and "skipped bad.jpg: not an image" in printed
    assert str(out / "images") in printed and (out / "images" / "2.jpg").is_file()
    assert run(*words[:5], "--threshold", 0.5) == 1
    assert f"other settings (threshold {THRESHOLD})" in error_line(capsys)


def test_an_image_goes_to_a_folder_of_its_name(capsys, model, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("street/0.jpg", "--model", model, "--threshold", THRESHOLD, "--labels", "deer, ebike") == 0
    printed = capsys.readouterr().out
    assert "outputs/detect/0/detections.json" in printed and "person" not in printed
    assert (tmp_path / "outputs" / "detect" / "0" / "images" / "0.jpg").is_file()


def test_a_video(capsys, model, tmp_path):
    video, out = write_video(tmp_path / "street.mp4", 7), tmp_path / "out"
    assert run(video, "--out", out, "--model", model, "--limit", 5, "--batch-size", 2) == 0
    assert "in 0 of 5 frames" in capsys.readouterr().out
    assert len(read_video(out / "street.mp4")[0]) == 5
    assert run(video, "--out", out, "--model", model, "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 7


def test_show_opens_a_window(capsys, model, folder, tmp_path, monkeypatch):
    events = []

    class Screen:
        def __init__(self, title):
            events.append(title)

        def show(self, image):
            events.append(image.size)
            return True

        def close(self):
            events.append("closed")

    monkeypatch.setattr("stmine_hf.detect.screen.Screen", Screen)
    assert run(folder / "0.jpg", "--out", tmp_path / "out", "--model", model, "--show") == 0
    assert events == [f"{folder / '0.jpg'} - stmine detect", (90, 60), "closed"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["{tmp}/nosuch"], ["nosuch", "expected an image, a folder of images, a video or `camera`"]),
        (["{street}/bad.jpg"], ["bad.jpg", "not an image"]),
        (["{tmp}"], ["found no images in"]),
        (["camera:99"], ["camera", "cannot be opened"]),
        (["{tmp}/zero.mp4"], ["zero.mp4", "the file is empty"]),
        (["{street}", "--labels", "walrus"], ["no class 'walrus'", "deer"]),
        (["{street}", "--model", "{tmp}/nosuch"], ["nosuch: no model found"]),
        (["{street}", "--device", "nosuch"], ["device 'nosuch'"]),
        (["{street}", "--out", "{street}/0.jpg"], ["0.jpg: expected a folder to write to, found a file"]),
    ],
    ids=lambda value: value[-1].split("/")[-1] if value[0].startswith(("{", "camera")) else "",
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_what_the_user_can_mend_is_one_line(capsys, model, folder, tmp_path, words, parts, as_json):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "zero.mp4").write_bytes(b"")
    words = [word.format(tmp=tmp_path / "empty", street=folder) for word in words]
    words += [] if "--out" in words else ["--out", tmp_path / "out"]
    words += [] if "--model" in words else ["--model", model]
    assert run(*words, *(["--json"] if as_json else [])) == 1
    line = error_line(capsys)
    for part in parts:
        assert part in line


def test_wrong_usage(capsys, folder):
    assert run() == run(folder, "--threshold", 1.5) == run(folder, "--batch-size", 0) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_ctrl_c_leaves_a_whole_video(model, tmp_path):
    video, out = write_video(tmp_path / "long.mp4", 2000), tmp_path / "out"
    words = [sys.executable, "-m", "stmine_hf.cli", "detect", video, "--out", out, "--model", model]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        started = time.monotonic()
        while not list(out.glob(".stmine-*.mp4")) and process.poll() is None and time.monotonic() - started < 200:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        printed = process.communicate(timeout=200)[0]
    assert process.returncode == 130 and "stopped before the end" in printed
    summary = json.loads((out / "summary.json").read_text())
    assert summary["stopped"] and 0 < summary["frames"] < 2000
    assert len(read_video(out / "long.mp4")[0]) == summary["frames"]

"""Temporary files of the demo: one folder, removed at the end, and at the next start after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from stmine_hf.demo import temporary
from stmine_hf.files import LOCK, only_writer


@pytest.fixture
def system(tmp_path, monkeypatch) -> Path:
    """The system's temporary folder."""
    temporary.remove()
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    temporary.remove()


def test_one_folder_that_goes_in_the_end(system):
    first, second = temporary.new_folder(), temporary.new_folder()
    assert first != second and first.parent == second.parent == temporary.root()
    (first / "upload.png").write_bytes(b"x")
    temporary.remove()
    assert list(system.iterdir()) == []
    assert temporary.root().is_dir()  # and a new one when it is needed again


def test_what_a_killed_process_left_is_removed_and_nothing_else(system):
    left, running, other = (system / f"stmine-demo-{name}" for name in ("left", "running", "other"))
    for folder in (left, running, other):
        (folder / "uploads").mkdir(parents=True)
        (folder / "uploads" / "image.png").write_bytes(b"x")
    for folder in (left, running):
        (folder / LOCK).touch()
    (system / "stmine-demo-link").symlink_to(other)
    (system / "stmine-demo-file").write_text("mine")
    with only_writer(running):
        temporary.root()
    kept = {path.name for path in system.iterdir()} - {temporary.root().name}
    assert kept == {"stmine-demo-running", "stmine-demo-other", "stmine-demo-link", "stmine-demo-file"}
    assert (other / "uploads" / "image.png").is_file() and (running / "uploads" / "image.png").is_file()


SERVE = """
import sys, time
from stmine_hf.demo import app, tools
from stmine_hf.demo import temporary

def slow(self, stop=None):
    time.sleep(1)

tools.Tools.open_all = slow
(temporary.new_folder() / "upload.png").write_bytes(b"x")
app.launch()
print("ended", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_ctrl_c_and_sigterm_end_the_page_and_remove_uploads(tmp_path, number):
    pytest.importorskip("gradio", reason='needs Gradio: pip install "stmine-hf[demo]"')
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    environment.pop("GRADIO_TEMP_DIR", None)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline()
    assert "Ctrl-C" in address, process.stderr
    assert list(tmp_path.glob("stmine-demo-*/*/upload.png"))
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and "ended" in out and "Traceback" not in err, err
    assert not list(tmp_path.glob("stmine-demo-*"))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 4, 10])
def test_an_early_ctrl_c_ends_the_command_without_a_traceback(tmp_path, seconds):
    """While libraries are imported, the page is built, or the models are opened."""
    pytest.importorskip("gradio", reason='needs Gradio: pip install "stmine-hf[demo]"')
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "stmine_hf.cli", "demo"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # background jobs ignore it
    )  # fmt: skip
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (0, 130) and "Traceback" not in err, err

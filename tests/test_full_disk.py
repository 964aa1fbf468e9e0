"""A disk that is full or cannot be written: one line that says so, nothing lost, and the next run completes the work.

The disk is a file system in memory, which only some users may mount; others' runs skip these tests.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from faults import COMMANDS, mounted, write_inputs

pytestmark = pytest.mark.slow  # half a minute
WRITERS = [name for name in COMMANDS if not name.startswith("train-")]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "inputs"
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    """What a command writes, and how many bytes that takes."""
    known: dict[str, tuple[Any, int]] = {}

    def content(name: str) -> tuple[Any, int]:
        if name not in known:
            out = tmp_path_factory.mktemp(name) / COMMANDS[name].out
            assert code_of(name, inputs, out) == 0
            blocks = [-(-path.stat().st_size // 4096) for path in out.parent.rglob("*") if path.is_file()]
            known[name] = COMMANDS[name].content(out), 4096 * sum(blocks)
        return known[name]

    return content


def code_of(name: str, inputs: Path, out: Path) -> int:
    try:
        COMMANDS[name].run(inputs, out)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def fails_in_one_line(name: str, inputs: Path, out: Path, capfd) -> str:
    capfd.readouterr()
    assert code_of(name, inputs, out) == 1, "it was not noticed"
    said = capfd.readouterr().err.strip().splitlines()
    assert "Traceback" not in "\n".join(said) and said[-1].startswith("error: "), said
    assert "--debug" not in said[-1], f"an error that nobody foresaw: {said[-1]}"
    return said[-1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a tmpfs")
@pytest.mark.parametrize("share", [0.5])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_the_next_run_completes(name, share, inputs, undisturbed, tmp_path, capfd):
    expected, written = undisturbed(name)
    out = tmp_path / "disk" / COMMANDS[name].out
    out.parent.mkdir()
    (out.parent / "mine.txt").write_text("of the user")
    with mounted(out.parent, f"size={max(8192, int(share * written))}") as change:
        if change is None:
            pytest.skip("nothing may be mounted here")
        said = fails_in_one_line(name, inputs, out, capfd)
        assert "No space left on device" in said, said
        assert (out.parent / "mine.txt").read_text() == "of the user"
        change("size=64m")
        assert code_of(name, inputs, out) == 0
        assert COMMANDS[name].content(out) == expected
        assert (out.parent / "mine.txt").read_text() == "of the user"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a tmpfs")
@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_cannot_be_written_is_named(name, inputs, undisturbed, tmp_path, capfd):
    out = tmp_path / "disk" / COMMANDS[name].out
    out.parent.mkdir()
    with mounted(out.parent, "ro") as change:
        if change is None:
            pytest.skip("nothing may be mounted here")
        said = fails_in_one_line(name, inputs, out, capfd)
        assert "Read-only file system" in said, said
        assert not list(out.parent.iterdir())
        change("rw")
        assert code_of(name, inputs, out) == 0
        assert COMMANDS[name].content(out) == undisturbed(name)[0]

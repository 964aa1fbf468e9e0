"""`stmine publish diff`: what differs between a published model's code and `modeling/`, and from where it is read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT
from hub_cache import lay_into_cache

from stmine_hf.cli import main
from stmine_hf.hub.diff import diff
from stmine_hf.hub.repository import PublishError

CODE = ["configuration_sat.py", "image_processing_sat.py", "losses_sat.py", "modeling_sat.py"]


@pytest.fixture
def changed(tmp_path) -> Path:
    """A published model whose code is of another day."""
    folder = tmp_path / "changed"
    folder.mkdir()
    for file in (ROOT / "modeling" / "sat").glob("*_sat.py"):
        shutil.copy(file, folder)
    (folder / "config.json").write_text('{"model_type": "sat"}')
    text = (folder / "modeling_sat.py").read_text(encoding="utf-8")
    (folder / "modeling_sat.py").write_text("# of yesterday\n" + text, encoding="utf-8")
    (folder / "losses_sat.py").rename(folder / "old_losses_sat.py")
    return folder


def test_shipped_repositories_run_the_code_of_today():
    found = diff("sat-coco-small")
    assert (found.method, found.same, found.different) == ("sat", CODE, [])


def test_every_difference_is_told_with_its_lines(changed):
    found = diff(changed)
    assert found.same == CODE[:2]
    states = {file.path: file.state for file in found.different}
    assert states == {"losses_sat.py": "new", "modeling_sat.py": "changed", "old_losses_sat.py": "gone"}
    lines = {file.path: file.lines for file in found.different}
    assert lines["modeling_sat.py"][:2] == [f"--- {changed}/modeling_sat.py", "+++ modeling/sat/modeling_sat.py"]
    assert [line for line in lines["modeling_sat.py"][3:] if line[0] in "+-"] == ["-# of yesterday"]
    assert all(line.startswith("-") for line in lines["old_losses_sat.py"][3:])


def test_command_prints_a_diff_and_ends_with_1(changed, capsys):
    with pytest.raises(SystemExit) as end:
        main(["publish", "diff", str(changed)])
    printed = capsys.readouterr().out
    assert end.value.code == 1 and "-# of yesterday" in printed and "gone: old_losses_sat.py" in printed
    assert f"2 of 5 code files of {changed} are today's." in printed
    with pytest.raises(SystemExit) as end:
        main(["publish", "diff", str(ROOT / "hub_cards" / "sat-coco-small"), "--json"])
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out)["same"] == CODE


@pytest.mark.parametrize(
    ("repository", "message"), [("nowhere", "no such folder"), ("modeling", "expected a folder with the config.json")]
)
def test_what_is_no_repository_is_refused(repository, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(PublishError, match=message):
        diff(repository)


def test_a_revision_of_the_hub_is_read_from_the_cache(changed, tmp_path):
    """In a process of its own: the client reads where its cache lies when it starts."""
    sha = lay_into_cache(tmp_path / "home", "someone/tuned", changed, branch="v1")
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    for revision in ("v1", sha):
        words = [sys.executable, "-m", "stmine_hf.cli", "publish", "diff", "someone/tuned", "--revision", revision]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1 and f"2 of 5 code files of someone/tuned@{sha[:8]}" in done.stdout, done.stderr
    words[-1] = "v2"
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("error: someone/tuned: ") and not done.stdout

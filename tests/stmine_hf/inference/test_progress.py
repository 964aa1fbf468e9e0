"""The bar counts on a terminal and is silent elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from stmine_hf.inference import progress
from stmine_hf.inference.progress import ProgressBar


@pytest.mark.parametrize("total", [3, None])
def test_a_terminal_shows_what_is_done(monkeypatch, total):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=screen, force_terminal=True, width=100))
    with ProgressBar("Counting", total) as bar:
        bar.advance(worked=0)
        bar.advance(2, doing="Counting on")
    assert "Counting on" in screen.getvalue() and ("3/3" if total else "3/?") in screen.getvalue()
    assert "/s" in screen.getvalue()


def test_nothing_is_shown_elsewhere(capsys):
    with ProgressBar("Counting", 3) as bar:
        bar.advance()
    assert capsys.readouterr() == ("", "")

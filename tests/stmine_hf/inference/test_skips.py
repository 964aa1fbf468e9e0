"""What was left out, in one line."""

from __future__ import annotations

from stmine_hf.images import Skip
from stmine_hf.inference.skips import first_reasons


def test_the_first_reasons_in_one_line():
    assert first_reasons([]) == ""
    assert first_reasons(Skip(f"{n}.png", "empty") for n in range(9)) == "0.png: empty; 1.png: empty; 2.png: empty"

"""What was left out: counted, the first ones kept, all in a file."""

from __future__ import annotations

import json

from stmine_hf.images import Skip
from stmine_hf.inference.skips import SkipFile, first_reasons


def test_all_are_in_the_file_and_the_first_ten_are_kept(tmp_path):
    with SkipFile(tmp_path / "skipped.jsonl") as skips:
        for line in (*range(20, 40), *range(20)):
            skips.add({"line": line, "reason": "假"})
    rows = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text(encoding="utf-8").splitlines()]
    assert skips.count == len(rows) == 40 and rows[0] == {"line": 20, "reason": "假"}
    assert [row["line"] for row in skips.first] == list(range(10))


def test_no_file_where_nothing_was_left_out(tmp_path):
    with SkipFile(tmp_path / "skipped.jsonl") as skips:
        pass
    assert skips.count == 0 and not skips.path.exists()


def test_reasons_in_one_line():
    assert first_reasons([]) == ""
    assert first_reasons(Skip(f"{n}.png", "empty") for n in range(9)) == "0.png: empty; 1.png: empty; 2.png: empty"

"""Rows on disk as soon as they are done: cut anywhere, nothing before is lost; files of others stay as they are."""

from __future__ import annotations

import json

import pytest

from stmine_hf.errors import StmineError
from stmine_hf.inference.journal import Journal

ROWS = [{"id": number, "text": "假 news" * number, "nested": {"a": [number]}} for number in range(4)]


def opened(path, rows: list | None = None) -> Journal:
    rows = [] if rows is None else rows
    return Journal(path, ["id"], lambda row, offset: rows.append((row["id"], row["nested"], offset)))


def test_rows_are_read_back_by_their_offsets(tmp_path):
    for path in (None, tmp_path / "journal.jsonl"):
        with opened(path) as journal:
            offsets = journal.append(*ROWS[:3]) + journal.append(ROWS[3])
            assert [journal.read(offset) for offset in reversed(offsets)] == ROWS[::-1]
    found: list = []
    with opened(path, found):
        assert [(number, offset) for number, _, offset in found] == list(enumerate(offsets))


def test_a_file_cut_at_any_byte_is_resumed(tmp_path):
    whole = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS)
    for end in range(len(whole)):
        path, found = tmp_path / "journal.jsonl", []
        path.write_bytes(whole[:end])
        with opened(path, found) as journal:
            journal.append(*ROWS[len(found) :])
        assert path.read_bytes() == whole, end


def test_zeros_that_a_system_crash_left_are_removed(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"id": 1, "nested": {}}\n' + bytes(100))
    with opened(path):
        assert path.read_bytes() == b'{"id": 1, "nested": {}}\n'


@pytest.mark.parametrize(
    "content", [b"a letter", b"[]\n", b"\n", b'{"id": 1}', b'{"id": 1}\n{"id": 2}', b'{"other": 1, "te', b"\xff\xfe{"]
)
def test_files_of_others_are_refused_and_stay(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(StmineError, match="line 1: expected a result of this command"):
        opened(path)
    assert path.read_bytes() == content
    with pytest.raises(StmineError, match="found a folder"):
        opened(tmp_path)


def test_a_damaged_line_is_reported_with_its_number(tmp_path):
    path = tmp_path / "journal.jsonl"
    with opened(path) as journal:
        journal.append(*ROWS)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1][:9], *lines[2:]]))
    with pytest.raises(StmineError, match="line 2: expected"):
        opened(path)

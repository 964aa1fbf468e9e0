"""JSON files with one line for each entry."""

from __future__ import annotations

import json

import pytest

from stmine_hf.files import write_entries, write_rows


def test_an_object_has_a_line_for_each_entry_and_keeps_every_script(tmp_path):
    document = {"model": "谣言", "metrics": {"a": 0.5}, "skipped": []}
    write_entries(tmp_path / "x.json", document)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == document and len(text.splitlines()) == 5 and "谣言" in text


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_list_has_a_line_for_each_row(tmp_path, count):
    rows = [{"id": number, "name": "鹿"} for number in range(count)]
    write_rows(tmp_path / "x.json", iter(rows))
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == rows and len(text.splitlines()) == count + 2 and text.endswith("\n]\n")


def test_half_a_character_is_replaced(tmp_path):
    write_rows(tmp_path / "x.json", [{"name": "a\ud83d"}])
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == [{"name": "a?"}]

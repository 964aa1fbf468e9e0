"""The table of data sets in the guide, as the registry has it: `python -m tests.data_table` brings it up to date."""

from __future__ import annotations

from pathlib import Path

from stmine_hf.data.description import Entry, entries
from stmine_hf.evaluation.reports import fill_page

GUIDE = Path(__file__).resolve().parents[1] / "examples" / "guides" / "data.md"


def render() -> str:
    rows = [f"| `{entry.name}` | {entry.kind} | {entry.about} | {_origin(entry)} |" for entry in entries()]
    return "\n".join(["| name | rows of | what it is | files from |", "| --- | --- | --- | --- |", *rows])


def _origin(entry: Entry) -> str:
    if not entry.source:
        return "drawn here" if entry.name.startswith("toy_") else "your own"
    if not entry.source.startswith("https://"):
        return entry.source
    return f"[{entry.source.rpartition('/')[2]}]({entry.source})"  # a bare address would make the column wide


if __name__ == "__main__":
    fill_page(GUIDE, "data sets", render())

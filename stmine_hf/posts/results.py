"""Write predictions in the format of the file's suffix: JSON lines, JSON, CSV, TSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import StmineError
from ..files import write_rows
from ..inference.batching import batched
from ..inference.journal import json_line

JSON_LINES = ".jsonl"
SUFFIXES = (JSON_LINES, ".json", ".csv", ".tsv", ".parquet")
_ROW_GROUP = 4096


def format_of(out: Path) -> str:
    """The suffix of `out`, which is the format.

    Raises:
        StmineError: an unknown one.
    """
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise StmineError(f"{out}: expected a file name that ends with {', '.join(SUFFIXES)}, which is the format.")
    return suffix


def names_of_files(out: Path) -> tuple[str, str, str]:
    """Of the journal, the list of skipped rows and that of removed predictions."""
    lines = format_of(out) == JSON_LINES
    stem = out.stem if lines else out.name
    return out.name if lines else f"{out.name}.journal.jsonl", f"{stem}.skipped.jsonl", f"{stem}.removed.jsonl"


def written_files(out: Path) -> list[Path]:
    """What `classify_file` may write for an output."""
    return [out, *(out.with_name(name) for name in names_of_files(out))]


def write_results(path: Path, rows: Iterable[dict[str, Any]], labels: Sequence[str]) -> None:
    """Write predictions; only a few are in memory at a time.

    Args:
        path: its suffix is the format. Tables have a column for the score of each label.
        rows: as in the JSON lines; see `stmine_hf.posts.classify`.
        labels: of the model.
    """
    suffix = format_of(path)
    if suffix == JSON_LINES:
        with open(path, "wb") as lines:
            lines.writelines(map(json_line, rows))
    elif suffix == ".json":
        write_rows(path, rows)
    elif suffix == ".parquet":
        _write_parquet(path, _flat(rows, labels), labels)
    else:
        with open(path, "w", encoding="utf-8", errors="replace", newline="") as file:
            dialect = csv.excel if suffix == ".csv" else csv.excel_tab
            writer = csv.DictWriter(file, _columns(labels), dialect=dialect, lineterminator="\n")
            writer.writeheader()
            writer.writerows(_flat(rows, labels))


def _columns(labels: Sequence[str]) -> list[str]:
    return [
        "id",
        "line",
        "text",
        "label",
        "score",
        *(f"score_{label}" for label in labels),
        "model",
        "key",
        "problem",
        "warning",
    ]


def _flat(rows: Iterable[dict[str, Any]], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        scores = {f"score_{label}": row["scores"][label] for label in labels}
        yield {name: (row | scores).get(name) for name in _columns(labels)}


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]], labels: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {"score", *(f"score_{label}" for label in labels)}
    types = {name: pa.float64() if name in numbers else pa.string() for name in _columns(labels)}
    schema = pa.schema(list({**types, "line": pa.int64()}.items()))
    with pq.ParquetWriter(path, schema) as writer:
        for batch in batched(rows, _ROW_GROUP):
            # Ids are strings or whole numbers, and a column has one type.
            writer.write_table(pa.Table.from_pylist([{**row, "id": str(row["id"])} for row in batch], schema))

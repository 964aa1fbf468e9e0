"""Files of queries: one a line, or a column of a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ..data.cells import is_missing
from ..data.columns import names_of, value_of
from ..data.tables import TextFile, table_rows
from ..errors import StmineError

STDIN = "-"
_TABLES = (".csv", ".tsv", ".jsonl", ".json", ".xlsx", ".parquet", ".feather", ".arrow")
_NAMES = ("query", "queries", "sentence", "caption", "text")


def read_queries(source: str, column: str | None = None, encoding: str | None = None) -> Iterator[str]:
    """The queries of a file, blank ones left out.

    Args:
        source: a text file with one query a line; a table (CSV, TSV, JSON lines, Excel, Parquet); "-" for the lines of
            standard input.
        column: of a table. Default: the first of query, sentence, caption and text that it has.
        encoding: of a file that is not UTF-8 and does not state its encoding.

    Raises:
        StmineError: no such file or column.
    """
    if source == STDIN:
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    file = Path(source)
    if not file.is_file():
        found = "a folder" if file.is_dir() else "nothing"
        raise StmineError(f"{file}: expected a file of queries, or - for standard input, found {found}.")
    if file.suffix.lower() not in _TABLES:
        yield from (line.strip() for _, line, _ in TextFile(file, encoding) if line.strip())
        return
    for row in table_rows(file, encoding=encoding):
        if row.problem:
            continue
        names = names_of(row.cells)
        column = column or next((name for name in _NAMES if name in names), None)
        if column is None or column not in names:
            raise StmineError(
                f"{file} has no column {column or 'query'!r}, but {', '.join(names[:12])}. Say which it is: "
                "--column query=THE_COLUMN."
            )
        value = value_of(row.cells, column)
        if not is_missing(value) and str(value).strip():
            yield str(value).strip()

"""A file of JSON lines that grows as work is done, so that a killed run is resumed where it stopped."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import StmineError


class Journal:
    """Rows that are written as soon as they are done; a last line that was cut short is removed.

    The caller holds the lock of the file or of its folder.

    Args:
        path: created if missing. None: the rows are kept in memory, for work that is not resumed.
        first_keys: every row begins with one of these keys, by which a line cut short is recognized.
        on_row: called with each existing row and its offset, before anything is written. A KeyError, TypeError or
            ValueError means that the row was not written by this command.

    Raises:
        StmineError: the file has other content. It is left as it is.
    """

    def __init__(
        self, path: Path | None, first_keys: Iterable[str], on_row: Callable[[Mapping[str, Any], int], object]
    ):
        if path is None:
            self._file: BinaryIO = io.BytesIO()
            return
        end = whole_lines(path, first_keys, on_row) if path.exists() else 0
        self._file = open(path, "ab+")  # noqa: SIM115  closed by __exit__
        self._file.truncate(end)
        if end and not self._ends_with_newline(end):
            self._file.write(b"\n")
            self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def append(self, *rows: Mapping[str, Any]) -> list[int]:
        """Write rows, all at once.

        Returns:
            Their offsets; see `read`.
        """
        lines = [json_line(row) for row in rows]
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(b"".join(lines))
        self._file.flush()
        return [start + sum(map(len, lines[:number])) for number in range(len(lines))]

    def read(self, offset: int) -> dict[str, Any]:
        """The row that begins at `offset`."""
        self._file.seek(offset)
        return json.loads(self._file.readline())

    def _ends_with_newline(self, end: int) -> bool:
        self._file.seek(end - 1)
        return self._file.read(1) == b"\n"


def json_line(row: Mapping[str, Any]) -> bytes:
    """A row as it is in the file. Half a surrogate pair, which a text can hold and UTF-8 cannot, becomes "?"."""
    return json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Offset and content of each row of a file of JSON lines that this package wrote."""
    offset = 0
    with open(path, "rb") as file:
        for line in file:
            yield offset, json.loads(line)
            offset += len(line)


def whole_lines(path: Path, first_keys: Iterable[str], on_row: Callable[[Mapping[str, Any], int], object]) -> int:
    """Call `on_row` with each row of a journal, which stays as it is; arguments and errors as of `Journal`.

    Returns:
        The number of bytes of whole rows in the file.
    """
    beginnings = tuple(f'{{"{key}": '.encode() for key in first_keys)
    if not path.is_file():
        raise StmineError(f"{path}: expected a file to write results to, found a folder.")
    offset = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                on_row(json.loads(line), offset)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                if isinstance(error, ValueError) and not line.endswith(b"\n") and _is_cut_short(line, beginnings):
                    break
                raise StmineError(
                    f"{path}, line {number}: expected a result of this command, found something else. Give another "
                    "place for the results, or delete this file."
                ) from None
            offset += len(line)
    return offset


def _is_cut_short(line: bytes, beginnings: tuple[bytes, ...]) -> bool:
    """Whether the last line of a file is a row cut short by a kill or a crash of the system (zeros)."""
    return not line.strip(b"\0") or any(line[: len(start)] == start[: len(line)] for start in beginnings)

"""What a long job leaves out, and why: the first few to show, all of them in a file."""

from __future__ import annotations

import json
from bisect import insort
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ..images import Skip

FIRST = 10  # so many are shown; the others are in the file


def first_reasons(skips: Iterable[Skip], most: int = 3) -> str:
    """The first few in one line, for messages."""
    return "; ".join(f"{path}: {reason}" for (path, reason), _ in zip(skips, range(most), strict=False))


class SkipFile:
    """Writes one JSON line for each row left out; the file exists only while there is one.

    Attributes:
        count: how many there are.
        first: the first ten of them by line number.
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path, self.count = path, 0
        self.first: list[dict[str, Any]] = []

    def __enter__(self) -> SkipFile:
        self._file = open(self.path, "w", encoding="utf-8", errors="replace")
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row; its `line` is a number."""
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.count += 1
        insort(self.first, dict(row), key=lambda row: row["line"])
        del self.first[FIRST:]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self.count:
            self.path.unlink()

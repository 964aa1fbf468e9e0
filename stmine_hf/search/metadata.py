"""Metadata of the images of an index, from a user's table or the names of files: place, time and more."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..data.cells import is_missing, number_of, text_of
from ..data.errors import BadRow
from ..data.findings import Findings
from ..data.names import ImageFiles, Wanted
from ..data.tables import read_rows
from ..errors import StmineError
from ..images import parse_time
from . import store

IMAGE_COLUMNS = (
    "image", "path", "file", "file_name", "filename", "name", "filepath", "image_path", "image_name", "image_file",
    "photo", "picture", "img",
)  # fmt: skip
LONGITUDE_COLUMNS, LATITUDE_COLUMNS = ("longitude", "lon", "lng"), ("latitude", "lat")
TIME_COLUMNS = ("time", "datetime", "date", "timestamp", "acquired", "taken")
PARTS = {
    "image": IMAGE_COLUMNS,
    "longitude": LONGITUDE_COLUMNS,
    "latitude": LATITUDE_COLUMNS,
    "time": TIME_COLUMNS,
}
_PARTS = {"%Y": r"\d{4}", "%y": r"\d\d", "%j": r"\d{3}", "%b": "[A-Za-z]{3}", "%f": r"\d{1,6}"}
_OF_TWO_DIGITS = "%m %d %H %M %S"


@dataclass(frozen=True)
class Metadata:
    """Sources of the metadata of images.

    Args:
        table: a table (CSV, JSONL, Parquet, Excel ...) with a column of image names, and any of longitude and
            latitude, time, and others to filter by.
        time_pattern: how file names hold the time, in the format codes of `strptime`, such as "%Y%m%d".
        encoding: of a text table that is not UTF-8 and does not state its encoding.
        columns: those of the table that hold `image`, `longitude`, `latitude` and `time`, where they have other names
            than usual: `{"image": "Datei"}`.

    Raises:
        StmineError: a pattern without a year, or a column for something else.
    """

    table: Path | None = None
    time_pattern: str | None = None
    encoding: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, column in self.columns.items():
            if part not in PARTS:
                raise StmineError(f"columns: expected those of {', '.join(PARTS)}, found one for {part!r}")
            if not isinstance(column, str):
                raise StmineError(f"columns: expected one column for {part}, found {', '.join(map(str, column))}")
        if self.columns and self.table is None:
            raise StmineError("columns: expected a table of metadata that has them, found none")
        if self.time_pattern is not None:
            _pattern(self.time_pattern)

    def require_readable(self) -> None:
        """Check the table before the work.

        Raises:
            StmineError: it cannot be read, or has no column of image names.
        """
        if self.table is not None:
            self._column_of(list(read_rows(self.table, Findings("row"), self.encoding)))

    def rows(self, paths: Sequence[str], root: Path) -> tuple[pa.Table, Findings]:
        """The metadata of images.

        Args:
            paths: of the images, as the rows of an index have them.
            root: the folder that they are relative to.

        Returns:
            A table with the columns path, place and time, and one of text for every other column, without images that
            have no metadata; and what could not be used.

        Raises:
            StmineError: the table cannot be read, has no column of image names, or names none of the images.
        """
        findings = Findings("row")
        known: dict[str, dict[str, Any]] = {}
        if self.time_pattern is not None:
            for path in paths:
                if time := time_in_name(path, self.time_pattern):
                    known.setdefault(path, {})["time"] = time
        columns = self._read(set(paths), root, known, findings) if self.table is not None else []
        schema = pa.schema(
            [
                ("path", pa.string()),
                ("place", store.PLACE),
                ("time", store.TIME),
                *((name, pa.string()) for name in columns),
            ]
        )
        return pa.Table.from_pylist([{"path": path, **row} for path, row in known.items()], schema=schema), findings

    def _column_of(self, rows: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
        """The column of each of `PARTS`, None where there is none; that of the images is there.

        Raises:
            StmineError: no column with the names of the images, or a column that the table does not have.
        """
        assert self.table is not None
        names = list(dict.fromkeys(name for _, row in rows for name in row))
        shown = ", ".join(map(str, names)) or "no rows"
        found: dict[str, Any] = {}
        for part, usual in PARTS.items():
            given = self.columns.get(part)
            found[part] = _column(names, usual if given is None else [given.strip().lower()])
            if given is not None and found[part] is None:
                raise StmineError(f"{self.table} has no column {given!r}, but {shown}")
        if found["image"] is None:
            raise StmineError(
                f"{self.table}: expected a column with the names of the images ({', '.join(IMAGE_COLUMNS)}), found "
                f"{shown}. Of another name, say which it is: --column image=THE_COLUMN"
            )
        return found

    def _read(self, paths: set[str], root: Path, known: dict[str, dict[str, Any]], findings: Findings) -> list[str]:
        """Enter the rows of the table.

        Returns:
            The names of its other columns.
        """
        assert self.table is not None
        rows = list(read_rows(self.table, findings, self.encoding))
        names = list(dict.fromkeys(name for _, row in rows for name in row))
        images, lon, lat, time = self._column_of(rows).values()
        others = [name for name in names if name not in (images, lon, lat, time, "path", "place", "time")]
        wanted = [Wanted(_text(row.get(images)) or "", place) for place, row in rows]
        found = ImageFiles([root]).find(wanted, findings)
        used = 0
        for (place, row), file in zip(rows, found, strict=True):
            path = "" if file is None else Path(os.path.relpath(file, root)).as_posix()
            if path not in paths:
                findings.skip("image that is not in the index", f"{place}, {_text(row.get(images))}")
                continue
            used += 1
            entry = known.setdefault(path, {})
            if lon is not None and lat is not None and (point := _point(row.get(lon), row.get(lat), place, findings)):
                entry["place"] = point
            if time is not None and not is_missing(row.get(time)):
                if moment := _moment(row[time]):
                    entry["time"] = moment
                else:
                    findings.note("time that cannot be read", f"{place}, {_text(row[time])}")
            entry |= {name: _text(row.get(name)) for name in others}
        if not used:
            raise StmineError(
                f"{self.table}: none of its {len(rows)} rows names an image of {root}: {findings.brief()}"
            )
        return others


def time_in_name(path: str, pattern: str) -> datetime | None:
    """The time in a file's name; None if there is none.

    Args:
        pattern: see `Metadata`.
    """
    for found in _pattern(pattern).finditer(os.path.basename(path)):
        try:
            return datetime.strptime(found.group(), pattern).replace(tzinfo=timezone.utc)
        except ValueError:  # digits that are not a date
            continue
    return None


def _pattern(pattern: str) -> re.Pattern[str]:
    """
    Raises:
        StmineError: it has no year, or parts that are not known.
    """
    parts = _PARTS | dict.fromkeys(_OF_TWO_DIGITS.split(), r"\d\d")
    pieces = re.findall(r"%.|[^%]+|%$", pattern)
    unknown = [piece for piece in pieces if piece.startswith("%") and piece not in parts]
    if unknown or not {"%Y", "%y"} & set(pieces):
        raise StmineError(
            f"time pattern: expected a year and other parts, such as %Y%m%d (supported are {' '.join(parts)}), found "
            f"{pattern!r}."
        )
    return re.compile(
        r"(?<!\d)" * pieces[0].startswith("%") + "".join(parts.get(piece) or re.escape(piece) for piece in pieces)
    )


def _column(names: Sequence[Any], wanted: Sequence[str]) -> Any:
    by_text = {str(name).strip().lower(): name for name in reversed(names)}
    return next((by_text[name] for name in wanted if name in by_text), None)


def _point(lon: Any, lat: Any, place: str, findings: Findings) -> list[float] | None:
    if is_missing(lon) or is_missing(lat):
        return None
    try:
        point = [number_of(lon), number_of(lat)]
    except BadRow:
        point = [999.0, 999.0]
    if abs(point[0]) <= 180 and abs(point[1]) <= 90:
        return point
    findings.note("place that is not on Earth", f"{place}, {_text(lon)}, {_text(lat)}")
    return None


def _moment(cell: Any) -> datetime | None:
    if isinstance(cell, datetime):
        return cell.replace(tzinfo=timezone.utc) if cell.tzinfo is None else cell.astimezone(timezone.utc)
    return parse_time(_text(cell) or "")


def _text(cell: Any) -> str | None:
    """A cell as text, cut to a readable length; None where it holds none."""
    try:
        return text_of(cell)[:1000] or None
    except BadRow:  # a list, or foreign bytes
        return None

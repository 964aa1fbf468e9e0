"""Write predictions beside the user's own columns, in the format of the file's suffix.

A row has the columns of the user's file, in their order and as they are, and then those of the prediction (`COLUMNS`).
The name of one of these that the file has already gets `predicted_` before it: beside the user's `label` the predicted
one is `predicted_label`.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..data.cells import plain, whole_text
from ..errors import StmineError
from ..files import write_rows
from ..inference.batching import batched
from ..inference.journal import json_line, json_rows

JSON_LINES = ".jsonl"
SUFFIXES = (JSON_LINES, ".json", ".csv", ".tsv", ".parquet")
# Of a prediction. `id` is written where the file has no ids; `scores` in JSON alone, which tables have label by label.
COLUMNS = ("id", "label", "score", "scores", "line", "model", "key", "problem", "warning", "engine")
BEFORE = "predicted_"
MOST_COLUMNS = 1000  # of the user's in a table; JSON lines may have any number of keys
_ROW_GROUP = 4096
_DEPTH = 100  # of lists and mappings in each other
_EXACT = 2**53  # whole numbers up to here are exact as float64


def format_of(out: Path) -> str:
    """The suffix of `out`, which is the format.

    Raises:
        StmineError: an unknown one.
    """
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise StmineError(f"{out}: expected a file name that ends with {', '.join(SUFFIXES)}, which is the format.")
    return suffix


def is_table(out: Path) -> bool:
    """Whether the format of `out` has columns, of which it takes the first `MOST_COLUMNS`."""
    return format_of(out) not in (JSON_LINES, ".json")


def names_of_files(out: Path) -> tuple[str, str, str]:
    """Of the journal, the list of skipped rows, and that of removed predictions as version 0.2 wrote it."""
    stem = out.stem if format_of(out) == JSON_LINES else out.name
    return f"{out.name}.journal.jsonl", f"{stem}.skipped.jsonl", f"{stem}.removed.jsonl"


def written_files(out: Path) -> list[Path]:
    """What `classify_file` may write for an output."""
    return [out, *(out.with_name(name) for name in names_of_files(out))]


def require_continued(out: Path, name: str) -> None:
    """Check, before a model is loaded, that the predictions of an earlier run are not those of one of another name.

    Args:
        out: the output.
        name: of the model, or its path; see `model_tag`, which has its digest, too.

    Raises:
        StmineError: they are.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):  # what is no prediction, the run itself refuses
        _, first = next(json_rows(out.with_name(names_of_files(out)[0])), (0, None))
        if first is None:  # stopped before its first batch
            return
        tag = re.match(r"(.*?)@[0-9a-f]{8}( with |$)", first["model"])
        if tag is not None and tag[1] != Path(name).name:
            require_tag(out, first["model"], Path(name).name)


def require_tag(out: Path, found: str, tag: str) -> None:
    """
    Raises:
        StmineError: a prediction is of another model.
    """
    if found != tag:
        raise StmineError(
            f"{out} holds predictions of {found}, the model is now {tag}. Give another output, or delete this one."
        )


def require_labels(names: Mapping[str, str], labels: Sequence[str]) -> None:
    """
    Args:
        names: what words mean, as the user says.
        labels: of the model.

    Raises:
        StmineError: `names` has a label that the model does not have.
    """
    if other := [label for label in names.values() if label not in labels]:
        raise StmineError(f"label {other[0]!r}: the model's labels are {', '.join(labels)}.")


def stored_cells(cells: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the user's cells as it is kept until the output is written; infinite numbers are still numbers."""
    return {
        whole_text(str(name)): cell if isinstance(cell, float) and math.isinf(cell) else storable(cell)
        for name, cell in cells.items()
    }


def storable(value: Any, depth: int = _DEPTH) -> Any:
    """A cell as JSON in UTF-8 can hold it: dates as texts, of an image in the table its path, and nothing for other
    bytes. Of lists and mappings more than `depth` deep in each other, the inner ones become texts."""
    value = plain(value)
    if isinstance(value, str):
        return whole_text(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth == 0 and isinstance(value, (Mapping, list, tuple)):
        return _json_of(value)
    if isinstance(value, (bytes, bytearray)):
        return None
    if isinstance(value, Mapping):
        if "bytes" in value and set(value) <= {"bytes", "path"}:
            return storable(value.get("path"), depth)
        return {whole_text(str(name)): storable(part, depth - 1) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(part, depth - 1) for part in value]
    return value.isoformat() if hasattr(value, "isoformat") else whole_text(str(value))


def _json_of(value: Any) -> str:
    """A value of any depth as JSON, without recursion."""
    written: list[str] = []
    left: list[tuple[str, Any]] = [("", value)]  # what comes before a value, and the value, or nothing
    while left:
        before, one = left.pop()
        written.append(before)
        if isinstance(one, Mapping):
            parts = [
                (f"{json.dumps(whole_text(str(name)), ensure_ascii=False)}: ", part) for name, part in one.items()
            ]
        elif isinstance(one, (list, tuple)):
            parts = [("", part) for part in one]
        else:
            written += [] if one is _NOTHING else [json.dumps(storable(one), ensure_ascii=False)]
            continue
        written.append("{" if isinstance(one, Mapping) else "[")
        left.append(("}" if isinstance(one, Mapping) else "]", _NOTHING))
        left += [(f"{', ' * (number > 0)}{name}", part) for number, (name, part) in enumerate(parts)][::-1]
    return "".join(written)


_NOTHING = object()


def _kind(value: Any) -> str:
    """What a column must be able to hold: `bool`, `int`, `long` (beyond what a float holds), `float` or `str`."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if abs(value) <= _EXACT else "long" if -(2**63) <= value < 2**63 else "str"
    return "float" if isinstance(value, float) else "str"


class UserColumns:
    """The user's columns, in order, as rows are read.

    Args:
        labels: of the model, after which columns of ours are named.

    Attributes:
        left_out: those that a table has no room for: the first ones, and all that have names of ours.
    """

    def __init__(self, labels: Sequence[str] = ()) -> None:
        self._kinds: dict[str, set[str]] = {}
        self._ours = {*COLUMNS, *(f"score_{label}" for label in labels)}
        self.left_out: set[str] = set()

    def add(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            kinds = self._kinds.get(name)
            if kinds is None:
                if len(self._kinds) >= MOST_COLUMNS:
                    if len(self.left_out) < MOST_COLUMNS or _without_before(name) in self._ours:
                        self.left_out.add(name)
                    continue
                kinds = self._kinds[name] = set()
            if value is not None and "str" not in kinds:
                kinds.add(_kind(value))

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __contains__(self, name: str) -> bool:
        return name in self._kinds or name in self.left_out

    def in_table(self, name: str) -> bool:
        """Whether a table has a column of the user's."""
        return name in self._kinds

    def type_of(self, name: str) -> type:
        """The one type of a column's values; str where no other holds all of them as they are."""
        kinds = self._kinds[name]
        for fitting, holds in ((bool, {"bool"}), (int, {"int", "long"}), (float, {"int", "float"})):
            if kinds and kinds <= holds:
                return fitting
        return str


def _without_before(name: str) -> str:
    while name.startswith(BEFORE):
        name = name.removeprefix(BEFORE)
    return name


class ResultColumns:
    """The columns of an output.

    Args:
        user: those of the file of posts.
        labels: of the model.
        id_column: with the user's ids; None: `id` is ours. A row of JSON that lacks it gets the id
            in it; in a table it stays empty.

    Attributes:
        renamed: our columns whose names the file has, and what they are called.
    """

    def __init__(self, user: UserColumns, labels: Sequence[str], id_column: str | None) -> None:
        self.user, self.labels, self._id_column = user, labels, id_column
        with_id = id_column is None
        tables = [f"score_{label}" for label in labels]
        self._name: dict[str, str] = {}
        for ours in (*COLUMNS, *tables):
            name = ours
            while name in user or name in self._name.values():
                name = f"{BEFORE}{name}"
            self._name[ours] = name
        written = [name for name in (*COLUMNS, *tables) if name not in ("id", "engine") or (name == "id" and with_id)]
        self.renamed = {ours: self._name[ours] for ours in written if self._name[ours] != ours}

    def merged(self, cells: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
        """A row of JSON: the user's cells, and the prediction."""
        name = self._id_column
        if name is not None and name not in cells and name in self.user:
            cells = {name: found["id"], **cells}
        return {
            name: storable(cell) if isinstance(cell, float) else cell for name, cell in cells.items()
        } | self._ours(found)

    def _ours(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """The prediction, under the names of the output."""
        with_id = self._id_column is None
        return {self._name[ours]: found[ours] for ours in COLUMNS if ours in found and (ours != "id" or with_id)}

    def type_of(self, name: str) -> type:
        """The type of a column of a table."""
        if self.user.in_table(name):
            return self.user.type_of(name)
        ours = next(ours for ours, written in self._name.items() if written == name)
        return int if ours == "line" else float if ours.startswith("score") else str

    def of_table(self) -> list[str]:
        """The names of a table's columns."""
        shares = [f"score_{label}" for label in self.labels]
        ours = ["id"] * (self._id_column is None) + [
            "line",
            "label",
            "score",
            *shares,
            "model",
            "key",
            "problem",
            "warning",
        ]
        return [*self.user, *(self._name[name] for name in ours)]

    def flat(self, cells: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
        """A row of a table."""
        shares = {self._name[f"score_{label}"]: found["scores"][label] for label in self.labels}
        row = {**cells, **self._ours(found), **shares}
        return {name: row.get(name) for name in self.of_table()}


Rows = Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]


def write_results(path: Path, rows: Rows, columns: ResultColumns) -> None:
    """Write predictions; only a few are in memory at a time.

    Args:
        path: its suffix is the format. Tables have a column for the score of each label.
        rows: the user's cells and the prediction of each, as `stmine_hf.posts.classify` has it.
        columns: of the output.
    """
    suffix = format_of(path)
    if suffix == JSON_LINES:
        with open(path, "wb") as lines:
            lines.writelines(json_line(columns.merged(*row)) for row in rows)
    elif suffix == ".json":
        write_rows(path, (columns.merged(*row) for row in rows))
    elif suffix == ".parquet":
        _write_parquet(path, rows, columns)
    else:
        with open(path, "w", encoding="utf-8", errors="replace", newline="") as file:
            dialect = csv.excel if suffix == ".csv" else csv.excel_tab
            writer = csv.DictWriter(file, columns.of_table(), dialect=dialect, lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {name: _text(cell) for name, cell in columns.flat(cells, found).items()} for cells, found in rows
            )


def _text(cell: Any) -> Any:
    """A cell of a CSV file: lists, mappings and truth values as JSON has them."""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, (list, dict, bool)) else cell


def _text_of(cell: Any) -> str:
    """A cell of a column of texts."""
    return str(cell) if isinstance(cell, float) else json.dumps(cell, ensure_ascii=False)


def _write_parquet(path: Path, rows: Rows, columns: ResultColumns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    types = {name: kinds[columns.type_of(name)] for name in columns.of_table()}

    def cell(name: str, value: Any) -> Any:
        if value is None or types[name] != pa.string():
            return value
        return value if isinstance(value, str) else _text_of(value)

    with pq.ParquetWriter(path, pa.schema(list(types.items()))) as writer:
        for batch in batched(rows, _ROW_GROUP):
            flat = [columns.flat(*row) for row in batch]
            # Ids are strings or whole numbers, and a column has one type.
            content = [{name: cell(name, value) for name, value in row.items()} for row in flat]
            writer.write_table(pa.Table.from_pylist(content, pa.schema(list(types.items()))))

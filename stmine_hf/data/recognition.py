"""Recognition of data given only as a path: its layout, and the meaning of its columns.

Layouts are known by the names of files, columns by their names (`assign_columns`). If these are inconclusive, nothing
is guessed: a message says what is missing, or between which columns to choose.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import BUILDERS, KINDS, DataError, read_dataset
from .arrow_tables import ARROW
from .captioned_images import PUBLISHED
from .columns import NAMES, NEEDED, SAMPLED, Column, assign_columns, names_of, unused_images
from .findings import Findings
from .folder_builder import visible
from .layouts import layout_of
from .paths import require_data
from .post_files import find_tables
from .tables import TABLES, arrow_schema, read_json, same_column, table_rows

# Names by which a column plainly holds sentences about an image, rather than the text of a post.
_CAPTIONS = frozenset(("captions", *NAMES["captions"][0]))


@dataclass(frozen=True)
class Recognized:
    """What a path was recognized as, in terms of `load_dataset`.

    Attributes:
        dataset: a layout by name, or the path or Hub id itself.
        data_dir: the folder of a layout.
        column_mapping: which columns are what.
        options: of the set.
        taken: in words, what was recognized as what.
    """

    dataset: str
    data_dir: str | None = None
    column_mapping: dict[str, Column] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)


def recognize(
    path: str, kind: str, column_mapping: Mapping[str, Column] | None = None, encoding: str | None = None
) -> Recognized:
    """What a path holds.

    Args:
        path: a table, a folder, the name of a drawn set, or the id of a data set on the Hub.
        kind: of the rows to make of it: captions, posts or boxes.
        column_mapping: columns that are known; these win.
        encoding: of a table that is neither UTF-8 nor says what it is.

    Raises:
        DataError: nothing is there, or a set of another kind.
    """
    given = dict(column_mapping or {})
    options: dict[str, Any] = {"encoding": encoding} if encoding else {}
    place = Path(path).expanduser()
    if path in BUILDERS:
        if path not in KINDS[kind]:
            raise DataError(f"{path} has no rows of {kind}: expected {', '.join(KINDS[kind])} or data of your own")
        return Recognized(path, options=options, taken=[f"the data set {path}"])
    if not require_data(path):
        return Recognized(path, column_mapping=given, options=options, taken=[f"the data set {path} on the Hub"])
    if not given and (layout := _layout(place, kind)):
        name, files = layout
        folder = place if place.is_dir() else place.parent
        options |= {"files": files} if files else {}
        return Recognized(name, str(folder), options=options, taken=[f"{path}: the layout {name}"])
    header, rows = _columns(place, encoding)
    assigned = assign_columns(kind, header, given, rows)
    assigned.require_clear(path, ("label", "image", *NEEDED[kind]) if kind != "captions" else NEEDED[kind])
    if assigned.bbox_format:
        options["bbox_format"] = assigned.bbox_format
    taken = [assigned.line()] if assigned.of else []
    if kind == "posts" and (note := unused_images(place if place.is_dir() else place.parent, assigned, header, rows)):
        taken.append(note)
    return Recognized(str(place), column_mapping=assigned.of, options=options, taken=taken)


def read_recognized(
    name: str,
    kind: str,
    *,
    data_dir: str | Path | None = None,
    column_mapping: Mapping[str, Column] | None = None,
    **options: Any,
) -> tuple[Any, Findings, Recognized]:
    """All splits of a data set by name, or of what a path was recognized as, with its findings.

    Args:
        name: as of `load_dataset`.
        kind: of the rows.
        data_dir: of a set by name.
        column_mapping: columns that are known; these win.
        options: of the set; these win over recognized ones.

    Raises:
        DataError: with what was expected, what was found and what to do.
    """
    if name in BUILDERS or data_dir is not None:
        taken = Recognized(name, None if data_dir is None else str(data_dir), dict(column_mapping or {}))
    else:
        taken = recognize(name, kind, column_mapping, options.get("encoding"))
    splits, findings = read_dataset(
        taken.dataset,
        data_dir=taken.data_dir,
        kind=kind,
        column_mapping=taken.column_mapping or None,
        **{**taken.options, **options},
    )
    return splits, findings, taken


def kinds_of(path: str, encoding: str | None = None) -> dict[str, str]:
    """The kinds of rows that a file or folder plainly has.

    Args:
        path: a table or a folder.
        encoding: of a table that is neither UTF-8 nor says what it is.

    Returns:
        Kind -> what says so: a layout, or columns. Empty where the names of files and columns are inconclusive.
    """
    place = Path(path).expanduser()
    found = {kind: f"the layout {layout[0]}" for kind in KINDS if (layout := _layout(place, kind))}
    if found:
        return found
    header, rows = columns_in(place, encoding)
    for kind in KINDS:
        assigned = assign_columns(kind, header, None, rows)
        if set(NEEDED[kind]) <= {*assigned.of, *assigned.doubtful}:
            columns = [assigned.of.get(part, assigned.doubtful.get(part, [])) for part in NEEDED[kind]]
            found[kind] = "the columns " + ", ".join(map(_shown, columns))
    return found


def likely_kind(path: str, encoding: str | None = None) -> str | None:
    """The kind of rows that a file or folder has, where one is plain.

    What has a text, a label and an image holds posts, unless the text's column is named as that of captions.

    Args:
        path: a table or a folder.
        encoding: of a table that is neither UTF-8 nor says what it is.
    """
    found = kinds_of(path, encoding)
    if set(found) == {"captions", "posts"}:
        header, rows = columns_in(Path(path).expanduser(), encoding)
        column = assign_columns("captions", header, None, rows).of.get("captions")
        named = [column] if isinstance(column, str) else column or []
        return "captions" if all(same_column(one) in _CAPTIONS for one in named) else "posts"
    return next(iter(found)) if len(found) == 1 else None


def _layout(place: Path, kind: str) -> tuple[str, dict[str, str]] | None:
    """Name of the builder that reads a folder or file, with its option `files`; None for tables and all else."""
    if kind == "captions" and place.is_dir():
        patterns = [f"{name}_train*.json" for name in PUBLISHED] + ["dataset.json", "dataset_*.json", "*_filename.txt"]
        return ("rsicd", {}) if _any(place, patterns) else None
    if kind != "boxes":
        return None
    if place.is_file():
        return ("coco_json", {"train": place.name}) if place.suffix.lower() == ".json" and _is_coco(place) else None
    found = layout_of(place)
    return (found, {}) if found else None


def _any(folder: Path, patterns: Iterable[str]) -> bool:
    return any(not file.name.startswith(".") for pattern in patterns for file in folder.glob(pattern))


def _is_coco(file: Path) -> bool:
    """Whether a JSON file has COCO's three lists."""
    try:
        content = read_json(file)
    except Exception:  # the reader of the file reports what is wrong with it
        return False
    return isinstance(content, Mapping) and {"images", "annotations"} <= set(content)


def _columns(place: Path, encoding: str | None) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a table, or of the first table of a folder, and its first rows; nothing where only `datasets`
    knows them. Of a Parquet file no rows are read, as they may hold images."""
    file = place
    if place.is_dir():
        metadata = visible([*place.rglob("metadata.csv"), *place.rglob("metadata.jsonl")])
        tables = metadata or list(find_tables(str(place), place).values())
        if not tables:
            return [], []
        file = tables[0]
    if f"*{file.suffix.lower()}" not in TABLES:
        return [], []
    if file.suffix.lower() in ARROW:
        return (names_of(_example(arrow_schema(file))), []) if place.is_file() else ([], [])
    rows = [row.cells for row in itertools.islice(table_rows(file, Findings("row"), encoding), SAMPLED) if row.cells]
    if file.stem == "metadata":  # ImageFolder's name for the image
        rows = [
            {("image" if name == "file_name" else name): cell for name, cell in row.items()}
            if "file_name" in row and "image" not in row
            else row
            for row in rows
        ]
    return list(dict.fromkeys(name for row in rows for name in names_of(row))), rows


def columns_in(place: Path, encoding: str | None) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a table or of the tables in a folder, Parquet files too, and the first rows where they are cheap.

    Nothing where there is no table.
    """
    header, rows = _columns(place, encoding)
    if not header and place.is_dir():
        files = visible(file for file in place.rglob("*") if file.suffix.lower() in ARROW)
        header = names_of(_example(arrow_schema(files[0]))) if files else []
    return header, rows


def _example(schema: Any) -> dict[str, Any]:
    """A row of an Arrow schema without its values: mappings, lists of mappings, None for all else. An image, which is
    a mapping of bytes and path, counts as one value."""
    from pyarrow import types

    def shown(kind: Any) -> Any:
        if types.is_struct(kind):
            inner = {kind.field(place).name: shown(kind.field(place).type) for place in range(kind.num_fields)}
            return None if set(inner) == {"bytes", "path"} else inner
        return [shown(kind.value_type)] if types.is_list(kind) or types.is_large_list(kind) else None

    return {name: shown(kind) for name, kind in zip(schema.names, schema.types, strict=True)}


def _shown(column: Column) -> str:
    return repr(column) if isinstance(column, str) else ", ".join(map(repr, column))

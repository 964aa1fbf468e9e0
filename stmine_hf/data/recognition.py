"""Recognition of data given only as a path: its layout, and the meaning of its columns.

Layouts are known by the names of files, columns by their names. If these are inconclusive, nothing is guessed: the
message of the loader says what is missing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import BUILDERS, KINDS, DataError
from .arrow_tables import ARROW
from .captioned_images import PUBLISHED
from .columns import MORE_NAMES, NEEDED, OTHER_NAMES, TAKEN, Column, names_of
from .findings import Findings
from .folder_builder import visible
from .layouts import layout_of
from .paths import require_data
from .post_files import find_tables
from .tables import TABLES, read_json, same_column, table_rows

_ROWS_READ = 50  # of a table, to know its columns
# Corner columns of tables with one box a row, with the format they are in.
_CORNERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("xmin", "ymin", "xmax", "ymax"), "xyxy"),
    (("x_min", "y_min", "x_max", "y_max"), "xyxy"),
    (("x1", "y1", "x2", "y2"), "xyxy"),
    (("left", "top", "right", "bottom"), "xyxy"),
    (("x", "y", "width", "height"), "xywh"),
    (("x", "y", "w", "h"), "xywh"),
    (("bbox_x", "bbox_y", "bbox_width", "bbox_height"), "xywh"),
)


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
    header = _columns(place, encoding)
    mapping, box_format = _mapping(header, kind, given)
    if box_format:
        options["bbox_format"] = box_format
    taken = [f"{part}: the column {_shown(column)}" for part, column in mapping.items()]
    return Recognized(str(place), column_mapping=mapping, options=options, taken=taken)


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
    header = _columns(place, encoding)
    for kind in KINDS:
        mapping, _ = _mapping(header, kind, {})
        if set(NEEDED[kind]) <= set(mapping):
            found[kind] = "the columns " + ", ".join(_shown(mapping[part]) for part in NEEDED[kind])
    return found


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


def _columns(place: Path, encoding: str | None) -> list[str]:
    """The columns of a table, or of the first table of a folder; [] where only `datasets` knows them."""
    file = place
    if place.is_dir():
        metadata = visible([*place.rglob("metadata.csv"), *place.rglob("metadata.jsonl")])
        tables = metadata or list(find_tables(str(place), place).values())
        if not tables:
            return []
        file = tables[0]
    if file.suffix.lower() in ARROW or f"*{file.suffix.lower()}" not in TABLES:
        return []
    rows = itertools.islice(table_rows(file, Findings("row"), encoding), _ROWS_READ)
    found = dict.fromkeys(name for row in rows if row.cells for name in names_of(row.cells))
    if file.stem == "metadata" and "file_name" in found and "image" not in found:  # ImageFolder's name for the image
        return ["image", *(name for name in found if name != "file_name")]
    return list(found)


def _mapping(found: Sequence[str], kind: str, given: Mapping[str, Column]) -> tuple[dict[str, Column], str | None]:
    """Part -> column, of the parts whose column has a name that says so; and the format of boxes in corner columns."""
    mapping: dict[str, Column] = dict(given)
    free = [name for name in found if name not in str(list(mapping.values()))]
    lower = {same_column(name): name for name in reversed(free)}
    box_format = None
    if kind == "boxes" and "bbox" not in mapping:
        for names, form in _CORNERS:
            if all(name in lower for name in names):
                mapping["bbox"], box_format = [lower[name] for name in names], form
                break
    for part, usual in {**NEEDED[kind], **TAKEN[kind]}.items():
        if part in mapping:
            continue
        if usual in found:
            if part in NEEDED[kind] or part == "image":
                mapping[part] = usual
            continue
        known = (*OTHER_NAMES.get(part, ()), *MORE_NAMES.get(part, ()))
        wanted = {usual.lower(), part, *known}
        taken = {one for column in mapping.values() for one in ([column] if isinstance(column, str) else column)}
        ends = {name: same_column(name).rpartition(".")[2] for name in free if name not in taken}
        column = next(
            (name for one in (usual.lower(), part, *known) for name, end in ends.items() if end == one), None
        )
        if column is not None:
            mapping[part] = column
        elif part == "captions" and (numbered := [n for n, end in ends.items() if _stem(end) in wanted]):
            mapping[part] = numbered if len(numbered) > 1 else numbered[0]
    return mapping, box_format


def _stem(name: str) -> str:
    """`caption` of caption_3, caption3 and caption 3."""
    return re.sub(r"[\s_-]*\d+$", "", name)


def _shown(column: Column) -> str:
    return repr(column) if isinstance(column, str) else ", ".join(map(repr, column))

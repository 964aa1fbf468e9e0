"""Column mappings: which columns of a table hold the parts of a row.

There are three kinds of rows (`stmine_hf.load_dataset` describes them): `captions`, `posts`, `boxes`. A mapping gives
the names that differ in the data set, each after ours:

    {"image": "img", "captions": "text"}                     a column
    {"captions": ["caption_1", "caption_2"]}                 several columns, one value each
    {"bbox": "annotations.box", "category": "annotations.label"}   a field of a column that holds mappings
    {"bbox": ["xmin", "ymin", "xmax", "ymax"], "category": "name"}   a table with one box a row
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from .cells import opened
from .errors import DataFolderError
from .tables import same_column

# kind -> name of a part -> the column where it is looked for. The first ones are needed, the others taken if there.
NEEDED = {
    "captions": {"image": "image", "captions": "captions"},
    "posts": {"text": "text", "label": "label"},
    "boxes": {"image": "image", "bbox": "objects.bbox", "category": "objects.category"},
}
TAKEN = {
    "captions": {
        "caption_weights": "caption_weights",
        "label": "label",
        "image_id": "image_id",
        "filename": "filename",
    },
    "posts": {"image": "image", "post_id": "post_id", "group": "group", "filename": "filename"},
    "boxes": {
        "area": "objects.area",
        "iscrowd": "objects.iscrowd",
        "image_id": "image_id",
        "filename": "filename",
        "source": "source",
    },
}
# Other names that data sets have for a part, to suggest a column.
OTHER_NAMES = {
    "image": ("img", "picture", "photo", "jpg", "png", "file_name", "image_path", "path"),
    "captions": ("caption", "sentences", "sentence", "text", "texts", "raw", "description"),
    "text": ("content", "title", "clean_title", "sentence", "tweet", "post", "statement"),
    "label": ("labels", "class", "target", "category", "2_way_label"),
    "bbox": ("bboxes", "box", "boxes"),
    "category": ("categories", "category_id", "label", "labels", "class", "classes", "name"),
}
# Further names, by which tables are recognized; those in Chinese are common headers of such tables.
MORE_NAMES = {
    "image": (
        "images",
        "image_name",
        "image_file",
        "filename",
        "file",
        "filepath",
        "图片",
        "图像",
        "图片路径",
        "配图",
    ),
    "captions": ("captions", "caption_text", "描述", "句子"),
    "text": ("body", "message", "内容", "正文", "文本", "标题"),
    "label": ("verdict", "is_fake", "fake", "标签", "类别"),
    "category": ("class_name", "label_name", "类别"),
    "group": ("event", "event_id"),
}
Column = str | list[str]


class Columns:
    """The columns of one data set, found and complete.

    Args:
        kind: of the rows to make.
        mapping: of parts to columns; None where all have the names above.
        found: the columns that there are, fields of mappings as `objects.bbox`.
        title: of the data set, for messages.

    Raises:
        DataFolderError: a part that the kind does not have, or a column that is not there.
    """

    def __init__(self, kind: str, mapping: Mapping[str, Any] | None, found: Iterable[str], title: str) -> None:
        self.kind, self.title, self.found = kind, title, list(found)
        parts = {**NEEDED[kind], **TAKEN[kind]}
        mapping = dict(mapping or {})
        if kind == "boxes" and "objects" in mapping:  # short for all its fields
            prefix = mapping.pop("objects")
            parts = {part: str(column).replace("objects.", f"{prefix}.") for part, column in parts.items()}
        if unknown := [part for part in mapping if part not in parts]:
            raise DataFolderError(
                f"{title}: column_mapping names {unknown[0]!r}, but rows of the kind {kind} are made of "
                f"{', '.join([*parts, *(['objects'] if kind == 'boxes' else [])])}"
            )
        for suffix in (".bytes", ".path"):  # of the struct that is an image
            image = mapping.get("image")
            if isinstance(image, str) and image not in self.found and image.removesuffix(suffix) in self.found:
                mapping["image"] = image.removesuffix(suffix)
        self.of: dict[str, Column] = {}
        for part, usual in parts.items():
            column = mapping.get(part, usual)
            if part not in mapping and column not in self.found:
                alike = [one for one in self.found if same_column(one) == same_column(column)]
                column = alike[0] if len(alike) == 1 and alike[0] not in str(mapping) else column
            there = all(one in self.found for one in ([column] if isinstance(column, str) else column))
            if there:
                self.of[part] = column
            elif part in mapping or part in NEEDED[kind]:
                raise DataFolderError(self._missing(part, column))

    def _missing(self, part: str, column: Column) -> str:
        lacking = [column] if isinstance(column, str) else [one for one in column if one not in self.found]
        free = [name for name in self.found if name not in str(list(self.of.values()))]
        near = next((name for name in free if name.rpartition(".")[2].lower() in OTHER_NAMES.get(part, ())), None)
        near = near or next(iter(difflib.get_close_matches(lacking[0], free, n=1)), None) or "THE_COLUMN"
        return (
            f"{self.title} has no column {lacking[0]!r} ({part}), but {', '.join(self.found)}. Say which it is: "
            f"column_mapping={json.dumps({part: near})} (in training --column_mapping {part}={near}, of commands "
            f"--column {part}={near})"
        )

    def cell(self, part: str, row: Mapping[str, Any]) -> Any:
        """What a row has of a part; None where the data set does not have it."""
        column = self.of.get(part)
        if column is None or isinstance(column, str):
            return None if column is None else value_of(row, column)
        return [value_of(row, one) for one in column]


def parse_mapping(given: Iterable[str]) -> dict[str, Column]:
    """A column mapping as a command line gives it.

    Args:
        given: `PART=COLUMN` or `PART=COLUMN,COLUMN,...`, or one JSON mapping.

    Raises:
        DataFolderError: something else.

    Example:
        >>> parse_mapping(["image=img", "bbox=left,top,right,bottom"])
        {'image': 'img', 'bbox': ['left', 'top', 'right', 'bottom']}
    """
    mapping: dict[str, Column] = {}
    for entry in given:
        part, sign, column = entry.partition("=")
        if isinstance(whole := opened(entry), dict):
            mapping |= whole
        elif part and sign and column:
            mapping[part] = column.split(",") if "," in column else column
        else:
            raise DataFolderError(f"expected PART=COLUMN of a column mapping, such as image=img, found {entry!r}")
    return mapping


def value_of(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of a field: `objects.bbox` of a mapping of lists, or of a list of mappings."""
    if column in row:
        return row[column]
    outer, _, inner = column.partition(".")
    value = opened(row.get(outer))
    if isinstance(value, Mapping):
        return value_of(value, inner)
    if isinstance(value, list):
        return [value_of(item, inner) for item in value if isinstance(item, Mapping)]
    return None


def names_of(example: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The columns that a row has, or that `datasets.Features` describe, fields of mappings as `objects.bbox`.

    Example:
        >>> names_of({"image": "a.jpg", "objects": [{"bbox": [1, 2, 3, 4], "label": "deer"}]})
        ['image', 'objects.bbox', 'objects.label']
    """
    found: list[str] = []
    for name, value in example.items():
        value = opened(value)
        inner = getattr(value, "feature", value)  # of a list
        inner = inner[0] if isinstance(inner, list) and inner else inner
        is_open = isinstance(inner, Mapping) and not hasattr(inner, "decode_example")
        found += names_of(inner, f"{prefix}{name}.") if is_open and inner else [f"{prefix}{name}"]
    return found

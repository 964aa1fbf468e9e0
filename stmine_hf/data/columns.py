"""Column mappings: which columns of a table hold the parts of a row.

There are three kinds of rows (`stmine_hf.load_dataset` describes them): `captions`, `posts`, `boxes`. A mapping gives
the names that differ in the data set, each after ours:

    {"image": "img", "captions": "text"}                     a column
    {"captions": ["caption_1", "caption_2"]}                 several columns, one value each
    {"bbox": "annotations.box", "category": "annotations.label"}   a field of a column that holds mappings
    {"bbox": ["xmin", "ymin", "xmax", "ymax"], "category": "name"}   a table with one box a row

Parts that a mapping leaves out are recognized by the names of columns, in English and Chinese, and what these leave
open by the first cells: see `assign_columns`. Commands, training and the Python interface find the same columns by it.
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..printing import shell_word
from .cells import is_missing, opened
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
# Names that columns have for a part, the plainest first: two of one group are equally likely, and one of a later group
# counts only where there is none of an earlier one. Those in Chinese are common headers of such tables.
NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "image": (
        ("img", "images", "picture", "photo", "pic", "image_path", "image_name", "image_file", "image_filename",
         "img_path", "img_name", "图片", "图像", "图片路径", "图片名", "图片名称", "图片文件", "图片文件名",
         "图像路径", "配图", "圖片", "圖像", "照片"),
        ("file_name", "filename", "filepath", "file_path", "path", "jpg", "png", "file", "文件名", "文件", "路径"),
    ),
    "captions": (
        ("caption", "sentences", "sentence", "caption_text", "raw", "描述", "句子", "说明", "图片描述"),
        ("text", "texts", "description", "文本"),
    ),
    "text": (
        ("content", "contents", "body", "tweet", "tweet_text", "post", "post_text", "message", "statement", "sentence",
         "full_text", "内容", "正文", "文本", "文字", "微博", "微博正文", "微博内容", "原文", "內容", "文本内容"),
        ("title", "headline", "标题", "標題"),
        ("clean_title",),
    ),
    "label": (
        ("labels", "verdict", "is_fake", "fake", "2_way_label", "ground_truth", "标签", "标注", "真假", "是否谣言",
         "標籤"),
        ("class", "target", "category", "类别", "分类"),
    ),
    "post_id": (
        ("编号", "post_number", "tweet_id", "weibo_id", "mid", "uuid", "帖子id", "微博id", "微博编号", "帖子编号",
         "編號"),
        ("序号", "no", "index", "key"),
    ),
    "bbox": (("bboxes", "box", "boxes"),),
    "category": (
        ("categories", "class", "classes", "label", "labels", "class_name", "label_name", "category_name", "类别",
         "标签"),
        ("category_id", "class_id", "name"),
    ),
    "group": (("event", "event_id", "事件"),),
}  # fmt: skip
# Corner columns of tables with one box a row, with the format they are in.
CORNERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("xmin", "ymin", "xmax", "ymax"), "xyxy"),
    (("x_min", "y_min", "x_max", "y_max"), "xyxy"),
    (("x1", "y1", "x2", "y2"), "xyxy"),
    (("left", "top", "right", "bottom"), "xyxy"),
    (("x", "y", "width", "height"), "xywh"),
    (("x", "y", "w", "h"), "xywh"),
    (("bbox_x", "bbox_y", "bbox_width", "bbox_height"), "xywh"),
)
SAMPLED = 50  # rows whose cells are looked at
_MOST_LISTED = 100_000  # files of a folder of images
_IS_IMAGE_NAME = re.compile(r"(?!https?://).{1,255}\.(?:jpe?g|png|webp|bmp|gif|tiff?)", re.I | re.S)
_SHOWN = {"post_id": "id", "bbox": "box"}  # parts in words
Column = str | list[str]


@dataclass(frozen=True)
class Assigned:
    """Which columns hold what.

    Attributes:
        of: part -> column, or columns.
        bbox_format: of boxes in corner columns.
        doubtful: part -> columns that are equally likely to hold it, none of which is taken.
    """

    of: dict[str, Column]
    bbox_format: str | None = None
    doubtful: dict[str, list[str]] = field(default_factory=dict)

    def require_clear(self, title: str, parts: Iterable[str]) -> None:
        """
        Raises:
            DataFolderError: several columns are equally likely to hold one of these parts.
        """
        for part in parts:
            if names := self.doubtful.get(part):
                *others, last = map(repr, names)
                raise DataFolderError(
                    f"{title}: the {_SHOWN.get(part, part)} may be in the column {', '.join(others)} or {last}. Say "
                    f"which it is: {_mapped_by(part, names[0])}"
                )

    def line(self) -> str:
        """In words, for the user: `text: 正文, image: 图片, label: 标签, id: 编号`."""
        said = [
            f"{_shown_part(part)}: {column if isinstance(column, str) else ' + '.join(column)}"
            for part, column in self.of.items()
        ]
        said += [
            f"{_shown_part(part)}: none ({' or '.join(names)}: say which by {_column_option(part, names[0])})"
            for part, names in self.doubtful.items()
        ]
        return ", ".join(said)


def _shown_part(part: str) -> str:
    return "id" if part == "post_id" else part


def _column_option(part: str, column: str) -> str:
    """The option of a command that says which column holds a part."""
    return f"--column {shell_word(f'{_shown_part(part)}={column}')}"


def _mapped_by(part: str, column: str) -> str:
    """The same, and the argument in Python and in files of settings."""
    return f"{_column_option(part, column)} (column_mapping={json.dumps({part: column}, ensure_ascii=False)})"


def assign_columns(
    kind: str, found: Sequence[str], given: Mapping[str, Any] | None = None, rows: Sequence[Mapping[str, Any]] = ()
) -> Assigned:
    """Which columns hold the parts of rows, by their names; what these leave open by their first cells.

    Args:
        kind: of the rows: captions, posts or boxes.
        found: the columns that there are, fields of mappings as `objects.bbox`.
        given: columns that are known; these win.
        rows: some of the set, by which equally likely names are told apart, and an image column of any name.

    Example:
        >>> assign_columns("posts", ["编号", "正文", "标签"]).line()
        'text: 正文, label: 标签, id: 编号'
        >>> assign_columns("posts", ["content", "tweet"]).doubtful
        {'text': ['content', 'tweet']}
    """
    mapping: dict[str, Column] = with_part_names(kind, given)
    parts = {**NEEDED[kind], **TAKEN[kind]}
    if kind == "posts":  # as a person reads them
        parts = {part: parts[part] for part in ("text", "image", "label", "post_id", "group", "filename")}
    used = {one for column in mapping.values() for one in ([column] if isinstance(column, str) else column)}
    prefix = mapping.get("objects")
    box_format, doubtful, order = None, {}, list(parts)
    lower = {same_column(name): name for name in reversed(found) if name not in used}
    if kind == "boxes" and "bbox" not in mapping and prefix is None:
        for names, form in CORNERS:
            if all(name in lower for name in names):
                mapping["bbox"], box_format = [lower[name] for name in names], form
                used |= set(mapping["bbox"])
                break
    for part, usual in parts.items():
        if part in mapping or (prefix is not None and usual.startswith("objects.")):
            continue
        # Images may be called by the ids of their posts.
        taken = used - {mapping.get("image")} if part == "post_id" and isinstance(mapping.get("image"), str) else used
        if usual in found and usual not in taken:
            mapping[part] = usual
            used.add(usual)
            continue
        needed = part in NEEDED[kind]
        free = {name: same_column(name).rpartition(".")[2] for name in found if name not in taken}
        if usual.startswith("objects.") and not needed:  # a table of boxes may have an area of something else
            free = {name: end for name, end in free.items() if "." in name}
        elif kind == "posts":
            free = {name: end for name, end in free.items() if "." not in name or _is_field(name, needed, rows)}
        own = ("id",) if part == "post_id" else (usual.lower(), part)
        # Columns of their own go before fields of mappings, but those of boxes are usually fields.
        among = [[*free]] if kind == "boxes" else [[name for name in free if "." not in name], [*free]]
        for names_free, names in itertools.product(among, (own, *NAMES.get(part, ()))):
            alike = [name for name in names_free if free[name] in names]
            alike = [name for name in alike if name.count(".") == min(one.count(".") for one in alike)]
            if not needed and names is not own:
                alike = [name for name in alike if _is_likely(part, _cells(name, rows), names is NAMES[part][0])]
            alike = _likelier(part, alike, rows) if len(alike) > 1 else alike
            if len(alike) == 1:
                mapping[part] = alike[0]
            elif alike:
                doubtful[part] = alike
            if alike:
                break
        else:
            wanted = {usual.lower(), part, *(name for group in NAMES.get(part, ()) for name in group)}
            if part == "captions" and (numbered := [name for name, end in free.items() if _stem(end) in wanted]):
                mapping[part] = numbered if len(numbered) > 1 else numbered[0]
            elif part == "image" and len(named := [name for name in free if _names_images(name, rows)]) == 1:
                mapping[part] = named[0]
        if part in mapping:
            own_column = mapping[part]
            used |= {own_column} if isinstance(own_column, str) else set(own_column)
    ordered = {part: mapping[part] for part in (*order, *mapping) if part in mapping}
    return Assigned(ordered, box_format, doubtful)


def unused_images(folder: Path, assigned: Assigned, found: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """What to say of posts whose table has no column for images, with a folder of them beside it; "" for nothing.

    Args:
        folder: of the table.
        assigned: its columns.
        found: all of them.
        rows: some of the table: the cells of a column may be the names of the images without their suffix.
    """
    if {"image"} & {*assigned.of, *assigned.doubtful}:
        return ""
    try:
        with os.scandir(folder / "images") as entries:
            stems = {Path(entry.name).stem for entry in itertools.islice(entries, _MOST_LISTED)}
    except OSError:
        return ""
    if not stems:
        return ""
    named = [name for name in found if (cells := _cells(name, rows)) and all(str(cell) in stems for cell in cells)]
    option = "--column image=COLUMN"
    if len(named) == 1:
        option = f"{_column_option('image', named[0])}, whose cells are their names"
    return f"image: none, though there is a folder images (to use it, say {option})"


def with_part_names(kind: str, mapping: Mapping[str, Any] | None) -> dict[str, Any]:
    """A mapping with the names that rows have for their parts: the `id` of a post is its `post_id`."""
    return {("post_id" if kind == "posts" and part == "id" else part): one for part, one in (mapping or {}).items()}


def kind_of_parts(mapping: Mapping[str, Any]) -> str | None:
    """The only kind of rows that has all parts of a mapping, one at least of which no other kind has; else None.

    Example:
        >>> kind_of_parts({"captions": "英文说明", "image": "航片名"}), kind_of_parts({"image": "航片名"})
        ('captions', None)
    """
    if not mapping:
        return None
    fitting = [kind for kind in NEEDED if {*with_part_names(kind, mapping)} <= {*NEEDED[kind], *TAKEN[kind]}]
    return fitting[0] if len(fitting) == 1 else None


def _stem(name: str) -> str:
    """`caption` of caption_3, caption3 and caption 3."""
    return re.sub(r"[\s_-]*\d+$", "", name)


def _cells(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The cells of a column that hold something."""
    return [cell for row in rows if not is_missing(cell := value_of(row, name))]


def _is_image_name(cell: Any) -> bool:
    return isinstance(cell, str) and _IS_IMAGE_NAME.fullmatch(cell.strip()) is not None


def _names_images(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the cells of a column are names of image files."""
    cells = _cells(name, rows)
    return bool(cells) and all(map(_is_image_name, cells))


def _is_field(name: str, needed: bool, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a field of a mapping can be a part of a row: one that is needed, and no field of several mappings, such
    as the texts of replies."""
    return needed and not any(isinstance(row.get(name.partition(".")[0]), list) for row in rows)


def _is_likely(part: str, cells: list[Any], plainly: bool) -> bool:
    """Whether the cells of a column can be a part that rows may lack; also where there are none to look at.

    Args:
        plainly: its name means this part, so that only numbers and links are not it.
    """
    if part == "image":
        words = [cell.strip() for cell in cells if isinstance(cell, str)]
        held = sum(isinstance(cell, (bytes, Mapping, list)) for cell in cells)
        if plainly:
            held += sum(not word.isdecimal() and not word.startswith(("http://", "https://")) for word in words)
        else:
            held += sum(map(_is_image_name, words))
        return not cells or 2 * held > len(cells)
    plain = [cell for cell in cells if isinstance(cell, (str, int, float))]
    return len(plain) == len(cells) and (part == "label" or not any(isinstance(cell, bool) for cell in plain))


def _likelier(part: str, names: list[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of columns whose names are equally likely to hold a part, those whose cells can be it; all if none can."""
    if not rows:
        return names
    cells = {name: _cells(name, rows) for name in names}
    able = [name for name in names if cells[name] and _can_be(part, name, cells[name], rows)]
    return able or names


def _can_be(part: str, name: str, cells: list[Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    if part == "text":
        words = [cell for cell in cells if isinstance(cell, str) and any(letter.isalpha() for letter in cell)]
        links = sum(cell.strip().startswith(("http://", "https://")) and " " not in cell.strip() for cell in words)
        return 2 * (len(words) - links) > len(cells) and not _names_images(name, rows)
    if part == "image":
        return all(isinstance(cell, (bytes, Mapping, list)) for cell in cells) or _names_images(name, rows)
    plain = [cell for cell in cells if isinstance(cell, (str, int, float))]
    if part == "label":
        return len(plain) == len(cells) and len({*map(str, plain)}) <= max(2, len(cells) // 2)
    if part == "post_id":
        return len(plain) == len(cells) == len({*map(str, plain)})
    return True


class Columns:
    """The columns of one data set, found and complete.

    Args:
        kind: of the rows to make.
        mapping: of parts to columns; None where all have names that say so, see `assign_columns`.
        found: the columns that there are, fields of mappings as `objects.bbox`.
        title: of the data set, for messages.
        rows: some of the set, where they are at hand.

    Attributes:
        of: part -> column, or columns.
        bbox_format: of boxes in corner columns that were recognized; else None.

    Raises:
        DataFolderError: a part that the kind does not have, or a column that is not there, or several that are
            equally likely to hold a part.
    """

    def __init__(
        self,
        kind: str,
        mapping: Mapping[str, Any] | None,
        found: Iterable[str],
        title: str,
        rows: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.kind, self.title, self.found = kind, title, list(found)
        parts = {**NEEDED[kind], **TAKEN[kind]}
        mapping = with_part_names(kind, mapping)
        if kind == "boxes" and "objects" in mapping:  # short for all its fields
            prefix = mapping.pop("objects")
            parts = {part: str(column).replace("objects.", f"{prefix}.") for part, column in parts.items()}
        if unknown := [part for part in mapping if part not in parts]:
            raise DataFolderError(
                f"{title}: a column is given for {unknown[0]!r} (--column, column_mapping), but rows of the kind "
                f"{kind} are made of {', '.join([*parts, *(['objects'] if kind == 'boxes' else [])])}"
            )
        for suffix in (".bytes", ".path"):  # of the struct that is an image
            image = mapping.get("image")
            if isinstance(image, str) and image not in self.found and image.removesuffix(suffix) in self.found:
                mapping["image"] = image.removesuffix(suffix)
        assigned = assign_columns(kind, self.found, mapping, rows)
        assigned.require_clear(title, ("label", "image", *NEEDED[kind]) if kind != "captions" else NEEDED[kind])
        self.bbox_format = assigned.bbox_format
        self.of: dict[str, Column] = {}
        for part, usual in parts.items():
            column = assigned.of.get(part, usual)
            there = all(one in self.found for one in ([column] if isinstance(column, str) else column))
            if there:
                self.of[part] = column
            elif part in mapping or part in NEEDED[kind]:
                raise DataFolderError(self._missing(part, column))

    def _missing(self, part: str, column: Column) -> str:
        lacking = [column] if isinstance(column, str) else [one for one in column if one not in self.found]
        free = [name for name in self.found if name not in str(list(self.of.values()))]
        near = next(iter(difflib.get_close_matches(lacking[0], free, n=1)), None) or "THE_COLUMN"
        return (
            f"{self.title} has no column {lacking[0]!r} ({part}), but {', '.join(self.found)}. Say which it is: "
            f"{_mapped_by(part, near)}"
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

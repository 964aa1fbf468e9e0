"""Rows of the three kinds, made of whatever the columns of a data set of one's own hold.

The rules are those of the builders: a row of captions or boxes without a readable image is left out, a post without
one is kept; a row without a caption or of an unknown label is left out. What becomes of boxes is told in
`boxed_images`; one that is malformed or of an unknown category is dropped, too.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import datasets

from . import boxed_images, captioned_images, post_files
from .columns import Columns, as_list
from .errors import DataFolderError
from .findings import Findings
from .post_files import BadRow, as_text

Row = dict[str, Any]
LISTS = ("captions", "caption_weights", "bbox", "category", "area", "iscrowd")  # parts of which an image has several


@dataclass
class Raw:
    """What a row is to be made of; `place` names it in messages.

    `image` is an image as `datasets` encodes it, a mapping of `bytes` and `path`, None where there is none;
    `filename` is its name, "" where it has none.
    """

    place: str
    split: str
    parts: dict[str, Any]
    image: Mapping[str, Any] | None
    filename: str

    @classmethod
    def read(cls, columns: Columns, row: Mapping[str, Any], place: str, split: str) -> Raw:
        parts = {part: columns.cell(part, row) for part in columns.of if part != "image"}
        for part in set(LISTS) & set(parts):
            parts[part] = boxes_in(parts[part]) if part == "bbox" else as_list(parts[part])
        image = encoded(columns.cell("image", row))
        path = str((image or {}).get("path") or "").replace("\\", "/")
        filename = parts.get("filename")
        return cls(place, split, parts, image, filename if isinstance(filename, str) else path.rpartition("/")[2])

    def take_in(self, other: Raw) -> None:
        """Add another row of the same image."""
        for part in set(LISTS) & set(self.parts):
            self.parts[part] += other.parts[part]


def encoded(image: Any) -> Mapping[str, Any] | None:
    """An image, its file's path or its bytes as `datasets` encodes images; of several the first."""
    if isinstance(image, (list, tuple)):
        return encoded(image[0]) if image else None
    if image is None or image == "" or isinstance(image, Mapping):
        return image or None
    return datasets.Image().encode_example(image)


def boxes_in(value: Any) -> list[list]:
    """A list of boxes. One box by itself is a list of numbers, or of empty cells where a table has none."""
    boxes = as_list(value)
    if not boxes or isinstance(boxes[0], (list, tuple)):
        return boxes
    return [boxes] if any(number not in (None, "") for number in boxes) else []


class Maker:
    """Makes rows of one kind.

    Args:
        names: of the labels or categories, in their order.
        by_place: whether the source stores places among the names rather than names.
        findings: is told what is amiss.
    """

    THING = "image"  # a row in messages

    def __init__(self, names: Sequence[str], by_place: bool, findings: Findings) -> None:
        self.names, self.by_place, self.findings = list(names), by_place, findings

    @property
    def features(self) -> datasets.Features:
        raise NotImplementedError

    def make(self, raw: Raw) -> Row | None:
        """The row; `image` is as encoded. None where it has to go and `findings` know why.

        Raises:
            BadRow: it has to go; the message is the reason.
        """
        raise NotImplementedError

    def finish(self, rows: list[Row], splits: list[str]) -> None:
        """Fill in what depends on the other rows of the set.

        Args:
            rows: all of them.
            splits: of each.
        """

    def finish_alone(self, row: Row) -> None:
        """The same for a row of a stream, of which the others are not known."""

    def label(self, value: Any, what: str = "label") -> int:
        """The place of a label among the names, -1 for none.

        Raises:
            BadRow: it is none of them.
        """
        if value is None or value == "" or value == -1:
            return -1
        text = as_text(value).strip()
        if not self.by_place and text in self.names:
            return self.names.index(text)
        if text.isdecimal() and int(text) < len(self.names):
            return int(text)
        raise BadRow(f"unknown {what} {text!r}, expected {' or '.join(self.names) or 'none'}")


class CaptionMaker(Maker):
    """Rows as `captioned_images` has them. `finish` reconstructs the weights of captions, where there are none."""

    @property
    def features(self) -> datasets.Features:
        return captioned_images.row_features(self.names or ["unknown"])

    def make(self, raw: Raw) -> Row:
        require_image(raw)
        captions = captioned_images.clean(as_text(caption) for caption in raw.parts["captions"])
        if not captions:
            raise BadRow("no caption")
        weights = [number(weight) for weight in raw.parts.get("caption_weights", [])]
        return {
            "image": raw.image,
            "captions": captions,
            "caption_weights": weights if len(weights) == len(captions) else None,
            "label": self.label(raw.parts.get("label")) if self.names else -1,
            "image_id": whole(raw.parts.get("image_id")),
            "filename": raw.filename,
        }

    def finish(self, rows: list[Row], splits: list[str]) -> None:
        train = [row for row, split in zip(rows, splits, strict=True) if split == "train"] or rows
        words = [captioned_images.count_words(caption) for row in train for caption in row["captions"]]
        mean_words = max(sum(words) / len(words), 1.0)
        ids = [row["image_id"] for row in rows]
        given = None not in ids and len(set(ids)) == len(ids)
        for position, row in enumerate(rows):
            row["image_id"] = row["image_id"] if given else position
            row["caption_weights"] = row["caption_weights"] or captioned_images.caption_weights(
                row["captions"], mean_words
            )

    def finish_alone(self, row: Row) -> None:
        row["image_id"] = digest(row["image"]) if row["image_id"] is None else row["image_id"]
        row["caption_weights"] = row["caption_weights"] or [1.0] * len(row["captions"])


class PostMaker(Maker):
    """Rows as `post_files` has them."""

    THING = "post"

    @property
    def features(self) -> datasets.Features:
        return post_files.row_features(self.names)

    def make(self, raw: Raw) -> Row:
        text, image = as_text(raw.parts.get("text")), raw.image
        if image is not None and (problem := problem_of(image)):
            self.findings.note(f"image {problem}", told(raw))
            image = None
        if not text.strip() and image is None:
            raise BadRow("neither text nor image")
        return {
            "post_id": as_text(raw.parts.get("post_id")) or None,
            "text": text,
            "image": image,
            "label": self.label(raw.parts.get("label")),
            "filename": raw.filename,
            "group": as_text(raw.parts.get("group")).strip(),
        }

    def finish(self, rows: list[Row], splits: list[str]) -> None:
        groups = post_files.number_groups([row["group"] for row in rows])
        taken: set[str] = set()
        for position, (row, split) in enumerate(zip(rows, splits, strict=True)):
            row["group"] = groups[position]
            row["post_id"] = row["post_id"] or f"{split}-{position}"
            if row["post_id"] in taken:
                self.findings.note("id seen before, made unique", row["post_id"])
                row["post_id"] = f"{row['post_id']}#{position}"
            taken.add(row["post_id"])

    def finish_alone(self, row: Row) -> None:
        row["group"] = int(row["group"]) if row["group"].isdecimal() else -1


class BoxMaker(Maker):
    """Rows as `boxed_images` has them.

    Args:
        names, by_place, findings: as of every maker.
        bbox_format: xywh, xyxy or cxcywh in pixels, or with an n behind in fractions of the sides.
    """

    def __init__(self, names: Sequence[str], by_place: bool, findings: Findings, bbox_format: str) -> None:
        super().__init__(names, by_place, findings)
        self.bbox_format = bbox_format

    @property
    def features(self) -> datasets.Features:
        return boxed_images.row_features(self.names, range(1, len(self.names) + 1))

    def make(self, raw: Raw) -> Row | None:
        require_image(raw)
        assert raw.image is not None
        image, parts = raw.image, raw.parts
        if len(parts["category"]) != len(parts["bbox"]):
            raise BadRow(f"{len(parts['bbox'])} boxes and {len(parts['category'])} categories")
        areas, crowds = (
            own if len(own := parts.get(part) or []) == len(parts["bbox"]) else [None] * len(parts["bbox"])
            for part in ("area", "iscrowd")
        )
        boxes = []
        for bbox, category, area, crowd in zip(parts["bbox"], parts["category"], areas, crowds, strict=True):
            try:
                label = self.label(category, "category")
                if label < 0:
                    raise BadRow("no category")
                corner_and_size = xywh([number(value) for value in as_list(bbox)], self.bbox_format)
                size = None if area is None or self.bbox_format.endswith("n") else number(area)
                boxes.append(boxed_images.Box(told(raw), corner_and_size, label, None, size, bool(crowd)))
            except BadRow as error:
                self.findings.drop(str(error), told(raw))
        record = boxed_images.Record(
            raw.place,
            raw.split,
            raw.filename,
            str(image.get("path") or ""),
            (0, 0),
            boxes,
            whole(parts.get("image_id")),
            (1, 1) if self.bbox_format.endswith("n") else None,
            as_text(parts.get("source")),
        )
        placed = boxed_images.place_boxes(record, self.findings, opened(image))
        if placed is None:
            return None
        (row,) = boxed_images.number_rows([placed])
        return {**row, "image": image, "image_id": placed.image_id}

    def finish(self, rows: list[Row], splits: list[str]) -> None:
        ids = [row["image_id"] for row in rows]
        given = None not in ids and len(set(ids)) == len(ids)
        boxes = 0
        for position, row in enumerate(rows, start=1):
            row["image_id"] = row["image_id"] if given else position
            own = len(row["objects"]["id"])
            row["objects"]["id"] = list(range(boxes + 1, boxes + 1 + own))
            boxes += own

    def finish_alone(self, row: Row) -> None:
        row["image_id"] = digest(row["image"]) if row["image_id"] is None else row["image_id"]


def xywh(values: list[float], bbox_format: str) -> tuple[float, float, float, float]:
    """Corner and size of a box in one of the formats.

    Raises:
        BadRow: these are no four numbers.

    Example:
        >>> xywh([10, 20, 30, 60], "xyxy")
        (10, 20, 20, 40)
    """
    if len(values) != 4:
        raise BadRow(f"{len(values)} numbers where a box has 4")
    first, second, third, fourth = values
    if bbox_format.startswith("xyxy"):
        return first, second, third - first, fourth - second
    if bbox_format.startswith("cxcywh"):
        return first - third / 2, second - fourth / 2, third, fourth
    return first, second, third, fourth


def number(value: Any) -> float:
    """A number, or a cell of a table that holds one.

    Raises:
        BadRow: it is none.
    """
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadRow(f"{value!r} where a number was expected") from None


def whole(value: Any) -> int | None:
    """A whole number, or None where the cell holds none."""
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 19 else None


def opened(image: Mapping[str, Any]) -> str | io.BytesIO:
    """What Pillow opens."""
    return io.BytesIO(image["bytes"]) if image.get("bytes") else str(image.get("path") or "")


def problem_of(image: Mapping[str, Any]) -> str:
    """Why an image cannot be read, told from its header; "" where it can."""
    return post_files.problem_of_image(opened(image))


def require_image(raw: Raw) -> None:
    """
    Raises:
        BadRow: the row has no image that can be read.
    """
    if raw.image is None:
        raise BadRow("no such image" if raw.filename else "no image")
    if problem := problem_of(raw.image):
        raise BadRow(f"image {problem}")


def told(raw: Raw) -> str:
    return f"{raw.place}, {raw.filename}" if raw.filename else raw.place


def digest(image: Mapping[str, Any] | None) -> int:
    """A number that equal images share, for rows of a stream, which cannot be counted."""
    content = (image or {}).get("bytes") or str((image or {}).get("path")).encode()
    return int.from_bytes(blake2b(content, digest_size=7).digest(), "big")


def make_names(
    columns: Columns, given: Sequence[str] | None, features: Mapping[str, Any] | None, raws: Iterable[Raw] | None
) -> tuple[list[str], bool]:
    """The labels of posts and captions, or the categories of boxes, and whether the source stores their places.

    Args:
        columns: of the source.
        given: by an option; these win.
        features: of the source, which may name them.
        raws: all its rows, to find them; None of a stream.

    Raises:
        DataFolderError: nobody can know them.
    """
    part, option = ("category", "classes") if columns.kind == "boxes" else ("label", "labels")
    feature = feature_of(features, columns.of.get(part))
    by_place = isinstance(feature, datasets.ClassLabel)
    if given is not None:
        return [str(name) for name in given], by_place
    if by_place:
        return list(feature.names), True
    if part not in columns.of or (raws is None and columns.kind == "captions"):
        return [], False  # captions need no labels
    if raws is None:
        raise DataFolderError(
            f"{columns.title}: the {option} of a stream are not known before its end: name them by the option "
            f'{option}, such as {{"{option}": ["fake", "real"]}}'
        )
    found = {as_text(value).strip() for raw in raws for value in as_list(raw.parts.get(part)) if is_plain(value)}
    if not found - {""} and columns.kind != "captions":
        raise DataFolderError(f"{columns.title}: no row has a {part}. Name the {option} by the option {option}")
    return post_files.sorted_names(found - {""}), False


def feature_of(features: Mapping[str, Any] | None, column: Any) -> Any:
    """The feature of a column such as `label` or `objects.category`; of a list that of its items."""
    feature: Any = features
    for name in str(column).split("."):
        feature = getattr(feature, "feature", feature)
        feature = feature.get(name) if isinstance(feature, Mapping) else None
    return getattr(feature, "feature", feature)


def is_plain(value: Any) -> bool:
    return not isinstance(value, (list, dict))

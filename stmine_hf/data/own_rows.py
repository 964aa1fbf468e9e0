"""Rows of the three kinds, made from the columns of your own data sets.

The rules are those of the builders: a row of captions or boxes without a readable image is skipped, a post without
one is kept; a row without a caption or of an unknown label is skipped. The treatment of boxes is described in
`boxed_images`; one that is malformed or of an unknown category is dropped, too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import datasets

from . import boxed_images, captioned_images, post_files
from .cells import alike_names, flag_of, is_missing, list_of, name_of, number_of, opened, shortened, text_of, whole_of
from .columns import Columns
from .errors import BadRow, DataFolderError
from .findings import ALIKE, Findings
from .folder_builder import Row
from .names import tidy

LISTS = ("captions", "caption_weights", "bbox", "category", "area", "iscrowd")  # parts of which an image has several


@dataclass
class SourceRow:
    """What a row is to be made of; `place` names it in messages, and `problem` says why it is skipped.

    `image` is an image as `datasets` encodes it, a mapping of `bytes` and `path`, None where there is none;
    `filename` is its name, "" where it has none.
    """

    place: str
    split: str
    parts: dict[str, Any]
    image: Mapping[str, Any] | None
    filename: str
    problem: str = ""

    @classmethod
    def read(cls, columns: Columns, row: Mapping[str, Any], place: str, split: str) -> SourceRow:
        parts = {part: columns.cell(part, row) for part in columns.of if part != "image"}
        image: Mapping[str, Any] | None = None
        problem = ""
        try:
            for part in set(LISTS) & set(parts):
                parts[part] = boxes_in(parts[part]) if part == "bbox" else list_of(parts[part])
            image = encoded(columns.cell("image", row), place)
        except BadRow as error:
            problem = str(error)
        path = tidy(str((image or {}).get("path") or ""))
        filename = parts.get("filename")
        filename = filename if isinstance(filename, str) else path.rpartition("/")[2]
        return cls(place, split, parts, image, filename, problem)

    def add(self, other: SourceRow) -> None:
        """Add another row of the same image."""
        for part in set(LISTS) & set(self.parts):
            self.parts[part] += other.parts[part]


def encoded(image: Any, place: str = "") -> Mapping[str, Any] | None:
    """An image, its file's path or its bytes as `datasets` encodes images; of several the first.

    Raises:
        BadRow: it is nothing of that kind.
    """
    image = opened(image)
    if isinstance(image, (list, tuple)):
        return encoded(image[0], place) if image else None
    if isinstance(image, Mapping):
        if not image or (image.get("bytes") is None and is_missing(image.get("path"))):
            return None
        return {"bytes": image.get("bytes"), "path": image.get("path")}
    if isinstance(image, (bytes, bytearray)):
        return {"bytes": bytes(image), "path": None} if image else None
    if is_missing(image) or isinstance(image, (str, int, float)):
        name = post_files.image_of(image, place)
        return {"bytes": None, "path": name} if name else None
    try:
        return datasets.Image().encode_example(image)
    except Exception as error:  # a column may hold any type
        raise BadRow(f"no image, but {type(image).__name__} ({type(error).__name__})") from None


def boxes_in(value: Any) -> list[list]:
    """A list of boxes. One box by itself is a list of numbers, or of empty cells where a table has none."""
    boxes = [opened(box) for box in list_of(value)]
    if not boxes or isinstance(boxes[0], (list, tuple)):
        return boxes
    return [boxes] if not all(map(is_missing, boxes)) else []


@dataclass(frozen=True)
class Labels:
    """The labels of posts and captions, or the categories of boxes.

    Args:
        names: in their order.
        meant: word of the source -> one of the names.
        places: what the numbers mean, where the source holds numbers; what is none of the names is no label.
        by_place: whether its cells are such numbers, and never words.
    """

    names: list[str]
    meant: Mapping[str, str]
    places: Sequence[str]
    by_place: bool = False


class RowBuilder:
    """Makes rows of one kind.

    Args:
        labels: or categories.
        findings: counts what is wrong.
    """

    THING = "image"  # a row in messages

    def __init__(self, labels: Labels, findings: Findings) -> None:
        self.labels, self.names, self.findings = labels, labels.names, findings
        for alike in alike_names(self.names):
            findings.note(ALIKE, alike)

    @property
    def features(self) -> datasets.Features:
        raise NotImplementedError

    def make(self, source: SourceRow) -> Row | None:
        """The row; `image` is as encoded. None if it is skipped, with the reason in `findings`.

        Raises:
            BadRow: it is skipped; the message is the reason.
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
        name = name_of(value)
        if name in ("", "-1"):
            return -1
        labels, meant = self.labels, None
        if not labels.by_place and name in labels.meant:
            meant = labels.meant[name]
        elif name.isdecimal() and len(name) < 10 and int(name) < len(labels.places):
            meant = labels.places[int(name)]
        if meant not in self.names:
            raise BadRow(f"unknown {what} {shortened(name)}, expected {' or '.join(labels.meant) or 'none'}")
        return self.names.index(meant)


class CaptionRowBuilder(RowBuilder):
    """Rows as `captioned_images` has them. `finish` reconstructs the weights of captions, where there are none."""

    @property
    def features(self) -> datasets.Features:
        return captioned_images.row_features(self.names or ["unknown"])

    def make(self, source: SourceRow) -> Row:
        require_image(source)
        captions = captioned_images.clean(text_of(caption) for caption in source.parts["captions"])
        if not captions:
            raise BadRow("no caption")
        weights = [number_of(weight) for weight in source.parts.get("caption_weights", [])]
        if not all(0 <= weight < math.inf for weight in weights):
            raise BadRow("a weight of a caption that is negative or infinite")
        return {
            "image": source.image,
            "captions": captions,
            "caption_weights": weights if len(weights) == len(captions) else None,
            "label": self.label(source.parts.get("label")) if self.names else -1,
            "image_id": whole_of(source.parts.get("image_id")),
            "filename": source.filename,
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


class PostRowBuilder(RowBuilder):
    """Rows as `post_files` has them."""

    THING = "post"

    @property
    def features(self) -> datasets.Features:
        return post_files.row_features(self.names)

    def make(self, source: SourceRow) -> Row:
        text, image = text_of(source.parts.get("text")), source.image
        if image is not None and (problem := problem_of(image)):
            self.findings.note(f"image {problem}", place_of(source))
            image = None
        if not text.strip() and image is None:
            raise BadRow("neither text nor image")
        return {
            "post_id": name_of(source.parts.get("post_id")) or None,
            "text": text,
            "image": image,
            "label": self.label(source.parts.get("label")),
            "filename": source.filename,
            "group": name_of(source.parts.get("group")),
        }

    def finish(self, rows: list[Row], splits: list[str]) -> None:
        groups = post_files.number_groups([row["group"] for row in rows])
        ids = post_files.UniqueIds()
        for position, (row, split) in enumerate(zip(rows, splits, strict=True)):
            row["group"] = groups[position]
            given = row["post_id"] or f"{split}-{position}"
            row["post_id"] = ids.take(given)
            if row["post_id"] != given:
                self.findings.note(post_files.SEEN_BEFORE, given)

    def finish_alone(self, row: Row) -> None:
        row["group"] = int(row["group"]) if row["group"].isdecimal() else -1


class BoxRowBuilder(RowBuilder):
    """Rows as `boxed_images` has them.

    Args:
        labels, findings: as of every row builder.
        bbox_format: xywh, xyxy or cxcywh in pixels, or with an n behind in fractions of the sides.
    """

    def __init__(self, labels: Labels, findings: Findings, bbox_format: str) -> None:
        super().__init__(labels, findings)
        self.bbox_format = bbox_format

    @property
    def features(self) -> datasets.Features:
        return boxed_images.row_features(self.names, range(1, len(self.names) + 1))

    def make(self, source: SourceRow) -> Row | None:
        require_image(source)
        assert source.image is not None
        image, parts = source.image, source.parts
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
                values = [number_of(value) for value in list_of(bbox)]
                if self.bbox_format.startswith("xyxy") and len(values) == 4:
                    values, swapped = boxed_images.in_order(values)
                    if swapped:
                        self.findings.correct(boxed_images.SWAPPED, place_of(source))
                corner_and_size = xywh(values, self.bbox_format)
                size = None if is_missing(area) or self.bbox_format.endswith("n") else number_of(area)
                boxes.append(boxed_images.Box(place_of(source), corner_and_size, label, None, size, flag_of(crowd)))
            except BadRow as error:
                self.findings.drop(str(error), place_of(source))
        record = boxed_images.BoxRecord(
            source.place,
            source.split,
            source.filename,
            str(image.get("path") or ""),
            (0, 0),
            boxes,
            whole_of(parts.get("image_id")),
            (1, 1) if self.bbox_format.endswith("n") else None,
            text_of(parts.get("source")),
        )
        placed = boxed_images.place_boxes(record, self.findings, file_of(image))
        if placed is None:
            return None
        (row,) = boxed_images.number_rows([placed])
        return {**row, "image": image, "image_id": placed.image_id}

    def finish(self, rows: list[Row], splits: list[str]) -> None:
        ids = [row["image_id"] for row in rows]
        given = None not in ids and len(set(ids)) == len(ids)
        boxes = 0
        boxed_images.note_fractions(rows, self.findings)
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


def file_of(image: Mapping[str, Any]) -> str | io.BytesIO:
    """What Pillow opens."""
    return io.BytesIO(image["bytes"]) if image.get("bytes") else str(image.get("path") or "")


def problem_of(image: Mapping[str, Any]) -> str:
    """Why an image cannot be read, by its header; "" where it can."""
    return post_files.problem_of_image(file_of(image))


def require_image(source: SourceRow) -> None:
    """
    Raises:
        BadRow: the row has no image that can be read.
    """
    if source.image is None:
        raise BadRow("no such image" if source.filename else "no image")
    if problem := problem_of(source.image):
        raise BadRow(f"image {problem}")


def place_of(source: SourceRow) -> str:
    return f"{source.place}, {source.filename}" if source.filename else source.place


def digest(image: Mapping[str, Any] | None) -> int:
    """A number that equal images share, for rows of a stream, which cannot be counted."""
    content = (image or {}).get("bytes") or str((image or {}).get("path")).encode()
    return int.from_bytes(blake2b(content, digest_size=7).digest(), "big")


def make_labels(
    columns: Columns,
    given: Sequence[str] | None,
    label_names: Mapping[str, str] | None,
    features: Mapping[str, Any] | None,
    rows: Iterable[SourceRow] | None,
) -> Labels:
    """The labels of posts and captions, or the categories of boxes.

    Args:
        columns: of the source.
        given: by an option; these win.
        label_names: word of the source -> label that it means.
        features: of the source, which may name them.
        rows: all its rows, to find them; None of a stream.

    Raises:
        DataFolderError: they are unknown, or `label_names` does not fit them.
    """
    feature = feature_of(features, columns.of.get("category" if columns.kind == "boxes" else "label"))
    by_place = isinstance(feature, datasets.ClassLabel)
    meant = {name_of(word): name_of(name) for word, name in (label_names or {}).items()}
    own = list(map(name_of, given or ())) or _found(columns, feature, rows)
    mapped = [meant.get(word, word) for word in own]
    if given is None:
        unknown = [word for word in meant if word not in own]
        left = [word for word in own if word not in meant and word not in meant.values()]
        if unknown and (left or len(unknown) == len(meant)):  # else these labels have no rows here
            raise DataFolderError(
                f"{columns.title}: no row has the label {unknown[0]!r}, which is to mean {meant[unknown[0]]!r}; the "
                f"labels are {', '.join(map(repr, own)) or 'none'}"
            )
        names = post_files.sorted_names(list(dict.fromkeys([*mapped, *meant.values()]))) if meant else own
        return Labels(names, {word: word for word in own} | meant, mapped, by_place)
    places = own if set(meant.values()) <= set(own) else mapped  # they name what the words mean, or the words
    names = list(dict.fromkeys(places))
    if other := [word for word, name in meant.items() if name not in names]:
        raise DataFolderError(
            f"{columns.title}: by --label (label_names) {other[0]!r} means {meant[other[0]]!r}, which is none of "
            f"the labels given: {', '.join(map(repr, own))}. Add it to these, or correct what is meant"
        )
    if by_place and set(meant) & set(feature.names):  # the words are in an order of their own
        places = [meant.get(word, word) for word in feature.names]
    return Labels(names, {name: name for name in names} | meant, places, by_place)


def _found(columns: Columns, feature: Any, rows: Iterable[SourceRow] | None) -> list[str]:
    """The labels that the feature of their column names, or else the rows.

    Raises:
        DataFolderError: there are none.
    """
    part, option = ("category", "classes") if columns.kind == "boxes" else ("label", "labels")
    if isinstance(feature, datasets.ClassLabel):
        return list(feature.names)
    if part not in columns.of or (rows is None and columns.kind == "captions"):
        return []  # captions need no labels
    if rows is None:
        raise DataFolderError(
            f"{columns.title}: the {option} of a stream are not known before its end: name them by the option "
            f'{option}, such as {{"{option}": ["fake", "real"]}}'
        )
    found = {name_of(value) for row in rows for value in _plain_cells(row.parts.get(part))}
    if not found - {"", "-1"} and columns.kind != "captions":
        raise DataFolderError(f"{columns.title}: no row has a {part}. Name the {option} by the option {option}")
    return post_files.sorted_names(found - {"", "-1"})


def feature_of(features: Mapping[str, Any] | None, column: Any) -> Any:
    """The feature of a column such as `label` or `objects.category`; of a list that of its items."""
    feature: Any = features
    for name in str(column).split("."):
        feature = getattr(feature, "feature", feature)
        feature = feature.get(name) if isinstance(feature, Mapping) else None
    return getattr(feature, "feature", feature)


def _plain_cells(value: Any) -> list:
    """The labels that a cell holds; invalid ones are found when rows are made."""
    try:
        return [one for one in list_of(value) if not isinstance(one, (list, dict, tuple, bytes))]
    except BadRow:
        return []

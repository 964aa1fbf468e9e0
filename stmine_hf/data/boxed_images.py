"""Base of the sets with boxes: reads several published annotation layouts into one form of row.

Each layout has a script of its own beside this file (`coco_json.py`, `voc_xml.py`, `yolo_txt.py`): how its files are
found and read. The treatment of boxes is the same for all of them and implemented here:

* Boxes are `[x, y, width, height]` in pixels of the image as it is decoded, x and y those of the upper left corner.
* A box that is partly outside (by more than half a pixel) is clipped; one that is outside, of no area or not finite
  is dropped.
* The size of an image is its file's. Where the annotation says another size of the same shape, the image was
  resized since and the boxes follow; where it says the size before the camera's EXIF rotation, the boxes are turned
  as the image is; where the size cannot tell (of a square image, or one that is mirrored or upside down), the boxes
  are assumed to refer to the upright image, and this is noted; where it says any other size, the place of the boxes is
  unknown and the image is skipped.
* An image without boxes is kept, and so are crowd regions (`iscrowd`).

What was skipped, dropped, corrected or is suspicious is counted and reported in one warning per build, with examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import datasets

from ..images import ImageError, read_header
from ..printing import counted
from .cells import alike_names
from .errors import DataFolderError
from .findings import ALIKE, Findings
from .folder_builder import SPLITS, FolderBuilder, FolderConfig, Row, image_folder
from .names import ImageFiles, Wanted, stamp_of

SEVERAL_PAGES = "image of several pages or frames: the first one is used"
UNKNOWN_SIDE = "image turned by its EXIF, and no size states it: boxes assumed to refer to the upright image"
IN_TWO_SPLITS = "image in two splits"
SWAPPED = "corners of a box in the other order"
FRACTIONS = "boxes all within the first pixel: in fractions of the sides? Then say so, as by bbox_format=xywhn"
ROUNDING = 0.5  # pixels that a box may extend beyond the image without being clipped, as tools round


def row_features(names: Sequence[str], category_ids: Sequence[int]) -> datasets.Features:
    """The row that every set with boxes yields: one image with all its boxes.

    Args:
        names: of the categories, in the order of their labels.
        category_ids: the annotation's own number of each, kept with the features for `category_ids` below.
    """
    category = datasets.ClassLabel(names=list(names), id=",".join(map(str, category_ids)))
    return datasets.Features(
        {
            "image": datasets.Image(),
            "image_id": datasets.Value("int64"),
            "filename": datasets.Value("string"),
            "width": datasets.Value("int64"),
            "height": datasets.Value("int64"),
            "objects": {
                "id": datasets.Sequence(datasets.Value("int64")),
                "bbox": datasets.Sequence(datasets.Sequence(datasets.Value("float64"))),  # x, y, width, height
                "category": datasets.Sequence(category),
                "area": datasets.Sequence(datasets.Value("float64")),
                "iscrowd": datasets.Sequence(datasets.Value("bool")),
            },
            "source": datasets.Value("string"),  # "" if the layout does not state it
        }
    )


def category_label(features: datasets.Features) -> datasets.ClassLabel:
    """The names of a set's categories: the ClassLabel in its features."""
    category = features["objects"]["category"]
    return category.feature if hasattr(category, "feature") else category[0]


def category_ids(features: datasets.Features) -> list[int]:
    """The annotation's own number of each label, in the order of the labels.

    COCO's 80 categories have the numbers 1 to 90 with gaps; results for COCO's tools need those. Layouts without
    numbers, and features that lost them, count from 1.

    Example:
        >>> category_ids(row_features(["person", "stop sign"], [1, 13]))
        [1, 13]
    """
    category = category_label(features)
    numbers = [int(number) for number in (category.id or "").split(",") if number]
    return numbers if len(numbers) == len(category.names) else list(range(1, len(category.names) + 1))


@dataclass(slots=True)
class Box:
    """One box as an annotation file has it; `place` names it in messages.

    `bbox` is x, y, width, height in the image of the size that the record says. `id` and `area` are None if the
    file does not state them.
    """

    place: str
    bbox: tuple[float, float, float, float]
    label: int
    id: int | None = None
    area: float | None = None
    iscrowd: bool = False


@dataclass(slots=True)
class BoxRecord:
    """One image as an annotation file describes it.

    `size` (width, height) is what the boxes are measured in: pixels of an image of that size, or (1, 1) for fractions
    of the sides; None means pixels of the file. `stamp` changes when the file does.
    """

    place: str
    split: str
    filename: str
    path: str
    stamp: tuple[int, int]
    boxes: list[Box] = field(default_factory=list)
    image_id: int | None = None
    size: tuple[int, int] | None = None
    source: str = ""
    content: bytes | None = field(default=None, repr=False)  # of an image that no file holds by itself


@dataclass
class BoxedImagesConfig(FolderConfig):
    """Options that every set with boxes has: those of `FolderConfig`."""


class BoxedImages(FolderBuilder):
    """Base of the builders; a subclass says how its layout is read."""

    BUILDER_CONFIG_CLASS = BoxedImagesConfig

    LAYOUT: str  # what is expected in the folder

    def __init__(self, *args: Any, **options: Any) -> None:
        self._names: list[str] = []
        self._category_ids: list[int] = []  # of the names, where the layout has numbers
        super().__init__(*args, **options)

    def _read(self, folder: Path, settings: Any) -> list[BoxRecord]:
        """The records of all splits; sets `_names` (and `_category_ids`), notes what it skips."""
        raise NotImplementedError

    def _read_folder(self) -> list[BoxRecord]:
        settings = self._settings
        if settings.data_dir is None:
            raise DataFolderError(f"{self.TITLE}: give the set's folder as data_dir. Expected there: {self.LAYOUT}")
        folder = Path(settings.data_dir).expanduser().absolute()
        if not folder.is_dir():
            raise DataFolderError(f"{self.TITLE}: no folder {folder}. Expected: {self.LAYOUT}")
        image_folder(self.TITLE, settings.image_dir)
        records = self._read(folder, settings)
        if len(set(self._names)) < len(self._names):
            raise DataFolderError(f"{self.TITLE}: two classes in {folder} have one name: {', '.join(self._names)}")
        if not records:
            why = f"it {self._findings}" if self._findings else "the annotations name no image"
            raise DataFolderError(
                f"{self.TITLE}: no usable image in {folder}: {why}. If the images are elsewhere, give image_dir."
            )
        return records

    def _fingerprint(self) -> list:
        return [self._names, self._category_ids]

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=f"{self.TITLE}: images with boxes of {len(self._names)} categories.",
            features=row_features(self._names, self._category_ids or range(1, len(self._names) + 1)),
        )

    def _split_rows(self, findings: Findings) -> tuple[str, dict[str, list[Row]]]:
        bar = datasets.utils.tqdm(self._records, desc="Looking at the images", unit="", delay=3)
        placed = [record for record in (place_boxes(record, findings) for record in bar) if record]
        boxes = sum(len(record.boxes) for record in placed)
        splits: dict[str, str] = {}
        for record in placed:
            if splits.setdefault(record.path, record.split) != record.split:
                findings.note(IN_TWO_SPLITS, f"{record.filename} in {splits[record.path]}, {record.split}")
        subject = f"{self.TITLE}: {counted(len(placed), 'image')} with {counted(boxes, 'box')}"
        for alike in alike_names(self._names):
            findings.note(ALIKE, alike)
        if not placed or (not boxes and findings.number("dropped")):
            raise DataFolderError(f"{subject}; {findings}. Nothing is left to load.")
        rows = number_rows(placed)
        note_fractions(rows, findings)
        return subject, {
            split: [row for record, row in zip(placed, rows, strict=True) if record.split == split] for split in SPLITS
        }


def find_images(
    images: ImageFiles, wanted: Sequence[Wanted], findings: Findings, known: Sequence[str | None] = ()
) -> list[tuple[str, tuple[int, int]] | None]:
    """Path and stamp of each image, None of those that are not there; `known` as of `ImageFiles.find`."""
    paths = images.find(wanted, findings, known)
    return [None if path is None else (path, stamp_of(path)) for path in paths]


def place_boxes(record: BoxRecord, findings: Findings, file: str | BinaryIO | None = None) -> BoxRecord | None:
    """The record with its file's size and its boxes in pixels of that; None if the image is skipped.

    Args:
        record: as an annotation file describes it.
        findings: counts what is wrong.
        file: the image, where it is not the file that the record names.
    """
    try:
        header = read_header(file or (record.path if record.content is None else BytesIO(record.content)))
    except ImageError as error:
        findings.skip("unreadable", f"{record.place}, {record.path} ({error})")
        return None
    if header.pages:
        findings.note(SEVERAL_PAGES, f"{record.place}, {record.filename}")
    stored, (width, height) = header.stored, header.size  # the latter as the image will be decoded
    frame = record.size or (width, height)
    boxes = record.boxes
    if boxes and header.orientation != 1 and (not header.turned or width == height or record.size in (None, (1, 1))):
        findings.note(UNKNOWN_SIDE, f"{record.place}, {record.filename}")
    if header.turned and frame == stored and frame != (width, height):
        boxes = [replace(box, bbox=turn(box.bbox, frame, header.orientation)) for box in boxes]
        if boxes:
            findings.correct("boxes turned with the image, as its EXIF says", f"{record.place}, {record.filename}")
    elif frame != (width, height):
        scale_x, scale_y = width / frame[0], height / frame[1]
        if frame != (1, 1):
            sizes = f"{record.place}, {record.filename}: {frame[0]} x {frame[1]}, its file {width} x {height}"
            if abs(frame[1] * scale_x - height) > 1 and abs(frame[0] * scale_y - width) > 1:
                findings.skip("size of another shape than the file's (if the size is wrong, remove it)", sizes)
                return None
            if boxes:
                findings.correct("boxes scaled to the size of the file", sizes)
        boxes = [
            replace(
                box,
                bbox=(box.bbox[0] * scale_x, box.bbox[1] * scale_y, box.bbox[2] * scale_x, box.bbox[3] * scale_y),
                area=None if box.area is None else box.area * scale_x * scale_y,
            )
            for box in boxes
        ]
    clipped = [clip(box, width, height, findings) for box in boxes]
    return replace(record, boxes=[box for box in clipped if box is not None], size=(width, height))


def turn(
    bbox: tuple[float, float, float, float], size: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """Where a box of an image of that (width, height) is after EXIF orientation 5, 6, 7 or 8 is applied."""
    x, y, width, height = bbox
    right, bottom = size[0] - x - width, size[1] - y - height
    new_x = bottom if orientation in (6, 7) else y
    new_y = right if orientation in (7, 8) else x
    return new_x, new_y, height, width


def in_order(corners: list[float]) -> tuple[list[float], bool]:
    """Left, top, right and bottom in order, and whether they had to be swapped.

    Example:
        >>> in_order([50, 20, 10, 60])
        ([10, 20, 50, 60], True)
    """
    left, top, right, bottom = corners
    ordered = [min(left, right), min(top, bottom), max(left, right), max(top, bottom)]
    return (ordered, True) if left > right or top > bottom else (corners, False)


def note_fractions(rows: Sequence[Mapping[str, Any]], findings: Findings) -> None:
    """Note it if every box of a set lies within the first pixel of its image: its unit is probably not pixels."""
    boxes = [(row["filename"], bbox) for row in rows for bbox in row["objects"]["bbox"]]
    if boxes and all(x + width <= 1 and y + height <= 1 for _, (x, y, width, height) in boxes):
        findings.note(FRACTIONS, f"{counted(len(boxes), 'box')}, the first in {boxes[0][0]}")


def clip(box: Box, width: int, height: int, findings: Findings) -> Box | None:
    """The part of a box that is in the image; None if there is none. Both cases are counted."""
    x, y, box_width, box_height = box.bbox
    place = f"{box.place}, [{', '.join(f'{value:g}' for value in box.bbox)}]"
    if not all(map(math.isfinite, box.bbox)):
        findings.drop("not finite", place)
        return None
    if box_width <= 0 or box_height <= 0:
        findings.drop("of no area", place)
        return None
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + box_width, width), min(y + box_height, height)
    if left >= right or top >= bottom:
        findings.drop("outside its image", f"{place} in {width} x {height}")
        return None
    area = box.area if box.area is not None and 0 < box.area < math.inf else box_width * box_height
    if max(left - x, top - y, x + box_width - right, y + box_height - bottom) <= ROUNDING:
        return replace(box, area=area)
    findings.correct("box clipped to its image", f"{place} in {width} x {height}")
    bbox = (left, top, right - left, bottom - top)
    return replace(box, bbox=bbox, area=min(area, bbox[2] * bbox[3]))


def number_rows(records: Sequence[BoxRecord]) -> list[dict[str, Any]]:
    """Rows of placed records; images without an id are numbered from 1, boxes from the largest id on."""
    given = all(record.image_id is not None for record in records)
    new_id = max((box.id or 0 for record in records for box in record.boxes), default=0)
    rows = []
    for number, record in enumerate(records, start=1):
        assert record.size is not None  # place_boxes has set it
        ids = []
        for box in record.boxes:
            new_id += box.id is None
            ids.append(new_id if box.id is None else box.id)
        rows.append(
            {
                "image": record.path if record.content is None else {"bytes": record.content, "path": record.filename},
                "image_id": record.image_id if given else number,
                "filename": record.filename,
                "width": record.size[0],
                "height": record.size[1],
                "objects": {
                    "id": ids,
                    "bbox": [list(box.bbox) for box in record.boxes],
                    "category": [box.label for box in record.boxes],
                    "area": [box.area for box in record.boxes],
                    "iscrowd": [box.iscrowd for box in record.boxes],
                },
                "source": record.source,
            }
        )
    return rows

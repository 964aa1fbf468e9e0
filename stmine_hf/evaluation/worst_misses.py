"""Sheet of the images on which a detector did worst: the truth beside what was found."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from ..detect.classes import THRESHOLD
from ..detect.drawing import Corners, draw_box, draw_marks
from ..fonts import font_for
from ..metrics.detection import match_detections
from ..printing import counted

MOST = 12  # images on a sheet
_THUMB, _GAP, _CAPTION, _HEADING = 300, 16, 22, 76  # pixels
_RIGHT, _WRONG, _PAPER, _INK = (33, 102, 172), (230, 85, 13), (255, 255, 255), (24, 28, 36)
_LABELS = 10  # boxes of an image that get a label: the largest, or the labels would hide the image


class Found(NamedTuple):
    """Detections of one image, most confident first, with the labels of the data; boxes are [x, y, w, h]."""

    labels: list[int]
    scores: list[float]
    boxes: list[list[float]]


class Mark(NamedTuple):
    """A box of the truth or a detection, as it is drawn; `right`: it was found, or is right."""

    box: Corners
    text: str
    right: bool


class Miss(NamedTuple):
    """An image in which something was missed or wrongly found; the marks are in pixels of the small image."""

    badness: float
    filename: str
    image: Image.Image
    truth: list[Mark]
    found: list[Mark]


class WorstMisses:
    """Keeps the worst of the images added, separately for each source.

    How bad an image is: the share of it that missed boxes take, plus that of detections that match nothing, times
    their scores. So large misses come first, and many small ones after them. Detections up to the score
    `THRESHOLD` do not count; boxes marked as crowds need not be found.
    """

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[float, int, Miss]]] = {}  # of each source
        self._shown = 0

    def sorted(self) -> list[Miss]:
        """The worst of each source, then the second of each ..., so that small targets are on the sheet too."""
        ranked = [
            (rank, -badness, -shown, miss)
            for heap in self._heaps.values()
            for rank, (badness, shown, miss) in enumerate(sorted(heap, key=lambda entry: entry[:2], reverse=True))
        ]
        return [miss for *_, miss in sorted(ranked, key=lambda entry: entry[:3])[:MOST]]

    def add(self, row: Mapping[str, Any], image: Image.Image, found: Found, categories: Sequence[str]) -> None:
        """Add an image, with its row (`objects`, `filename`, `source`) and what was found in it."""
        objects, self._shown = row["objects"], self._shown + 1
        heap = self._heaps.setdefault(row.get("source") or "", [])
        sure = sum(score > THRESHOLD for score in found.scores)
        seen, matches = match_detections(
            objects["bbox"], objects["category"], objects["iscrowd"], found.boxes[:sure], found.labels[:sure]
        )
        area = image.width * image.height
        there = list(zip(objects["bbox"], objects["category"], seen, objects["iscrowd"], strict=True))
        detected = list(zip(found.boxes, found.labels, found.scores, matches, strict=False))
        badness = sum(box[2] * box[3] / area for box, _, hit, crowd in there if not (hit or crowd))
        badness += sum(score * box[2] * box[3] / area for box, _, score, right in detected if right is False)
        order = (badness, -self._shown)  # of equals the first stays
        if not badness or (len(heap) == MOST and order < heap[0][:2]):
            return
        scale = _THUMB / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        miss = Miss(
            badness,
            row["filename"],
            image.convert("RGB").resize(size, Image.Resampling.LANCZOS),
            [Mark(_corners(box, scale), categories[label], hit) for box, label, hit, crowd in there if not crowd],
            [
                Mark(_corners(box, scale), f"{categories[label]} {score:.2f}", right)
                for box, label, score, right in detected
                if right is not None
            ],
        )
        (heapq.heappush if len(heap) < MOST else heapq.heappushpop)(heap, (*order, miss))


def misses_sheet(misses: Sequence[Miss], *, title: str) -> Image.Image:
    """Draw pairs of images below the title: the truth on the left, what was found on the right."""
    columns = min(2, len(misses))
    width = 2 * _THUMB + 4
    rows = [misses[start : start + columns] for start in range(0, len(misses), columns)]
    heights = [max(miss.image.height for miss in row) + _CAPTION + _GAP for row in rows]
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, sum(heights) + _HEADING), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 10), title, fill=_INK, font=font_for(22, title))
    left, font = float(_GAP), font_for(15)
    legend = f"left: truth, right: detections (scores above {THRESHOLD:g}); "
    for text, colour in ((legend, _INK), ("right", _RIGHT), (" or ", _INK), ("missed, wrong", _WRONG)):
        draw.text((left, 42), text, fill=colour, font=font)
        left += draw.textlength(text, font=font)
    top = _HEADING
    for row, height in zip(rows, heights, strict=True):
        for column, miss in enumerate(row):
            corner = _GAP + column * (width + _GAP)
            sheet.paste(_marked(miss.image, miss.truth), (corner, top + _CAPTION))
            sheet.paste(_marked(miss.image, miss.found), (corner + miss.image.width + 4, top + _CAPTION))
            text = f"{Path(miss.filename).name[-36:]}: {_summary(miss)}"
            draw.text((corner, top + 2), text, fill=_INK, font=font_for(14, text))
        top += height
    return sheet


def _summary(miss: Miss) -> str:
    missed, wrong = (sum(not mark.right for mark in marks) for marks in (miss.truth, miss.found))
    objects = f"missed {missed} of {counted(len(miss.truth), 'object')}" if miss.truth else "no object"
    found = f"{wrong} of {counted(len(miss.found), 'detection')} wrong" if miss.found else "no detection"
    return f"{objects}, {found}"


def _marked(image: Image.Image, marks: Sequence[Mark]) -> Image.Image:
    drawn = image.copy()
    largest = sorted(marks, key=lambda mark: (mark.box[2] - mark.box[0]) * (mark.box[3] - mark.box[1]), reverse=True)
    for mark in largest[_LABELS:]:
        draw_box(drawn, mark.box, _RIGHT if mark.right else _WRONG)
    draw_marks(drawn, [(mark.box, _RIGHT if mark.right else _WRONG, mark.text) for mark in largest[:_LABELS]])
    return drawn


def _corners(box: Sequence[float], scale: float) -> Corners:
    x, y, width, height = box
    return x * scale, y * scale, (x + width) * scale, (y + height) * scale

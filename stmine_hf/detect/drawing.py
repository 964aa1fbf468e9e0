"""Boxes and their names drawn onto images, readable at any size and on any background."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ..fonts import font_for
from .detection import Detection

_GOLDEN = 0.618034  # share of the colour circle between two classes: neighbours in number are far apart in colour
_FIRST_HUE = 0.58
Colour = tuple[int, int, int]
Corners = tuple[float, float, float, float]  # left, top, right, bottom


def class_colour(label: int) -> Colour:
    """The colour of a class: always the same for a number, and far from those of its neighbours."""
    brightness = (1.0, 0.8, 0.92)[label % 3]
    red, green, blue = colorsys.hsv_to_rgb((_FIRST_HUE + label * _GOLDEN) % 1, 0.85, brightness)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_detections(image: Image.Image, detections: Sequence[Detection]) -> Image.Image:
    """A copy of the image with a box, name and score for each detection; the highest score on top."""
    drawn = image.convert("RGB") if image.mode != "RGB" else image.copy()
    draw_onto(drawn, detections)
    return drawn


def draw_onto(image: Image.Image, detections: Sequence[Detection]) -> None:
    """What [`draw_detections`] draws, onto an RGB image itself."""
    draw_marks(image, [(found.box, class_colour(found.label), _caption(found)) for found in detections])


def _caption(found: Detection) -> str:
    track = "" if found.track is None else f" #{found.track}"
    return f"{found.name}{track} {found.score:.2f}"


def draw_marks(image: Image.Image, marks: Sequence[tuple[Corners, Colour, str]]) -> None:
    """Boxes with texts, onto an RGB image; the first on top, and first to choose a place for its text."""
    for box, colour, _ in reversed(marks):
        draw_box(image, box, colour)
    covered = [_grown(box, image) for box, _, _ in marks if _is_small(box, image)]  # a plate would hide them
    for box, colour, text in marks:
        draw_label(image, box, colour, text, avoid=covered)


def draw_box(image: Image.Image, box: Corners, colour: Colour) -> None:
    """A frame in the colour with a thin dark edge, so that it shows on every background."""
    width = line_width(image)
    left, top, right, bottom = (round(value) for value in box)
    right, bottom = max(left, right - 1), max(top, bottom - 1)  # the last pixel inside
    draw = ImageDraw.Draw(image)
    outer = (left - 1, top - 1, right + 1, bottom + 1)
    draw.rectangle(outer, outline=(0, 0, 0), width=width + 2)
    draw.rectangle((left, top, right, bottom), outline=colour, width=width)


def draw_label(image: Image.Image, box: Corners, colour: Colour, text: str, *, avoid: list[Corners]) -> None:
    """The text on a plate of the colour at the box, placed to cover least of `avoid`, to which it is added."""
    font = font_for(font_size(image), text)
    inset = max(1, line_width(image))
    left, top, right, bottom = ImageDraw.Draw(image).textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * inset, bottom - top + 2 * inset
    around = _grown(box, image) if _is_small(box, image) else box
    places = [
        (around[0], around[1] - height),
        (box[0], box[1]),
        (around[0], around[3]),
        (box[2] - width, box[3] - height),
        (around[2], box[1]),
        (around[0] - width, box[1]),
    ]
    inside = [
        (max(0.0, min(x, image.width - width)), y) for x, y in places if 0 <= y <= max(0, image.height - height)
    ] or [(0.0, 0.0)]
    plates = [(x, y, x + width, y + height) for x, y in inside]
    plate = min(plates, key=lambda one: sum(_hidden(one, other) for other in avoid))  # the first of equals
    avoid.append(plate)
    draw = ImageDraw.Draw(image)
    draw.rectangle(plate, fill=colour)
    dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    ink = (0, 0, 0) if dark else (255, 255, 255)
    draw.text((plate[0] + inset - left, plate[1] + inset - top), text, fill=ink, font=font)


def line_width(image: Image.Image) -> int:
    return max(2, round(min(image.size) / 200))


def font_size(image: Image.Image) -> int:
    return max(12, round(min(image.size) / 36))


def _is_small(box: Corners, image: Image.Image) -> bool:
    return min(box[2] - box[0], box[3] - box[1]) < 2 * font_size(image)


def _grown(box: Corners, image: Image.Image) -> Corners:
    """The box with its frame and a small margin."""
    edge = line_width(image) + 1
    return box[0] - edge, box[1] - edge, box[2] + edge, box[3] + edge


def _hidden(plate: Corners, other: Corners) -> float:
    """Share of the smaller box that the other one covers."""
    width = min(plate[2], other[2]) - max(plate[0], other[0])
    height = min(plate[3], other[3]) - max(plate[1], other[1])
    areas = [(one[2] - one[0]) * (one[3] - one[1]) for one in (plate, other)]
    return max(0.0, width) * max(0.0, height) / max(min(areas), 1e-9)

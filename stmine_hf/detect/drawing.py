"""Boxes and their names drawn onto pictures, readable at any size and on any background."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ..fonts import Font, font_for
from .detector import Detection

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
    """A copy of the picture with a box, name and score for each detection; the surest on top."""
    drawn = image.convert("RGB") if image.mode != "RGB" else image.copy()
    draw_onto(drawn, detections)
    return drawn


def draw_onto(image: Image.Image, detections: Sequence[Detection]) -> None:
    """What [`draw_detections`] draws, onto an RGB picture itself."""
    plates: list[Corners] = []
    boxes = [(found.box, class_colour(found.label), f"{found.name} {found.score:.2f}") for found in detections]
    for box, colour, _ in reversed(boxes):
        draw_box(image, box, colour)
    for box, colour, text in boxes:
        draw_label(image, box, colour, text, avoid=plates)


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
    """The text on a plate of the colour at the box, where it covers least of the plates in `avoid`; it joins them."""
    font = label_font(image, text)
    inset = max(1, line_width(image))
    left, top, right, bottom = ImageDraw.Draw(image).textbbox((0, 0), text, font=font)
    width, height = right - left + 2 * inset, bottom - top + 2 * inset
    places = [(box[0], box[1] - height), (box[0], box[1]), (box[0], box[3]), (box[2] - width, box[3] - height)]
    inside = [
        (max(0.0, min(x, image.width - width)), y) for x, y in places if 0 <= y <= max(0, image.height - height)
    ] or [(0.0, 0.0)]
    plates = [(x, y, x + width, y + height) for x, y in inside]
    plate = min(plates, key=lambda one: sum(_shared(one, other) for other in avoid))  # the first of equals
    avoid.append(plate)
    draw = ImageDraw.Draw(image)
    draw.rectangle(plate, fill=colour)
    dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    ink = (0, 0, 0) if dark else (255, 255, 255)
    draw.text((plate[0] + inset - left, plate[1] + inset - top), text, fill=ink, font=font)


def line_width(image: Image.Image) -> int:
    return max(2, round(min(image.size) / 200))


def label_font(image: Image.Image, text: str) -> Font:
    return font_for(max(12, round(min(image.size) / 36)), text)


def _shared(one: Corners, other: Corners) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)

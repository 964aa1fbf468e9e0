"""Sheet of the captions or posts on which a model did worst: images beside a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageOps

from ..fonts import font_for, wrapped
from ..images import ImageError, PixelOptions, decode_image, image_errors

MOST = 12  # cards on a sheet
_THUMB, _GAP, _TEXT, _HEADING, _LINE = 180, 16, 380, 60, 20  # pixels
_RIGHT, _WRONG, _PAPER, _INK, _FAINT = (33, 102, 172), (200, 60, 0), (255, 255, 255), (24, 28, 36), (226, 229, 234)


class MissCard(NamedTuple):
    """One miss: images from left to right (None: an empty frame), the truth, the prediction, the text."""

    images: Sequence[Image.Image | None]
    truth: str
    said: str
    text: str


def row_image(
    rows: Sequence[Mapping[str, Any]], number: int, pixels: PixelOptions | None = None
) -> Image.Image | None:
    """A small image of a row; None where there is none, or where it cannot be read.

    Args:
        rows: with images still encoded.
        number: of the row.
        pixels: how the model's inputs were read.
    """
    image: Mapping[str, Any] | None = rows[number].get("image")
    if image is None:
        return None
    try:
        with image_errors():
            decoded = decode_image(image, pixels or PixelOptions())
            return ImageOps.contain(decoded, (_THUMB, _THUMB), Image.Resampling.LANCZOS)
    except ImageError:
        return None


def cards_sheet(cards: Sequence[MissCard], *, title: str) -> Image.Image:
    """The cards in two columns below the title."""
    images = max(len(card.images) for card in cards)
    width, height = images * (_THUMB + 4) + _TEXT + 2 * _GAP, _THUMB + _GAP
    columns = min(2, len(cards))
    sheet = Image.new("RGB", (columns * width + _GAP, -(-len(cards) // columns) * height + _HEADING), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 14), title, fill=_INK, font=font_for(22, title))
    for place, card in enumerate(cards):
        left, top = _GAP + place % columns * width, _HEADING + place // columns * height
        for number, image in enumerate(card.images):
            corner = (left + number * (_THUMB + 4), top)
            if image is None:
                draw.rectangle((*corner, corner[0] + _THUMB, top + _THUMB), outline=_FAINT)
            else:
                sheet.paste(image, corner)
        x, y = left + len(card.images) * (_THUMB + 4) + 8, top
        for text, colour, most in ((card.truth, _RIGHT, 2), (card.said, _WRONG, 2), (card.text, _INK, 5)):
            font = font_for(15, text)
            for line in wrapped(" ".join(text.split()), font, _TEXT - 16, most_lines=most):
                draw.text((x, y), line, fill=colour, font=font)
                y += _LINE
    return sheet

"""A drawn street with objects that every COCO detector knows, for the image of the card."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE = (480, 320)
_SHARPER = 3  # drawn larger, then shrunk: smooth edges


def draw_street() -> Image.Image:
    """A stop sign, a clock, a bus, a traffic light and a ball under a blue sky; always the same."""
    width, height = SIZE
    image = Image.new("RGB", (width * _SHARPER, height * _SHARPER))
    pen = _Pen(ImageDraw.Draw(image))
    for y in range(height):
        share = y / height
        sky = (round(150 + 60 * share), round(190 + 35 * share), 235)
        pen.box(0, y, width, y + 1, sky if share < 0.62 else (round(123 - 30 * share),) * 3)
    pen.box(0, 196, width, 206, (120, 135, 90))
    _house(pen)
    _stop_sign(pen, 90, 90)
    _traffic_light(pen, 424, 63)
    _bus(pen)
    _ball(pen, 80, 282)
    _clock(pen, 39, 47)
    image = image.resize(SIZE, Image.Resampling.LANCZOS)
    grain = np.random.default_rng(0).normal(0, 4, (height, width, 3))
    pixels = (np.asarray(image) + grain).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(0.5))


class _Pen:
    """Draws in pixels of the image as it will be."""

    def __init__(self, draw: ImageDraw.ImageDraw):
        self.draw = draw

    def box(self, left: float, top: float, right: float, bottom: float, fill: tuple[int, ...], radius: float = 0):
        corners = [value * _SHARPER for value in (left, top, right, bottom)]
        self.draw.rounded_rectangle(corners, radius * _SHARPER, fill=fill)

    def disc(self, x: float, y: float, radius: float, fill: tuple[int, ...]):
        corners = [value * _SHARPER for value in (x - radius, y - radius, x + radius, y + radius)]
        self.draw.ellipse(corners, fill=fill)

    def polygon(self, x: float, y: float, radius: float, corners: int, turn: float, fill: tuple[int, ...]):
        angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
        self.draw.polygon(
            [((x + radius * math.cos(a)) * _SHARPER, (y + radius * math.sin(a)) * _SHARPER) for a in angles], fill=fill
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, fill: tuple[int, ...], width: int):
        self.draw.line([value * _SHARPER for value in (x, y, to_x, to_y)], fill=fill, width=width * _SHARPER)


def _house(pen: _Pen) -> None:
    pen.box(0, 120, 70, 200, (170, 140, 120))
    for x in range(6, 64, 20):
        for y in range(128, 190, 24):
            pen.box(x, y, x + 11, y + 14, (90, 110, 130))


def _stop_sign(pen: _Pen, x: int, y: int) -> None:
    pen.box(x - 2, y + 20, x + 3, y + 142, (130, 130, 135))
    pen.polygon(x, y, 34, 8, math.pi / 8, (250, 250, 250))
    pen.polygon(x, y, 31.5, 8, math.pi / 8, (190, 25, 30))
    font = ImageFont.load_default(20 * _SHARPER)
    pen.draw.text((x * _SHARPER, y * _SHARPER), "STOP", font=font, fill="white", anchor="mm")


def _traffic_light(pen: _Pen, x: int, y: int) -> None:
    pen.box(x - 3, y + 37, x + 3, y + 187, (70, 70, 72))
    pen.box(x - 17, y - 41, x + 17, y + 41, (28, 28, 30), radius=6)
    for step, colour in ((-27, (235, 45, 35)), (0, (85, 65, 20)), (27, (20, 70, 35))):
        pen.disc(x, y + step, 10, colour)


def _bus(pen: _Pen) -> None:
    pen.box(150, 110, 372, 240, (235, 180, 30), radius=10)
    for x in range(160, 330, 34):
        pen.box(x, 124, x + 28, 168, (60, 80, 95), radius=3)
    pen.box(336, 122, 366, 230, (70, 92, 108), radius=3)
    pen.line(351, 122, 351, 230, (235, 180, 30), 2)
    pen.box(150, 182, 332, 188, (150, 60, 20))
    pen.box(150, 228, 372, 240, (60, 55, 50))
    for x in (195, 310):
        pen.disc(x, 240, 20, (25, 25, 25))
        pen.disc(x, 240, 10, (150, 150, 150))


def _ball(pen: _Pen, x: int, y: int) -> None:
    pen.disc(x, y, 20, (245, 245, 245))
    pen.polygon(x, y, 8, 5, 0.3, (30, 30, 30))
    for i in range(5):
        angle = 0.3 + 2 * math.pi * i / 5
        pen.polygon(x + 17 * math.cos(angle), y + 17 * math.sin(angle), 5, 5, angle, (30, 30, 30))


def _clock(pen: _Pen, x: int, y: int) -> None:
    pen.disc(x, y, 27, (60, 45, 35))
    pen.disc(x, y, 23, (248, 246, 238))
    for hour in range(12):
        across, down = math.cos(hour * math.pi / 6), math.sin(hour * math.pi / 6)
        pen.line(x + 18 * across, y + 18 * down, x + 21 * across, y + 21 * down, (30, 30, 30), 2)
    pen.line(x, y, x, y - 17, (20, 20, 20), 2)
    pen.line(x, y, x + 12, y + 5, (20, 20, 20), 3)

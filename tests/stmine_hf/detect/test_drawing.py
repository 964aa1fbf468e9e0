"""Annotations that can be read: colours of a class, plates inside the image, sizes that follow the image."""

from __future__ import annotations

import colorsys
from itertools import combinations, pairwise

import numpy as np
import pytest
from PIL import Image

from stmine_hf.detect import Detection, draw_detections
from stmine_hf.detect.drawing import class_colour, draw_label, font_size, line_width


def found(label: int, box: tuple[float, float, float, float], score: float = 0.9, name: str = "deer") -> Detection:
    return Detection(label, name, score, box)


def has_colour(image: Image.Image, colour: tuple[int, int, int], box=None) -> bool:
    return bool((np.asarray(image.crop(box) if box else image) == colour).all(axis=-1).any())


def test_a_box_in_the_colour_of_its_class():
    plain = Image.new("RGB", (300, 200), (128, 128, 128))
    drawn = draw_detections(plain, [found(3, (100, 80, 180, 150))])
    assert has_colour(drawn, class_colour(3)) and not has_colour(plain, class_colour(3))
    pixels = np.asarray(drawn)
    assert tuple(pixels[110, 100]) == tuple(pixels[149, 140]) == tuple(pixels[110, 179]) == class_colour(3)
    assert tuple(pixels[110, 140]) == (128, 128, 128)  # nothing inside
    assert has_colour(drawn, class_colour(3), (100, 55, 180, 78))  # the plate above


def test_colours_are_the_same_for_ever_and_differ_between_neighbours():
    assert [class_colour(label) for label in range(3)] == [class_colour(label) for label in range(3)]
    colours = [class_colour(label) for label in range(12)]
    assert len(set(colours)) == 12
    hues = [colorsys.rgb_to_hsv(*(value / 255 for value in colour))[0] for colour in colours]
    for one, other in pairwise(hues):
        assert min(abs(one - other), 1 - abs(one - other)) > 0.2


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (12000, 200), (40, 30)])
def test_images_of_odd_sizes(size):
    plain = Image.new("RGB", size)
    whole = found(0, (0, 0, *size), name="a class with a long name")
    edges = [found(1, (0, 0, 0.4, 0.4)), found(2, (size[0] - 1, size[1] - 1, size[0], size[1])), whole]
    assert draw_detections(plain, edges).size == size


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_images_of_other_kinds(mode):
    plain = Image.new("RGB", (60, 40)).convert(mode)
    drawn = draw_detections(plain, [found(0, (5, 5, 50, 35))])
    assert drawn.mode == "RGB" and has_colour(drawn, class_colour(0)) and plain.mode == mode


def test_sizes_follow_the_image():
    small, large = Image.new("RGB", (320, 240)), Image.new("RGB", (3200, 2400))
    assert line_width(small) == 2 and line_width(large) == 12
    assert font_size(small) == 12 and font_size(large) == 67


def test_plates_lie_inside_and_beside_each_other():
    image = Image.new("RGB", (300, 200))
    plates: list[tuple[float, float, float, float]] = []
    for box in [(100, 50, 200, 150)] * 3 + [(250, -5, 320, 30), (0, 190, 40, 200), (-9, 60, 300, 100)]:
        draw_label(image, box, (0, 255, 0), "ebike 0.55", avoid=plates)
    for left, top, right, bottom in plates:
        assert left >= 0 and top >= 0 and right <= image.width and bottom <= image.height
    for one, other in combinations(plates[:3], 2):
        across = min(one[2], other[2]) - max(one[0], other[0])
        down = min(one[3], other[3]) - max(one[1], other[1])
        assert across <= 0 or down <= 0, f"{one} and {other} overlap"


def test_plates_do_not_hide_small_boxes():
    """Targets of a few pixels side by side, under names far wider than they are."""
    colours = [class_colour(label) for label in range(3)]
    targets = [found(label, (100 + 12 * label, 60, 106 + 12 * label, 66), name="target") for label in range(3)]
    pixels = np.asarray(draw_detections(Image.new("RGB", (300, 120)), targets))
    for target, colour in zip(targets, colours, strict=True):
        left, top, right, bottom = (int(value) for value in target.box)
        frame = [pixels[top, left:right], pixels[bottom - 1, left:right]]
        assert all((row == colour).all() for row in frame), target


def test_names_in_other_scripts():
    drawn = draw_detections(Image.new("RGB", (200, 100)), [found(0, (10, 30, 90, 90), name="电动车")])
    assert has_colour(drawn, class_colour(0))

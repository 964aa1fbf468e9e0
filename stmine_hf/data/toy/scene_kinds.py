"""Sixteen kinds of place seen from above: each function draws one on a `Canvas` and returns captions true of it.

The kinds carry the names of RSICD's classes and are drawn in its palettes; the captions are worded in its manner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .overhead_drawing import Canvas, Colour, box, curve, oval, rgb, scaled

WHITE, ASPHALT, CONCRETE = (232, 232, 228), (98, 98, 100), (172, 166, 154)
LEAF, DARK_LEAF = (82, 104, 58), (52, 78, 48)
GRASS, DRY_GRASS = (98, 116, 66), (134, 128, 92)
ROOFS = ((196, 192, 186), (150, 146, 142), (112, 100, 92), (170, 104, 80), (134, 84, 66), (206, 200, 190))
CARS = ((235, 235, 235), (30, 32, 36), (60, 64, 72), (150, 152, 156), (140, 40, 36), (44, 66, 120), (225, 225, 228))


def _pick(c: Canvas, choices: Any) -> Any:
    return choices[int(c.rng.integers(len(choices)))]


def _both_sides(half: list[tuple[float, float]]) -> np.ndarray:
    """An outline and its mirror image across the x axis, as one."""
    one = np.array(half)
    return np.concatenate([one, one[::-1] * (1, -1)])


def _count(number: int) -> str:
    words = ("no", "a", "two", "three", "four", "five", "six")
    return words[number] if number < len(words) else "many"


def _houses(c: Canvas, places: list[np.ndarray], height: float, roofs: tuple[Colour, ...]) -> None:
    """Pitched roofs: the half towards the sun is the lighter one."""
    c.shadows(places, height)
    for corners in places:
        roof = scaled(_pick(c, roofs), c.rng.uniform(0.85, 1.1))
        a, b, d, e = corners
        if np.linalg.norm(b - a) < np.linalg.norm(d - b):
            a, b, d, e = b, d, e, a
        ridge_a, ridge_b = (a + e) / 2 * 0.94 + (b + d) / 2 * 0.06, (b + d) / 2 * 0.94 + (a + e) / 2 * 0.06
        sunny = float((np.array(c.pixels([a]))[0] - np.array(c.pixels([e]))[0]) @ c.sun) < 0
        c.polygon([a, b, d, e], scaled(roof, 0.88))
        c.polygon([a, b, ridge_b, ridge_a], scaled(roof, 1.12 if sunny else 0.72))
        c.polygon([e, d, ridge_b, ridge_a], scaled(roof, 0.72 if sunny else 1.12))


def _halls(c: Canvas, places: list[np.ndarray], height: float, roofs: tuple[Colour, ...] = ROOFS[:3]) -> None:
    """Large flat roofs with seams and boxes on them."""
    c.shadows(places, height)
    for corners in places:
        roof = scaled(_pick(c, roofs), c.rng.uniform(0.9, 1.1))
        c.polygon(corners, roof)
        a, b, d, e = corners
        for t in np.linspace(0, 1, 9)[1:-1]:
            c.line([a + (b - a) * t, e + (d - e) * t], 0.002, scaled(roof, 0.9))
        c.line([a, b, d, e, a], 0.003, scaled(roof, 1.15))
        for u, v in c.rng.uniform(0.15, 0.85, (4, 2)):
            spot = a + (b - a) * u + (e - a) * v
            c.polygon(box(spot[0], spot[1], 0.014, 0.01), scaled(roof, c.rng.uniform(0.6, 1.2)))


def _cars(c: Canvas, places: list[tuple[float, float, float]], length: float = 0.026) -> None:
    """Cars at (x, y, angle): a body, a roof between two dark windows, a shadow."""
    bodies = [box(x, y, length, length * 0.46, angle) for x, y, angle in places]
    c.shadows(bodies, length * 0.22, 0.6)
    for (x, y, angle), body in zip(places, bodies, strict=True):
        paint = _pick(c, CARS)
        c.polygon(body, paint)
        c.polygon(box(x, y, length * 0.56, length * 0.4, angle), scaled(paint, 0.45))
        c.polygon(box(x, y, length * 0.3, length * 0.38, angle), scaled(paint, 0.95))


def _road(c: Canvas, points: Any, width: float, colour: Colour = ASPHALT, dashes: bool = True) -> None:
    c.line(points, width * 1.3, scaled(CONCRETE, 0.9))
    c.line(points, width, colour)
    if dashes:
        line = np.asarray(points, dtype=float)
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        stops = np.arange(0, length[-1], 0.05)
        for start, end in zip(stops, stops + 0.025, strict=True):
            ends = [(np.interp(s, length, line[:, 0]), np.interp(s, length, line[:, 1])) for s in (start, end)]
            c.line(ends, width * 0.06, (200, 200, 190))


def _field_lines(c: Canvas, x: float, y: float, width: float, height: float, line: float = 0.004) -> None:
    """A football field: mown stripes and white lines."""
    green = _pick(c, ((70, 112, 62), (84, 124, 66), (60, 98, 62)))
    stripes = 10
    for i in range(stripes):
        left = x - width / 2 + width * (i + 0.5) / stripes
        c.polygon(box(left, y, width / stripes * 1.05, height), scaled(green, 1.07 if i % 2 else 0.95))
    edge = box(x, y, width * 0.94, height * 0.92)
    c.line([*edge, edge[0]], line, WHITE)
    c.line([(x, y - height * 0.46), (x, y + height * 0.46)], line, WHITE)
    c.ring(x, y, height * 0.14, line, WHITE)
    for side in (-1, 1):
        area = box(x + side * width * 0.4, y, width * 0.14, height * 0.5)
        c.line([*area, area[0]], line, WHITE)


def _water(c: Canvas, colour: Colour, mask: Image.Image | None = None, ripples: float = 0.10) -> None:
    ripple = c.noise(46, 2)
    wide = c.noise(3, 2)
    c.lay(np.array(colour, np.float32) * (1 + ripples * (ripple - 0.5) * 2 + 0.3 * (wide - 0.5))[..., None], mask)


def _wood(c: Canvas, colour: Colour, mask: Image.Image | None = None, radius: float = 0.02, count: int = 700) -> None:
    """Closed forest on the white part of a mask: crowns on a shaken grid."""
    side = math.isqrt(count)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    places = (grid + c.rng.uniform(-0.15, 1.15, grid.shape)) / side
    if mask is not None:
        index = np.clip((places * c.n).astype(int), 0, c.n - 1)
        places = places[np.asarray(mask)[index[:, 1], index[:, 0]] > 127]
    c.crowns([(x, y) for x, y in places.tolist()], radius, colour, shade=0.75)


def airport(c: Canvas) -> list[str]:
    ground = _pick(c, ((168, 160, 146), (150, 146, 140), (176, 170, 158)))
    c.cover(scaled(ground, 0.92), scaled(ground, 1.06), 9, 0.06)
    c.turn(c.rng.uniform(0, math.pi))
    for x in np.arange(-0.3, 1.3, 0.07):  # slabs
        c.line([(x, -0.4), (x, 1.4)], 0.0015, scaled(ground, 0.88))
        c.line([(-0.4, x), (1.4, x)], 0.0015, scaled(ground, 0.88))
    stains = [([(x, y), (x + c.rng.normal(0, 0.12), y + 0.02)], 0.012) for x, y in c.rng.uniform(-0.2, 1.2, (14, 2))]
    c.dim(c.mask(lines=stains, soft=0.008), 0.22)
    lawn = c.mask([box(0.5, 1.15, 2.2, 0.42)])
    c.cover(GRASS, DRY_GRASS, 6, 0.2, lawn)
    c.polygon(box(0.5, 1.06, 2.2, 0.12), scaled(ASPHALT, 1.15))
    c.line([(-0.5, 1.06), (1.5, 1.06)], 0.004, (214, 196, 120))
    c.line([(-0.5, 0.84), (1.5, 0.84)], 0.004, (206, 186, 104))
    terminal = [box(0.5, 0.2, 1.7, 0.13)]
    pier_at = c.rng.uniform(0.3, 0.7)
    pier = c.rng.random() < 0.6
    if pier:
        terminal.append(box(pier_at, 0.4, 0.08, 0.36))
    c.polygon(box(0.5, -0.05, 2.2, 0.4), scaled(ASPHALT, 1.05))
    _cars(c, [(x, y, math.pi / 2) for x in np.arange(-0.2, 1.2, 0.024) for y in (0.02, 0.09) if c.rng.random() < 0.7])
    _halls(c, terminal, 0.045, ((222, 222, 218), (206, 204, 198), (190, 194, 198)))
    length = c.rng.uniform(0.14, 0.2)
    stands = [(x, 0.29 + length * 0.62, -math.pi / 2) for x in np.arange(-0.1, 1.15, length * 1.12)]
    if pier:
        stands = [stand for stand in stands if abs(stand[0] - pier_at) > 0.04 + length * 1.2]
        ys = np.arange(0.34, 0.62, length * 1.15)
        stands += [(pier_at - 0.06 - length * 0.62, y, 0.0) for y in ys]
        stands += [(pier_at + 0.06 + length * 0.62, y, math.pi) for y in ys]
    planes = [stand for stand in stands if c.rng.random() < 0.85]
    if c.rng.random() < 0.6:
        planes.append((c.rng.uniform(0.2, 0.8), 0.84, 0.0))
    for x, y, angle in planes:
        _plane(c, x, y, angle + c.rng.normal(0, 0.03), length)
    many = "many" if len(planes) > 5 else "several"
    return [
        f"{many} planes are parked near a terminal in an airport .",
        f"{many} planes are parked in an airport .",
        f"{many} white planes are near a large building in an airport .",
        f"{many} planes are parked on the gray ground of an airport .",
        f"some planes are parked next to a long {'and a narrow building' if pier else 'building'} in an airport .",
        "there are white planes on the apron near the terminal building .",
        "planes are parked in line beside the terminal with many cars behind it .",
    ]


def _plane(c: Canvas, x: float, y: float, angle: float, length: float) -> None:
    """An airliner of the given length, its nose towards `angle`."""
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])

    def part(points: Any) -> np.ndarray:
        return np.array(points) * length @ turn + (x, y)

    wings = part(_both_sides([(0.10, 0.04), (-0.14, 0.5), (-0.22, 0.5), (-0.08, 0.04)]))
    tail = part(_both_sides([(-0.36, 0.03), (-0.46, 0.18), (-0.51, 0.18), (-0.46, 0.0)]))
    body = oval(0, 0, 1.0, 0.115, 2.4, 28) @ turn * length + (x, y)
    c.shadows([wings, tail, body], length * 0.07, 0.5)
    paint = _pick(c, ((246, 246, 244), (240, 240, 240), (228, 232, 238)))
    c.polygon(wings, scaled(paint, 0.9))
    for engine in (box(0.01, 0.19, 0.1, 0.04), box(0.01, -0.19, 0.1, 0.04)):
        c.polygon(part(engine), scaled(paint, 0.62))
    c.polygon(tail, scaled(paint, 0.86))
    c.polygon(body, paint)
    c.line(part([(-0.34, 0), (-0.5, 0)]), length * 0.035, _pick(c, ((150, 50, 50), (50, 70, 130), (120, 124, 130))))
    c.polygon(part([(0.455, 0.025), (0.43, 0.035), (0.43, -0.035), (0.455, -0.025)]), (60, 64, 72))


def baseballfield(c: Canvas) -> list[str]:
    c.cover((86, 104, 58), (104, 116, 70), 6, 0.16)
    c.turn(c.rng.uniform(0, 2 * math.pi))
    fields = int(_pick(c, (1, 1, 1, 2, 2, 4)))
    reach = {1: 0.78, 2: 0.5, 4: 0.42}[fields]
    homes = {
        1: [(0.5, 0.87, -math.pi / 2)],
        2: [(0.46, 0.44, -0.75 * math.pi), (0.54, 0.56, 0.25 * math.pi)],
        4: [(0.5 + dx * 0.07, 0.5 + dy * 0.07, math.atan2(dy, dx)) for dx in (-1, 1) for dy in (-1, 1)],
    }[fields]
    clay = _pick(c, ((176, 122, 84), (188, 138, 96), (164, 108, 76)))
    grass = _pick(c, ((82, 110, 60), (94, 118, 64), (70, 98, 56)))
    for x, y, angle in homes:
        _diamond(c, x, y, angle, reach, clay, grass)
    if fields == 4:
        c.disc(0.5, 0.5, 0.035, CONCRETE)
    edge = [s for s in c.spots(90) if max(abs(s[0] - 0.5), abs(s[1] - 0.5)) > 0.44]
    c.crowns(edge, 0.032, DARK_LEAF)
    plural = fields > 1
    noun, are = ("baseball fields", "are") if plural else ("baseball field", "is")
    number = _count(fields)
    return [
        f"{number} {noun} {are} near some green trees .",
        f"{number} {noun} {are} surrounded by many green trees .",
        f"some green trees are around {number} {noun} .",
        f"{number} {noun} {are} beside green grass .",
        f"the {noun} {are} made of brown sand and green grass .",
        f"there {are} {number} {noun} on the green lawn .",
    ]


def _diamond(c: Canvas, x: float, y: float, angle: float, reach: float, clay: Colour, grass: Colour) -> None:
    """A baseball field that opens towards `angle` from home plate at (x, y)."""

    def fan(radius: float, half: float = math.pi / 4) -> np.ndarray:
        a = np.linspace(angle - half, angle + half, 24)
        rim = np.stack([np.cos(a), np.sin(a)], 1) * radius + (x, y)
        return np.concatenate([[(x, y)], rim])

    def along(distance: float, off: float = 0.0) -> tuple[float, float]:
        return x + math.cos(angle + off) * distance, y + math.sin(angle + off) * distance

    c.polygon(fan(reach * 1.02, math.pi / 4 + 0.03), scaled(clay, 1.0))
    outfield = c.mask([fan(reach * 0.97)])
    c.cover(scaled(grass, 0.95), scaled(grass, 1.08), 12, 0.1, outfield)
    c.polygon(fan(reach * 0.48, math.pi / 4 + 0.06), clay)
    c.disc(x, y, reach * 0.07, clay)
    base = reach * 0.29
    centre = along(base * math.sqrt(0.5))
    c.polygon(box(*centre, base * 0.86, base * 0.86, angle + math.pi / 4), scaled(grass, 1.04))
    c.disc(*centre, reach * 0.035, clay)
    for off in (-math.pi / 4, math.pi / 4):
        c.line([(x, y), along(reach, off)], 0.004, WHITE)
        c.polygon(box(*along(base, off), 0.009, 0.009, angle), WHITE)
    c.ring(x, y, reach * 0.045, 0.003, scaled(clay, 1.25))


def beach(c: Canvas) -> list[str]:
    c.turn(c.rng.uniform(0, 2 * math.pi))
    x, y = c.grid()
    water, word = _pick(
        c, (((40, 108, 120), "blue"), ((58, 112, 96), "green"), ((36, 78, 92), "blue"), ((70, 176, 178), "green"))
    )
    sand = _pick(c, ((202, 178, 136), (214, 192, 158), (188, 164, 128)))
    bend = c.rng.uniform(-0.5, 0.5) * (x - 0.5) ** 2 + 0.03 * np.sin(x * c.rng.uniform(5, 9) + c.rng.uniform(0, 6))
    d = y - c.rng.uniform(0.42, 0.55) + bend + (c.noise(7, 4) - 0.5) * 0.1  # > 0: sea, in image widths from the shore
    fine = c.noise(60, 3)
    deep = np.clip(d / 0.55, 0, 1)[..., None] ** 0.7
    sea = np.array(water, np.float32) * (1.25 - 0.6 * deep) * (1 + 0.18 * (fine - 0.5))[..., None]
    shore = np.clip(1 + d / 0.07, 0, 1)[..., None]
    land = np.array(sand, np.float32) * (1 - 0.3 * shore**2) * (1 + 0.12 * (fine - 0.5))[..., None]
    foam = np.exp(-((d - 0.012) ** 2) / 0.00012)
    for offset in (0.09, 0.17, 0.27)[: int(c.rng.integers(1, 4))]:
        crest = np.exp(-((d - offset - 0.05 * (c.noise(9, 3) - 0.5)) ** 2) / 0.0003)
        foam = np.maximum(foam, crest * np.clip(c.noise(6, 3) * 3 - 1.1, 0, 1))
    foam = np.clip(foam * (0.5 + fine), 0, 1)[..., None]
    c.lay(np.where(d[..., None] > 0, sea, land) * (1 - foam) + np.array(WHITE, np.float32) * foam)
    trees = c.rng.random() < 0.5
    if trees:
        wood = Image.fromarray(((d < -0.3) * 255).astype(np.uint8))
        c.cover((92, 104, 62), (120, 116, 76), 8, 0.2, c.ragged(wood, 0.02))
        c.crowns(c.spots(260, wood), 0.022, LEAF)
    extra = " with many green trees beside it" if trees else ""
    return [
        f"yellow beach is near a piece of {word} ocean with white waves .",
        f"white waves are between yellow beach and {word} ocean .",
        f"a piece of {word} ocean is near a yellow beach{extra} .",
        f"the sea beats the white spray on the beach{extra} .",
        f"it is a yellow sand beach next to the {word} sea .",
        "the waves roll slowly onto the sandy beach .",
    ]


def bridge(c: Canvas) -> list[str]:
    city = c.rng.random() < 0.5
    c.cover((104, 112, 74), (128, 122, 92), 7, 0.18)
    c.turn(c.rng.uniform(0, math.pi))
    water, word = _pick(
        c, (((56, 82, 74), "green"), ((40, 60, 74), "dark"), ((72, 92, 88), "green"), ((112, 100, 72), "yellow"))
    )
    width = c.rng.uniform(0.42, 0.6)
    stream = c.ragged(c.mask([box(0.5, 0.5, 2.4, width)]), 0.012, 20)
    shore = c.mask([box(0.5, 0.5, 2.4, width + 0.03)])
    land = Image.eval(shore, lambda value: 255 - value)
    if city:
        blocks = []
        for side in (-1, 1):
            for row in (0.07, 0.17, 0.27, 0.37):
                for x in np.arange(-0.3, 1.35, 0.1):
                    if abs(x - 0.5) > 0.07 and c.rng.random() < 0.85:
                        blocks.append(
                            box(
                                x,
                                0.5 + side * (width / 2 + row),
                                c.rng.uniform(0.05, 0.085),
                                c.rng.uniform(0.045, 0.075),
                            )
                        )
        c.cover((140, 138, 130), (116, 116, 108), 9, 0.14, land)
        _halls(c, blocks, 0.03, ROOFS)
        c.crowns(c.spots(160, land), 0.014, LEAF)
    else:
        _wood(c, _pick(c, (LEAF, DARK_LEAF)), c.ragged(land, 0.02), 0.021, 620)
    c.image.paste(rgb(CONCRETE), (0, 0), c.ragged(shore, 0.006, 24))
    _water(c, water, stream)
    if city:  # the banks again, now that the water lies over them
        _water(c, water, c.mask([box(0.5, 0.5, 2.4, width)]))
    deck = c.rng.uniform(0.06, 0.1)
    c.shadows([box(0.5, 0.5, deck, width + 0.1)], 0.05, 0.5)
    for y in np.linspace(0.5 - width / 2, 0.5 + width / 2, 6)[1:-1]:
        c.polygon(box(0.5, y, deck * 1.5, 0.02), (150, 148, 140))
    c.polygon(box(0.5, 0.5, deck, 2.4), (188, 184, 174))
    c.polygon(box(0.5, 0.5, deck * 0.82, 2.4), (126, 124, 122))
    c.line([(0.5, -0.7), (0.5, 1.7)], 0.004, (214, 206, 160))
    lanes = (-deck * 0.25, deck * 0.25)
    _cars(
        c, [(0.5 + _pick(c, lanes), y, math.pi / 2) for y in np.arange(-0.2, 1.2, 0.09) if c.rng.random() < 0.6], 0.028
    )
    boats = int(c.rng.integers(0, 3))
    for _ in range(boats):
        _boat(c, c.rng.uniform(0.62, 0.95), c.rng.uniform(0.35, 0.65), 0.0, 0.08)
    sides = "many buildings" if city else "many green trees"
    return [
        f"a bridge is over a river with {sides} in two sides of it .",
        f"a bridge is on a river with {word} water .",
        f"a long bridge with some cars on it is over a {word} river .",
        f"{sides} are in two sides of a river with a bridge over it .",
        "the bridge connects the two sides of the river .",
        f"there is a straight bridge over the river and {sides} near the banks .",
    ]


def denseresidential(c: Canvas) -> list[str]:
    c.cover((112, 112, 88), (96, 106, 72), 8, 0.2)
    c.turn(c.rng.uniform(0, math.pi))
    block, street = c.rng.uniform(0.2, 0.25), 0.035
    roofs, word = _pick(c, ((ROOFS[3:5], "red"), (ROOFS[:3], "gray"), (ROOFS, "different"), (ROOFS[1:3], "gray")))
    houses, cars = [], []
    for y in np.arange(-0.35, 1.35, block):
        _road(c, [(-0.5, y), (1.5, y)], street, dashes=False)
        cars += [(x, y + _pick(c, (-0.009, 0.009)), 0.0) for x in np.arange(-0.3, 1.3, 0.05) if c.rng.random() < 0.4]
        for row in (0.3, 0.7):
            x = -0.4
            while x < 1.4:
                wide = c.rng.uniform(0.05, 0.075)
                houses.append(
                    box(
                        x + wide / 2,
                        y + block * row + c.rng.normal(0, 0.004),
                        wide,
                        block * 0.25,
                        c.rng.normal(0, 0.03),
                    )
                )
                x += wide + c.rng.uniform(0.012, 0.03)
    for x in np.arange(-0.3, 1.4, c.rng.uniform(0.5, 0.7)) + c.rng.uniform(0, 0.2):
        _road(c, [(x, -0.5), (x, 1.5)], street, dashes=False)
        houses = [h for h in houses if abs(h[:, 0].mean() - x) > 0.055]
    c.crowns(c.spots(230), 0.016, LEAF)
    _houses(c, houses, 0.018, roofs)
    _cars(c, cars, 0.02)
    c.crowns(c.spots(70), 0.015, DARK_LEAF)
    return [
        "many buildings and some green trees are in a dense residential area .",
        "many buildings and green trees are orderly in a dense residential area .",
        "the residential buildings on both sides of the road are neatly arranged .",
        f"many houses with {word} roofs are arranged in lines in a dense residential area .",
        "many crowded buildings are in two sides of several roads in a dense residential area .",
        "rows of houses are close to each other between straight roads .",
    ]


def desert(c: Canvas) -> list[str]:
    sand, word = _pick(
        c,
        (
            ((214, 172, 112), "yellow"),
            ((226, 196, 146), "yellow"),
            ((206, 140, 92), "orange"),
            ((196, 164, 124), "khaki"),
        ),
    )
    c.turn(c.rng.uniform(0, math.pi))
    x, y = c.grid()
    x = x + 0.16 * (c.noise(3, 3) - 0.5)
    waves = c.rng.uniform(7, 13)
    phase = (x + 0.5 * (c.noise(4, 3) - 0.5)) * waves
    dunes = np.abs((phase % 1) - 0.65) ** 0.8 * (0.3 + c.noise(4, 2))
    ripples = np.sin((x + 0.1 * c.noise(10, 2)) * c.rng.uniform(140, 200) + y * 20) * 0.018
    light = c.relief((dunes + ripples + 0.35 * c.noise(5, 4)).astype(np.float32), 0.045 * c.n)
    tone = 0.92 + 0.2 * (c.noise(3, 3) - 0.4)
    c.lay(np.array(sand, np.float32) * (0.72 + 0.28 * light)[..., None] * tone[..., None])
    return [
        f"it is a large piece of {word} desert .",
        f"many ripples are in a piece of {word} desert .",
        f"a piece of {word} desert with many sand dunes .",
        "a piece of sand in the desert is like fish scale .",
        "the wind makes many wrinkles in the dry desert .",
        "many sands form a piece of desert .",
    ]


def farmland(c: Canvas) -> list[str]:
    palette, word = _pick(
        c,
        (
            (((92, 116, 68), (70, 100, 58), (120, 134, 84), (146, 138, 100), (84, 106, 74)), "green"),
            (((148, 130, 104), (130, 112, 88), (164, 148, 120), (108, 118, 76), (156, 124, 100)), "brown"),
            (((106, 126, 76), (160, 148, 108), (128, 110, 86), (82, 108, 62), (178, 166, 128)), "different"),
        ),
    )
    c.turn(c.rng.uniform(0, math.pi))
    cells = [(-0.3, -0.3, 1.3, 1.3)]
    while len(cells) < 46:
        cells.sort(key=lambda cell: (cell[2] - cell[0]) * (cell[3] - cell[1]))
        x0, y0, x1, y1 = cells.pop()
        t = c.rng.uniform(0.35, 0.65)
        if (x1 - x0) * c.rng.uniform(0.6, 1.6) > y1 - y0:
            cells += [(x0, y0, x0 + (x1 - x0) * t, y1), (x0 + (x1 - x0) * t, y0, x1, y1)]
        else:
            cells += [(x0, y0, x1, y0 + (y1 - y0) * t), (x0, y0 + (y1 - y0) * t, x1, y1)]
    numbers = Image.new("L", (c.n, c.n))
    colours = np.array([scaled(_pick(c, palette), c.rng.uniform(0.85, 1.12)) for _ in cells], np.float32)
    for number, (x0, y0, x1, y1) in enumerate(cells):
        ImageDraw.Draw(numbers).polygon(c.pixels([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]), fill=number)
    ids = np.asarray(numbers)
    along = c.rng.random(len(cells)) < 0.5
    often = c.rng.uniform(180, 420, len(cells)).astype(np.float32)
    strong = c.rng.uniform(0.0, 0.10, len(cells)).astype(np.float32)
    x, y = c.grid()
    furrows = 1 + strong[ids] * np.sin(np.where(along[ids], x, y) * often[ids])
    patchy = 1 + 0.3 * (c.noise(9, 4) - 0.5)
    c.lay(colours[ids] * (furrows * patchy)[..., None])
    for x0, y0, x1, y1 in cells:
        c.line([(x0, y0), (x1, y0)], c.rng.uniform(0.002, 0.006), _pick(c, ((176, 164, 132), (104, 110, 76))))
        c.line([(x0, y0), (x0, y1)], c.rng.uniform(0.002, 0.006), _pick(c, ((176, 164, 132), (104, 110, 76))))
    x0 = _pick(c, [cell[0] for cell in cells if 0.25 < cell[0] < 0.75] or [0.5])
    c.line([(x0, -0.5), (x0, 1.5)], 0.018, (184, 174, 148))
    rows = [(x0 + 0.02, v) for v in np.arange(-0.2, 1.2, 0.03) if c.rng.random() < 0.7]
    c.crowns([(px / c.n, py / c.n) for px, py in c.pixels(rows)], 0.014, DARK_LEAF)
    return [
        "many pieces of farmlands are together .",
        f"many pieces of farmlands in {word} colors are together ."
        if word == "different"
        else f"many pieces of {word} farmlands are together .",
        "several pieces of farmlands are orderly together with a road between them .",
        "the farm is divided into many rectangular parts of different colors .",
        "a straight path with a row of trees passes through the farmlands .",
        "it is a large piece of farmland .",
    ]


def forest(c: Canvas) -> list[str]:
    green, word = _pick(
        c,
        (
            ((62, 88, 54), "dark green"),
            ((52, 82, 58), "dark green"),
            ((84, 106, 60), "yellow green"),
            ((66, 104, 58), "green"),
        ),
    )
    c.cover(scaled(green, 0.35), scaled(green, 0.5), 8, 0.2)
    _wood(c, green, None, c.rng.uniform(0.02, 0.026), int(c.rng.integers(900, 1200)))
    hills = c.relief(c.noise(2, 3), 0.5 * c.n / 4)
    c.lay(np.asarray(c.image, np.float32) * (0.8 + 0.2 * hills)[..., None])
    road = c.rng.random() < 0.35
    if road:
        c.turn(c.rng.uniform(0, math.pi))
        path = curve(
            [
                (-0.3, c.rng.uniform(0.3, 0.7)),
                (0.3, c.rng.uniform(0.3, 0.7)),
                (0.7, c.rng.uniform(0.3, 0.7)),
                (1.3, 0.5),
            ]
        )
        c.line(path, 0.02, (168, 158, 134))
    way = (
        ["a road is in a forest with many green trees .", "a narrow road goes through the dense forest ."]
        if road
        else []
    )
    return [
        *way,
        "many green trees form a piece of forest .",
        f"many {word} trees are in a piece of forest .",
        f"this piece of the forest is {word} and dense .",
        "many green trees are in a crowded forest .",
        "the dense forest is full of green trees .",
    ]


def parking(c: Canvas) -> list[str]:
    ground = _pick(c, ((112, 112, 112), (128, 124, 118), (98, 98, 102), (150, 146, 138)))
    c.cover(scaled(ground, 0.93), scaled(ground, 1.07), 10, 0.08)
    c.turn(c.rng.uniform(0, math.pi))
    full = c.rng.uniform(0.55, 0.95)
    stall, deep = c.rng.uniform(0.028, 0.034), 0.066
    cars, islands, y, number = [], [], -0.35, 0
    trees = c.rng.random() < 0.6
    while y < 1.35:
        for x in np.arange(-0.35, 1.35, stall):
            for side in (-0.5, 0.5):
                c.line([(x, y), (x, y + side * 2 * deep)], 0.0028, scaled(WHITE, 0.88))
                if c.rng.random() < full:
                    place = (
                        x + stall / 2 + c.rng.normal(0, 0.001),
                        y + side * deep,
                        math.pi / 2 + c.rng.normal(0, 0.03),
                    )
                    cars.append(place)
        if trees and number % 2 == 0:
            c.polygon(box(0.5, y, 2, 0.018), (112, 116, 74))
            islands += [(x, y) for x in np.arange(-0.3, 1.3, 0.085)]
        y += 2 * deep + c.rng.uniform(0.075, 0.09)
        number += 1
    side = c.rng.random() < 0.4
    if side:
        cars = [car for car in cars if car[0] < 0.78]
        c.cover(GRASS, DRY_GRASS, 7, 0.18, c.mask([box(1.2, 0.5, 0.8, 3)]))
        _road(c, [(0.84, -0.5), (0.84, 1.5)], 0.06)
    _cars(c, cars, 0.046)
    c.crowns([(px / c.n, py / c.n) for px, py in c.pixels(islands or [(-9, -9)])], 0.02, LEAF)
    if side:
        c.crowns(c.spots(60, c.mask([box(1.2, 0.5, 0.56, 3)])), 0.026, DARK_LEAF)
    many = "many" if full > 0.7 else "some"
    near = (
        [
            "many cars are parked in a parking lot near a road .",
            "a parking lot with many cars is beside a road and green trees .",
        ]
        if side
        else []
    )
    green = ["many cars are parked in a parking lot with several green trees ."] if trees else []
    return [
        *near,
        *green,
        f"{many} cars are parked in a parking lot .",
        f"{many} cars are parked neatly in a large parking lot .",
        "a lot of cars in different colors are parked in rows .",
        f"{many} cars are orderly in the parking lot ."
        if full > 0.7
        else "some cars are in a parking lot with many empty parking spaces .",
        "the parking lot has several rows of cars .",
    ]


def playground(c: Canvas) -> list[str]:
    c.cover((134, 132, 118), (112, 120, 84), 7, 0.16)
    c.turn(c.rng.uniform(0, math.pi))
    track, word = _pick(c, (((172, 84, 66), "red"), ((184, 104, 76), "red"), ((150, 74, 66), "red")))
    wide, high = c.rng.uniform(0.72, 0.82), c.rng.uniform(0.42, 0.48)
    inner = high * 0.74

    def lane(height: float) -> np.ndarray:
        straight = wide - high
        left = oval(0.5 - straight / 2, 0.5, height, height)[16:49]
        right = np.roll(oval(0.5 + straight / 2, 0.5, height, height), 16, axis=0)[:33]
        return np.concatenate([left, right])

    blocks = [
        box(x, 0.5 + s * 0.42, c.rng.uniform(0.14, 0.24), 0.09)
        for s in (-1, 1)
        for x in (0.1, 0.42, 0.78)
        if c.rng.random() < 0.6
    ]
    green = c.mask([oval(0.5, 0.5, 1.2, 0.66, 3)])
    c.cover(GRASS, (110, 118, 76), 8, 0.16, green)
    c.polygon(lane(high), track)
    for t in np.linspace(0, 1, 7)[1:-1]:
        line = lane(inner + (high - inner) * t)
        c.line([*line, line[0]], 0.0022, scaled(track, 1.35))
    c.polygon(lane(inner), _pick(c, ((92, 122, 74), (170, 92, 72), (84, 116, 70))))
    _field_lines(c, 0.5, 0.5, (wide - high) * 1.08, inner * 0.9)
    _halls(c, blocks, 0.045, ROOFS)
    keep = Image.eval(c.mask([oval(0.5, 0.5, wide + 0.08, high + 0.08, 3), *blocks]), lambda value: 255 - value)
    c.crowns(c.spots(190, keep), 0.024, DARK_LEAF)
    built = "some buildings and green trees" if blocks else "many green trees"
    return [
        f"the playground consists of a {word} track and a green football field .",
        f"{built} are around a playground .",
        "a playground with a football field in it is near some green trees .",
        f"a green football field is surrounded by a {word} track .",
        f"there is a {word} running track around the football field .",
        f"{built} are near a playground with a football field in it .",
    ]


def pond(c: Canvas) -> list[str]:
    c.cover((104, 114, 72), (128, 124, 88), 6, 0.2)
    water, word = _pick(
        c, (((62, 84, 68), "green"), ((36, 50, 56), "dark"), ((96, 112, 78), "green"), ((56, 112, 108), "green"))
    )
    a = np.linspace(0, 2 * math.pi, 90)
    waves = [c.rng.normal(0, 0.2 / k) * np.sin(k * a + c.rng.uniform(0, 6)) for k in (2, 3, 4, 5)]
    radius = c.rng.uniform(0.25, 0.32) * np.clip(1 + sum(waves), 0.45, 1.5)
    outline = np.stack([np.cos(a) * c.rng.uniform(1.0, 1.3), np.sin(a)], 1) * radius[:, None] + 0.5
    grown = (outline - 0.5) * 1.13 + 0.5
    c.line([*((outline - 0.5) * 1.24 + 0.5)], 0.016, (178, 168, 142))
    c.polygon(grown, (134, 124, 96))
    lake = c.ragged(c.mask([outline]), 0.015, 16)
    _water(c, water, lake, 0.05)
    away = Image.eval(c.mask([(outline - 0.5) * 1.34 + 0.5]), lambda value: 255 - value)
    if c.rng.random() < 0.5:
        _wood(c, _pick(c, (LEAF, DARK_LEAF)), c.ragged(away, 0.03), 0.022, 560)
    else:
        c.crowns(c.spots(170, away), 0.024, LEAF)
    bank = Image.eval(c.mask([(outline - 0.5) * 1.06 + 0.5]), lambda value: 255 - value)
    c.crowns(c.spots(60, bank), 0.018, DARK_LEAF)
    houses = c.rng.random() < 0.4
    if houses:
        _houses(c, [box(x, y, 0.07, 0.05, c.rng.uniform(0, 3)) for x, y in c.spots(26, away)], 0.02, ROOFS)
    around = "some buildings and green trees" if houses else "many green trees"
    return [
        f"{around} are around an irregular pond .",
        f"{around} are around an irregular {word} pond .",
        "a large pond is surrounded by green trees and a path .",
        f"the pond with {word} water is in the middle of the trees .",
        "many green trees and meadows are around a pond .",
        "a pond is near a narrow road and some green trees .",
    ]


def port(c: Canvas) -> list[str]:
    water, word = _pick(
        c, (((34, 56, 66), "dark"), ((38, 84, 82), "green"), ((24, 32, 40), "black"), ((60, 92, 92), "green"))
    )
    _water(c, water)
    c.turn(c.rng.uniform(0, 2 * math.pi))
    c.shadows([box(0.5, -0.2, 2.4, 0.8)], 0.012)
    quay = c.mask([box(0.5, -0.2, 2.4, 0.8)])
    c.cover((164, 158, 146), (142, 138, 130), 9, 0.12, quay)
    c.line([(-0.7, 0.195), (1.7, 0.195)], 0.008, (196, 190, 178))
    big = c.rng.random() < 0.4
    halls = [box(x, 0.0, c.rng.uniform(0.1, 0.18), 0.11) for x in np.arange(-0.2, 1.3, 0.22) if c.rng.random() < 0.8]
    _halls(c, halls, 0.04, ((206, 206, 202), (120, 140, 164), (176, 172, 164), (150, 96, 80)))
    if big:
        _stacks(c, [(x, 0.13) for x in np.arange(-0.2, 1.2, 0.055) if c.rng.random() < 0.8], 0.02)
        at = c.rng.uniform(0.35, 0.65)
        c.polygon(box(at, 0.5, 0.13, 0.8), (158, 152, 142))
        _stacks(
            c,
            [(at + dx, y) for dx in (-0.03, 0.03) for y in np.arange(0.24, 0.86, 0.03) if c.rng.random() < 0.7],
            0.02,
        )
        ships = [(at - 0.4, 0.25, 0.0), (at + 0.4, 0.25, math.pi)]
        ships += [(at + side * 0.115, c.rng.uniform(0.58, 0.7), side * math.pi / 2) for side in (-1, 1)]
        for x, y, angle in ships:
            if c.rng.random() < 0.9:
                _ship(c, x, y, angle, c.rng.uniform(0.4, 0.5))
        boats = [(at + _pick(c, (-1, 1)) * c.rng.uniform(0.25, 0.6), c.rng.uniform(0.45, 0.95)) for _ in range(4)]
        for x, y in boats:
            _boat(c, x, y, c.rng.uniform(0, 6), 0.05)
        return [
            "several large ships are docked at a port .",
            "several ships are in a port near many buildings .",
            f"some cargo ships with containers are on the {word} water near the wharf .",
            "large ships are parked beside the harbour with many containers .",
            "many containers are on the wharf near several ships .",
            "several ships and small boats are in a port .",
        ]
    length = c.rng.uniform(0.05, 0.066)
    _cars(c, [(x, 0.13, math.pi / 2) for x in np.arange(-0.2, 1.2, 0.026) if c.rng.random() < 0.6])
    for x in np.arange(-0.25, 1.35, length * 2.9) + c.rng.uniform(0, 0.1):
        end = c.rng.uniform(0.8, 1.1)
        c.shadows([box(x, (0.2 + end) / 2, 0.012, end - 0.2)], 0.006)
        c.polygon(box(x, (0.2 + end) / 2, 0.014, end - 0.2), (186, 178, 162))
        for y in np.arange(0.26, end, length * 0.42):
            for side in (-1, 1):
                if c.rng.random() < 0.88:
                    _boat(
                        c,
                        x + side * (length * 0.56 + 0.008),
                        y,
                        0.0 if side > 0 else math.pi,
                        length * c.rng.uniform(0.85, 1.1),
                    )
    return [
        "many boats are orderly in a port near a wharf .",
        "many boats are in a port near several buildings .",
        f"many white boats are on the {word} water in a port .",
        "many boats are docked in lines beside the piers of a harbour .",
        "rows of boats are neatly parked in the port .",
        "several piers with many boats are near some buildings .",
    ]


def _boat(c: Canvas, x: float, y: float, angle: float, length: float) -> None:
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    hull = np.array([(0.5, 0), (0.2, 0.15), (-0.5, 0.14), (-0.5, -0.14), (0.2, -0.15)])
    paint = _pick(c, ((244, 244, 240), (236, 238, 240), (226, 222, 212), (210, 216, 222)))
    c.polygon(hull * length * 1.08 @ turn + np.array([x, y]) + c.sun * 0.004, (16, 24, 32))
    c.polygon(hull * length @ turn + (x, y), paint)
    cabin = hull * (0.5, 0.55) - (0.06, 0)
    c.polygon(
        cabin * length @ turn + (x, y), _pick(c, ((120, 128, 140), (70, 84, 110), (170, 160, 146), (205, 205, 205)))
    )


def _ship(c: Canvas, x: float, y: float, angle: float, length: float) -> None:
    """A freighter: hull, deckhouse aft, stacked containers."""
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    hull = np.array(
        [(0.5, 0), (0.4, 0.08), (-0.48, 0.085), (-0.5, 0.05), (-0.5, -0.05), (-0.48, -0.085), (0.4, -0.08)]
    )
    c.shadows([hull * length @ turn + (x, y)], 0.025, 0.6)
    paint = _pick(c, ((130, 58, 50), (54, 70, 92), (70, 74, 76)))
    c.polygon(hull * length @ turn + (x, y), paint)
    c.polygon(hull * length * (0.97, 0.82) @ turn + (x, y), (150, 132, 118))
    places = [
        np.array([u, v]) * length @ turn + (x, y) for u in np.arange(-0.26, 0.36, 0.075) for v in (-0.045, 0, 0.045)
    ]
    _stacks(c, [(px, py) for px, py in places], 0.036 * length / 0.4, angle)
    house = box(-0.38, 0, 0.08, 0.13) * length @ turn + (x, y)
    c.shadows([house], 0.03)
    c.polygon(house, WHITE)


def _stacks(c: Canvas, places: list[tuple[float, float]], length: float, angle: float = 0.0) -> None:
    """Containers."""
    boxes = [box(x, y, length * 1.5, length * 0.42, angle) for x, y in places]
    c.shadows(boxes, 0.008)
    for corners in boxes:
        c.polygon(
            corners,
            scaled(
                _pick(c, ((168, 62, 50), (52, 84, 130), (190, 142, 70), (84, 116, 92), (188, 186, 180))),
                c.rng.uniform(0.85, 1.1),
            ),
        )


def railwaystation(c: Canvas) -> list[str]:
    c.cover((128, 122, 110), (112, 112, 96), 8, 0.16)
    c.turn(c.rng.uniform(0, math.pi))
    half = c.rng.uniform(0.2, 0.27)
    yard = c.mask([box(0.5, 0.5, 2.4, half * 2)])
    c.cover((118, 104, 92), (102, 94, 86), 12, 0.2, yard)
    for y in np.arange(0.5 - half + 0.02, 0.5 + half, 0.032):
        c.line([(-0.7, y), (1.7, y)], 0.013, (92, 82, 74))
        for rail in (-0.0045, 0.0045):
            c.line([(-0.7, y + rail), (1.7, y + rail)], 0.0022, (164, 156, 148))
    roofs = ((216, 218, 218), (108, 134, 168), (196, 196, 190))
    roof = _pick(c, roofs)
    middle = c.rng.uniform(0.3, 0.7)
    platforms = [box(middle, 0.5 + k * half * 0.55, c.rng.uniform(0.35, 0.6), 0.032) for k in (-1, 0, 1)]
    for k in (-1, 0, 1):
        c.polygon(box(middle, 0.5 + k * half * 0.55, 0.9, 0.036), (182, 176, 164))
    _halls(c, platforms, 0.022, (roof,))
    for row in np.arange(0.5 - half + 0.02, 0.5 + half, 0.032):
        if c.rng.random() < 0.45 and all(abs(row - 0.5 - k * half * 0.55) > 0.03 for k in (-1, 0, 1)):
            paint, start = (
                _pick(c, ((206, 208, 210), (70, 90, 84), (150, 62, 54), (92, 104, 132))),
                c.rng.uniform(-0.4, 0.3),
            )
            train = [box(start + k * 0.094, row, 0.09, 0.019) for k in range(int(c.rng.integers(5, 11)))]
            c.shadows(train, 0.01)
            for wagon in train:
                c.polygon(wagon, paint)
                c.line([wagon[[0, 3]].mean(0), wagon[[1, 2]].mean(0)], 0.004, scaled(paint, 0.75))
    blocks = []
    for side in (-1, 1):
        for row in (0.07, 0.17, 0.28):
            for x in np.arange(-0.3, 1.3, 0.13):
                if c.rng.random() < 0.8:
                    blocks.append(
                        box(x, 0.5 + side * (half + row), c.rng.uniform(0.06, 0.11), c.rng.uniform(0.05, 0.08))
                    )
    _halls(c, blocks, 0.03, ROOFS)
    away = Image.eval(c.mask([box(0.5, 0.5, 2.4, half * 2), *blocks]), lambda value: 255 - value)
    c.crowns(c.spots(150, away), 0.017, LEAF)
    return [
        "many buildings are in two sides of a railway station .",
        "many buildings and some green trees are in two sides of a railway station .",
        "several trains are parked on the tracks in a railway station .",
        "many parallel railway tracks pass through the station with long roofs .",
        "the railway station with some platforms is between many buildings .",
        "some trains are in a railway station near many buildings .",
    ]


def river(c: Canvas) -> list[str]:
    c.cover((98, 112, 70), (124, 120, 86), 5, 0.2)
    c.turn(c.rng.uniform(0, 2 * math.pi))
    s = np.linspace(0, 1, 160)  # along the river, whose direction swings to and fro as that of meanders does
    heading = c.rng.uniform(0.7, 1.75) * np.sin(2 * math.pi * c.rng.uniform(1.0, 2.0) * s + c.rng.uniform(0, 6))
    steps = np.stack([np.cos(heading), np.sin(heading)], 1)
    course = np.cumsum(steps, 0)
    course = (course - course[80]) * (1.9 / max(np.ptp(course[:, 0]), 60)) + 0.5
    width = c.rng.uniform(0.09, 0.16)
    water, word = _pick(
        c,
        (
            ((64, 86, 76), "green"),
            ((52, 66, 60), "dark"),
            ((150, 126, 84), "yellow"),
            ((112, 116, 92), "green"),
            ((36, 48, 58), "black"),
        ),
    )
    wooded = c.rng.random() < 0.65
    bank = c.ragged(c.mask(lines=[(course, width * 1.5)]), 0.02, 12)
    land = Image.eval(bank, lambda value: 255 - value)
    if wooded:
        _wood(c, _pick(c, (LEAF, DARK_LEAF, (74, 96, 56))), land, 0.019, 780)
    else:
        x, y = c.grid()
        fields = 1 + 0.12 * np.sign(np.sin(x * 16 + 3 * np.sin(y * 3))) * np.sign(np.sin(y * 22))
        c.lay(np.asarray(c.image, np.float32) * fields[..., None], land)
        c.crowns(c.spots(170, land), 0.019, LEAF)
    c.cover((168, 154, 122), (130, 124, 92), 9, 0.14, bank)
    bends = np.stack([-steps[:, 1], steps[:, 0]], 1) * np.gradient(heading)[:, None]  # sand lies on the inner sides
    course = course - bends * width * 0.2 / np.abs(bends).max()
    stream = c.ragged(c.mask(lines=[(course, width)]), 0.012, 12)
    _water(c, water, stream, 0.06)
    sides = "many green trees" if wooded else "many green plants and farmlands"
    return [
        f"{sides} are in two sides of a curved river .",
        f"{sides} are in two sides of a curved {word} river .",
        f"a winding river with {word} water runs between {'green trees' if wooded else 'green fields'} .",
        f"a crooked river flows through the {'dense forest' if wooded else 'plain'} .",
        "a curved river with sandy banks is in the middle of the picture .",
        f"the {word} river bends between {sides} .",
    ]


def stadium(c: Canvas) -> list[str]:
    c.cover((138, 136, 128), (118, 120, 106), 8, 0.14)
    c.turn(c.rng.uniform(0, math.pi))
    round_one = c.rng.random() < 0.6
    square = 2.3 if round_one else 5.5
    w, h = c.rng.uniform(0.74, 0.84), c.rng.uniform(0.58, 0.68)
    _road(c, [*oval(0.5, 0.5, w + 0.2, h + 0.2, square), (0.5 + (w + 0.2) / 2, 0.5)], 0.045)
    outside = Image.eval(c.mask([oval(0.5, 0.5, w + 0.28, h + 0.28, square)]), lambda value: 255 - value)
    c.cover(GRASS, DRY_GRASS, 7, 0.18, c.ragged(outside, 0.01))
    lot = c.rng.random() < 0.5
    c.crowns(c.spots(190, outside), 0.024, DARK_LEAF)
    shell = oval(0.5, 0.5, w, h, square)
    c.polygon(oval(0.5, 0.5, w + 0.09, h + 0.09, square), (182, 176, 166))
    c.shadows([shell], 0.06, 0.6)
    roof, word = _pick(c, (((226, 228, 228), "white"), ((206, 210, 214), "white"), ((176, 182, 190), "gray")))
    c.polygon(shell, roof)
    rim = oval(0.5, 0.5, w * 0.74, h * 0.7, square)
    for a, b in zip(rim[::2], shell[::2], strict=True):
        c.line([a, b], 0.0035, scaled(roof, 0.82))
    c.line([*shell, shell[0]], 0.008, scaled(roof, 1.08))
    seats = _pick(c, ((96, 112, 150), (150, 70, 64), (140, 144, 148)))
    for t in np.linspace(0, 1, 6):
        tier = oval(0.5, 0.5, w * (0.75 - 0.15 * t), h * (0.71 - 0.16 * t), square)
        c.polygon(tier, scaled(seats, 0.6 + 0.55 * t))
    track = c.rng.random() < 0.5
    floor = (168, 92, 70) if track else (84, 116, 66)
    c.polygon(oval(0.5, 0.5, w * 0.6, h * 0.55, square), floor)
    if track:
        for t in (0.57, 0.545, 0.52):
            line = oval(0.5, 0.5, w * t, h * (t - 0.05), square)
            c.line([*line, line[0]], 0.002, scaled(floor, 1.3))
    _field_lines(c, 0.5, 0.5, w * 0.42, h * 0.38, 0.0035)
    if lot:
        _cars(
            c,
            [(x, y, math.pi / 2) for x in np.arange(-0.2, 1.2, 0.026) for y in (0.015, 0.985) if c.rng.random() < 0.8],
        )
    shape = "circle" if round_one else "rectangular"
    middle = "a red track and a green football field are" if track else "a green football field is"
    return [
        f"some green trees are around a {shape} stadium .",
        "many green trees are around a large stadium with a football field in it .",
        f"a large stadium with a {word} roof is near a road .",
        f"{middle} in the middle of the stadium .",
        f"the {shape} stadium is surrounded by a road and green trees .",
        f"a stadium has a {word} ring roof and a football field .",
    ]


def storagetanks(c: Canvas) -> list[str]:
    green = c.rng.random() < 0.4
    one, other = ((112, 124, 78), (132, 132, 94)) if green else ((142, 130, 112), (124, 118, 106))
    c.cover(one, other, 7, 0.2)
    c.turn(c.rng.uniform(0, math.pi))
    pitch = c.rng.uniform(0.19, 0.3)
    paint, word = _pick(c, (((238, 238, 234), "white"), ((226, 226, 222), "white"), ((190, 192, 192), "gray")))
    tanks = []
    for x in np.arange(-0.3, 1.4, pitch):
        for y in np.arange(-0.3, 1.4, pitch):
            c.polygon(box(x, y, pitch * 0.92, pitch * 0.92), scaled((176, 168, 150), c.rng.uniform(0.95, 1.05)))
            pit = scaled(other if green else one, c.rng.uniform(0.85, 1.05))
            c.polygon(box(x, y, pitch * 0.86, pitch * 0.86), pit)
            if c.rng.random() < 0.88:
                tanks.append((x, y, pitch * c.rng.uniform(0.24, 0.35)))
    for x in np.arange(-0.3, 1.4, pitch):
        c.line([(x + pitch / 2, -0.5), (x + pitch / 2, 1.5)], pitch * 0.1, (156, 150, 138))
        c.line([(x + pitch * 0.1, -0.5), (x + pitch * 0.1, 1.5)], 0.004, (196, 194, 186))
    c.shadows([oval(x, y, 2 * r, 2 * r) for x, y, r in tanks], pitch * 0.16, 0.6)
    for x, y, r in tanks:
        tone = c.rng.uniform(0.92, 1.03)
        c.disc(x, y, r, scaled(paint, 0.82 * tone))
        c.disc(x, y, r * 0.95, scaled(paint, tone))
        ((px, py),) = c.pixels([(x, y)])
        if c.rng.random() < 0.5:  # a floating roof lies lower: the wall's shadow falls on it
            c.disc(x, y, r * 0.86, scaled(paint, 0.6 * tone))
            sx, sy = (np.array([px, py]) + c.sun * r * c.n * 0.14).tolist()
            q = r * c.n * 0.78
            c.pen.ellipse((sx - q, sy - q, sx + q, sy + q), fill=rgb(scaled(paint, 0.86 * tone)))
        else:
            for a in np.linspace(0, 2 * math.pi, 13)[:-1]:
                c.line(
                    [(x, y), (x + math.cos(a) * r * 0.9, y + math.sin(a) * r * 0.9)],
                    0.0015,
                    scaled(paint, 0.93 * tone),
                )
            c.disc(x, y, r * 0.08, scaled(paint, 0.8))
    if green:
        c.crowns(c.spots(26), 0.016, LEAF)
    many = "many" if pitch < 0.26 else "several"
    ground = "green meadows" if green else "bareland"
    return [
        f"{many} storage tanks are surrounded by {ground} .",
        f"{many} {word} storage tanks are in a factory .",
        f"{many} {word} circle storage tanks are neatly arranged .",
        f"{many} storage tanks are near some roads .",
        f"a large number of {word} oil tanks are on the {'green' if green else 'bare'} ground .",
        f"{many} storage tanks in different sizes are together .",
    ]


SCENES: dict[str, Callable[[Canvas], list[str]]] = {
    scene.__name__: scene
    for scene in (
        airport, baseballfield, beach, bridge, denseresidential, desert, farmland, forest,
        parking, playground, pond, port, railwaystation, river, stadium, storagetanks,
    )
}  # fmt: skip

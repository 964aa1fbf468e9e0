"""Grounds with a texture, and animals that wear it: the drawing behind `toy_camouflage`.

All textures repeat at the borders of the image, so that a texture rolled by any distance is the same texture with
another phase: what an animal of the ground's own colours wears. Lengths are in shares of the image's longer side,
frequencies in periods over it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy import fft  # as a name of its own: datasets 3.x replaces np in a script by a copy that lacks lazy parts
from PIL import Image, ImageDraw, ImageFilter

from .overhead_drawing import curve, oval

Array = np.ndarray
Stroke = tuple[Array, Array]  # points (k, 2) of a line and its radius at each, (k,)
SAMPLES = 4  # of a pixel's side, when a shape is drawn


@dataclass
class Ground:
    """A texture: where on the palette each pixel lies, how bright and how warm it is; all (height, width).

    The palette is colours (k, 3) in 0..255 from the dark to the light.
    """

    place: Array
    shade: Array
    warmth: Array
    palette: Array

    def window(self, top: int, left: int, shape: tuple[int, int]) -> Ground:
        """The part from (top, left) on; it may reach beyond the borders, where the texture goes on."""
        height, width = self.place.shape
        part = np.ix_((top + np.arange(shape[0])) % height, (left + np.arange(shape[1])) % width)
        return Ground(self.place[part], self.shade[part], self.warmth[part], self.palette)

    def colours(self) -> Array:
        warm = 1 + self.warmth[..., None] * np.array([0.03, 0.0, -0.04])
        return paint(self.place, self.palette) * self.shade[..., None] * warm


def paint(place: Array, palette: Array) -> Array:
    """Colours (..., 3) at places 0..1 of a palette."""
    steps = np.linspace(0, 1, len(palette))
    return np.stack([np.interp(place, steps, channel) for channel in np.asarray(palette, float).T], axis=-1)


# Random fields


def field(rng: np.random.Generator, shape: tuple[int, int], spectrum: Callable[[Array, Array], Array]) -> Array:
    """Gaussian noise of that spectrum (a function of the frequencies across and down), mean 0 and deviation 1."""
    side = max(shape)
    down, across = fft.fftfreq(shape[0])[:, None] * side, fft.rfftfreq(shape[1])[None, :] * side
    wave = fft.rfft2(rng.standard_normal(shape)) * spectrum(across, down)
    wave[0, 0] = 0
    values = fft.irfft2(wave, shape)
    return values / max(float(values.std()), 1e-9)


def clouds(lowest: float, slope: float = 2.2, stretch: float = 1.0) -> Callable[[Array, Array], Array]:
    """Spectrum of all sizes from 1 / lowest down; `stretch` draws it out downwards."""

    def spectrum(across: Array, down: Array) -> Array:
        f = np.hypot(across, down * stretch) / lowest
        return (1 - np.exp(-2 * f**2)) * (1 + f**2) ** (-slope / 2)

    return spectrum


def ring(middle: float, width: float, angle: float | None = None) -> Callable[[Array, Array], Array]:
    """Spectrum of one size, 1 / middle: a labyrinth; with an angle: ripples across that direction."""

    def spectrum(across: Array, down: Array) -> Array:
        f = np.hypot(across, down)
        power = np.exp(-(((f - middle) / width) ** 2))
        if angle is not None:
            off = np.abs(across * math.cos(angle) + down * math.sin(angle)) / np.maximum(f, 1e-9)
            power = power * np.exp(-(((1 - off) / 0.06) ** 2))
        return power

    return spectrum


def lit(height: Array, sun: Array, strength: float) -> Array:
    """Brightness, about 1, of a repeating surface with light from the direction `sun`."""
    slope = sum((np.roll(height, -1, axis) - np.roll(height, 1, axis)) * s for axis, s in ((1, sun[0]), (0, sun[1])))
    return 1 + strength * np.tanh(slope * max(height.shape) / 60)


# Grounds: each a function of (rng, shape, sun) that gives `place` and `shade`


def moss(rng: np.random.Generator, shape: tuple[int, int], sun: Array) -> tuple[Array, Array]:
    tufts = field(rng, shape, clouds(rng.uniform(6, 10), 3.0))
    blades = field(rng, shape, ring(rng.uniform(70, 100), 50))
    return 0.42 + 0.15 * tufts + 0.09 * blades, lit(tufts + 0.12 * blades, sun, 0.15)


def sand(rng: np.random.Generator, shape: tuple[int, int], sun: Array) -> tuple[Array, Array]:
    ripples = field(rng, shape, ring(rng.uniform(9, 16), 3.0, rng.uniform(0, math.pi)))
    grains = field(rng, shape, ring(110, 50))
    return 0.5 + 0.14 * ripples + 0.06 * grains, lit(ripples + 0.05 * grains, sun, 0.2)


def bark(rng: np.random.Generator, shape: tuple[int, int], sun: Array) -> tuple[Array, Array]:
    plates = field(rng, shape, clouds(rng.uniform(11, 17), 2.6, rng.uniform(3, 5)))
    cracks = np.tanh(1.6 * np.abs(plates))
    rough = field(rng, shape, clouds(40, 1.8, 2))
    return 0.08 + 0.6 * cracks + 0.07 * plates + 0.05 * rough, lit(cracks + 0.1 * rough, sun, 0.2)


def coral(rng: np.random.Generator, shape: tuple[int, int], sun: Array) -> tuple[Array, Array]:
    walls = np.tanh(1.5 * field(rng, shape, ring(rng.uniform(10, 18), 2.2)))
    rough = field(rng, shape, clouds(40, 1.8))
    return 0.5 + 0.3 * walls + 0.05 * rough, lit(walls + 0.12 * rough, sun, 0.25)


def lichen(rng: np.random.Generator, shape: tuple[int, int], sun: Array) -> tuple[Array, Array]:
    spots = 1 / (1 + np.exp(-6 * (field(rng, shape, clouds(rng.uniform(6, 10), 3.2)) - 0.4)))
    rough = field(rng, shape, clouds(25, 1.9))
    return 0.28 + 0.4 * spots + 0.1 * rough, lit(0.5 * spots + 0.3 * rough, sun, 0.2)


def pebbles(rng: np.random.Generator, shape: tuple[int, int], sun: Array) -> tuple[Array, Array]:
    """The nearest of scattered points gives the stone, how near the second is its rim."""
    cell = max(shape) / rng.uniform(15, 26)
    rows, columns = (max(3, round(length / cell)) for length in shape)
    jitter, tint = rng.uniform(0.05, 0.95, (2, rows, columns)), rng.uniform(0.12, 0.95, (rows, columns))
    y = (np.arange(shape[0]) + 0.5)[:, None] * rows / shape[0] + np.zeros(shape)
    x = (np.arange(shape[1]) + 0.5)[None, :] * columns / shape[1] + np.zeros(shape)
    row, column = y.astype(int), x.astype(int)
    distances, tints = [], []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            index = (row + dy) % rows, (column + dx) % columns
            distances.append((row + dy + jitter[0][index] - y) ** 2 + (column + dx + jitter[1][index] - x) ** 2)
            tints.append(tint[index])
    order = np.argsort(distances, axis=0)[:2]
    first, second = np.sqrt(np.take_along_axis(np.array(distances), order, axis=0))
    stone = np.take_along_axis(np.array(tints), order[:1], axis=0)[0]
    dome = np.sqrt(1 - (1 - np.clip((second - first) * 1.4, 0, 1)) ** 2)
    grain = field(rng, shape, clouds(50, 1.8))
    return (stone + 0.05 * grain) * (0.2 + 0.8 * np.clip(1.6 * dome, 0, 1)), lit(dome + 0.04 * grain, sun, 0.3)


def leaves(rng: np.random.Generator, shape: tuple[int, int], sun: Array) -> tuple[Array, Array]:
    """Fallen leaves, the later on the earlier; each is two halves and a midrib."""
    height, width = shape
    side = max(shape)
    place, shade = (Image.new("L", (width, height), value) for value in (60, 110))
    pens = ImageDraw.Draw(place), ImageDraw.Draw(shade)
    length = rng.uniform(0.09, 0.15)
    for _ in range(int(7 / length**2)):
        x, y, angle, tint = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * math.pi), rng.uniform()
        long = length * side * rng.uniform(0.6, 1.25)
        blade = leaf(long, long * rng.uniform(0.3, 0.5), angle)
        facing = math.sin(angle) * sun[0] - math.cos(angle) * sun[1]
        halves = (blade[: len(blade) // 2 + 1], 1 + 0.16 * facing), (blade[len(blade) // 2 :], 1 - 0.16 * facing)
        for left in {0, width * (x < long) - width * (x > width - long)}:
            for top in {0, height * (y < long) - height * (y > height - long)}:
                at = np.array([x + left, y + top])
                pens[1].line(flat(blade + at + 1.5 * side / 320 * sun), fill=60, width=2)
                for half, light in halves:
                    pens[0].polygon(flat(half + at), fill=int(40 + 200 * tint))
                    pens[1].polygon(flat(half + at), fill=int(145 * light))
                pens[1].line(flat(blade[[0, len(blade) // 2]] + at), fill=110, width=max(1, side // 320))
    grain = field(rng, shape, ring(80, 40))
    return np.asarray(place) / 255 + 0.04 * grain, np.asarray(shade) / 145 * (1 + 0.04 * grain)


def flat(points: Array) -> list[float]:
    """x, y, x, y, ... as Pillow takes them."""
    return points.ravel().tolist()


def leaf(length: float, width: float, angle: float) -> Array:
    """Outline (25, 2) of a leaf from its stalk over the tip and back."""
    t = np.linspace(0, 1, 13)
    half = np.stack([(t - 0.5) * length, np.sin(np.pi * t) ** 0.8 * (1.15 - 0.5 * t) * width / 2], axis=1)
    return np.concatenate([half, half[-2::-1] * [1, -1]]) @ rotation(angle)


GROUNDS: dict[str, tuple[Callable, list[list[tuple[int, int, int]]]]] = {
    "moss": (
        moss,
        [
            [(24, 34, 16), (58, 78, 32), (104, 122, 52), (160, 168, 88)],
            [(20, 30, 26), (48, 72, 54), (92, 118, 80), (150, 166, 120)],
            [(40, 34, 18), (88, 78, 36), (136, 126, 62), (186, 178, 110)],
        ],
    ),
    "sand": (
        sand,
        [
            [(132, 104, 74), (178, 146, 106), (208, 180, 138), (234, 214, 178)],
            [(92, 84, 76), (136, 124, 110), (172, 160, 142), (206, 196, 178)],
            [(126, 74, 48), (172, 108, 70), (204, 142, 98), (228, 182, 140)],
        ],
    ),
    "bark": (
        bark,
        [
            [(26, 20, 16), (72, 56, 44), (116, 96, 78), (166, 146, 124)],
            [(34, 34, 34), (84, 82, 80), (132, 130, 124), (184, 182, 174)],
            [(34, 18, 12), (92, 52, 34), (140, 88, 60), (186, 136, 102)],
        ],
    ),
    "coral": (
        coral,
        [
            [(52, 30, 48), (116, 62, 84), (180, 108, 112), (226, 172, 154)],
            [(16, 40, 52), (34, 88, 98), (84, 146, 142), (160, 202, 184)],
            [(62, 46, 20), (124, 96, 44), (178, 146, 80), (218, 198, 140)],
        ],
    ),
    "lichen": (
        lichen,
        [
            [(48, 50, 50), (92, 96, 92), (142, 150, 132), (200, 206, 176)],
            [(54, 44, 40), (104, 86, 76), (168, 138, 84), (214, 190, 116)],
        ],
    ),
    "pebbles": (
        pebbles,
        [
            [(26, 26, 28), (92, 90, 88), (142, 138, 132), (202, 198, 190)],
            [(30, 22, 18), (112, 88, 70), (158, 134, 110), (214, 196, 172)],
            [(20, 28, 34), (70, 92, 104), (122, 142, 148), (194, 204, 202)],
        ],
    ),
    "leaves": (
        leaves,
        [
            [(58, 36, 22), (118, 72, 36), (168, 108, 52), (204, 160, 92)],
            [(34, 44, 20), (76, 92, 38), (128, 136, 60), (176, 172, 96)],
            [(66, 30, 24), (128, 62, 38), (172, 98, 50), (198, 146, 74)],
        ],
    ),
}

# what an animal wears that does not hide: its bands, its body, its back in the light
BRIGHT = [
    [(96, 10, 22), (214, 58, 44), (255, 164, 120)],
    [(34, 26, 18), (240, 186, 36), (255, 236, 140)],
    [(22, 30, 84), (52, 116, 214), (160, 214, 255)],
    [(38, 36, 40), (232, 226, 212), (255, 252, 244)],
    [(230, 120, 60), (40, 36, 54), (110, 104, 136)],
    [(10, 60, 84), (36, 178, 166), (190, 240, 210)],
    [(70, 20, 84), (200, 80, 172), (250, 186, 226)],
]


def make_ground(rng: np.random.Generator, shape: tuple[int, int], sun: Array) -> Ground:
    """Any of the grounds, in its colours of the day."""
    names = list(GROUNDS)
    texture, palettes = GROUNDS[names[rng.integers(len(names))]]
    palette = np.array(palettes[rng.integers(len(palettes))], float)
    palette = palette * rng.uniform(0.85, 1.15) * rng.normal(1, 0.05, 3)
    place, shade = texture(rng, shape, sun)
    warmth = field(rng, shape, clouds(3, 3.0))
    return Ground(np.clip(place, 0, 1), np.clip(shade, 0.3, 1.7), warmth, np.clip(palette, 4, 250))


# Animals: each a function of rng that gives outlines and strokes; its length, along x, is about 1, its middle at 0


def rotation(angle: float) -> Array:
    """What points (k, 2) are multiplied by, from the right, to turn them."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, s], [-s, c]])


def mirrored(points: Array) -> Array:
    return points * [1, -1]


def starfish(rng: np.random.Generator) -> tuple[list[Array], list[Stroke]]:
    arms = np.linspace(0, 2 * math.pi, 6)[:-1] + rng.uniform(-0.12, 0.12, 5)
    bends = rng.uniform(-0.25, 0.25, 5)
    t = np.linspace(0, 1, 20)
    strokes = []
    for arm, bend in zip(arms, bends, strict=True):
        angles = arm + bend * t**2
        points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 0.5 * t[:, None]
        strokes.append((points, 0.145 - 0.105 * t**0.8))
    return [], strokes


def fish(rng: np.random.Generator) -> tuple[list[Array], list[Stroke]]:
    depth = rng.uniform(0.32, 0.48)
    t = np.linspace(0, 1, 30)
    back = np.stack([0.5 - 0.78 * t, depth / 2 * np.sin(np.pi * t**0.75) ** 0.8 + 0.03 * t], axis=1)
    body = np.concatenate([back, mirrored(back)[::-1]])
    tail = np.array(
        [(-0.2, 0.03), (-0.36, 0.1), (-0.52, 0.21), (-0.44, 0), (-0.52, -0.21), (-0.36, -0.1), (-0.2, -0.03)]
    )
    fin = np.array(
        [(0.18, depth * 0.42), (0.02, depth * 0.42 + 0.11), (-0.16, depth * 0.3 + 0.08), (-0.14, depth * 0.25)]
    )
    return [body, tail, fin, mirrored(fin) * [0.8, 0.9]], []


def moth(rng: np.random.Generator) -> tuple[list[Array], list[Stroke]]:
    sweep = rng.uniform(-0.05, 0.08)
    fore = curve(
        [(0.16, 0.02), (0.3 - sweep, 0.3), (0.24 - sweep, 0.5), (0.06 - sweep, 0.44), (-0.06, 0.2), (-0.02, 0.02)]
    )
    hind = curve([(0.02, 0.02), (-0.06, 0.34), (-0.24, 0.36), (-0.34, 0.22), (-0.24, 0.06), (-0.1, 0.01)])
    t = np.linspace(0, 1, 16)
    body = np.stack([0.27 - 0.52 * t, 0 * t], axis=1), 0.045 + 0.035 * np.sin(np.pi * t)
    return [fore, hind, mirrored(fore), mirrored(hind)], [body]


def gecko(rng: np.random.Generator) -> tuple[list[Array], list[Stroke]]:
    bend = rng.uniform(-0.16, 0.16)
    t = np.linspace(0, 1, 50)
    spine = np.stack([0.5 - t, bend * np.sin(2.6 * np.pi * t) * t], axis=1)
    radius = np.interp(
        t, [0, 0.05, 0.12, 0.2, 0.34, 0.5, 0.62, 1], [0.03, 0.06, 0.07, 0.045, 0.075, 0.06, 0.035, 0.008]
    )
    strokes = [(spine, radius)]
    for at, forward in ((12, 1), (25, -1)):
        for side in (1, -1):
            reach = rng.uniform(0.8, 1.1)
            hip = spine[at]
            knee = hip + np.array([0.06 * forward * rng.uniform(0.4, 1.4), 0.11 * side]) * reach
            foot = knee + np.array([0.07 * forward, 0.07 * side]) * reach
            leg = curve([hip, knee, foot], 12)
            strokes.append((leg, np.linspace(0.034, 0.02, 12)))
            toes = np.array([(0.03 * forward, 0), (0.02 * forward, 0.03 * side), (-0.01 * forward, 0.035 * side)])
            strokes += [(np.stack([foot, foot + toe]), np.full(2, 0.012)) for toe in toes]
    return [], strokes


def snake(rng: np.random.Generator) -> tuple[list[Array], list[Stroke]]:
    waves, swing = rng.uniform(1.2, 2.2), rng.uniform(0.1, 0.17)
    t = np.linspace(0, 1, 90)
    spine = np.stack(
        [0.5 - t, swing * np.sin(2 * np.pi * waves * t + rng.uniform(0, 6)) * np.minimum(1, 0.4 + t)], axis=1
    )
    radius = np.interp(t, [0, 0.03, 0.07, 0.12, 0.5, 1], [0.022, 0.044, 0.046, 0.03, 0.042, 0.006])
    return [], [(spine, radius)]


def tortoise(rng: np.random.Generator) -> tuple[list[Array], list[Stroke]]:
    shell = oval(-0.04, 0, rng.uniform(0.66, 0.74), rng.uniform(0.52, 0.62), 2.3)
    strokes = [(np.array([(0.26, 0.0), (0.42, rng.uniform(-0.06, 0.06))]), np.array([0.075, 0.08]))]
    strokes.append((np.array([(-0.36, 0.0), (-0.48, 0.0)]), np.array([0.04, 0.012])))
    for x, forward in ((0.2, 1), (-0.26, -1)):
        for side in (1, -1):
            foot = np.array([x + 0.1 * forward * rng.uniform(0.2, 1.2), 0.34 * side])
            strokes.append((np.stack([np.array([x, 0.2 * side]), foot]), np.array([0.075, 0.06])))
    return [shell], strokes


ANIMALS: dict[str, Callable[[np.random.Generator], tuple[list[Array], list[Stroke]]]] = {
    "fish": fish,
    "gecko": gecko,
    "moth": moth,
    "snake": snake,
    "starfish": starfish,
    "tortoise": tortoise,
}


def stamp(
    outlines: list[Array],
    strokes: list[Stroke],
    shape: tuple[int, int],
    to_pixels: Callable[[Array], Array],
    scale: float,
) -> Array:
    """How much of each pixel a shape covers, 0..1; `to_pixels` places its points, `scale` is its unit there."""
    height, width = shape
    mask = Image.new("L", (width * SAMPLES, height * SAMPLES))
    pen = ImageDraw.Draw(mask)
    for outline in outlines:
        pen.polygon(flat(to_pixels(outline) * SAMPLES), fill=255)
    for points, radii in strokes:
        along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        steps = np.linspace(0, along[-1], 2 + int(along[-1] * scale * SAMPLES / 1.5))
        line = np.stack([np.interp(steps, along, points[:, axis]) for axis in (0, 1)], axis=1)
        discs = np.concatenate([to_pixels(line), np.interp(steps, along, radii)[:, None] * scale], axis=1) * SAMPLES
        for x, y, r in discs.tolist():
            pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return np.asarray(mask.reduce(SAMPLES), dtype=np.float64) / 255


def blurred(mask: Array, radius: float) -> Array:
    """A mask 0..1, smoothed."""
    image = Image.fromarray((mask * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float64) / 255

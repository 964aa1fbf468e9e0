"""A small paint box for images of the ground seen from above: textures, shadows, tree crowns, haze.

Places and lengths are in image widths: (0, 0) is the upper left corner, (1, 1) the lower right one. `Canvas.turn`
rotates what is drawn after it, so that a scene is laid out straight and shown at any angle. Everything is drawn at
twice the wanted size and shrunk at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[float, float, float]  # red, green, blue in 0..255
Points = Sequence[tuple[float, float]] | np.ndarray


class Canvas:
    """A square image in the making.

    Args:
        rng: the only source of chance; what it is asked for does not depend on `size`.
        size: side of the finished image in pixels.
    """

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        self.n = 2 * size
        self.image = Image.new("RGB", (self.n, self.n))
        self.pen = ImageDraw.Draw(self.image)
        angle = rng.uniform(0, 2 * math.pi)
        self.sun = np.array([math.cos(angle), math.sin(angle)])  # where shadows fall
        self.turn(0.0)

    # Places

    def turn(self, angle: float) -> None:
        """Rotate what is drawn from now on by `angle` (radians) around the middle."""
        c, s = math.cos(angle), math.sin(angle)
        self._rotation = np.array([[c, s], [-s, c]])

    def pixels(self, points: Points) -> list[tuple[float, float]]:
        places = (np.asarray(points, dtype=float) - 0.5) @ self._rotation + 0.5
        return [(x, y) for x, y in (places * self.n).tolist()]

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """The layout coordinates (x, y) of every pixel, each (n, n)."""
        axis = (np.arange(self.n, dtype=np.float32) + 0.5) / self.n - 0.5
        back = self._rotation.T.astype(np.float32)
        x, y = axis[None, :], axis[:, None]
        return x * back[0, 0] + y * back[1, 0] + 0.5, x * back[0, 1] + y * back[1, 1] + 0.5

    # Textures

    def noise(self, cells: int, octaves: int = 3, side: int | None = None) -> np.ndarray:
        """Smooth random values in 0..1, (side, side), side = n by default: `cells` bumps a side, finer on top."""
        side = side or self.n
        total = np.zeros((side, side), dtype=np.float32)
        for octave in range(octaves):
            many = cells * 2**octave + 1
            bumps = Image.fromarray(self.rng.integers(0, 256, (many, many), dtype=np.uint8))
            total += np.asarray(bumps.resize((side, side), Image.Resampling.BICUBIC)) * np.float32(0.5**octave)
        return total * np.float32(1 / (255 * (2 - 0.5 ** (octaves - 1))))

    def cover(
        self, one: Colour, other: Colour, cells: int = 5, rough: float = 0.12, mask: Image.Image | None = None
    ) -> None:
        """Ground of two colours that run into one another, with a rough surface."""
        other_part = _grey(np.clip(self.noise(cells) * 1.8 - 0.4, 0, 1))
        bright = 1 + rough  # what multiplies the surface below is at most 1
        ground = Image.composite(self._plain(scaled(other, bright)), self._plain(scaled(one, bright)), other_part)
        surface = _grey((1 - rough + 2 * rough * self.noise(70, 2)) / bright)
        self.image.paste(ImageChops.multiply(ground, Image.merge("RGB", [surface] * 3)), (0, 0), mask)

    def _plain(self, colour: Colour) -> Image.Image:
        return Image.new("RGB", (self.n, self.n), rgb(colour))

    def lay(self, colours: np.ndarray, mask: Image.Image | None = None) -> None:
        """Lay an array of colours (n, n, 3) over the image, or over the part of it in `mask`."""
        layer = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
        self.image.paste(layer, (0, 0), mask)

    # Flat shapes

    def polygon(self, points: Points, colour: Colour) -> None:
        self.pen.polygon(self.pixels(points), fill=rgb(colour))

    def line(self, points: Points, width: float, colour: Colour) -> None:
        self.pen.line(self.pixels(points), fill=rgb(colour), width=max(1, round(width * self.n)), joint="curve")

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        self.pen.ellipse(self._box(x, y, radius), fill=rgb(colour))

    def ring(self, x: float, y: float, radius: float, width: float, colour: Colour) -> None:
        self.pen.ellipse(self._box(x, y, radius), outline=rgb(colour), width=max(1, round(width * self.n)))

    def _box(self, x: float, y: float, radius: float) -> tuple[float, float, float, float]:
        ((px, py),) = self.pixels([(x, y)])
        r = radius * self.n
        return (px - r, py - r, px + r, py + r)

    # Masks: grey images, white where something is

    def mask(
        self, polygons: Iterable[Points] = (), lines: Iterable[tuple[Points, float]] = (), soft: float = 0.0
    ) -> Image.Image:
        """White on polygons and on (points, width) lines; `soft` blurs the border by that length."""
        mask = Image.new("L", (self.n, self.n))
        pen = ImageDraw.Draw(mask)
        for polygon in polygons:
            pen.polygon(self.pixels(polygon), fill=255)
        for points, width in lines:
            pen.line(self.pixels(points), fill=255, width=max(1, round(width * self.n)), joint="curve")
        return mask.filter(ImageFilter.GaussianBlur(soft * self.n)) if soft else mask

    def ragged(self, mask: Image.Image, by: float = 0.03, cells: int = 14) -> Image.Image:
        """The mask with its border moved in and out at random by about the length `by`, as nature's borders are."""
        blurred = np.asarray(mask.filter(ImageFilter.BoxBlur(by * self.n)), dtype=np.float32) / 255
        inside = (blurred + (self.noise(cells, 3) - 0.5) * 0.9 - 0.5) * 12 + 0.5
        return _grey(np.clip(inside, 0, 1))

    def spots(self, count: int, within: Image.Image | None = None) -> list[tuple[float, float]]:
        """Up to `count` random places (unturned), in the white part of a mask if one is given."""
        places = self.rng.uniform(0, 1, (count, 2))
        if within is not None:
            white = np.asarray(within)
            index = np.minimum((places * self.n).astype(int), self.n - 1)
            places = places[white[index[:, 1], index[:, 0]] > 127]
        return [(x, y) for x, y in places.tolist()]

    # Things that stand up

    def shadows(self, polygons: Iterable[Points], height: float, strength: float = 0.55) -> None:
        """Darken what lies in the shadow of flat roofs of the given height (a length, as all others)."""
        mask = Image.new("L", (self.n, self.n))
        pen = ImageDraw.Draw(mask)
        step = self.sun * height * self.n
        for polygon in polygons:
            base = np.array(self.pixels(polygon))
            for near, far in zip(base, np.roll(base, -1, axis=0), strict=True):
                pen.polygon([tuple(p) for p in (near, far, far + step, near + step)], fill=255)
            pen.polygon([tuple(p) for p in base + step], fill=255)
        self.dim(mask.filter(ImageFilter.BoxBlur(1)), strength)

    def dim(self, mask: Image.Image, strength: float) -> None:
        """Shadow on the white part of a mask: darker, and bluer since only the sky lights it."""
        self.image.paste((14, 18, 30), (0, 0), mask.point(lambda value: round(value * strength)))

    def crowns(
        self,
        places: Iterable[tuple[float, float]],
        radius: float,
        colour: Colour,
        vary: float = 0.25,
        shade: float = 0.5,
    ) -> None:
        """Trees: domes lit from the sun's side, each of its own size and tint, with their shadows on the ground.

        Args:
            places: unturned places, as from `spots`.
            radius: of a middling crown.
            colour: of a middling crown in full light.
            vary: spread of radius and tint.
            shade: strength of the shadows on the ground.
        """
        n, height = self.n, np.zeros((self.n, self.n), dtype=np.float32)
        tint = np.ones((n, n), dtype=np.float32)
        domes = [
            _dome(max(2, round(radius * n * scale)), self.rng) for scale in np.linspace(1 - vary, 1 + 1.6 * vary, 7)
        ]
        for x, y in places:
            dome = domes[self.rng.integers(len(domes))]
            hue = self.rng.normal(1, vary * 0.6)
            half = len(dome) // 2
            left, top = round(x * n) - half, round(y * n) - half
            x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + len(dome), n), min(top + len(dome), n)
            if x0 >= x1 or y0 >= y1:
                continue
            part = dome[y0 - top : y1 - top, x0 - left : x1 - left]
            higher = part > height[y0:y1, x0:x1]
            height[y0:y1, x0:x1][higher] = part[higher]
            tint[y0:y1, x0:x1][higher] = hue
        crown = _grey(np.minimum(height * 3, 1))
        shadow = crown
        for far in (0.5, 1.0):
            dx, dy = np.round(self.sun * radius * n * far * 1.1).astype(int).tolist()
            shadow = ImageChops.lighter(shadow, _shifted(crown, dx, dy))
        self.dim(shadow, shade)
        light = self.relief(height, steepness=radius * n * 0.55)
        leaves = 1 + 0.35 * (self.noise(90, 2) - 0.5)
        warmth = np.stack([tint**1.3, tint, tint**0.8], axis=-1)
        self.lay(np.array(colour, np.float32) * warmth * (light * leaves)[..., None], crown)

    def relief(self, height: np.ndarray, steepness: float) -> np.ndarray:
        """Brightness (n, n), about 1 where level, of a surface lit from the sun's side."""
        slope_y, slope_x = np.gradient(height)
        facing = (slope_x * self.sun[0] + slope_y * self.sun[1]) * steepness
        return np.clip(1 + facing / np.sqrt(1 + facing**2) * 0.75, 0.18, 1.7).astype(np.float32)

    # The finished image

    def finish(self) -> Image.Image:
        """Uneven light, grain, the colour cast and haze of the day; shrunk to the wanted size."""
        image = self.image.reduce(2)
        uneven = 0.9 + 0.2 * self.noise(3, 2, self.size)
        pixels = np.asarray(image, dtype=np.float32) * uneven[..., None]
        cast = self.rng.normal(1, 0.025, 3).astype(np.float32)
        haze, air = self.rng.uniform(0.0, 0.16), np.array([150, 160, 165], dtype=np.float32)
        contrast = self.rng.uniform(1.1, 1.3)
        grain = self.rng.integers(-5, 6, (self.size, self.size, 1))
        pixels = pixels * cast * (1 - haze) + air * haze
        grey = pixels.mean(axis=-1, keepdims=True)
        pixels = 0.72 * pixels + 0.28 * grey  # the paints are purer than what a satellite sees
        pixels = (0.9 * pixels + grain - 100) * contrast + 100
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def box(x: float, y: float, width: float, height: float, angle: float = 0.0) -> np.ndarray:
    """Corners (4, 2) of a rectangle around (x, y), turned by `angle`."""
    c, s = math.cos(angle), math.sin(angle)
    corners = np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / 2
    return corners @ np.array([[c, s], [-s, c]]) + np.array([x, y])


def oval(x: float, y: float, width: float, height: float, squareness: float = 2.0, points: int = 64) -> np.ndarray:
    """Outline (points, 2) of an ellipse; a `squareness` above 2 makes it a rounded rectangle."""
    angles = np.linspace(0, 2 * math.pi, points, endpoint=False)
    c, s = np.cos(angles), np.sin(angles)
    power = 2 / squareness
    outline = np.stack(
        [np.sign(c) * np.abs(c) ** power * width / 2, np.sign(s) * np.abs(s) ** power * height / 2], axis=1
    )
    return outline + np.array([x, y])


def curve(knots: Points, points: int = 60) -> np.ndarray:
    """Smooth line (points, 2) through the knots (Catmull-Rom)."""
    k = np.asarray(knots, dtype=float)
    k = np.concatenate([2 * k[:1] - k[1:2], k, 2 * k[-1:] - k[-2:-1]])
    t = np.linspace(0, len(k) - 3 - 1e-6, points)
    i = t.astype(int)
    u = (t - i)[:, None]
    a, b, c, d = k[i], k[i + 1], k[i + 2], k[i + 3]
    return 0.5 * (2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3)


def _dome(radius: int, rng: np.random.Generator) -> np.ndarray:
    """Height (2 radius + 1, same) of a crown, 0 outside, lobed so that it is no ball."""
    axis = np.arange(-radius, radius + 1, dtype=np.float32) / radius
    x, y = axis[None, :], axis[:, None]
    angle = np.arctan2(y, x)
    lobes = 1 - 0.16 * (1 + np.sin(angle * rng.integers(3, 7) + rng.uniform(0, 6)))
    return np.sqrt(np.clip(1 - (x**2 + y**2) / lobes**2, 0, None)).astype(np.float32)


def _shifted(mask: Image.Image, dx: int, dy: int) -> Image.Image:
    moved = Image.new("L", mask.size)
    moved.paste(mask, (dx, dy))
    return moved


def _grey(values: np.ndarray) -> Image.Image:
    """Mask of values in 0..1."""
    return Image.fromarray((values * 255).astype(np.uint8))


def scaled(colour: Colour, by: float) -> Colour:
    return colour[0] * by, colour[1] * by, colour[2] * by


def rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, round(channel))) for channel in colour)
    return red, green, blue

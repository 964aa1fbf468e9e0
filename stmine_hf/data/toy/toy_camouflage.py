"""Toy camouflage: drawn animals on grounds of nearly their own texture, with exact boxes.

They make every detection command work out of the box, under no license but this package's, and they can be made as
hard as one likes. At difficulty 0 an animal has colours and a pattern of its own and stands out by light and shadow;
at 1 it wears the ground's own colours and texture, only at another phase, and little more than the break at its
border gives it away.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from PIL import Image

from ..about import drawn
from ..boxed_images import row_features
from ..captioned_images import SPLITS
from ..coco_json import to_coco
from ..errors import DataFolderError
from .camouflage_drawing import ANIMALS, BRIGHT, Ground, blurred, clouds, field, make_ground, paint, rotation, stamp
from .drawn_set import DrawnSet, share

ANIMAL_KINDS = tuple(ANIMALS)
SHAPES = ((1.0, 1.0), (0.75, 1.0), (1.0, 0.75))  # height and width in shares of the longer side
SMALLEST = 24  # pixels of an animal's length
NUMBERS = (0.06, 0.42, 0.28, 0.16, 0.08)  # share of the images with 0, 1, 2, ... animals


class Animal(NamedTuple):
    """What is drawn where: its kind, the smallest box around its pixels (x, y, width, height) and their number."""

    kind: str
    bbox: tuple[int, int, int, int]
    area: int


def draw_camouflage(seed: int, difficulty: float = 0.5, size: int = 320) -> tuple[Image.Image, list[Animal]]:
    """Draw one image.

    Args:
        seed: what is in the image and where: the same ground, animals and places at every difficulty.
        difficulty: 0 (animals in colours of their own) to 1 (only the break in the texture is left).
        size: the longer side in pixels; images are square, wide or tall.

    Returns:
        An RGB image and its animals, up to four; a few images have none.

    Raises:
        ValueError: difficulty outside 0..1, or a size below 64 pixels.
    """
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty has to lie between 0 and 1, got {difficulty}")
    if size < 64:
        raise ValueError(f"an image of {size} pixels is too small: size must be at least 64")
    rng = np.random.default_rng([0, seed % 2**64])
    tall, wide = SHAPES[rng.integers(len(SHAPES))]
    shape = (round(tall * size), round(wide * size))
    angle = rng.uniform(0, 2 * math.pi)
    sun = np.array([math.cos(angle), math.sin(angle)])
    ground = make_ground(rng, shape, sun)
    colours = ground.colours()
    taken = np.zeros(shape, bool)
    animals = []
    for number in range(1, 1 + rng.choice(len(NUMBERS), p=NUMBERS)):
        own = np.random.default_rng([number, seed % 2**64])  # so that an animal does not depend on the one before
        found = place_animal(own, shape, size, taken)
        if found is None:
            continue
        lay_animal(own, colours, ground, found, sun, difficulty)
        inside = found.mask > 0.5
        taken[found.window] |= inside
        ys, xs = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        corner = int(xs[0]) + found.window[1].start, int(ys[0]) + found.window[0].start
        bbox = (*corner, int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1))
        animals.append(Animal(found.kind, bbox, int(inside.sum())))
    light = 1 + 0.1 * field(rng, shape, clouds(1.5, 3.0))  # uneven, the same for ground and animals
    grain = rng.normal(0, 3, (*shape, 1))
    pixels = colours * np.clip(light, 0.6, 1.4)[..., None] + grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), animals


@dataclass
class Placed:
    """An animal at its place: the window (rows, columns) of the image around it, and in that

    mask: how much of each pixel it covers, 0..1; along, across: where each pixel lies in it, in lengths of it.
    """

    kind: str
    window: tuple[slice, slice]
    mask: np.ndarray
    along: np.ndarray
    across: np.ndarray
    length: float  # in pixels


def place_animal(rng: np.random.Generator, shape: tuple[int, int], size: int, taken: np.ndarray) -> Placed | None:
    """An animal of any kind and size where nothing is yet; None where there is no room."""
    kind = ANIMAL_KINDS[rng.integers(len(ANIMAL_KINDS))]
    outlines, strokes = ANIMALS[kind](rng)
    turn = rotation(rng.uniform(0, 2 * math.pi))
    points = np.concatenate([*outlines, *(line for line, _ in strokes)]) @ turn
    low, high = points.min(axis=0) - 0.17, points.max(axis=0) + 0.17  # as thick as the thickest, and its shadow
    wide, tall = high - low
    # as many of 10 to 27 % of the image as of 27 to 75 %
    length = size * math.exp(rng.uniform(math.log(max(0.1, SMALLEST / size)), math.log(0.75)))
    length = float(min(length, shape[1] / wide, shape[0] / tall))
    box = (min(shape[0], math.ceil(tall * length)), min(shape[1], math.ceil(wide * length)))
    middle = -low * length
    mask = stamp(outlines, strokes, box, lambda points: points @ turn * length + middle, length)
    spot = np.stack(np.meshgrid(np.arange(box[1]), np.arange(box[0])), axis=-1) + 0.5 - middle
    along, across = np.moveaxis(spot @ turn.T / length, -1, 0)
    for _ in range(12):
        top, left = (int(rng.integers(whole - part + 1)) for whole, part in zip(shape, box, strict=True))
        window = slice(top, top + box[0]), slice(left, left + box[1])
        if not taken[window][mask > 0].any():
            return Placed(kind, window, mask, along, across, length)
    return None


def lay_animal(
    rng: np.random.Generator, colours: np.ndarray, ground: Ground, animal: Placed, sun: np.ndarray, difficulty: float
) -> None:
    """Draws the animal into the image's colours (height, width, 3)."""
    seen, mask = 1 - difficulty, animal.mask
    # the ground's texture, from elsewhere
    height, width = ground.place.shape
    top = animal.window[0].start + int(rng.uniform(0.25, 0.75) * height)
    left = animal.window[1].start + int(rng.uniform(0.25, 0.75) * width)
    coat = ground.window(top, left, mask.shape)
    # a pattern of its own in the colours that differ most from the ground's, of two
    offers = [np.array(BRIGHT[i], float) for i in rng.choice(len(BRIGHT), 2, replace=False)]
    bright = max(offers, key=lambda offer: float(np.abs(offer.mean(axis=0) - ground.palette.mean(axis=0)).sum()))
    bands = np.sin(2 * math.pi * (rng.uniform(2.5, 5) * animal.along + np.abs(animal.across)) + rng.uniform(0, 6))
    pattern = 0.55 + 0.45 * np.minimum(0.6, np.tanh(3 * bands + rng.uniform(0, 2.5))) - 0.4 * np.abs(animal.across)
    # from the one to the other: first the texture comes, then the colours go
    own = seen**1.5
    steps = np.linspace(0, 1, 4)
    coat.palette = own * paint(steps, bright) + (1 - own) * paint(steps, ground.palette)
    plain = max(0.0, 1 - 2 * difficulty)
    coat.place = np.clip(plain * pattern + (1 - plain) * coat.place, 0, 1)
    coat.shade, coat.warmth = 1 + (1 - plain) * (coat.shade - 1), (1 - own) * coat.warmth
    # a rounded body in the light, its rim and its shadow: faint even at the hardest, since nothing is quite flat
    radius = max(1.0, 0.035 * animal.length)
    dome = blurred(mask, radius)
    slope_y, slope_x = np.gradient(dome)
    light = 1 - (0.15 + 0.45 * seen) * np.tanh((slope_x * sun[0] + slope_y * sun[1]) * radius * 2.5)
    rim = 1 - (0.15 + 0.1 * seen) * np.clip(2 - 2 * dome, 0, 1)
    fall = np.round(sun * 1.3 * radius).astype(int)
    shadow = 1 - (0.2 + 0.35 * seen) * np.roll(dome, (fall[1], fall[0]), (0, 1))
    part = colours[animal.window] * shadow[..., None]
    colours[animal.window] = part + (coat.colours() * (light * rim)[..., None] - part) * mask[..., None]


@dataclass(frozen=True)
class CamouflagePlan:
    """Which images make up a set."""

    count: int
    seed: int
    difficulty: float
    size: int

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 64 or not 0 <= self.difficulty <= 1:
            raise DataFolderError(
                "toy_camouflage: needs count >= 1, size >= 64 and difficulty between 0 and 1, got count "
                f"{self.count}, size {self.size} and difficulty {self.difficulty}"
            )

    def row(self, number: int) -> dict[str, Any]:
        """Row `number`, with the JPEG file in `image`."""
        image, animals = draw_camouflage(self.seed * 1_000_000 + number, self.difficulty, self.size)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=92)
        filename = f"camouflage_{number}.jpg"
        return {
            "image": {"path": filename, "bytes": file.getvalue()},
            "image_id": number + 1,
            "filename": filename,
            "width": image.width,
            "height": image.height,
            "objects": {
                "id": [number * len(NUMBERS) + place for place in range(1, len(animals) + 1)],
                "bbox": [[float(value) for value in animal.bbox] for animal in animals],
                "category": [ANIMAL_KINDS.index(animal.kind) for animal in animals],
                "area": [float(animal.area) for animal in animals],
                "iscrowd": [False] * len(animals),
            },
            "source": "",
        }


def write_camouflage(out: str | Path, *, count: int, seed: int = 0, difficulty: float = 0.5, size: int = 320) -> Path:
    """Write a folder of images with boxes: `images/` and `annotations/instances_train.json` (val, test) as COCO has
    them, so that it loads as `coco_json`.

    Args:
        out: folder to write; files of the same names are replaced.
        count: how many images, at least 1.
        seed: the same seed draws the same images.
        difficulty: 0 (easy to see) to 1 (hardly to be seen).
        size: longer side of an image in pixels.

    Returns:
        The folder with the images.
    """
    plan, images, annotations = (
        CamouflagePlan(count, seed, difficulty, size),
        Path(out) / "images",
        Path(out) / "annotations",
    )
    for folder in (images, annotations):
        folder.mkdir(parents=True, exist_ok=True)
    features = row_features(ANIMAL_KINDS, range(1, len(ANIMAL_KINDS) + 1))
    for split in SPLITS:
        rows = []
        for number in share(count, split):
            row = plan.row(number)
            (images / row["filename"]).write_bytes(row.pop("image")["bytes"])
            rows.append(row)
        if rows:
            text = json.dumps({**to_coco(rows, features), "info": {"description": f"toy_camouflage ({split})"}})
            (annotations / f"instances_{split}.json").write_text(text + "\n", encoding="utf-8")
    return images


@dataclass
class ToyCamouflageConfig(datasets.BuilderConfig):
    """Options: how many images in all, which ones, how hard to see (0 to 1), and their longer side in pixels."""

    count: int = 480
    seed: int = 0
    difficulty: float = 0.5
    size: int = 320


class ToyCamouflage(DrawnSet):
    """The images as a data set."""

    BUILDER_CONFIG_CLASS = ToyCamouflageConfig

    TITLE = "toy_camouflage"
    ABOUT = drawn(
        mind=("For tests and first steps: drawings tell nothing about photographs. `difficulty` goes from 0 to 1"),
        chinese="绘制的伪装动物，带精确边框，难度可调",
        language=None,
    )
    WRITTEN_BY = "write_camouflage"
    LOADS_AS = "coco_json"

    def _info(self) -> datasets.DatasetInfo:
        features = row_features(ANIMAL_KINDS, range(1, len(ANIMAL_KINDS) + 1))
        return datasets.DatasetInfo(description="Drawn animals that are hard to see, with boxes.", features=features)

    def _numbers(self) -> int:
        self._plan = CamouflagePlan(self.config.count, self.config.seed, self.config.difficulty, self.config.size)
        return self._plan.count

    def _rows(self, number: int) -> Iterator[tuple[int, dict[str, Any]]]:
        yield number, self._plan.row(number)

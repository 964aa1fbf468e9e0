"""Toy scenes: drawn overhead images of sixteen kinds of place, with five captions each in the manner of RSICD.

They make every command work out of the box, under no license but this package's. An image is given by (kind, seed).
The kinds are those of `scene_kinds`, named and coloured after RSICD's so that a model trained on RSICD finds them.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from ..about import drawn
from ..captioned_images import SPLITS, DataFolderError, caption_weights, row_features
from .drawn_set import DrawnSet, share
from .overhead_drawing import Canvas
from .scene_kinds import SCENES

SCENE_KINDS = tuple(SCENES)
MEAN_WORDS = 10.3  # of a caption, over 192 scenes; what the caption weights are relative to


def draw_scene(kind: str, seed: int, size: int = 224) -> tuple[Image.Image, list[str]]:
    """Draw one scene.

    Args:
        kind: one of `SCENE_KINDS`.
        seed: what is in the image and where; the same at every size.
        size: side of the image in pixels.

    Returns:
        An RGB image of size x size pixels and five different captions that are true of it.

    Raises:
        ValueError: for another kind, or a size below 32 pixels.
    """
    if kind not in SCENES:
        raise ValueError(f"unknown kind of scene {kind!r}: expected one of {', '.join(SCENE_KINDS)}")
    if size < 32:
        raise ValueError(f"a scene of {size} pixels is too small: size must be at least 32")
    canvas = Canvas(np.random.default_rng([zlib.crc32(kind.encode()), seed % 2**32]), size)
    captions = SCENES[kind](canvas)
    chosen = canvas.rng.permutation(len(captions))[:5]
    return canvas.finish(), [captions[i] for i in sorted(chosen)]


@dataclass(frozen=True)
class ScenePlan:
    """Which scenes make up a set: the kinds in turn."""

    count: int
    seed: int
    size: int

    def __post_init__(self) -> None:
        if self.count < 1 or self.size < 32:
            raise DataFolderError(
                f"toy_scenes: needs count >= 1 and size >= 32, got count {self.count} and size {self.size}"
            )

    def scene(self, number: int) -> tuple[str, str, bytes, list[str]]:
        """Kind, file name, JPEG file and captions of scene `number`."""
        kind = SCENE_KINDS[number % len(SCENE_KINDS)]
        image, captions = draw_scene(kind, self.seed * 1_000_000 + number, self.size)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=92)
        return kind, f"{kind}_{number}.jpg", file.getvalue(), captions


def write_scenes(out: str | Path, *, count: int, seed: int = 0, size: int = 224) -> Path:
    """Write a folder of scenes: `images/` and `dataset.json` in the layout of RSICD, so that it loads as `rsicd`.

    Args:
        out: folder to write; files of the same names are replaced.
        count: how many images, at least 1.
        seed: the same seed draws the same images.
        size: side of an image in pixels.

    Returns:
        The folder with the images.
    """
    plan, images, records = ScenePlan(count, seed, size), Path(out) / "images", []
    images.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        for number in share(count, split):
            kind, filename, file, captions = plan.scene(number)
            (images / filename).write_bytes(file)
            sentences = [
                {"raw": caption, "imgid": number, "sentid": 5 * number + i} for i, caption in enumerate(captions)
            ]
            records.append(
                {"filename": filename, "imgid": number, "split": split, "label": kind, "sentences": sentences}
            )
    text = json.dumps({"images": records, "dataset": "toy_scenes"}, indent=1)
    (Path(out) / "dataset.json").write_text(text + "\n", encoding="utf-8")
    return images


@dataclass
class ToyScenesConfig(datasets.BuilderConfig):
    """Options: how many scenes in all, which ones, and the side of an image in pixels."""

    count: int = 480
    seed: int = 0
    size: int = 224


class ToyScenes(DrawnSet):
    """The scenes as a data set."""

    BUILDER_CONFIG_CLASS = ToyScenesConfig

    TITLE = "toy_scenes"
    ABOUT = drawn(
        mind="For tests and first steps: drawings tell nothing about photographs",
        chinese="绘制的俯视场景，每张五句英文描述",
    )
    WRITTEN_BY = "`stmine toy`"
    LOADS_AS = "rsicd"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Drawn overhead scenes with captions.", features=row_features(SCENE_KINDS)
        )

    def _numbers(self) -> int:
        self._plan = ScenePlan(self.config.count, self.config.seed, self.config.size)
        return self._plan.count

    def _rows(self, number: int) -> Iterator[tuple[int, dict[str, Any]]]:
        kind, filename, file, captions = self._plan.scene(number)
        yield (
            number,
            {
                "image": {"path": filename, "bytes": file},
                "captions": captions,
                "caption_weights": caption_weights(captions, MEAN_WORDS),
                "label": kind,
                "image_id": number,
                "filename": filename,
            },
        )

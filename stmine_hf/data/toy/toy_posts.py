"""Toy posts: drawn shapes with a sentence about them, true of the image (real) or of another one (fake).

Posts come in fours made of two sentences and two images, every sentence with either image: two real posts, two
fake. So each sentence and each image occurs once in a real and once in a fake post, and a model that sees one of
them alone is right in half of all cases, no more, whatever it learns. Both together always tell.
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
from PIL import Image, ImageDraw

from ..about import drawn
from ..captioned_images import SPLITS
from ..errors import DataFolderError
from ..post_files import row_features
from .drawn_set import DrawnSet, share

LABELS = ("fake", "real")

COLOURS = {"red": (214, 40, 40), "green": (38, 160, 70), "blue": (45, 90, 220), "yellow": (240, 200, 30)}
SHAPES = ("circle", "square", "triangle")
NUMBERS = {1: "one", 2: "two", 3: "three"}

_CHINESE = {
    "red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色",
    "circle": "圆形", "square": "方形", "triangle": "三角形",
    "one": "一", "two": "两", "three": "三",
}  # fmt: skip
_ENGLISH_WORDINGS = (
    "{count} {colour} {shape} in the sky this morning",
    "breaking : {count} {colour} {shape} found at the harbour",
    "look at this , {count} {colour} {shape} !",
    "my neighbour painted {count} {shape} , all {colour}",
    "experts confirm : the picture shows {count} {shape} in {colour}",
    "so many people saw the {count} {colour} {shape} today",
)
_CHINESE_WORDINGS = (
    "今天天上出现{count}个{colour}的{shape}",
    "快看!图中有{count}个{colour}{shape},求转发",
    "网友拍到{count}个{shape},都是{colour}的",
)


class Scene(NamedTuple):
    """What an image shows or a sentence tells."""

    colour: str
    shape: str
    number: int


SCENES = tuple(Scene(colour, shape, number) for colour in COLOURS for shape in SHAPES for number in NUMBERS)


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """A sentence that is true of a scene; one of three is Chinese."""
    colour, shape, count = scene.colour, scene.shape, NUMBERS[scene.number]
    if rng.random() < 1 / 3:
        wording = str(rng.choice(_CHINESE_WORDINGS))
        return wording.format(colour=_CHINESE[colour], shape=_CHINESE[shape], count=_CHINESE[count])
    return str(rng.choice(_ENGLISH_WORDINGS)).format(
        colour=colour, shape=shape + "s" * (scene.number > 1), count=count
    )


def draw(scene: Scene, rng: np.random.Generator, size: int = 64) -> Image.Image:
    """An image of a scene: its shapes, apart from each other, on a pale ground."""
    fine = 2 * size  # drawn large, then reduced: smooth edges
    ground = rng.integers(225, 256, 3)
    image = Image.new("RGB", (fine, fine), tuple(ground.tolist()))
    pen = ImageDraw.Draw(image)
    cells = [(x, y) for x in (0.27, 0.73) for y in (0.27, 0.73)]
    for cell in rng.permutation(4)[: scene.number]:
        x, y = (fine * (place + rng.uniform(-0.03, 0.03)) for place in cells[cell])
        radius = fine * rng.uniform(0.15, 0.19)
        tone = rng.uniform(0.9, 1.05)
        colour = tuple(min(255, round(tone * value)) for value in COLOURS[scene.colour])
        if scene.shape == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        else:
            corners, turn = (4, math.pi / 4) if scene.shape == "square" else (3, -math.pi / 2)
            angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
            pen.polygon([(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles], fill=colour)
    return image.resize((size, size), Image.Resampling.BOX)


class ToyPost(NamedTuple):
    """A post: what it tells, what it shows, and the name of its image, which it shares with one other post."""

    post_id: str
    text: str
    image: Image.Image
    filename: str
    described: Scene
    shown: Scene
    group: int

    @property
    def label(self) -> str:
        return LABELS[self.described == self.shown]


@dataclass(frozen=True)
class PostPlan:
    """Which posts make up a set: groups of four."""

    count: int
    seed: int
    size: int

    def __post_init__(self) -> None:
        if self.count < 4 or self.count % 4 or self.size < 16:
            raise DataFolderError(
                f"toy_posts: count has to be a multiple of 4 (posts come in fours) and size at least 16, got count "
                f"{self.count} and size {self.size}"
            )

    def posts(self, group: int) -> Iterator[ToyPost]:
        """The four posts of a group, in random order. Its two scenes differ in colour, shape and number."""
        rng = np.random.default_rng([self.seed % 2**32, group])
        one = SCENES[rng.integers(len(SCENES))]
        others = [scene for scene in SCENES if not set(scene) & set(one)]
        scenes = (one, others[rng.integers(len(others))])
        texts = [describe(scene, rng) for scene in scenes]
        images = [draw(scene, rng, self.size) for scene in scenes]
        for number, pair in enumerate(rng.permutation(4).tolist()):
            described, shown = divmod(pair, 2)
            filename = f"{group}{'ab'[shown]}.png"
            yield ToyPost(
                f"{group}-{number}", texts[described], images[shown], filename, scenes[described], scenes[shown], group
            )


def write_posts(out: str | Path, *, count: int, seed: int = 0, size: int = 64) -> Path:
    """Write a folder of toy posts: `images/` and `posts.jsonl`, which loads as the set `posts`.

    Args:
        out: folder to write; files of the same names are replaced.
        count: how many posts, a multiple of 4.
        seed: the same seed writes the same posts.
        size: side of an image in pixels.

    Returns:
        The file of the posts: `id`, `text`, `image`, `label`, `split`, `group`.
    """
    plan, images = PostPlan(count, seed, size), Path(out) / "images"
    images.mkdir(parents=True, exist_ok=True)
    lines = []
    for split in SPLITS:
        for group in share(count // 4, split):
            for post in plan.posts(group):
                post.image.save(images / post.filename)
                row = {"id": post.post_id, "text": post.text, "image": f"images/{post.filename}", "label": post.label}
                lines.append(json.dumps({**row, "split": split, "group": group}, ensure_ascii=False))
    file = Path(out) / "posts.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@dataclass
class ToyPostsConfig(datasets.BuilderConfig):
    """Options: how many posts in all (a multiple of 4), which ones, and the side of an image in pixels."""

    count: int = 960
    seed: int = 0
    size: int = 64


class ToyPosts(DrawnSet):
    """The posts as a data set. The `group` of a post is its four; what is numbered are these groups."""

    BUILDER_CONFIG_CLASS = ToyPostsConfig

    TITLE = "toy_posts"
    ABOUT = drawn(
        mind=(
            "Neither text nor image alone tells the label, both together always do: a model that stays at"
            " one half uses one of them only"
        ),
        chinese="绘制的图文帖子：文字与图片相符为真，不符为假",
        language=["en", "zh"],
    )
    WRITTEN_BY = "write_posts"
    LOADS_AS = "posts"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Drawn posts whose text and image agree or contradict each other.",
            features=row_features(LABELS),
        )

    def _numbers(self) -> int:
        self._plan = PostPlan(self.config.count, self.config.seed, self.config.size)
        return self._plan.count // 4

    def _rows(self, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
        for post in self._plan.posts(number):
            file = io.BytesIO()
            post.image.save(file, "PNG")
            yield (
                post.post_id,
                {
                    "post_id": post.post_id,
                    "text": post.text,
                    "image": {"path": post.filename, "bytes": file.getvalue()},
                    "label": post.label,
                    "filename": post.filename,
                    "group": number,
                },
            )

"""What the demo shows before anybody brings anything: generated pictures and made-up posts, drawn at first use."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

VERSION = 1  # raise it whenever something is drawn differently: a new folder in the cache
SCENES = 96  # six of each kind
SENTENCES = {
    "en": (
        "many planes are parked on the gray ground of an airport",
        "a winding river runs between green trees",
        "several ships are docked at a port",
        "a baseball field beside green grass",
    ),
    "zh": ("机场上停着许多飞机", "河流蜿蜒在树林之间", "几艘船停在港口", "草地旁边的棒球场"),
}


class SamplePost(NamedTuple):
    """A made-up post: nobody wrote it, nothing of it happened.

    Attributes:
        text: as it would be posted, in the language that the small model reads.
        meaning: the same in English.
        picture: drawn.
    """

    text: str
    meaning: str
    picture: Image.Image


def cache(part: str) -> Path:
    """A folder for what the demo makes once, made if missing."""
    from huggingface_hub import cached_assets_path

    return cached_assets_path("stmine-hf", namespace="demo", subfolder=f"{part}-{VERSION}")


def scenes() -> Path:
    """A folder of drawn overhead pictures."""
    from ..data.toy_scenes import write_scenes

    folder = cache("scenes")
    if not (folder / "dataset.json").is_file():  # written last
        write_scenes(folder, count=SCENES, seed=0, size=384)
    return folder / "images"


def posts() -> list[SamplePost]:
    """Made-up posts, a rumour first."""
    from ..data.toy_posts import Scene, draw
    from ..data.toy_scenes import draw_scene
    from ..hub.street_drawing import draw_street

    return [
        SamplePost(
            "紧急通知！港口上空出现红色圆形，专家说今晚会掉下来，千万别出门，请大家马上转发！",  # noqa: RUF001
            "Urgent! A red circle has appeared above the port, experts say it will come down tonight, do not leave "
            "the house, everybody please forward this at once!",
            draw(Scene("red", "circle", 1), np.random.default_rng(0), size=384),
        ),
        SamplePost(
            "【机场周边道路今日恢复通行】记者从市交通局获悉，机场附近的公交线路今日上午恢复运营。",  # noqa: RUF001
            "Roads around the airport open again today: the city's transport office tells us that the bus lines near "
            "the airport run again since this morning.",
            draw_street(),
        ),
        SamplePost(
            "【港口今日恢复通航】记者从市海事局获悉，受大雾影响关闭的港口今日上午恢复通航。",  # noqa: RUF001
            "Port open again today: the maritime office tells us that the port, closed because of fog, has been open "
            "again since this morning.",
            draw_scene("port", 3, size=384)[0],
        ),
    ]


def street() -> Image.Image:
    """A drawn street with everyday things in it: for detectors that know COCO's classes."""
    from ..hub.street_drawing import draw_street

    return draw_street()


def hidden() -> list[Image.Image]:
    """Drawn animals on grounds of nearly their own texture: for a detector of the indiscernible."""
    from ..data.toy_camouflage import draw_camouflage

    return [draw_camouflage(seed, 0.3, size=416)[0] for seed in (3, 5, 8)]

"""Examples of the demo: generated images and made-up posts, drawn at first use."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

VERSION = 2  # raise it whenever something is drawn differently: a new folder in the cache
SCENES = 64  # four of each kind
SIDE = 256  # pixels of a scene
_MOSAIC = 25  # scenes side by side
HIDDEN_AS = 0.4  # difficulty of the hidden animals
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
    """A made-up post about an event that did not happen.

    Attributes:
        text: as it would be posted, in the language that the small model reads.
        meaning: the same in English.
        image: drawn.
        place: the place in it, as the search reads it.
    """

    text: str
    meaning: str
    image: Image.Image
    place: str


def cache(part: str) -> Path:
    """A folder for what the demo makes once, made if missing."""
    from huggingface_hub import cached_assets_path

    return cached_assets_path("stmine-hf", namespace="demo", subfolder=f"{part}-{VERSION}")


def scenes() -> Path:
    """A folder of drawn overhead images."""
    from ..data.toy.toy_scenes import write_scenes

    folder = cache("scenes")
    if not (folder / "dataset.json").is_file():  # written last
        write_scenes(folder, count=SCENES, seed=0, size=SIDE)
    return folder / "images"


def mosaic() -> Path:
    """A folder with a drawn scene of many kinds side by side, with a place on Earth (GeoTIFF)."""
    from ..data.toy.toy_mosaic import write_mosaic

    folder = cache("mosaic")
    if not (folder / "mosaic.tif").is_file():
        with tempfile.TemporaryDirectory(dir=folder.parent) as new:  # no other process sees half a file
            write_mosaic(new, count=_MOSAIC).replace(folder / "mosaic.tif")
    return folder


def posts() -> list[SamplePost]:
    """Made-up posts, a rumour first."""
    from ..cards.street_drawing import draw_street
    from ..data.toy.toy_camouflage import draw_camouflage
    from ..data.toy.toy_posts import Scene, draw

    return [
        SamplePost(
            "紧急通知！港口上空出现红色圆形，专家说今晚会掉下来，千万别出门，请大家马上转发！",
            "Urgent! A red circle has appeared above the port, experts say it will come down tonight, do not leave "
            "your home, everybody please forward this at once!",
            draw(Scene("red", "circle", 1), np.random.default_rng(0), size=384),
            "several ships are docked at a port",
        ),
        SamplePost(
            "【机场周边道路今日恢复通行】记者从市交通局获悉，机场附近的公交线路今日上午恢复运营。",
            "Roads around the airport open again today: the city's transport office says that the bus lines near "
            "the airport have been running again since this morning.",
            draw_street(),
            "many planes are parked near the terminal of an airport",
        ),
        SamplePost(
            "【河边发现珍稀动物】林业局工作人员昨日在河边拍到一只极少见的壁虎。",
            "Rare animal found at the river: forest office staff photographed a very rare gecko yesterday.",
            draw_camouflage(9, HIDDEN_AS, size=416)[0],
            "a winding river runs between green trees",
        ),
    ]


def street() -> Image.Image:
    """A drawn street with everyday objects: for detectors of COCO's classes."""
    from ..cards.street_drawing import draw_street

    return draw_street()


def hidden() -> list[Image.Image]:
    """Drawn animals on grounds of nearly their own texture: for a detector of indiscernible objects."""
    from ..data.toy.toy_camouflage import draw_camouflage

    return [draw_camouflage(seed, HIDDEN_AS, size=416)[0] for seed in (3, 5, 11)]


def clip() -> Path:
    """A short video (MP4): the drawn street, passed slowly from left to right."""
    import av

    path = cache("clip") / "street.mp4"
    if path.is_file():
        return path
    image = street().resize((720, 480), Image.Resampling.LANCZOS)
    partial = path.with_name(".new-street.mp4")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("h264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 600, 450, "yuv420p"
        for step in range(24):
            left = round(120 * step / 23)
            frame = av.VideoFrame.from_image(image.crop((left, 15, left + 600, 465)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    partial.replace(path)
    return path

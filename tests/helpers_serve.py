"""A service of tiny models, and the images that tests send to it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from helpers import tiny_fisvl
from helpers_mttv import save_tiny_mttv
from helpers_sat import confident_sat
from PIL import Image

from stmine_hf.search import ImageIndex
from stmine_hf.serve.limits import Limits
from stmine_hf.serve.service import Models, Service

SENTENCES = ["many planes near a terminal", "a bridge", "green trees", "ships in the harbour"]
POSTS = ["fake news", "这是一条假新闻", "请看图片转发", "a harbour"]


def drawing(number: int, side: int = 48) -> Image.Image:
    """An image like no other number's."""
    image = Image.linear_gradient("L").resize((side + number, side)).rotate(17 * number)
    channels = (image, image.transpose(Image.Transpose.ROTATE_180).resize(image.size), image.point(lambda v: 255 - v))
    return Image.merge("RGB", channels)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def text_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def make_models(folder: Path) -> Models:
    """An index of eight images with places, times and a column; a classifier; a detector that finds something."""
    images = folder / "images"
    images.mkdir(parents=True)
    rows = ["image,longitude,latitude,time,cloud"]
    for number in range(8):
        drawing(number).save(images / f"{number}.png")
        rows.append(f"{number}.png,{number},10,2024-01-0{number + 1},{10 * number}")
    (folder / "table.csv").write_text("\n".join(rows))
    model, processor = tiny_fisvl()
    model.save_pretrained(folder / "fisvl")
    processor.save_pretrained(folder / "fisvl")
    ImageIndex.build(
        images, folder / "my.index", model=folder / "fisvl", metadata=folder / "table.csv", progress=False
    )
    save_tiny_mttv(folder / "mttv", seed=1)
    model, processor = confident_sat()
    model.save_pretrained(folder / "sat")
    processor.save_pretrained(folder / "sat")
    return Models(folder / "my.index", str(folder / "mttv"), str(folder / "sat"))


def opened(models: Models, **limits) -> Service:
    service = Service(models, limits=Limits(**limits))
    service.open()
    return service

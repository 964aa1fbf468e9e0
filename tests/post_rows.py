"""A data set of posts, small enough to be fitted in seconds: the verdict follows from text and image together."""

import io

import datasets
import numpy as np
from PIL import Image

FEATURES = datasets.Features(
    {
        "post_id": datasets.Value("string"),
        "text": datasets.Value("string"),
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["fake", "real"]),
        "filename": datasets.Value("string"),
        "group": datasets.Value("int64"),
    }
)


def encoded(image: Image.Image, format: str = "PNG", **options) -> dict:
    file = io.BytesIO()
    image.save(file, format, **options)
    return {"bytes": file.getvalue(), "path": f"image.{format.lower()}"}


def post(number: int, text: str | None, image: object, label: int, group: int = -1) -> dict:
    name = f"{number}.png"
    return {"post_id": str(number), "text": text, "image": image, "label": label, "filename": name, "group": group}


def post_rows(count: int = 16, broken: tuple[int, ...] = (), bare: tuple[int, ...] = ()) -> datasets.Dataset:
    """Post i names "a" or "b" and shows dark or light: real where these go together, fake where they contradict.

    Images in `broken` cannot be read, posts in `bare` have none; posts 2k and 2k + 1 are of one group.
    """
    generator = np.random.default_rng(0)
    rows = []
    for i in range(count):
        named, shown = i % 2, i // 2 % 2
        pixels = np.clip(60 + 140 * shown + generator.integers(-30, 31, size=(40, 40, 3)), 0, 255).astype(np.uint8)
        image: object = encoded(Image.fromarray(pixels))
        if i in broken:
            image = {"bytes": b"no image", "path": f"{i}.png"}
        filler = " ".join("news" for _ in range(generator.integers(1, 6)))
        rows.append(post(i, f"fake {'ab'[named]} {filler}", None if i in bare else image, int(named == shown), i // 2))
    return datasets.Dataset.from_list(rows, FEATURES)

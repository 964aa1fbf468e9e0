"""A data set of eight colour fields with captions, small enough to be fitted in seconds."""

import datasets
import numpy as np
from PIL import Image

THINGS = ("plane", "ship", "boat", "tree", "field", "river", "bridge", "road")


def toy_rows(count: int = 16, captions: int = 2, broken: tuple[int, ...] = ()) -> datasets.Dataset:
    """Image i is of colour i modulo 8 and its captions name thing i modulo 8; rows in `broken` are no images."""
    generator = np.random.default_rng(0)
    rows = []
    for i in range(count):
        kind = i % len(THINGS)
        colour = np.array([255 * (kind & 1), 255 * (kind >> 1 & 1), 255 * (kind >> 2)])
        pixels = np.clip(colour + generator.integers(-30, 31, size=(40, 40, 3)), 0, 255).astype(np.uint8)
        image = {"bytes": b"no image", "path": f"{i}.jpg"} if i in broken else Image.fromarray(pixels)
        texts = [f"{adjective} {THINGS[kind]}" for adjective in ("a", "many green", "the large", "some", "three")]
        rows.append(
            {
                "image": image,
                "captions": texts[:captions],
                "caption_weights": [0.8 + 0.05 * j for j in range(captions)],
                "label": kind,
                "image_id": 100 + i,
                "filename": f"{i}.jpg",
            }
        )
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "captions": datasets.List(datasets.Value("string")),
            "caption_weights": datasets.List(datasets.Value("float32")),
            "label": datasets.ClassLabel(names=list(THINGS)),
            "image_id": datasets.Value("int64"),
            "filename": datasets.Value("string"),
        }
    )
    return datasets.Dataset.from_list(rows, features)

"""A data set of images with boxes, small enough to be fitted in seconds."""

import datasets
import numpy as np
from PIL import Image

from stmine_hf.data.boxed_images import row_features

NAMES = ("deer", "ebike", "person", "target")
COLOURS = ((230, 60, 60), (60, 220, 60), (70, 70, 240), (240, 240, 60))


def boxed_rows(
    count: int = 16, names: tuple[str, ...] = NAMES, empty: tuple[int, ...] = (), broken: tuple[int, ...] = ()
) -> datasets.Dataset:
    """Image i shows one square of the colour of class i modulo their number, and a crowd box over all of it.

    Rows in `empty` show and have nothing; rows in `broken` are no images.
    """
    generator = np.random.default_rng(0)
    rows = []
    for i in range(count):
        kind = i % len(names)
        pixels = generator.integers(90, 131, size=(48, 64, 3))
        left, top, side = (int(generator.integers(*bounds)) for bounds in ((2, 34), (2, 18), (18, 28)))
        boxes = [] if i in empty else [[left, top, side, side]]
        if boxes:
            pixels[top : top + side, left : left + side] = COLOURS[kind]
        image = Image.fromarray(pixels.astype(np.uint8))
        objects = {
            "id": list(range(2 * i, 2 * i + 2 * len(boxes))),
            "bbox": [*boxes, *([[0, 0, 64, 48]] if boxes else [])],
            "category": [kind, kind] if boxes else [],
            "area": [float(side**2), 64.0 * 48] if boxes else [],
            "iscrowd": [False, True] if boxes else [],
        }
        rows.append(
            {
                "image": {"bytes": b"no image", "path": f"{i}.jpg"} if i in broken else image,
                "image_id": 100 + i,
                "filename": f"{i}.jpg",
                "width": 64,
                "height": 48,
                "objects": objects,
                "source": "AB"[i % 2],
            }
        )
    return datasets.Dataset.from_list(rows, row_features(names, range(1, len(names) + 1)))

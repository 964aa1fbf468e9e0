"""Images with their boxes on one sheet, to inspect a set before training."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    import datasets


def contact_sheet(
    rows: datasets.Dataset | Iterable[Mapping[str, Any]],
    features: datasets.Features | None = None,
    *,
    count: int = 24,
    columns: int = 6,
    side: int = 240,
) -> Image.Image:
    """Draw the first images of a set with boxes.

    Args:
        rows: of `load_dataset`; shuffle them for a representative sample.
        features: where the names of the categories are; needed only if `rows` has no `features`.
        count: how many images at most.
        columns: of the sheet.
        side: of an image's square on the sheet, in pixels; images keep their shape and are never enlarged.

    Returns:
        The sheet. A colour is a category; crowd regions have a thin frame and no name.

    Example:
        >>> rows = load_dataset("toy_camouflage", split="val").shuffle(seed=0)  # doctest: +SKIP
        >>> contact_sheet(rows).save("sheet.png")  # doctest: +SKIP
    """
    import torch
    from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
    from torchvision.utils import draw_bounding_boxes

    from ..fonts import font_file
    from .boxed_images import category_label

    features = features or getattr(rows, "features", None)
    if features is None:
        raise ValueError("contact_sheet: these rows do not carry the names of their categories: give features")
    if min(count, columns, side) < 1:
        raise ValueError(f"contact_sheet: count, columns and side have to be at least 1: {count}, {columns}, {side}")
    names = category_label(features).names
    font = font_file("".join(names))
    tiles = []
    for row in islice(rows, count):
        image = row["image"].convert("RGB")
        scale = min(1.0, side / max(image.size))
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
        )
        objects, canvas = row["objects"], pil_to_tensor(image)
        for crowd in (True, False):
            chosen = [index for index, iscrowd in enumerate(objects["iscrowd"]) if iscrowd == crowd]
            if chosen:
                boxes = torch.tensor([objects["bbox"][index] for index in chosen]) * scale
                boxes[:, 2:] += boxes[:, :2]
                labels = [objects["category"][index] for index in chosen]
                canvas = draw_bounding_boxes(
                    canvas,
                    boxes,
                    labels=None if crowd else [names[label] for label in labels],
                    colors=[category_colour(label) for label in labels],
                    width=1 if crowd else 2,
                    font=font,
                )
        tiles.append(to_pil_image(canvas))
    columns = max(1, min(columns, len(tiles)))
    sheet = Image.new("RGB", (columns * side, -(-len(tiles) // columns) * side or side), "white")
    for number, tile in enumerate(tiles):
        left, top = number % columns * side, number // columns * side
        sheet.paste(tile, (left + (side - tile.width) // 2, top + (side - tile.height) // 2))
    return sheet


def category_colour(label: int) -> tuple[int, int, int]:
    """A bright colour, far from those of the neighbouring labels."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + label * 0.618034) % 1, 0.85, (1.0, 0.8, 0.92)[label % 3])
    return round(255 * red), round(255 * green), round(255 * blue)

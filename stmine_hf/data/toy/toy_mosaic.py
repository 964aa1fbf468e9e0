"""A drawn scene with a place on Earth: many toy scenes side by side in one GeoTIFF."""

from __future__ import annotations

import csv
import math
import warnings
from pathlib import Path

import numpy as np

from ...errors import StmineError
from .toy_scenes import SCENE_KINDS, draw_scene

METRES = 0.5  # of a pixel
# In UTM zone 31 north: a place in the Mediterranean, where nobody looks for airports.
_EAST, _NORTH = 480_000.0, 4_560_000.0


def write_mosaic(out: str | Path, *, count: int, seed: int = 0, size: int = 224) -> Path:
    """Write `mosaic.tif`, toy scenes side by side with a place and a time, and `places.csv`, what is where in it.

    Args:
        out: a folder; made if missing.
        count: number of scenes.
        size: side of each in pixels.

    Returns:
        The GeoTIFF.

    Raises:
        StmineError: rasterio is not installed.
    """
    try:
        import rasterio
        from rasterio.windows import Window
    except ImportError:
        raise StmineError("a scene with a place needs rasterio: pip install 'stmine-hf[geo]'") from None
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    columns = math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    transform = rasterio.Affine(METRES, 0, _EAST, 0, -METRES, _NORTH)
    profile = {"driver": "GTiff", "width": columns * size, "height": rows * size, "count": 3, "dtype": "uint8"}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    with warnings.catch_warnings(), (folder / "places.csv").open("w", encoding="utf-8", newline="") as table:
        warnings.simplefilter("ignore")
        writer = csv.writer(table)
        writer.writerow(["kind", "left", "top", "width", "height"])
        with rasterio.open(
            folder / "mosaic.tif", "w", **profile, **blocks, nodata=0, crs="EPSG:32631", transform=transform
        ) as dataset:
            dataset.update_tags(TIFFTAG_DATETIME="2024:05:31 10:30:00")
            for number in range(count):
                top, left = (size * place for place in divmod(number, columns))
                kind = SCENE_KINDS[number % len(SCENE_KINDS)]
                image, _ = draw_scene(kind, seed + number, size)
                pixels = np.maximum(np.asarray(image), 1).transpose(2, 0, 1)  # 0 stands for no data
                dataset.write(pixels, window=Window(left, top, size, size))
                writer.writerow([kind, left, top, size, size])
    return folder / "mosaic.tif"

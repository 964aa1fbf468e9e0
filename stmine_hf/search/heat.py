"""How well each part of a scene answers a sentence, as a map and as an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..errors import StmineError
from ..images import Georeference, ImageError, PixelOptions, Window, open_scene
from ..outputs import write_output

if TYPE_CHECKING:
    from .index import ImageIndex

_MOST_CELLS = 4096  # along the longer side of a heat map
_SHOWN = 1600  # pixels of the longer side of the image of one
# From dark blue over green to yellow, evenly rising in lightness: RGB at equal steps.
_COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], dtype=np.float64)


def write_heat(index: ImageIndex, query: str, scene: Path, tiff: Path, png: Path) -> None:
    """Write how well each part of a scene of an index answers a query, as a GeoTIFF and as an image.

    Raises:
        StmineError: the scene is not in the index, or is there as a whole, without tiles.
    """
    tiles = index.tiles_of(scene)
    windows = [window for window in tiles.windows if window is not None]
    if not windows:
        raise StmineError(f"{scene.name}: a heat map needs tiles: build the index with --tile, such as --tile 256")
    with open_scene(scene, index.pixels) as opened:
        width, height, georeference = opened.width, opened.height, opened.place.georeference
    scores = index.scores(query, tiles.rows[[window is not None for window in tiles.windows]])
    cell = cell_size(windows, width, height)
    values = heat(windows, scores, width, height, cell)
    write_heat_tiff(values, cell, georeference, tiff)
    write_heat_png(values, scene, png, index.pixels)


def heat(windows: Sequence[Window], scores: np.ndarray, width: int, height: int, cell: int) -> np.ndarray:
    """The mean score of the tiles over each cell of a scene.

    Args:
        windows: of the N tiles.
        scores: (N,).
        width: of the scene in pixels.
        height: of the scene in pixels.
        cell: side of a cell in pixels.

    Returns:
        (rows, columns) float32; NaN where no tile is.
    """
    shape = (-(-height // cell), -(-width // cell))
    total, count = np.zeros(shape), np.zeros(shape, np.int64)
    for (left, top, wide, high), score in zip(windows, scores.tolist(), strict=True):
        # Cells whose middle lies in the tile, or the one cell that a small tile is in.
        rows = _cells(top, high, cell, height)
        columns = _cells(left, wide, cell, width)
        total[rows, columns] += score
        count[rows, columns] += 1
    with np.errstate(invalid="ignore"):
        return np.where(count, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _cells(start: int, length: int, cell: int, whole: int) -> slice:
    there, end = -(-whole // cell), start + length
    first = min(-(-(2 * start - cell) // (2 * cell)), there - 1)
    last = there if end >= whole else -(-(2 * end - cell) // (2 * cell))  # the last cell of an image may be cut off
    return slice(max(first, 0), max(first + 1, last))


def cell_size(windows: Sequence[Window], width: int, height: int) -> int:
    """Side of the cells of a heat map: half the step of the smallest tiles, and larger for very large scenes."""
    least = min(min(window.width, window.height) for window in windows)
    return max(1, least // 4, -(-max(width, height) // _MOST_CELLS))


def write_heat_tiff(values: np.ndarray, cell: int, georeference: Georeference | None, out: str | Path) -> None:
    """Write a heat map as a GeoTIFF of one band of 32-bit floats, NaN where there is nothing; with rasterio."""
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    place = {}
    if georeference is not None:
        a, b, c, d, e, f = georeference.transform
        transform = rasterio.Affine(a * cell, b * cell, c, d * cell, e * cell, f)
        place = {"crs": georeference.crs, "transform": transform}

    def write(path: Path) -> None:
        rows, columns = values.shape
        profile = {"driver": "GTiff", "width": columns, "height": rows, "count": 1, "dtype": "float32"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", **profile, nodata=float("nan"), compress="deflate", **place) as dataset:
                dataset.write(values, 1)

    write_output(out, write)


def write_heat_png(values: np.ndarray, scene: Path, out: str | Path, pixels: PixelOptions) -> None:
    """Write a heat map over its scene as an image: yellow where a tile answers best, blue where least.

    Args:
        values: (rows, columns) float32, of `heat`.
        pixels: how to read the scene: `ImageIndex.pixels`.
    """
    rows, columns = values.shape
    scale = _SHOWN / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    try:
        with open_scene(scene, pixels) as opened:
            below = opened.reduced(_SHOWN).convert("L").convert("RGB").resize(size)
    except ImageError:
        below = Image.new("RGB", size, "white")
    known = np.isfinite(values)
    low, high = (float(np.nanmin(values)), float(np.nanmax(values))) if known.any() else (0.0, 1.0)
    share = np.where(known, (values - low) / max(high - low, 1e-9), 0.0)
    colours = np.stack(
        [np.interp(share, np.linspace(0, 1, len(_COLOURS)), channel) for channel in _COLOURS.T], axis=-1
    )
    above = Image.fromarray(np.round(colours).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    opacity = Image.fromarray(np.where(known, 140, 0).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    picture = Image.composite(above, below, opacity)
    write_output(out, lambda path: picture.save(path, format="PNG"), inputs=[scene])

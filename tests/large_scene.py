"""A drawn scene of any size, mostly without data: indexed, searched, and the coordinates of each hit checked.

    PYTHONPATH=.:tests OMP_NUM_THREADS=1 python -m large_scene --side 30000

Writes a sparse GeoTIFF in which drawn places of known kinds lie at random, cuts it into tiles in a process of its own,
and searches for a sentence of each kind. Ends with 1 if a hit's corners differ from those of rasterio by more than
1 mm, or if a tile with data is missing.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import rasterio.warp
from rasterio.windows import Window as RasterWindow

from stmine_hf.data.toy.toy_scenes import draw_scene
from stmine_hf.images import tile_windows
from stmine_hf.search import ImageIndex
from stmine_hf.search.tiles import LEAST_DATA

PLACES = {
    "airport": "many planes are parked on the gray ground of an airport",
    "river": "a winding river runs between green trees",
    "port": "several ships are docked at a port",
    "baseballfield": "a baseball field beside green grass",
    "storagetanks": "several storage tanks stand on the ground",
    "beach": "waves roll onto the sand of a beach",
}
DRAWN, TILE, OVERLAP = 224, 256, 0.25
_CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))
METRE = 1 / 111_000  # in degrees

BUILD = """
import json, sys, time
from stmine_hf.search import ImageIndex
start = time.perf_counter()
index = ImageIndex.build(sys.argv[1], sys.argv[2], tile=int(sys.argv[3]), overlap=float(sys.argv[4]), progress=False)
report = index.report
print(json.dumps({"tiles": len(index), "empty": report.empty, "seconds": report.seconds, "mb": report.peak_memory_mb}))
"""


def write_scene(path: Path, side: int, places: int, seed: int = 0) -> list[tuple[str, int, int]]:
    """A sparse GeoTIFF of `side` x `side` px, and the kind, left and top of each place in it."""
    random = np.random.default_rng(seed)
    cells = side // (2 * DRAWN)
    chosen = random.choice(cells * cells, size=min(places, cells * cells), replace=False)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "nodata": 0,
               "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "sparse_ok": True,
               "crs": "EPSG:32631", "transform": rasterio.Affine(0.5, 0, 480_000, 0, -0.5, 4_560_000)}  # fmt: skip
    known = []
    with rasterio.open(path, "w", **profile) as dataset:
        for number, cell in enumerate(chosen.tolist()):
            kind = list(PLACES)[number % len(PLACES)]
            top, left = (2 * DRAWN * place + int(random.integers(DRAWN)) for place in divmod(cell, cells))
            pixels = np.maximum(np.asarray(draw_scene(kind, number, DRAWN)[0]), 1).transpose(2, 0, 1)
            dataset.write(pixels, window=RasterWindow(left, top, DRAWN, DRAWN))
            known.append((kind, left, top))
    return known


def shared(left: int, top: int, width: int, height: int, place: tuple[str, int, int]) -> int:
    """Pixels of a place in a window."""
    wide = min(left + width, place[1] + DRAWN) - max(left, place[1])
    high = min(top + height, place[2] + DRAWN) - max(top, place[2])
    return max(0, wide) * max(0, high)


def measure(folder: Path, side: int, places: int) -> dict[str, float]:
    """Tiles, seconds, MB, the largest error of a corner in metres, and how many of the kinds were found first."""
    (folder / "scenes").mkdir()
    scene = folder / "scenes" / "large.tif"
    known = write_scene(scene, side, places)
    command = [sys.executable, "-c", BUILD, folder / "scenes", folder / "scenes.index", str(TILE), str(OVERLAP)]
    built = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    with_data = {
        window
        for window in tile_windows(side, side, TILE, OVERLAP)
        if sum(shared(*window, place) for place in known) >= LEAST_DATA * TILE * TILE
    }
    index = ImageIndex.open(folder / "scenes.index")
    found = index.query(next(iter(PLACES.values())), k=len(index), merge=False)
    assert {hit.window for hit in found} == with_data, "tiles with data are missing, or others are there"
    error = 0.0
    with rasterio.open(scene) as dataset:
        for hit in found:
            left, top, width, height = hit.window
            points = [dataset.transform * (left + x * width, top + y * height) for x, y in _CORNERS]
            lons, lats = rasterio.warp.transform(dataset.crs, "EPSG:4326", *zip(*points, strict=True))
            error = max(error, float(np.abs(np.array(hit.place) - np.stack([lons, lats], axis=1)).max()) / METRE)
    first, start = 0, time.perf_counter()
    for kind, sentence in PLACES.items():
        hit = index.query(sentence, k=1)[0]
        shown = max(known, key=lambda place: shared(*hit.window, place))
        first += shown[0] == kind
    return {**built, "error": error, "found": first, "query_ms": 1000 * (time.perf_counter() - start) / len(PLACES)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=30_000, help="of the scene in pixels")
    parser.add_argument("--places", type=int, default=60, help="drawn places in it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stmine-large-scene-") as folder:
        found = measure(Path(folder), options.side, options.places)
    print(
        f"{options.side:,} x {options.side:,} px: {found['tiles']:,} tiles with data, {found['empty']:,} without, "
        f"{found['seconds']:.0f} s, peak {found['mb']:,.0f} MB\n"
        f"corners of all hits: at most {found['error']:.1e} m from rasterio's; the first hit is of the kind that was "
        f"asked for {found['found']} of {len(PLACES)} times; {found['query_ms']:.0f} ms a query"
    )
    return 0 if math.isfinite(found["error"]) and found["error"] < 0.001 else 1


if __name__ == "__main__":
    raise SystemExit(main())

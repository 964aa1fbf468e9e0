"""The drawn scene with a place: what places.csv says is there is there."""

import csv

import numpy as np
import pytest

from stmine_hf.data.toy.toy_mosaic import write_mosaic
from stmine_hf.data.toy.toy_scenes import draw_scene
from stmine_hf.images import Window, open_scene

pytest.importorskip("rasterio")


def test_a_mosaic_holds_the_scenes_it_lists(tmp_path):
    path = write_mosaic(tmp_path / "m", count=5, seed=3, size=64)
    with (tmp_path / "m" / "places.csv").open() as table, open_scene(path) as scene:
        rows = list(csv.DictReader(table))
        assert len(rows) == 5 and (scene.width, scene.height) == (192, 128)
        assert scene.place.georeference.crs == "EPSG:32631" and scene.place.time.year == 2024
        for number, row in enumerate(rows):
            shown = scene.window(Window(*(int(row[name]) for name in ("left", "top", "width", "height"))))
            drawn = np.asarray(draw_scene(row["kind"], 3 + number, 64)[0])
            np.testing.assert_array_equal(np.asarray(shown), np.maximum(drawn, 1))
    again = write_mosaic(tmp_path / "again", count=5, seed=3, size=64)
    assert again.read_bytes() == path.read_bytes()

"""Indexes of tiles: the right tiles, upkeep, places and times, filters against brute force, maps and heat maps."""

import base64
import io
import json
import math
from dataclasses import replace
from datetime import datetime, timezone
from itertools import pairwise

import numpy as np
import pytest
from helpers import save_tiny_fisvl, tiny_fisvl
from PIL import Image

from stmine_hf.cli import main
from stmine_hf.errors import StmineError
from stmine_hf.geojson import feature
from stmine_hf.images import PixelOptions, Window, content_digest, open_image
from stmine_hf.search import Hit, ImageIndex
from stmine_hf.search.boxes import EARTH_KM, boxes_of, centre, distances_km, touches
from stmine_hf.search.change import changes
from stmine_hf.search.embedding import embed_images, embed_texts
from stmine_hf.search.filters import Condition, Where
from stmine_hf.search.heat import heat, write_heat, write_heat_png
from stmine_hf.search.maps import map_document, map_page, write_geojson
from stmine_hf.search.metadata import Metadata, time_in_name
from stmine_hf.search.present import thumbnails

rasterio = pytest.importorskip("rasterio")
UTC = timezone.utc


def build(images, out, model, **options):
    return ImageIndex.build(images, out, **{"model": model, "batch_size": 4, "progress": False, **options})


def counts(index):
    names = ("added", "changed", "unchanged", "removed", "embedded")
    return {name: value for name in names if (value := getattr(index.report, name))}


@pytest.fixture(scope="module")
def model():
    return tiny_fisvl()


def write_scene(path, width=96, height=64, seed=0, west=500_000, crs="EPSG:32633", hole=None, time=None, **options):
    pixels = np.random.default_rng(seed).integers(1, 255, (3, height, width), dtype=np.uint8)
    if hole is not None:
        left, top, right, bottom = hole
        pixels[:, top:bottom, left:right] = 0
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "nodata": 0}
    place = {"crs": crs, "transform": rasterio.Affine(10, 0, west, 0, -10, 5_400_000)}
    with rasterio.open(path, "w", **profile, **(place if crs else {}), **options) as dataset:
        dataset.write(pixels)
        if time:
            dataset.update_tags(TIFFTAG_DATETIME=time)
    return path


@pytest.fixture
def scenes(tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    write_scene(folder / "a_20210530.tif", hole=(0, 0, 32, 32), time="2020:01:02 03:04:05")
    write_scene(folder / "b_20220601.tif", seed=1, west=600_000)
    Image.fromarray(np.random.default_rng(2).integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(folder / "small.png")
    return folder


def all_hits(index, **options):
    return index.query("planes", k=10_000, merge=False, **options)


# ---- the tiles ----


def test_tiles_are_embedded_as_images_of_their_own_are(scenes, tmp_path, model):
    index = build(scenes, tmp_path / "index", model, tile="32", overlap=0.5)
    # 5 x 3 tiles of each scene, one of them without data, and the small image whole
    assert len(index) == 15 - 1 + 15 + 1 and index.report.empty == 1 and counts(index)["added"] == 30
    hits = all_hits(index)
    tiles = [
        open_image(hit.path)
        if hit.window is None
        else open_image(hit.path).crop((*hit.window[:2], hit.window.left + 32, hit.window.top + 32))
        for hit in hits
    ]
    expected = (embed_images(*model, tiles) @ embed_texts(*model, ["planes"])[0]).numpy()
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-5)
    assert [hit.path.name for hit in hits if hit.window is None] == ["small.png"]


def test_several_sides(scenes, tmp_path, model):
    index = build(scenes, tmp_path / "index", model, tile="64,32", overlap=0)
    sides = sorted({hit.window.width for hit in all_hits(index) if hit.window})
    assert sides == [32, 64] and index.tiles.sides == (32, 64)


def test_of_overlapping_tiles_the_best_is_the_answer(scenes, tmp_path, model):
    index = build(scenes, tmp_path / "index", model, tile=32, overlap=0.5)
    every, merged = all_hits(index), index.query("planes", k=10_000)
    kept = []
    for hit in every:  # greedy, best first
        clash = any(
            other.path == hit.path and hit.window and other.window
            and abs(other.window.left - hit.window.left) < 32 and abs(other.window.top - hit.window.top) < 32
            for other in kept
        )  # fmt: skip
        if not clash:
            kept.append(hit)
    assert [(hit.path, hit.window) for hit in merged] == [(hit.path, hit.window) for hit in kept]
    for k in (1, 2, 5):
        assert [hit.window for hit in index.query("planes", k=k)] == [hit.window for hit in merged[:k]]


def test_upkeep(scenes, tmp_path, model):
    build(scenes, tmp_path / "index", model, tile=32, overlap=0)
    assert counts(build(scenes, tmp_path / "index", model)) == {"unchanged": 12}
    write_scene(scenes / "b_20220601.tif", width=64, height=32, seed=5)  # fewer tiles now
    (scenes / "small.png").rename(scenes / "renamed.png")
    write_scene(scenes / "c.tif", width=33, height=32, seed=6)
    index = build(scenes, tmp_path / "index", model)
    assert counts(index) == {"added": 3, "changed": 2, "unchanged": 5, "removed": 5, "embedded": 4}
    afresh = build(scenes, tmp_path / "afresh", model, tile=32, overlap=0)
    assert [hit[1:4] for hit in all_hits(index)] == [hit[1:4] for hit in all_hits(afresh)]


@pytest.mark.parametrize("stop_after", [1, 3, 7])
def test_a_build_that_was_stopped_is_resumed_tile_by_tile(scenes, tmp_path, model, stop_after):
    from stmine_hf.search.embedder import Embedder

    class Stopping(Embedder):
        left = stop_after

        def features(self, pixel_values):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return super().features(pixel_values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stmine_hf.search.index.Embedder", Stopping)
        with pytest.raises(KeyboardInterrupt):
            build(scenes, tmp_path / "index", model, tile=32, overlap=0.5, batch_size=2, save_every=2)
    index = build(scenes, tmp_path / "index", model)
    assert 0 < index.report.embedded < 30
    afresh = build(scenes, tmp_path / "afresh", model, tile=32, overlap=0.5, batch_size=2)
    assert [hit[2:4] for hit in all_hits(index)] == [hit[2:4] for hit in all_hits(afresh)]
    np.testing.assert_allclose([h.score for h in all_hits(index)], [h.score for h in all_hits(afresh)], atol=1e-6)


def test_a_broken_scene_is_skipped_by_name(scenes, tmp_path, model):
    (scenes / "cut.tif").write_bytes((scenes / "a_20210530.tif").read_bytes()[:3000])
    index = build(scenes, tmp_path / "index", model, tile=32, overlap=0)
    (skip,) = index.report.skipped
    assert skip.path == "cut.tif" and "cannot be read" in skip.reason and len(index) == 5 + 6 + 1


def test_scenes_of_every_kind_are_indexed_or_counted(tmp_path, model):
    folder = tmp_path / "odd"
    folder.mkdir()
    write_scene(folder / "empty.tif", hole=(0, 0, 96, 64))
    with pytest.raises(StmineError, match=r"no tile of .*odd has data in it \(6 have none\)"):
        build(folder, tmp_path / "none", model, tile=32, overlap=0)
    for bands, dtype in ((1, "uint8"), (13, "uint16")):
        profile = {"driver": "GTiff", "width": 64, "height": 32, "count": bands, "dtype": dtype}
        with rasterio.open(folder / f"{bands}.tif", "w", **profile) as dataset:
            dataset.write(np.random.default_rng(bands).integers(1, 250, (bands, 32, 64), dtype))
    write_scene(folder / "wide.tif", width=80, height=20)  # less high than a tile
    write_scene(folder / "tiny.tif", width=20, height=20)
    write_scene(folder / "nowhere.tif", width=32, height=32, seed=3, crs=None)
    (folder / "cut.tif").write_bytes((folder / "wide.tif").read_bytes()[:200])
    index = build(folder, tmp_path / "index", model, tile=32, overlap=0)
    found = {}
    for hit in all_hits(index):
        found.setdefault(hit.path.name, []).append(hit.window)
    assert {name: len(windows) for name, windows in found.items()} == {
        "1.tif": 2, "13.tif": 2, "wide.tif": 3, "tiny.tif": 1, "nowhere.tif": 1,
    }  # fmt: skip
    assert found["tiny.tif"] == [None] and Window(48, 0, 32, 20) in found["wide.tif"]
    assert index.report.empty == 6 and [skip.path for skip in index.report.skipped] == ["cut.tif"]


def test_a_scene_that_is_removed_or_replaced_meanwhile(scenes, tmp_path, model, monkeypatch):
    from stmine_hf.search import tiles

    def removing(path):
        if path.name.startswith("b_"):
            path.unlink()
        return content_digest(path)

    with monkeypatch.context() as patch:
        patch.setattr(tiles, "content_digest", removing)
        index = build(scenes, tmp_path / "index", model, tile=32, overlap=0)
    (skip,) = index.report.skipped
    assert skip == ("b_20220601.tif", "file not found") and len(index) == 5 + 1
    write_scene(scenes / "a_20210530.tif", width=40, height=40)  # smaller than when it was indexed
    shown = dict(thumbnails(all_hits(index), 16))
    gone = [shown[hit] for hit in shown if hit.window is not None and hit.window[0] >= 32]
    assert gone and all("in the image of 40 x 40 px: it has changed" in str(one) for one in gone)
    assert counts(build(scenes, tmp_path / "index", model))["removed"] >= 1


def test_other_tiles_for_the_same_index_are_refused(scenes, tmp_path, model):
    build(scenes, tmp_path / "index", model, tile=32)
    with pytest.raises(StmineError, match=r"was made of .*32.*64.* are requested"):
        build(scenes, tmp_path / "index", model, tile=64)
    build(scenes, tmp_path / "whole", model)
    with pytest.raises(StmineError, match="was made of whole images"):
        build(scenes, tmp_path / "whole", model, tile=64)
    for tile, overlap in (("0", 0.25), ("9999", 0.25), ("x", 0.25), ("32", 1.0)):
        with pytest.raises(StmineError, match="expected"):
            build(scenes, tmp_path / "new", model, tile=tile, overlap=overlap)


# ---- place and time ----


def test_hits_have_the_place_that_rasterio_gives(scenes, tmp_path, model):
    index = build(scenes, tmp_path / "index", model, tile=32, overlap=0)
    for hit in all_hits(index):
        if hit.window is None:
            assert hit.place == () and hit.time is None
            continue
        left, top = hit.window[:2]
        with rasterio.open(hit.path) as dataset:
            xs, ys = zip(*(dataset.transform * corner for corner in ((left, top), (left + 32, top + 32))), strict=True)
            lons, lats = rasterio.warp.transform(dataset.crs, "EPSG:4326", xs, ys)
        np.testing.assert_allclose([hit.place[0], hit.place[2]], list(zip(lons, lats, strict=True)), atol=1e-9)
    times = {hit.time for hit in all_hits(index) if hit.path.name.startswith("a_")}
    assert times == {datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)}


@pytest.mark.slow
def test_coordinates_in_a_large_scene_are_those_of_rasterio(tmp_path):
    """4,000 px here; `python -m large_scene` measures 30,000."""
    import large_scene

    found = large_scene.measure(tmp_path, 4000, 12)
    assert found["error"] < 0.001 and found["found"] >= 4 and found["empty"] > 300


def test_names_and_a_table_say_more(scenes, tmp_path, model):
    table = tmp_path / "facts.csv"
    table.write_text(
        "image,lon,lat,date,sensor,cloud\n"
        "small.png,8.5,47.4,,S2,10\n"
        "b_20220601.TIF,,,2023-05-06T07:08:09+02:00,L8,2.5\n"
        "a_20210530.tif,181,0,never,S2,\n"
        "nowhere.png,1,1,,S2,1\n"
    )
    index = build(scenes, tmp_path / "index", model, metadata=table, time_pattern="%Y%m%d")
    hits = {hit.path.name[:1]: hit for hit in all_hits(index)}
    assert hits["s"].place == ((8.5, 47.4),) and hits["s"].time is None
    assert hits["b"].time == datetime(2023, 5, 6, 5, 8, 9, tzinfo=UTC)  # the table knows better than the name
    assert hits["a"].time == datetime(2021, 5, 30, tzinfo=UTC)  # and the name better than the file
    assert len(hits["a"].place) == 4  # what the table says of it is no place
    reasons = str(index.report.findings)
    assert "not on Earth" in reasons and "time that cannot be read" in reasons and "not in the index" in reasons
    assert index.columns == ["sensor", "cloud"]

    def found(**given):
        return {hit.path.name[:1] for hit in all_hits(index, where=Where.parse(**given))}

    assert found(where=["sensor=S2"]) == {"a", "s"} and found(where=["cloud<10"]) == {"b"}
    assert found(where=["cloud<=10", "sensor!=L8"]) == {"s"}
    assert found(start="2022-01-01") == {"b"}
    assert found(end="2021-05-30") == {"a"} and found(start="2024-01-01") == set()
    assert found(bbox="8,47,9,48") == {"s"} and found(near="8.5,47.5,20") == {"s"}
    with pytest.raises(StmineError, match="no column 'camera' in the index; there are sensor, cloud"):
        found(where=["camera=1"])
    # an update without a table keeps what it said; a new table replaces it
    assert build(scenes, tmp_path / "index", model).columns == ["sensor", "cloud"]
    table.write_text("file,owner\nsmall.png,me\n")
    index = build(scenes, tmp_path / "index", model, metadata=table)
    assert index.columns == ["owner"] and counts(index) == {"unchanged": 3}
    assert len(list((tmp_path / "index").glob("metadata-*"))) == 1


def test_columns_of_other_names_and_an_encoding(tmp_path, model):
    folder = tmp_path / "plain"
    folder.mkdir()
    Image.new("RGB", (30, 20), "red").save(folder / "x.png")
    table = tmp_path / "t.csv"
    table.write_bytes("图,x,y,image,时间\nx.png,8,47,港口,2020-05-06\n".encode("gb18030"))
    columns = {"image": "图", "longitude": "X", "latitude": "y", "time": "时间"}
    index = build(folder, tmp_path / "index", model, metadata=Metadata(table, encoding="gb18030", columns=columns))
    (hit,) = all_hits(index)
    assert hit.place == ((8.0, 47.0),) and hit.time == datetime(2020, 5, 6, tzinfo=UTC)
    assert index.columns == ["image"]  # a column as any other: the images are in another one
    with pytest.raises(StmineError, match="has no column 'name', but 图, x, y, image, 时间"):
        Metadata(table, encoding="gb18030", columns={"image": "name"}).require_readable()
    with pytest.raises(StmineError, match="expected those of image, longitude, latitude, time, found one for 'lat'"):
        Metadata(table, columns={"lat": "y"})


def test_the_command_maps_columns(tmp_path, capsys):
    folder = tmp_path / "plain"
    folder.mkdir()
    Image.new("RGB", (30, 20), "red").save(folder / "x.png")
    table = tmp_path / "t.csv"
    table.write_text("scene,x\nx.png,1\n")
    save_tiny_fisvl(tmp_path / "model")
    words = ["index", folder, "--model", tmp_path / "model", "--out", tmp_path / "index", "--metadata", table]
    for more, code, said in (
        ([], 1, "--column image=THE_COLUMN"),
        (["--column", "image=scene"], 0, "Columns to filter by (--where): x"),
    ):
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in [*words, *more]])
        assert (end.value.code or 0) == code
        printed = capsys.readouterr()
        assert said in printed.out + printed.err


def test_filters_by_what_nobody_knows_are_refused(tmp_path, model):
    folder = tmp_path / "plain"
    folder.mkdir()
    Image.new("RGB", (30, 20), "red").save(folder / "x.png")
    index = build(folder, tmp_path / "index", model)
    with pytest.raises(StmineError, match="has no place of any image"):
        index.query("planes", where=Where(near=(0, 0, 1)))
    with pytest.raises(StmineError, match="has no time of any image"):
        index.query("planes", where=Where(start=datetime(2020, 1, 1, tzinfo=UTC)))
    table = tmp_path / "t.csv"
    table.write_text("name,x\nother.png,1\n")
    with pytest.raises(StmineError, match="none of its 1 rows names an image"):
        build(folder, tmp_path / "index", model, metadata=table)
    table.write_text("thing,x\nx.png,1\n")
    with pytest.raises(StmineError, match=r"expected a column with the names of the images .*found thing, x"):
        Metadata(table).rows(["x.png"], folder)


@pytest.mark.parametrize(
    "given",
    [
        {"bbox": "1,2,3"}, {"bbox": "0,91,1,92"}, {"bbox": "-181,0,0,1"}, {"bbox": "0,1,1,0"}, {"near": "0,0,-1"},
        {"near": "0,0,nan"}, {"near": "x,0,1"}, {"start": "soon"}, {"start": "2022-01-02", "end": "2022-01-01"},
        {"where": ["sensor"]}, {"where": ["=3"]},
    ],
)  # fmt: skip
def test_filters_that_make_no_sense_are_refused(given):
    with pytest.raises(StmineError, match="expected"):
        Where.parse(**given)


@pytest.mark.parametrize("seed", range(4))
def test_narrow_filters_find_what_brute_force_finds(tmp_path, model, seed, monkeypatch):
    """Random places all over the Earth, some across the antimeridian; random boxes and circles."""
    rng = np.random.default_rng(seed)
    folder = tmp_path / "many"
    folder.mkdir()
    rows = ["image,lon,lat,time"]
    points = []
    for number in range(60):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
        lon, lat = rng.uniform(-180, 180), rng.uniform(-89, 89)
        day = int(rng.integers(1, 28))
        points.append((lon, lat, day))
        rows.append(f"{number:02d}.png,{lon},{lat},2024-02-{day:02d}T12:00:00Z")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    index = build(folder, tmp_path / "index", model, metadata=tmp_path / "t.csv")
    every = all_hits(index)
    for _ in range(20):
        west, east = rng.uniform(-180, 180, 2)
        south, north = sorted(rng.uniform(-90, 90, 2))
        near = (rng.uniform(-180, 180), rng.uniform(-90, 90), rng.uniform(100, 9000))
        first, last = sorted(rng.integers(1, 28, 2).tolist())

        def inside(lon, lat, west=west, east=east, south=south, north=north):
            across = west <= lon <= east if west <= east else lon >= west or lon <= east
            return across and south <= lat <= north

        def close(lon, lat, near=near):
            a, b = map(math.radians, (lat, near[1]))
            cosine = math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(math.radians(lon - near[0]))
            return EARTH_KM * math.acos(max(-1, min(1, cosine))) <= near[2]

        box, circle = Where(bbox=(west, south, east, north)), Where(near=near)
        days = Where.parse(start=f"2024-02-{first:02d}", end=f"2024-02-{last:02d}")
        cases = {
            box: lambda lon, lat, day: inside(lon, lat),
            circle: lambda lon, lat, day: close(lon, lat),
            days: lambda lon, lat, day, first=first, last=last: first <= day <= last,
            replace(box, near=near): lambda lon, lat, day: inside(lon, lat) and close(lon, lat),
        }
        for where, meets in cases.items():
            expected = [hit.path for hit in every if meets(*points[int(hit.path.stem)])]
            assert [hit.path for hit in all_hits(index, where=where)] == expected
            assert [hit.path for hit in index.query("planes", k=3, where=where)] == expected[:3]


def test_distances_to_boxes():
    boxes = np.array([(10.0, 40.0, 11.0, 41.0), (179.0, -1.0, 181.0, 1.0), (np.nan,) * 4])
    near = distances_km(boxes, 10.5, 40.5)
    assert near[0] == 0 and math.isnan(near[2])
    assert distances_km(boxes, 10.5, 42.0)[0] == pytest.approx(math.radians(1) * EARTH_KM)
    assert distances_km(boxes, -179.5, 0.0)[1] == 0
    assert distances_km(boxes, -178.0, 0.0)[1] == pytest.approx(math.radians(1) * EARTH_KM)


def test_conditions_compare_numbers_as_numbers():
    cells = ["10", "9", "abc", None, "1e1"]
    assert Condition.parse("x=10").mask(cells).tolist() == [True, False, False, False, True]
    assert Condition.parse("x < 10").mask(cells).tolist() == [False, True, False, False, False]
    assert Condition.parse("x!=abc").mask(cells).tolist() == [True, True, False, False, True]


@pytest.mark.parametrize(
    "name, pattern, expected",
    [
        ("S2A_20210530T101112.tif", "%Y%m%dT%H%M%S", datetime(2021, 5, 30, 10, 11, 12)),
        ("x/2021-05-30/tile.tif", "%Y-%m-%d", None),  # the name, not its folder
        ("LC08_2021150.tif", "%Y%j", datetime(2021, 5, 30)),
        ("img_99999999_20210530.tif", "%Y%m%d", datetime(2021, 5, 30)),
        ("img.tif", "%Y", None),
    ],
)
def test_times_in_names(name, pattern, expected):
    assert time_in_name(name, pattern) == (None if expected is None else expected.replace(tzinfo=UTC))
    for wrong in ("%d", "%Q%Y", ""):
        with pytest.raises(StmineError, match="time pattern: expected a year"):
            Metadata(time_pattern=wrong)


# ---- what is written ----


def test_geojson_and_map(scenes, tmp_path, model):
    index = build(scenes, tmp_path / "index", model, tile=32, overlap=0)
    hits = all_hits(index)
    write_geojson(hits, tmp_path / "hits.geojson")
    content = json.loads((tmp_path / "hits.geojson").read_text())
    assert len(content["features"]) == sum(bool(hit.place) for hit in hits) == 11
    for one in content["features"]:
        (ring,) = one["geometry"]["coordinates"]
        assert ring[0] == ring[-1] and len(ring) == 5
        area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring))
        assert area > 0 and one["properties"]["window"][2:] == [32, 32]
    map_page(hits, tmp_path / "map.html", title="planes </script><b>")
    page = (tmp_path / "map.html").read_text()
    assert page.count("data:image/jpeg") == 1 and "</script><b>" not in page and "http://www.w3.org" in page
    assert page.count('"jpeg": "/9j/') == 11 and "src=" not in page
    assert "`${item.rank}   ${item.score.toFixed(3)}`" in page  # rank and score are there without a pointer over it


def test_names_of_images_are_no_code_on_the_map(tmp_path):
    """A comment that opens a script hides the end of the page's own one; a title that looks like a placeholder."""
    names = ["<!--<script>.png", "<img src=x onerror=alert(1)>.png", "a\u2028b.png", "{{count}}.png"]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    hits = [Hit(rank, 0.5, tmp_path / name, place=((float(rank), 1.0),)) for rank, name in enumerate(names)]
    map_page(hits, tmp_path / "map.html", title="{{items}} {{heading}}")
    page = (tmp_path / "map.html").read_text(encoding="utf-8")
    script = page[page.index("const items = ") :]
    items, end = json.JSONDecoder().raw_decode(script, len("const items = "))
    assert [item["image"] for item in items] == names and "<" not in script[:end]
    assert page.count("<script") == 1 and "onerror" not in page.replace(script, "")
    assert '<h1 dir="auto">{{items}} {{heading}}</h1>' in page


def test_geojson_is_cut_at_the_antimeridian():
    geometry = feature([(179.0, 1.0), (-179.0, 1.0), (-179.0, -1.0), (179.0, -1.0)], {})["geometry"]
    assert geometry["type"] == "MultiPolygon"
    lons = [sorted({point[0] for point in polygon[0]}) for polygon in geometry["coordinates"]]
    assert lons == [[179.0, 180.0], [-180.0, -179.0]]
    assert feature([(1.0, 2.0)], {})["geometry"] == {"type": "Point", "coordinates": [1.0, 2.0]}
    assert feature([], {})["geometry"] is None


def test_a_place_around_a_pole_reaches_up_to_it():
    place = [(-135.0, 88.0), (135.0, 88.0), (45.0, 88.0), (-45.0, 88.0)]  # a square with the north pole in the middle
    boxes = boxes_of([place, [(lon, -lat) for lon, lat in place], []])
    np.testing.assert_allclose(boxes, [(-180, 88, 180, 90), (-180, -90, 180, -88), (np.nan,) * 4])
    assert touches(boxes, (100.0, 89.0, 101.0, 90.0)).tolist() == [True, False, False]
    assert distances_km(boxes, 10.0, 90.0)[0] == 0 and centre(place) == (0.0, 90.0)
    geometry = feature(place, {})["geometry"]
    (ring,) = geometry["coordinates"]
    assert {(-180.0, 90.0), (180.0, 90.0)} <= set(map(tuple, ring)) and ring[0] == ring[-1]
    assert sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) > 0, "counterclockwise"
    assert sorted(lon for lon, lat in ring[:-1] if lat == 88.0) == [-180, -135, -45, 45, 135, 180]


def test_what_is_shown_of_an_index_has_its_stretch_and_bands(tmp_path, model, monkeypatch):
    """A scene of 16 bits whose default stretch differs, and whose bands are read in another order."""
    folder = tmp_path / "deep"
    folder.mkdir()
    pixels = np.zeros((4, 64, 64), np.uint16)
    pixels[3], pixels[1, :32], pixels[0] = 2000, 1000, np.linspace(0, 4000, 64 * 64).reshape(64, 64)
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 4, "dtype": "uint16"}
    with rasterio.open(
        folder / "x.tif", "w", **profile, crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    ) as file:
        file.write(pixels)
    options = PixelOptions(stretch="0,4000", bands=(4, 2, 3))
    build(folder, tmp_path / "index", model, tile=32, overlap=0, pixels=options)
    index = ImageIndex.open(tmp_path / "index", model=model)
    assert index.pixels == options
    answer = index.search("planes", 1)
    (hit,) = answer
    expected = (128, 64 if hit.window.top == 0 else 0, 0)
    ((_, thumbnail),) = thumbnails(answer.hits, 32, index.pixels)
    assert thumbnail.getpixel((16, 16)) == expected
    sheet = np.asarray(answer.plot()).reshape(-1, 3)
    assert (np.abs(sheet.astype(int) - expected).max(axis=1) <= 2).sum() > 10_000
    data = json.loads(
        map_document(answer.hits, title="x", pixels=index.pixels).split("const items = ")[1].split(";\n")[0]
    )
    on_map = Image.open(io.BytesIO(base64.b64decode(data[0]["jpeg"])))
    assert np.abs(np.array(on_map.getpixel((64, 64))) - expected).max() <= 4
    drawn = []
    monkeypatch.setattr("stmine_hf.search.heat.write_heat_png", lambda *given: drawn.append(given))
    write_heat(index, "planes", folder / "x.tif", tmp_path / "heat.tif", tmp_path / "heat.png")
    assert drawn[0][3] == options
    write_heat_png(np.full((2, 2), np.nan), folder / "x.tif", tmp_path / "heat.png", options)
    below = Image.open(tmp_path / "heat.png").convert("RGB")
    grey = [round(0.299 * 128 + 0.587 * green) for green in (64, 0)]
    assert [below.getpixel((800, row))[0] for row in (100, 1500)] == pytest.approx(grey, abs=1)


def test_a_heat_map_lies_where_its_scene_lies(scenes, tmp_path, model):
    index = build(scenes, tmp_path / "index", model, tile=32, overlap=0)
    scene = scenes / "a_20210530.tif"
    write_heat(index, "planes", scene, tmp_path / "heat.tif", tmp_path / "heat.png")
    with rasterio.open(tmp_path / "heat.tif") as made, rasterio.open(scene) as source:
        assert made.crs == source.crs and made.bounds == source.bounds
        values = made.read(1)
    assert np.isnan(values[0, 0])  # no data there
    scores = {hit.window: hit.score for hit in all_hits(index) if hit.path == scene}
    assert values[-1, -1] == pytest.approx(scores[Window(64, 32, 32, 32)], abs=1e-6)
    assert max(Image.open(tmp_path / "heat.png").size) == 1600
    whole = build(scenes, tmp_path / "whole", model)
    with pytest.raises(StmineError, match="a heat map needs tiles"):
        write_heat(whole, "planes", scene, tmp_path / "h.tif", tmp_path / "h.png")


def test_heat_is_the_mean_of_the_tiles_over_a_cell():
    windows = [Window(0, 0, 20, 20), Window(10, 0, 20, 20)]
    values = heat(windows, np.array([1.0, 3.0]), 35, 20, 10)
    np.testing.assert_allclose(values, [[1, 2, 3, np.nan], [1, 2, 3, np.nan]])


def test_changes_between_two_dates(tmp_path, model):
    folder = tmp_path / "dates"
    folder.mkdir()
    write_scene(folder / "before.tif", width=128, height=64)
    write_scene(folder / "after.tif", width=128, height=64)
    with rasterio.open(folder / "after.tif", "r+") as dataset:
        changed = np.random.default_rng(9).integers(1, 255, (3, 32, 32), dtype=np.uint8)
        dataset.write(changed, window=rasterio.windows.Window(32, 0, 32, 32))
    index = build(folder, tmp_path / "index", model, tile=32, overlap=0)
    found = changes(index, "planes", "before.tif", "after.tif", k=100)
    assert len(found) == 8 and sum(abs(one.change) > 1e-6 for one in found) == 1
    (moved,) = [one for one in found if abs(one.change) > 1e-6]
    assert moved.hit.window == Window(32, 0, 32, 32) and moved.hit.path.name == "after.tif"
    assert moved.change == pytest.approx(moved.hit.score - moved.before)
    back = changes(index, "planes", "after.tif", "before.tif", k=100)
    assert {round(one.change, 6) for one in back} == {round(-one.change, 6) for one in found}
    with pytest.raises(StmineError, match=r"nothing\.tif: expected an image of the index"):
        changes(index, "planes", "nothing.tif", "after.tif")
    write_scene(folder / "far.tif", width=128, height=64, west=900_000)
    index = build(folder, tmp_path / "index", model)
    with pytest.raises(StmineError, match="no tile in common"):
        changes(index, "planes", "before.tif", "far.tif")


def test_changes_pair_tiles_by_place_if_the_scenes_are_cut_differently(tmp_path, model):
    folder = tmp_path / "dates"
    folder.mkdir()
    write_scene(folder / "before.tif", width=128, height=64)
    write_scene(folder / "after.tif", width=96, height=64, west=500_320)  # begins one tile further east
    index = build(folder, tmp_path / "index", model, tile=32, overlap=0)
    found = changes(index, "planes", "before.tif", "after.tif", k=100)
    assert len(found) == 6


def test_indexes_from_python_and_the_options_of_pixels_go_together(scenes, tmp_path, model):
    index = build(scenes, tmp_path / "index", model, tile=32, pixels=PixelOptions(bands=(3, 2, 1)))
    assert ImageIndex.open(tmp_path / "index", model=model).tiles == index.tiles


def test_a_table_without_image_names_is_refused_before_the_work(scenes, tmp_path, model):
    table = tmp_path / "t.csv"
    table.write_text("thing,x\na,1\n")
    with pytest.raises(StmineError, match="expected a column with the names of the images"):
        build(scenes, tmp_path / "index", model, metadata=table)
    assert not (tmp_path / "index").exists()
    table.write_text("photo,x\nsmall.png,1\n")
    assert build(scenes, tmp_path / "index", model, metadata=table).columns == ["x"]


def test_a_folder_of_images_is_no_index(scenes):
    with pytest.raises(StmineError, match=r"holds images and no index: make one with .* --out .*scenes\.index"):
        ImageIndex.open(scenes)

"""Scenes read by windows: the same pixels as the whole image, whatever the format; place and time of files."""

import struct
import subprocess
import sys
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from large_images import PEAK
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from stmine_hf.images import (
    ImageError,
    PixelOptions,
    Window,
    WindowError,
    limits,
    open_image,
    open_scene,
    parse_time,
    place_and_time,
    scene_size,
    tile_windows,
)

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("rasterio.warp")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)}


def values(width, height, bands=3, dtype=np.uint8, most=255, seed=0):
    """(bands, height, width)."""
    slope = np.add.outer(np.arange(height), np.arange(width))[None] / (height + width)
    noise = np.random.default_rng(seed).normal(0, 0.1, (bands, height, width))
    return (1 + (most - 1) * np.clip(slope + noise, 0, 1)).astype(dtype)


def write(path, pixels, driver="GTiff", **options):
    bands, height, width = pixels.shape
    profile = {"driver": driver, "width": width, "height": height, "count": bands, "dtype": pixels.dtype, **options}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
    return path


def write_sparse(path, pixels):
    """70 x 50 px, of which only these have been written; the other blocks are not in the file."""
    profile = {"driver": "GTiff", "width": 70, "height": 50, "count": 3, "dtype": "uint8", "sparse_ok": True}
    with rasterio.open(path, "w", **profile, tiled=True, blockxsize=16, blockysize=16) as dataset:
        dataset.write(pixels, window=rasterio.windows.Window(16, 16, 32, 32))


def read(path, side=16, options=None, **reading):
    """Windows by their place."""
    with open_scene(path, options or PixelOptions()) as scene:
        found = list(scene.windows(tile_windows(scene.width, scene.height, side, 0.25), **reading))
    return {one[0]: one[1] for one in found}


# ---- which windows ----


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 100), st.floats(0, 0.95))
def test_windows_cover_every_pixel_and_have_one_size(width, height, side, overlap):
    windows = tile_windows(width, height, side, overlap)
    covered = np.zeros((height, width), dtype=bool)
    for left, top, wide, high in windows:
        assert left >= 0 and top >= 0 and left + wide <= width and top + high <= height
        covered[top : top + high, left : left + wide] = True
    assert covered.all() and len(set(windows)) == len(windows)
    assert {window[2:] for window in windows} == {(min(side, width), min(side, height))}
    assert windows == sorted(windows, key=lambda window: (window.top, window.left))


# ---- what they show ----

KINDS = {
    "8bit.tif": lambda path: write(path, values(70, 50), tiled=True, blockxsize=16, blockysize=16),
    "strips.tif": lambda path: write(path, values(70, 50), compress="deflate"),
    "planar.tif": lambda path: write(path, values(70, 50), interleave="band"),
    "16bit.tif": lambda path: write(path, values(70, 50, 4, np.uint16, 3000)),
    "float.tif": lambda path: write(path, values(70, 50, 3, np.float32, 9.0)),
    "signed.tif": lambda path: write(path, values(70, 50, 1, np.int16, 900)),
    "grey.tif": lambda path: write(path, values(70, 50, 1)),
    "nodata.tif": lambda path: write(path, values(70, 50, 3, np.uint16, 3000) * (np.arange(70) > 20), nodata=0),
    "alpha.tif": lambda path: Image.fromarray(values(70, 50, 4).transpose(1, 2, 0)).save(path),
    "13bands.tif": lambda path: write(path, values(70, 50, 13, np.uint16, 3000)),
    "sparse.tif": lambda path: write_sparse(path, values(32, 32)),
    "palette.png": lambda path: Image.fromarray(values(70, 50).transpose(1, 2, 0)).quantize(30).save(path),
    "8bit.png": lambda path: Image.fromarray(values(70, 50).transpose(1, 2, 0)).save(path),
    "16bit.png": lambda path: write(path, values(70, 50, 3, np.uint16, 3000), "PNG"),
    "8bit.jp2": lambda path: Image.fromarray(values(70, 50).transpose(1, 2, 0)).save(path),
    "8bit.jpg": lambda path: Image.fromarray(values(70, 50).transpose(1, 2, 0)).save(path, quality=95, subsampling=0),
}


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("name", KINDS)
def test_a_window_shows_what_the_whole_image_shows(tmp_path, monkeypatch, name, large):
    path = tmp_path / name
    KINDS[name](path)
    whole = np.asarray(open_image(path)).astype(int)
    if large:  # as a scene of 10,000 pixels is read
        monkeypatch.setattr(limits, "LARGE", 100)
    windows = read(path)
    assert len(windows) == 24
    for (left, top, width, height), image in windows.items():
        expected = whole[top : top + height, left : left + width]
        if image is None:
            assert name == "nodata.tif" and not expected.any()
        elif name == "alpha.tif" and large:  # of a scene only what is wholly transparent becomes white
            assert image.size == (width, height)
        else:
            # GDAL and Pillow each bring a decoder of JPEG
            np.testing.assert_allclose(np.asarray(image), expected, atol=3 if name == "8bit.jpg" else 0)


def test_bands_and_stretch_are_those_that_were_asked_for(tmp_path, monkeypatch):
    path = write(tmp_path / "x.tif", values(70, 50, 4, np.uint16, 3000))
    options = PixelOptions("0,3000", (4, 2, 1))
    whole = np.asarray(open_image(path, options=options))
    monkeypatch.setattr(limits, "LARGE", 100)
    for (left, top, width, height), image in read(path, options=options).items():
        np.testing.assert_array_equal(np.asarray(image), whole[top : top + height, left : left + width])


def test_windows_without_enough_data_are_none(tmp_path, monkeypatch):
    pixels = values(64, 16)
    pixels[:, :, :24] = 0
    path = write(tmp_path / "x.tif", pixels, nodata=0)
    for large in (False, True):
        monkeypatch.setattr(limits, "LARGE", 100 if large else 2**24)
        with open_scene(path) as scene:
            tiles = tile_windows(64, 16, 16)
            assert [image is None for _, image in scene.windows(tiles)] == [True, False, False, False]
            assert [image is None for _, image in scene.windows(tiles, least_data=0.6)] == [True, True, False, False]


def test_a_broken_block_costs_its_windows_only(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8)
    path = write(tmp_path / "x.tif", pixels, tiled=True, blockxsize=64, blockysize=16, compress="deflate")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = b"\xff" * 200
    path.write_bytes(content)
    monkeypatch.setattr(limits, "LARGE", 100)
    with open_scene(path) as scene:
        found = list(scene.windows(tile_windows(64, 64, 16)))
    failed = [one for one in found if isinstance(one, WindowError)]
    assert 0 < len(failed) < len(found) == 16 and all("corrupt" in one.reason for one in failed)


def test_files_that_are_no_scene_are_refused(tmp_path):
    path = write(tmp_path / "cut.tif", values(70, 50))
    path.write_bytes(path.read_bytes()[:100])
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "empty.tif").touch()
    for name in ("cut.tif", "text.tif", "empty.tif", "gone.tif"):
        with pytest.raises(ImageError), open_scene(tmp_path / name):
            pass
        assert place_and_time(tmp_path / name) == (None, None, None)
    with pytest.raises(ImageError, match="file not found"):
        scene_size(tmp_path / "gone.tif")


def test_large_scenes_that_are_turned_are_refused(tmp_path, monkeypatch):
    image = Image.fromarray(values(70, 50).transpose(1, 2, 0))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.jpg", exif=exif)
    with open_scene(tmp_path / "x.jpg") as scene:
        assert (scene.width, scene.height) == (50, 70)  # a small one is turned upright
    monkeypatch.setattr(limits, "LARGE", 100)
    with pytest.raises(ImageError, match="stored rotated: save it upright"), open_scene(tmp_path / "x.jpg"):
        pass


def test_large_scenes_need_rasterio(tmp_path, monkeypatch):
    path = write(tmp_path / "x.tif", values(70, 50))
    monkeypatch.setattr(limits, "LARGE", 100)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ImageError, match=r"pip install 'stmine-hf\[geo\]'"), open_scene(path):
        pass


def test_a_false_size_is_refused_before_memory_is_taken(tmp_path):
    path = write(tmp_path / "x.tif", values(64, 64, 3, np.uint16))
    content = bytearray(path.read_bytes())
    (offset,) = struct.unpack("<I", content[4:8])
    (entries,) = struct.unpack("<H", content[offset : offset + 2])
    for at in range(offset + 2, offset + 2 + 12 * entries, 12):
        if struct.unpack("<H", content[at : at + 2])[0] in (256, 257, 278):  # width, height, rows of a strip
            content[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 2**31 - 1)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"over the limit|cannot be read"), open_scene(path):
        pass


# ---- where and when ----


@pytest.mark.parametrize(
    "transform",
    [
        UTM["transform"],
        UTM["transform"] * rasterio.Affine.rotation(30),
        UTM["transform"] * rasterio.Affine.shear(20, 5),
    ],
    ids=["north up", "rotated", "sheared"],
)
def test_corners_are_those_of_rasterio(tmp_path, transform):
    path = write(tmp_path / "x.tif", values(70, 50), crs=UTM["crs"], transform=transform)
    seen = place_and_time(path).georeference
    corners = seen.corners(16, 8, 32, 24)
    with rasterio.open(path) as dataset:
        points = [dataset.transform * pixel for pixel in ((16, 8), (48, 8), (48, 32), (16, 32))]
        lons, lats = rasterio.warp.transform(dataset.crs, "EPSG:4326", *zip(*points, strict=True))
    np.testing.assert_allclose(corners, list(zip(lons, lats, strict=True)), atol=1e-9)


@pytest.mark.parametrize(
    "profile, expected",
    [
        (
            {"crs": "EPSG:4326", "transform": rasterio.Affine(0.1, 0, 179, 0, -0.1, 10)},
            (179.0, -179.0),
        ),  # antimeridian
        (
            {"crs": "EPSG:4326", "transform": rasterio.Affine(0, 0.1, 5, 0.1, 0, 10)},
            (5.0, 5.0),
        ),  # turned by 90 degrees
        ({"crs": "EPSG:4326", "transform": rasterio.Affine(1, 0, 0, 0, -1, 100)}, None),  # north of the pole
        ({"crs": "EPSG:4326", "transform": rasterio.Affine(1, 0, 181, 0, -1, 10)}, (-179.0, -159.0)),
        ({"crs": "EPSG:4326", "transform": rasterio.Affine(18, 0, -180, 0, -8, 80)}, None),  # all longitudes
        ({"crs": "EPSG:4326", "transform": rasterio.Affine(9.5, 0, -95, 0, -8, 80)}, None),  # more than half of them
        (
            {"crs": "EPSG:3413", "transform": rasterio.Affine(20_000, 0, -1e5, 0, -20_000, 2e5)},
            (161.565051, 78.690068),
        ),
        ({"crs": None, "transform": rasterio.Affine(1, 0, 7, 0, -1, 9)}, None),
        ({"crs": "EPSG:32633"}, None),  # no transform
        ({"crs": 'LOCAL_CS["site",UNIT["metre",1]]', "transform": rasterio.Affine(1, 0, 7, 0, -1, 9)}, None),
    ],
    ids=[
        "antimeridian",
        "rotated",
        "pole",
        "181 degrees",
        "world",
        "190 degrees",
        "around the pole",
        "no system",
        "no transform",
        "local",
    ],
)
def test_odd_places(tmp_path, profile, expected):
    seen = place_and_time(write(tmp_path / "x.tif", values(20, 20), **profile)).georeference
    corners = None if seen is None else seen.corners(0, 0, 20, 20)
    assert (None if corners is None else tuple(round(lon, 6) for lon, _ in corners[:2])) == expected


def test_the_camera_says_where_and_when(tmp_path):
    image, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: "2021:05:30 10:11:12", 0x9011: "+02:00"})
    exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 30.0, 36.0), 3: "W", 4: (70.0, 0.0, 0.0)})
    image.save(tmp_path / "x.jpg", exif=exif)
    seen = place_and_time(tmp_path / "x.jpg")
    assert seen.point == pytest.approx((-70.0, -33.51)) and seen.georeference is None
    assert seen.time == datetime(2021, 5, 30, 8, 11, 12, tzinfo=timezone.utc)
    exif.get_ifd(0x8769).update({0x9003: "0000:00:00 00:00:00"})
    exif.get_ifd(0x8825).update({2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)})
    image.save(tmp_path / "y.jpg", exif=exif)
    assert place_and_time(tmp_path / "y.jpg") == (None, None, None)
    exif.get_ifd(0x8825).update({2: (33.0, 0.0, 0.0), 4: (181.0, 0.0, 0.0)})
    image.save(tmp_path / "z.jpg", exif=exif)
    assert place_and_time(tmp_path / "z.jpg").point is None, "longitude 181"


@pytest.mark.parametrize("wrong", [(1.0, 99.0, 0.0), (1.0, 0.0, 99.0), (IFDRational(0, 0), 0.0, 0.0), (1.0, 2.0)])
def test_a_place_or_zone_that_cannot_be_costs_nothing_else(tmp_path, wrong):
    image, exif = Image.new("RGB", (8, 8)), Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: "2021:05:30 10:11:12", 0x9011: "+99:99"})
    exif.get_ifd(0x8825).update({1: "N", 2: wrong, 3: "E", 4: (1.0, 0.0, 0.0)})
    image.save(tmp_path / "x.jpg", exif=exif)
    assert place_and_time(tmp_path / "x.jpg") == (None, None, datetime(2021, 5, 30, 10, 11, 12, tzinfo=timezone.utc))
    exif.get_ifd(0x8769).update({0x9003: "0001:01:01 00:00:00", 0x9011: "+14:00"})
    exif.get_ifd(0x8825).update({2: (1.0, 0.0, 0.0)})
    image.save(tmp_path / "y.jpg", exif=exif)
    assert place_and_time(tmp_path / "y.jpg") == (None, (1.0, 1.0), None), "a time before the year 1"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2021-05-30", datetime(2021, 5, 30)),
        ("20210530", datetime(2021, 5, 30)),
        ("2021-05-30T23:30:00-02:00", datetime(2021, 5, 31, 1, 30)),
        ("2021-05-30T23:30:00Z", datetime(2021, 5, 30, 23, 30)),
        ("2021:05:30 10:11:12\0", datetime(2021, 5, 30, 10, 11, 12)),
        ("0000:00:00 00:00:00", None),
        ("2021:13:45 10:11:12", None),
        ("yesterday", None),
        ("", None),
        ("0001-01-01T00:00:00+23:00", None),
    ],
)
def test_times(text, expected):
    assert parse_time(text) == (None if expected is None else expected.replace(tzinfo=timezone.utc))


def test_a_tag_of_the_file_says_when(tmp_path):
    path = write(tmp_path / "x.tif", values(20, 20), **UTM)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(TIFFTAG_DATETIME="2019:02:03 04:05:06")
    assert place_and_time(path).time == datetime(2019, 2, 3, 4, 5, 6, tzinfo=timezone.utc)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux counts it")
@pytest.mark.slow
def test_memory_does_not_grow_with_a_scene(tmp_path):
    """20,000 x 20,000 px of 16 bits, 2.4 GB, read within 1.1 GB."""
    path = tmp_path / "x.tif"
    profile = {"driver": "GTiff", "width": 20_000, "height": 20_000, "count": 3, "dtype": "uint16", **UTM}
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    with rasterio.open(path, "w", **profile, **blocks, bigtiff="IF_SAFER") as dataset:
        for top in range(0, 20_000, 2000):
            row = np.full((3, 2000, 20_000), 100 + top // 10, np.uint16)
            dataset.write(row, window=rasterio.windows.Window(0, top, 20_000, 2000))
    code = (
        f"{PEAK}\nimport sys\n"
        "from stmine_hf.images import open_scene, tile_windows\n"
        "with open_scene(sys.argv[1]) as scene:\n"
        "    n = sum(1 for _ in scene.windows(tile_windows(scene.width, scene.height, 512, 0.25)))\n"
        "print(n, peak())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    count, megabytes = done.stdout.split()
    assert int(count) == 52 * 52 and float(megabytes) < 1100


def test_a_window_by_itself(tmp_path):
    path = write(tmp_path / "x.tif", values(70, 50))
    whole = np.asarray(open_image(path))
    with open_scene(path) as scene:
        np.testing.assert_array_equal(np.asarray(scene.window(Window(3, 4, 5, 6))), whole[4:10, 3:8])
        for outside in (Window(0, 0, 0, 5), Window(3, 4, 5, 0), Window(66, 0, 5, 5), Window(0, 46, 5, 5)):
            with pytest.raises(ImageError, match=r"at \d+,\d+ in the image of 70 x 50 px"):
                scene.window(outside)

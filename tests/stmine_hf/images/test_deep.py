"""Images of more than 8 bits, or of other bands than Pillow knows: exact values, whatever program wrote them."""

import io
import sys
from contextlib import suppress

import datasets
import numpy as np
import pytest
from PIL import Image

from stmine_hf.errors import StmineError
from stmine_hf.images import ImageError, PixelOptions, decode_image, image_pixels, open_image, open_scene

rasterio = pytest.importorskip("rasterio")
tifffile = pytest.importorskip("tifffile")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

HEIGHT, WIDTH = 40, 60


def scene(low=200, high=2200, dtype=np.uint16, bands=3, seed=0):
    """(H, W, bands): a slope with noise, as a sensor of 11 or 12 bits gives it."""
    rng = np.random.default_rng(seed)
    slope = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))[..., None] / (HEIGHT + WIDTH)
    values = low + (high - low) * np.clip(slope + rng.normal(0, 0.1, (HEIGHT, WIDTH, bands)), 0, 1)
    return values.astype(dtype)


def stretched(values, valid=None, percentiles=(2, 98)):
    """The documented rule in plain numpy."""
    known = values if valid is None else values[valid]
    low, high = np.percentile(known, percentiles)
    bytes_ = np.round(np.clip((values.astype(np.float64) - low) * 255 / (high - low), 0, 255))
    return np.where(True if valid is None else valid, bytes_, 0).astype(np.uint8)


def with_rasterio(path, values, **options):
    height, width, count = values.shape
    profile = {"height": height, "width": width, "count": count, "dtype": values.dtype, **options}
    colours = profile.pop("colours", None)
    with rasterio.open(path, "w", **profile) as file:
        file.write(values.transpose(2, 0, 1))
        if colours:
            file.colorinterp = [getattr(rasterio.enums.ColorInterp, name) for name in colours]


def separate(path, values, **options):
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    tifffile.imwrite(path, planes, planarconfig="separate", **{"photometric": "rgb", **options})


WRITERS = {
    "interleaved.tif": lambda path, values: tifffile.imwrite(path, values, photometric="rgb"),
    "big_endian.tif": lambda path, values: tifffile.imwrite(path, values, photometric="rgb", byteorder=">"),
    "big.tif": lambda path, values: tifffile.imwrite(path, values, photometric="rgb", bigtiff=True),
    "zipped.tif": lambda path, values: tifffile.imwrite(path, values, photometric="rgb", compression="zlib"),
    "planar.tif": separate,
    "planar_zipped.tif": lambda path, values: separate(path, values, compression="zlib", rowsperstrip=7),
    "tiled.tif": lambda path, values: with_rasterio(
        path, values, driver="GTiff", tiled=True, blockxsize=16, blockysize=32
    ),
    "band_sequential.tif": lambda path, values: with_rasterio(path, values, driver="GTiff", interleave="band"),
    "lzw.tif": lambda path, values: with_rasterio(path, values, driver="GTiff", compress="lzw", predictor=2),
    "grey_bands.tif": lambda path, values: separate(path, values, photometric="minisblack"),
    "rgb.png": lambda path, values: with_rasterio(path, values, driver="PNG"),
    "rgb.jp2": lambda path, values: with_rasterio(path, values, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_colours_of_16_bits_keep_their_contrast(tmp_path, name):
    values = scene()
    WRITERS[name](tmp_path / name, values)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / name, 32)), stretched(values))
    assert image_pixels(tmp_path / name) == HEIGHT * WIDTH


@pytest.mark.parametrize("name", ["interleaved.tif", "planar.tif", "rgb.png", "rgb.jp2"])
def test_an_encoded_row_is_read_as_the_file_is(tmp_path, name):
    WRITERS[name](tmp_path / name, scene())
    expected = np.asarray(open_image(tmp_path / name))
    rows = datasets.Dataset.from_list([{"image": {"bytes": (tmp_path / name).read_bytes(), "path": None}}])
    row = rows.cast_column("image", datasets.Image(decode=False))[0]
    np.testing.assert_array_equal(np.asarray(decode_image(row["image"])), expected)
    np.testing.assert_array_equal(np.asarray(decode_image({"bytes": None, "path": str(tmp_path / name)})), expected)


@pytest.mark.parametrize(
    "values",
    [
        scene(100, 900, np.uint16, 1),
        scene(0, 2047, np.uint16, 1),
        scene(-3000, 900, np.int16, 1),
        scene(70_000, 900_000, np.int32, 1),
        scene(0, 4_000_000_000, np.uint32, 1),
        scene(-0.2, 0.4, np.float32, 1),
        scene(0, 1e9, np.float64, 1),
        scene(0, 0.3, np.float32, 3),
        scene(-90, 90, np.int8, 3),
    ],
    ids=lambda values: f"{values.dtype}, {values.shape[2]}",
)
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_every_type_of_samples_is_stretched(tmp_path, values, interleave):
    with_rasterio(tmp_path / "x.tif", values, driver="GTiff", interleave=interleave)
    expected = stretched(values)
    found = np.asarray(open_image(tmp_path / "x.tif", 32))
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


@pytest.mark.parametrize("name", ["interleaved.tif", "planar.tif", "rgb.png"])
def test_a_full_range_is_scaled_by_that_range(tmp_path, name):
    """A photograph in 16 bits looks as it does in 8."""
    values = scene(0, 65535)
    WRITERS[name](tmp_path / name, values)
    found = np.asarray(open_image(tmp_path / name, 32))
    np.testing.assert_array_equal(found, np.round(values / 257))


@pytest.mark.parametrize("name", ["interleaved.tif", "rgb.png"])
def test_an_8_bit_image_saved_in_16_bits_comes_out_as_it_was(tmp_path, name):
    dark = scene(3, 90, np.uint8)
    WRITERS[name](tmp_path / name, dark.astype(np.uint16) * 257)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / name, 32)), dark)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_grey_of_16_bits_follows_the_same_rules(tmp_path, name):
    for values, expected in (
        (narrow := scene(bands=1)[..., 0], stretched(narrow)),
        (full := scene(0, 65535, bands=1)[..., 0], np.round(full / 257)),
    ):
        Image.fromarray(values).save(tmp_path / name)
        np.testing.assert_array_equal(np.asarray(open_image(tmp_path / name, 32))[..., 1], expected)
        decoded = decode_image(Image.open(tmp_path / name))
        np.testing.assert_array_equal(np.asarray(decoded)[..., 2], expected)


def test_12_bits_declared_as_such_have_a_range_of_12_bits(tmp_path):
    values = scene(0, 4095)
    with_rasterio(tmp_path / "x.tif", values, driver="GTiff", NBITS=12)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.tif")), np.round(values / 4095 * 255))


def test_floats_of_0_to_1_are_colours(tmp_path):
    values = scene(0, 1, np.float32)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb")
    np.testing.assert_array_equal(
        np.asarray(open_image(tmp_path / "x.tif")), np.round(values.astype(np.float64) * 255)
    )


@pytest.mark.parametrize(
    "nodata, dtype", [(0, np.uint16), (65535, np.uint16), (-9999, np.float32), (np.nan, np.float32)]
)
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_no_data_is_black_and_counts_for_nothing(tmp_path, nodata, dtype, interleave):
    values = scene(dtype=dtype)
    valid = np.ones(values.shape, bool)
    valid[:15] = False
    values[~valid] = nodata
    with_rasterio(tmp_path / "x.tif", values, driver="GTiff", nodata=nodata, interleave=interleave)
    expected = stretched(np.where(valid, values, 500), valid)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.tif")), expected)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("dtype, full", [(np.uint16, 65535), (np.float32, 1)])
def test_what_is_transparent_is_white_and_counts_for_nothing(tmp_path, interleave, dtype, full):
    values = np.concatenate([scene(dtype=dtype), np.full((HEIGHT, WIDTH, 1), full, dtype)], axis=2)
    values[:15, :, 3] = 0
    values[:15, :, :3] = 0
    colours = ("red", "green", "blue", "alpha")
    with_rasterio(tmp_path / "x.tif", values, driver="GTiff", interleave=interleave, colours=colours)
    opaque = values[..., 3:] > 0
    expected = stretched(values[..., :3], np.broadcast_to(opaque, (HEIGHT, WIDTH, 3)))
    found = np.asarray(open_image(tmp_path / "x.tif"))
    np.testing.assert_array_equal(found, np.where(opaque, expected, 255))


def test_premultiplied_colours_are_those_of_the_image(tmp_path):
    values = scene(0, 65535)
    half = np.full((HEIGHT, WIDTH, 1), 32768, np.uint16)
    tifffile.imwrite(
        tmp_path / "x.tif", np.concatenate([values // 2, half], axis=2), photometric="rgb", extrasamples=["assocalpha"]
    )
    tifffile.imwrite(
        tmp_path / "y.tif", np.concatenate([values, half], axis=2), photometric="rgb", extrasamples=["unassalpha"]
    )
    found, expected = (np.asarray(open_image(tmp_path / f"{name}.tif")).astype(int) for name in "xy")
    assert np.abs(found - expected).max() <= 3


def test_white_is_zero_in_files_that_say_so(tmp_path):
    values = scene(bands=1)[..., 0]
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.tif"))[..., 0], 255 - stretched(values))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bands_are_chosen_by_name_else_by_order_else_as_asked_for(tmp_path, dtype, interleave):
    values = scene(0, 250, dtype, bands=5) if dtype is np.uint8 else scene(bands=5)
    show = (lambda chosen: chosen) if dtype is np.uint8 else stretched
    for name, colours, expected in (
        ("unnamed", None, [0, 1, 2]),
        ("named", ("undefined", "blue", "green", "red", "undefined"), [3, 2, 1]),
    ):
        path = tmp_path / f"{name}.tif"
        options = {"photometric": "minisblack"} if colours is None else {}
        with_rasterio(path, values, driver="GTiff", interleave=interleave, colours=colours, **options)
        np.testing.assert_array_equal(np.asarray(open_image(path)), show(values[..., expected]))
        chosen = np.asarray(open_image(path, options=PixelOptions(bands=(5, 1, 2))))
        np.testing.assert_array_equal(chosen, show(values[..., [4, 0, 1]]))
        grey = np.asarray(open_image(path, options=PixelOptions(bands=(4,))))
        np.testing.assert_array_equal(grey[..., 0], show(values[..., 3]))
        with pytest.raises(ImageError, match="band 6 was requested, and the file has 5"):
            open_image(path, options=PixelOptions(bands=(6, 1, 2)))


def test_two_bands_are_shown_by_the_first(tmp_path):
    values = scene(bands=2)
    with_rasterio(tmp_path / "x.tif", values, driver="GTiff", photometric="minisblack")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.tif"))[..., 0], stretched(values[..., 0]))


def test_bands_of_8_bits_can_be_chosen_in_every_format(tmp_path):
    values = scene(0, 255, np.uint8)
    for name in ("x.png", "x.tif", "x.bmp"):
        Image.fromarray(values).save(tmp_path / name)
        found = np.asarray(open_image(tmp_path / name, options=PixelOptions(bands=(3, 2, 1))))
        np.testing.assert_array_equal(found, values[..., ::-1])
        with pytest.raises(ImageError, match="band 4 was requested"):
            open_image(tmp_path / name, options=PixelOptions(bands=(4, 2, 1)))


@pytest.mark.parametrize("stretch", ["300,1500", "-100,4000", "0%,100%", "5%,95%"])
def test_the_stretch_may_be_given(tmp_path, stretch):
    values = scene()
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb")
    numbers = [float(part.rstrip("%")) for part in stretch.split(",")]
    low, high = np.percentile(values, numbers) if "%" in stretch else numbers
    expected = np.round(np.clip((values.astype(float) - low) * 255 / (high - low), 0, 255))
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.tif", options=PixelOptions(stretch))), expected)
    flat = Image.new("RGB", (9, 9), (7, 8, 9))
    flat.save(tmp_path / "flat.tif")
    assert open_image(tmp_path / "flat.tif", options=PixelOptions(stretch)).getpixel((0, 0)) == (7, 8, 9)


@pytest.mark.parametrize("value, expected", [(0, 0), (1000, 4), (65535, 255)])
def test_a_flat_image_is_neither_divided_by_zero_nor_blown_up(tmp_path, value, expected):
    tifffile.imwrite(tmp_path / "x.tif", np.full((8, 8, 3), value, np.uint16), photometric="rgb")
    assert np.unique(np.asarray(open_image(tmp_path / "x.tif"))).tolist() == [expected]


def test_without_a_single_valid_value_all_is_black(tmp_path):
    with_rasterio(tmp_path / "x.tif", np.full((8, 8, 1), np.nan, np.float32), driver="GTiff", nodata=np.nan)
    assert not np.asarray(open_image(tmp_path / "x.tif")).any()


def test_few_bright_spots_do_not_turn_the_rest_black(tmp_path):
    values = scene()
    values[3, 5] = values[30, 40] = 65535
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb")
    assert np.asarray(open_image(tmp_path / "x.tif")).std() > 50


@pytest.mark.parametrize("name", ["interleaved.tif", "planar_zipped.tif", "tiled.tif", "rgb.png"])
@pytest.mark.parametrize("pieces", [64, 700, 10**6])
def test_strips_give_what_the_whole_gives(tmp_path, monkeypatch, name, pieces):
    values = scene()
    WRITERS[name](tmp_path / name, values)
    whole = Image.fromarray(stretched(values))
    monkeypatch.setattr("stmine_hf.images.deep._PIECE_VALUES", pieces)
    monkeypatch.setattr("stmine_hf.images.deep._STRIP_BYTES", 4 * pieces)
    monkeypatch.setattr("stmine_hf.images.deep._KEPT_BYTES", pieces)
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / name)), np.asarray(whole))
    monkeypatch.setattr("stmine_hf.images.limits.LARGE", 100)
    for side in (1, 2, 4):
        found = open_image(tmp_path / name, side)
        np.testing.assert_array_equal(np.asarray(found), np.asarray(whole.reduce(HEIGHT // (3 * side))))


def test_the_orientation_is_followed(tmp_path):
    values = scene()
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    expected = np.asarray(Image.fromarray(stretched(values)).transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.tif")), expected)


@pytest.mark.parametrize(
    "write, reason",
    [
        (lambda path: with_rasterio(path, scene(dtype=np.complex64), driver="GTiff"), "3 bands of 64 bits .complex."),
        (
            lambda path: tifffile.imwrite(path, scene(bands=1)[..., 0], photometric=32803),
            "1 band of 16 bits in the colour model raw camera",
        ),
    ],
    ids=["complex", "raw"],
)
def test_what_has_no_colours_is_refused_by_depth_and_bands(tmp_path, write, reason):
    write(tmp_path / "x.tif")
    with pytest.raises(ImageError, match=reason):
        open_image(tmp_path / "x.tif")


def test_without_rasterio_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    for name in ("interleaved.tif", "planar.tif"):
        WRITERS[name](tmp_path / name, scene())
        with pytest.raises(ImageError, match=r"3 bands of 16 bits: .* pip install 'stmine-hf\[geo\]'"):
            open_image(tmp_path / name)
    tifffile.imwrite(tmp_path / "full.tif", values := scene(0, 65535), photometric="rgb")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "full.tif")), values // 256)
    grey = scene(bands=1)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.tif")
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "grey.tif"))[..., 0], stretched(grey))


def test_damaged_files_are_skipped_with_a_reason(tmp_path):
    rng = np.random.default_rng(3)
    for name in WRITERS:
        WRITERS[name](tmp_path / name, scene())
        content = np.frombuffer((tmp_path / name).read_bytes(), np.uint8)
        for share in (0.3, 0.7):
            (tmp_path / name).write_bytes(content[: int(share * len(content))].tobytes())
            with pytest.raises(ImageError) as refusal:
                open_image(tmp_path / name)
            assert len(str(refusal.value)) < 250 and str(tmp_path) not in str(refusal.value)
        for _ in range(15):
            damaged = content.copy()
            damaged[rng.integers(0, min(len(content), 250), 4)] = rng.integers(0, 256, 4)
            (tmp_path / name).write_bytes(damaged.tobytes())
            with suppress(ImageError):
                open_image(tmp_path / name)


def test_nothing_is_written_beside_an_image(tmp_path):
    for name in WRITERS:
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        WRITERS[name](folder / name, scene())
        for path in folder.iterdir():
            if path.name != name:  # what its writer left
                path.unlink()
        open_image(folder / name)
        assert [path.name for path in folder.iterdir()] == [name]


def test_a_stream_of_bytes_is_read_too():
    stream = io.BytesIO()
    tifffile.imwrite(stream, values := scene(), photometric="rgb")
    found = decode_image({"bytes": stream.getvalue(), "path": "gone.tif"})
    np.testing.assert_array_equal(np.asarray(found), stretched(values))


@pytest.mark.parametrize(
    "stretch, bands",
    [
        *[(stretch, None) for stretch in ("a,b", "5", "5,5", "2%,98", "98%,2%", "0,inf", "-1%,50%", "")],
        *[(None, bands) for bands in ("1,2", "0,1,2", "red", "1,2,3,4", "")],
    ],
)
def test_options_that_make_no_sense_are_refused(stretch, bands):
    with pytest.raises(StmineError, match=r"expected .* found"):
        PixelOptions.parse(stretch, bands)


def test_options_survive_their_document():
    for options in (PixelOptions(), PixelOptions.parse(" 0, 3000", "3,2,1"), PixelOptions("1%,99%", (4,))):
        assert PixelOptions.from_document(options.document()) == options
    assert PixelOptions.from_document(None) == PixelOptions() == PixelOptions.parse()


@pytest.mark.parametrize("place", ["header", "description"])
@pytest.mark.parametrize("stated", [0, 7, 100_000, 2**32 - 1])
def test_jpeg_2000_boxes_that_do_not_fit_are_refused(tmp_path, place, stated):
    """GDAL reads a file with such a box without end."""
    content = io.BytesIO()
    Image.fromarray(scene(bands=3).astype(np.uint8)).save(content, "JPEG2000")
    data = content.getvalue()
    at = data.index(b"ihdr") - 4
    assert data[at : at + 4] == bytes([0, 0, 0, 22])
    if place == "description":
        at = len(data) + 8
        data += bytes([0, 0, 0, 17]) + b"asoc" + bytes([0, 0, 0, 9]) + b"lbl x"
    path = tmp_path / "x.jp2"
    path.write_bytes(data)
    assert open_image(path).size
    path.write_bytes(data[:at] + stated.to_bytes(4, "big") + data[at + 4 :])
    with pytest.raises(ImageError, match=rf"corrupt: a box .* states {stated} bytes"):
        open_image(path)
    with pytest.raises(ImageError, match=rf"states {stated} bytes"), open_scene(path):
        pass

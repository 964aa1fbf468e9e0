"""What is told from a header agrees with what comes of the file when it is read."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stmine_hf.images import ImageError, open_image, read_header
from stmine_hf.images.header import ORIENTATION

SIZE = (40, 24)


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_that_of_the_image_as_read(tmp_path, suffix, orientation):
    file = tmp_path / f"a{suffix}"
    Image.new("RGB", SIZE, "red").save(file, exif=exif(orientation))
    header = read_header(file)
    assert header.stored == SIZE and header.orientation == orientation and not header.pages
    assert header.size == open_image(file).size
    assert read_header(io.BytesIO(file.read_bytes())) == header


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 24, 40), "uint16"), ((3, 24, 40), "float32"), ((24, 40), "uint16"), ((2, 24, 40), "uint8")],
)
def test_bands_and_depths_that_pillow_does_not_know(tmp_path, shape, dtype):
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("rasterio")
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    options = {"planarconfig": "separate"} if len(shape) == 3 else {}
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", **options)
    assert read_header(tmp_path / "a.tif").size == SIZE == open_image(tmp_path / "a.tif").size


def test_pages_are_seen_and_smaller_copies_are_none(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    page = np.zeros((24, 40, 3), np.uint8)
    for name, kinds in (("one", [0]), ("copies", [0, 1, 1]), ("two", [0, 0])):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as writer:
            for kind in kinds:
                writer.write(page, subfiletype=kind, photometric="rgb", metadata=None)
        assert read_header(tmp_path / f"{name}.tif").pages == (name == "two")
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_header(tmp_path / "a.gif").pages


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image|corrupt"),
        (b"II*\0\x08\0\0\0", "not an image|corrupt"),
        (b"P6 100000 100000 255\n", "over the limit"),
    ],
)
def test_what_is_no_image(tmp_path, content, reason):
    file = tmp_path / "a.png"
    file.write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        read_header(file)
    with pytest.raises(ImageError):
        open_image(file)


def test_headers_are_read_without_torch():
    code = "import sys, stmine_hf.images.header; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)

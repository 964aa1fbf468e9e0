"""What reading one image may cost, whatever its header says: measured in a process of its own."""

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from large_images import PEAK, png

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux counts it")
MB = 2**20
READ = f"""{PEAK}
import sys
import numpy, PIL.Image
from stmine_hf.images import ImageError, PixelOptions, open_image
try:
    import rasterio
except ImportError:
    pass
PIL.Image.new("I;16", (9, 9)).save(sys.argv[1] + ".small.png")
open_image(sys.argv[1] + ".small.png", 9)  # imports what reading needs
before = peak()
try:
    print(open_image(sys.argv[1], int(sys.argv[2])).size)
except ImageError as error:
    print(error)
print(peak() - before)
"""


def cost(path: Path, side: int) -> tuple[str, int]:
    """What reading says, and the MB that it took."""
    words = [sys.executable, "-c", READ, str(path), str(side)]
    said, megabytes = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip().split("\n")
    return said, int(megabytes)


def test_a_large_grey_png_of_16_bits(tmp_path):
    """Some 200 KB: 2 bytes a pixel as stored, and little more."""
    path = png(tmp_path / "x.png", 9000, 9000, 16, 0)
    said, megabytes = cost(path, 224)
    assert path.stat().st_size < 400_000 and said.startswith("(") and megabytes < 2 * 81 + 250


def test_a_large_png_with_transparency(tmp_path):
    said, megabytes = cost(png(tmp_path / "x.png", 7000, 7000, 8, 6), 224)
    assert said.startswith("(") and megabytes < 4 * 49 + 150


def test_a_tiff_of_a_false_height(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for dtype, photometric, shape in ((np.uint8, "rgb", (20, 1700, 3)), (np.uint16, "minisblack", (20, 1700))):
        path = tmp_path / f"{photometric}.tif"
        tifffile.imwrite(path, np.zeros(shape, dtype), photometric=photometric, compression="zlib")
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags["ImageLength"].overwrite(100_000)
        said, megabytes = cost(path, 224)
        assert megabytes < 1000, said
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags["ImageLength"].overwrite(10_000_000)
        said, megabytes = cost(path, 224)
        assert "over the limit" in said and megabytes < 50


def test_a_png_one_pixel_wide(tmp_path):
    """Each row of an image takes a pointer and a rounded length: 31 bytes where the pixels alone take 5."""
    small = png(tmp_path / "x.png", 1, 1, 8, 0).read_bytes()
    for width, height in ((1, 170_000_000), (2, 60_000_000), (1, 10_000_000)):
        header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + small[24:29]
        (tmp_path / "x.png").write_bytes(small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:])
        said, megabytes = cost(tmp_path / "x.png", 224)
        assert ("over the limit" in said and megabytes < 50) if height > 10_000_000 else megabytes < 400


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"tiled": True}, {}, {"interleave": "band"}], ids=["tiles", "strips", "bands"])
def test_a_sentinel_tile_of_16_bits(tmp_path, options):
    rasterio = pytest.importorskip("rasterio")
    side = 10_980
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint16", "compress": "deflate"}
    with rasterio.open(tmp_path / "x.tif", "w", **profile, **options) as file:
        rows = np.arange(side, dtype=np.uint16) // 4
        for band in (1, 2, 3):
            for top in range(0, side, 512):
                part = rows[top : top + 512, None].repeat(side, axis=1)
                file.write(part, band, window=rasterio.windows.Window(0, top, side, len(part)))
    said, megabytes = cost(tmp_path / "x.tif", 224)
    assert said == "(687, 687)" and megabytes < 500
    said, megabytes = cost(tmp_path / "x.tif", 2**20)
    assert said == "(10980, 10980)" and megabytes < 1100


def test_what_would_take_too_much_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    from PIL import Image

    from stmine_hf.images import ImageError, open_image

    Image.new("RGB", (400, 300)).save(tmp_path / "x.webp", lossless=True)
    Image.new("RGB", (400, 300)).save(tmp_path / "x.jpg", progressive=True)
    Image.new("RGB", (400, 300)).save(tmp_path / "x.tif")
    monkeypatch.setattr("stmine_hf.images.limits.MAX_BYTES", 400 * 300 * 8)
    for name in ("x.webp", "x.jpg", "x.tif"):
        with pytest.raises(ImageError, match=r"400 x 300 px, (WEBP|JPEG|TIFF), would take .* over the limit"):
            open_image(tmp_path / name)
    Image.new("RGB", (400, 300)).save(tmp_path / "x.png")
    assert open_image(tmp_path / "x.png").size == (400, 300)

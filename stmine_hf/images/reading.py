"""Read a file, or an encoded image of a data set, as upright 8-bit RGB: used by every task.

Images of 8 bits are read by Pillow and come out as they are. The others are scaled to 8 bits, see `PixelOptions`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from ..modeling.fisvl.inputs_fisvl import to_rgb
from . import limits
from .deep import is_deep, read_deep, scaled_image
from .finding import ImageError, image_errors
from .header import ORIENTATION, file_layout, open_lazily
from .layout import Layout
from .metadata import exif_of, require_sound_exif
from .options import PixelOptions

# A JPEG may be decoded at 1/2, 1/4 or 1/8 as long as it stays this many times larger than the model's input. Pillow's
# documentation of `reducing_gap` calls the result of 3.0 "almost indistinguishable from fair resampling".
_REDUCING_GAP = 3
FULL_SIZE = 2**20  # a side that no image has: nothing is decoded smaller than it is
_DEFAULT = PixelOptions()
# Bytes a pixel that decoders take beside Pillow's image: canvases, the decoder's own image, and what it hands over.
_CODEC_BYTES = {"WEBP": 16, "AVIF": 12}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(path: str | Path, side: int = FULL_SIZE, options: PixelOptions = _DEFAULT) -> Image.Image:
    """Read the (first) image of a file as upright RGB.

    Args:
        path: the file.
        side: pixels the caller needs along the longer side. JPEGs far larger than this come out smaller than they
            are, which makes even 20,000 px ones quick and small in memory, and so do other images of more than 16
            megapixels; they keep three times `side` at least. Default: the full size.
        options: how to read images of more than 8 bits or more than three bands.

    Raises:
        ImageError: for anything that keeps the file from being read, with the reason.
    """
    with image_errors():
        if os.path.getsize(path) == 0:
            raise ImageError("empty file")
        with open(path, "rb") as file:
            return _read(file, Path(path), side, options)


def open_bytes(content: bytes, side: int = FULL_SIZE, options: PixelOptions = _DEFAULT) -> Image.Image:
    """Read the (first) image of an encoded file as `open_image` reads the file itself; no path is ever opened.

    Args:
        content: of the file.
        side: as for [`open_image`].
        options: as for [`open_image`].

    Raises:
        ImageError: for anything that keeps it from being read, with the reason.
    """
    with image_errors():
        if not content:
            raise ImageError("empty file")
        return _read(io.BytesIO(content), None, side, options)


def decode_image(image: Any, options: PixelOptions = _DEFAULT) -> Image.Image:
    """An image of a data set's row in RGB and full size; call it under `image_errors()`.

    Args:
        image: a PIL image, or `datasets`' encoded form of one: a mapping with `bytes` or `path`, whose image is turned
            upright.
        options: as for [`open_image`].
    """
    if isinstance(image, Mapping):
        content, path = image.get("bytes"), image.get("path")
        if content is not None:
            return _read(io.BytesIO(content), None, FULL_SIZE, options)
        if path is not None and os.path.exists(path):
            with open(path, "rb") as file:
                return _read(file, Path(path), FULL_SIZE, options)
        import datasets  # knows archives and addresses

        image = datasets.Image().decode_example(dict(image))
    image.load()
    return scaled_image(image, options) if is_deep(image) else to_rgb(image)


def image_pixels(source: str | Path | bytes) -> int:
    """How many pixels a file, or the content of one, states, without decoding them; 0 if unknown."""
    # Opening the image will give the reason.
    with suppress(Exception), io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        layout = file_layout(file)
        if layout is not None:
            return layout.width * layout.height
        with open_lazily(file) as image:
            return image.width * image.height
    return 0


def _read(file: BinaryIO, path: Path | None, side: int, options: PixelOptions) -> Image.Image:
    layout = file_layout(file)
    if layout is not None:
        limits.require_pixels(layout.width, layout.height)
    try:
        image = open_lazily(file)
    except UnidentifiedImageError:
        if layout is None:
            raise
        image = None  # bands to which Pillow assigns no colours
    if layout is not None and (image is None or _needs_more_than_pillow(layout, options)):
        return _read_deep(file, path, layout, image, side, options)
    assert image is not None
    with image:
        image.draft(None, (_REDUCING_GAP * side, _REDUCING_GAP * side))  # does nothing but to JPEGs
        limits.require_pixels(*image.size)
        needed = _bytes_needed(image, layout, side)
        limits.require_bytes(needed, f"{image.width} x {image.height} px, {image.format},")
        with limits.one_large_image(max(image.width * image.height, needed // 8)):
            return _chosen(_decode(image, side), options)


def _needs_more_than_pillow(layout: Layout, options: PixelOptions) -> bool:
    by_band = layout.format in ("TIFF", "JPEG2000") and (
        options.bands is not None or (layout.names_colours and layout.bands > 3)
    )
    return layout.deep or by_band or layout.sparse


def _read_deep(
    file: BinaryIO, path: Path | None, layout: Layout, image: Image.Image | None, side: int, options: PixelOptions
) -> Image.Image:
    size = (layout.width, layout.height)
    with limits.one_large_image(size[0] * size[1]):
        factor = _factor(size, side)
        rgb = to_rgb(read_deep(file, path, layout, image, factor=factor, options=options))
        orientation = layout.orientation
        if image is not None:
            with suppress(Exception):  # an invalid EXIF block does not affect the pixels
                orientation = exif_of(image).get(ORIENTATION, orientation)
        turn = _TURNS.get(orientation)
        return rgb if turn is None else rgb.transpose(turn)


def _bytes_needed(image: Image.Image, layout: Layout | None, side: int) -> int:
    """What decoding takes at most: the decoder's, Pillow's image, and the RGB image or the copy that is turned."""
    pixels = image.width * image.height
    loaded = pixels * {"1": 1, "L": 1, "P": 1, "I;16": 2}.get(image.mode, 4)
    copies = 4 * pixels // _factor(image.size, side) ** 2
    codec = pixels * _CODEC_BYTES.get(image.format or "", 0)
    if image.format == "JPEG" and image.info.get("progressive"):
        full = getattr(image, "_full_size", image.size)
        codec = 2 * len(image.getbands()) * full[0] * full[1]
    elif layout is not None and layout.format in ("TIFF", "JPEG2000"):
        codec = layout.block_bytes * (4 if layout.format == "JPEG2000" else 1)
    return loaded + copies + codec + limits.bytes_of_rows(image.size)


def _factor(size: tuple[int, int], side: int) -> int:
    """By how much a large image is shrunk."""
    return max(1, min(size) // (_REDUCING_GAP * side)) if size[0] * size[1] > limits.LARGE else 1


def _decode(image: Image.Image, side: int) -> Image.Image:
    """Decode and turn upright. Large images are shrunk and converted in strips, so that no whole copy is made."""
    image.load()
    require_sound_exif(image)  # of a PNG, it may lie behind the pixels
    large = image.width * image.height > limits.LARGE
    upright = image
    with suppress(Exception):  # an invalid EXIF block does not affect the pixels
        if large:
            ImageOps.exif_transpose(image, in_place=True)
        else:
            upright = ImageOps.exif_transpose(image)
    if not large:
        return to_rgb(upright)
    factor = _factor(upright.size, side)
    if factor == 1 and upright.mode == "RGB" and "transparency" not in upright.info:
        return upright._new(upright.im)  # without the file
    width, height = upright.size
    whole = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = factor * max(1, 2**22 // (width * factor))
    for top in range(0, height, rows):
        strip = upright.crop((0, top, width, min(height, top + rows)))
        strip = strip if factor == 1 else _reducible(strip).reduce(factor)
        whole.paste(to_rgb(strip), (0, top // factor))
    return whole


def _reducible(image: Image.Image) -> Image.Image:
    """The same image in a mode whose pixels can be averaged."""
    if image.mode in ("P", "PA") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L") if image.mode == "1" else image


def _chosen(image: Image.Image, options: PixelOptions) -> Image.Image:
    """The bands of an RGB image that were asked for."""
    if options.bands is None:
        return image
    if max(options.bands) > 3:
        raise ImageError(f"band {max(options.bands)} was requested, and the file has 3")
    planes = image.split()
    return Image.merge("RGB", [planes[band - 1] for band in (options.bands * 3)[:3]])

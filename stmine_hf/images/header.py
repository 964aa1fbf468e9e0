"""The header of a file, without decoding it: whether it can be read, its size and its orientation."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from . import limits
from .finding import AVIF, FORMATS, ImageError, image_errors
from .layout import PLAIN_PPM, Layout, read_layout
from .metadata import (
    Jpeg,
    Metered,
    require_few_comments,
    require_few_scans,
    require_sound_exif,
    require_sound_exif_anywhere,
)

ORIENTATION = 0x0112  # the EXIF tag
_SUBFILE, _NOT_A_PAGE = 254, 0b101  # TIFF's NewSubfileType: a smaller copy of another image, or its mask
_MOST_PAGES = 64  # looked at


class Header(NamedTuple):
    """
    Attributes:
        stored: width and height as stored.
        orientation: as of EXIF, 1 for none.
        pages: whether the file has further pages or frames, which are not read.
    """

    stored: tuple[int, int]
    orientation: int = 1
    pages: bool = False

    @property
    def turned(self) -> bool:
        """Whether width and height change places when the image is turned upright."""
        return self.orientation in (5, 6, 7, 8)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        return (self.stored[1], self.stored[0]) if self.turned else self.stored


def read_header(source: str | Path | BinaryIO) -> Header:
    """The header of a file or of an encoded image.

    Raises:
        ImageError: it is no image that `open_image` and `decode_image` can read, as far as the header shows.
    """
    with image_errors():
        if not isinstance(source, (str, Path)):
            return _read(source)
        if os.path.getsize(source) == 0:
            raise ImageError("empty file")
        with open(source, "rb") as file:
            return _read(file)


def _read(file: BinaryIO) -> Header:
    layout = file_layout(file)
    if layout is not None:
        limits.require_pixels(layout.width, layout.height)
    try:
        image = open_lazily(file)
    except UnidentifiedImageError:
        if layout is None:
            raise
        layout.require_readable()
        if find_spec("rasterio") is None:
            raise ImageError(f'{layout}: needs rasterio: pip install "stmine-hf[geo]"') from None
        return Header((layout.width, layout.height), layout.orientation, _has_pages(file))
    if layout is not None and layout.deep:
        layout.require_readable()
    orientation = 1
    with suppress(Exception):  # an invalid EXIF block does not affect the pixels
        # not image.getexif(): that of PNG decodes the whole image to look behind it
        orientation = Image.Image.getexif(image).get(ORIENTATION, 1)
    if layout is not None and layout.format == "TIFF":  # some versions of Pillow turn its size already, others do not
        return Header((layout.width, layout.height), layout.orientation, _has_pages(file))
    pages = image.format != "JPEG" and bool(getattr(image, "is_animated", False))
    return Header(image.size, orientation if isinstance(orientation, int) else 1, pages)


def file_layout(file: BinaryIO) -> Layout | None:
    """The layout of a file's samples; None for a format whose samples have 8 bits, and where it makes no sense."""
    try:
        return read_layout(Metered(file))  # type: ignore[arg-type]
    except ImageError:
        raise
    except Exception:  # headers that Pillow may understand all the same, or will refuse
        return None


def open_lazily(file: BinaryIO) -> Image.Image:
    """Read the header only.

    Raises:
        ImageError: more metadata, scans or comments than images have, or too large a progressive JPEG.
        UnidentifiedImageError: no format that Pillow reads here.
    """
    start = file.read(12)
    file.seek(0)
    metered: Any = Metered(file)
    if not start.startswith(b"\xff\xd8\xff"):
        if start[:2] in PLAIN_PPM:
            require_few_comments(file)
        elif start[4:12] in AVIF:
            require_sound_exif_anywhere(file)
        Image.init()
        image = Image.open(metered, formats=[name for name in FORMATS if name in Image.OPEN])
    else:
        # Straight to the plugin: Image.open refuses by the full size, before a reduced one can be asked for.
        image = Jpeg(metered)
        if image.info.get("progressive"):
            if image.width * image.height > limits.MAX_PIXELS:
                raise ImageError(limits.too_many_pixels(image.size))  # libjpeg keeps all coefficients, reduced or not
            place = file.tell()
            require_few_scans(file)
            file.seek(place)
    require_sound_exif(image)
    metered.pixels_begin(image)
    return image


def _has_pages(file: BinaryIO) -> bool:
    """Whether a TIFF has another page: an image that is no smaller copy or mask of the first."""
    with suppress(Exception):
        file.seek(0)
        head = file.read(8)
        if head[2] == 43 or head[3] == 43:  # BigTIFF
            head += file.read(8)
        tags = ImageFileDirectory_v2(head)
        seen: set[int] = set()
        while tags.next and tags.next not in seen and len(seen) < _MOST_PAGES:
            seen.add(tags.next)
            file.seek(tags.next)
            tags.load(file)
            if len(seen) > 1 and not int(tags.get(_SUBFILE, 0)) & _NOT_A_PAGE:
                return True
    return False

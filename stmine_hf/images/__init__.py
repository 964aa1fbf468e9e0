"""Images: find the files of a folder and read their pixels, in the same way for every task.

finding   the images of a folder, and which files are images
header    what a file states without being decoded: that it can be read, its size, its orientation
reading   a file or an encoded image to upright 8-bit RGB; every reader of images goes through it
deep      files of more than 8 bits a sample, or of bands that Pillow does not support
options   how such files become 8-bit RGB: the stretch and the choice of bands
scenes    images of any size, read window by window, with their place on Earth
limits    how much memory one image may take, and the lock that keeps large ones from adding up
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .finding import (
    FORMATS,
    SUFFIXES,
    ImageError,
    ImageFile,
    Skip,
    content_digest,
    find_images,
    image_errors,
    image_file,
    looks_like_image,
)
from .georeference import Georeference, parse_time
from .header import Header, read_header
from .limits import MAX_BYTES, MAX_PIXELS, one_large_image
from .options import PixelOptions

if TYPE_CHECKING:
    from .reading import decode_image, image_pixels, open_bytes, open_image
    from .scenes import PlaceAndTime, Scene, Window, WindowError, open_scene, place_and_time, scene_size, tile_windows

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "SUFFIXES",
    "Georeference",
    "Header",
    "ImageError",
    "ImageFile",
    "PixelOptions",
    "PlaceAndTime",
    "Scene",
    "Skip",
    "Window",
    "WindowError",
    "content_digest",
    "decode_image",
    "find_images",
    "image_errors",
    "image_file",
    "image_pixels",
    "looks_like_image",
    "one_large_image",
    "open_bytes",
    "open_image",
    "open_scene",
    "parse_time",
    "place_and_time",
    "read_header",
    "scene_size",
    "tile_windows",
]


_IN_READING = ("decode_image", "image_pixels", "open_bytes", "open_image")
_IN_SCENES = (
    "PlaceAndTime",
    "Scene",
    "Window",
    "WindowError",
    "open_scene",
    "place_and_time",
    "scene_size",
    "tile_windows",
)


def __getattr__(name: str) -> Any:  # `reading` shares code with a processor: readers of headers need no torch
    if name in _IN_READING:
        from . import reading

        return getattr(reading, name)
    if name in _IN_SCENES:
        from . import scenes

        return getattr(scenes, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Images as Python code holds them: a path, encoded bytes, a PIL image or a NumPy array."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from ..errors import StmineError
from .finding import SUFFIXES, ImageError, Skip, find_images, image_errors
from .limits import one_large_image
from .options import PixelOptions
from .reading import decode_image, image_pixels, open_image

ImageItem: TypeAlias = str | Path | bytes | Image.Image | np.ndarray
_DEFAULT = PixelOptions()


def is_one(images: Any) -> bool:
    """Whether `images` is one image, neither a folder nor a collection.

    Raises:
        StmineError: it is neither an image nor a folder or collection.
    """
    if isinstance(images, (str, Path)):
        return not os.path.isdir(images)
    if isinstance(images, (bytes, bytearray, Image.Image)):
        return True
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    if not isinstance(images, Iterable) or isinstance(images, dict):
        raise StmineError(
            "expected an image (a path, bytes, a PIL image or a NumPy array), a list of them or a folder, found "
            f"{type(images).__name__}"
        )
    return False


def items_of(images: Any, on_skip: Callable[[Skip], None]) -> Iterator[ImageItem]:
    """The images of a folder and its subfolders, or of a collection, whose folders are searched, too.

    Args:
        images: a folder, or anything that gives images.
        on_skip: called for each file of a folder that is skipped.

    Raises:
        StmineError: a folder without images.
    """
    if not isinstance(images, (str, Path)):
        for item in images:
            if isinstance(item, (str, Path)) and os.path.isdir(item):
                yield from items_of(item, on_skip)
            else:
                yield item
        return
    found = False
    for file in find_images(images, on_skip=on_skip):
        found = True
        yield Path(images, file.path)
    if not found:
        raise StmineError(f"found no images in {images} (looked for {' '.join(sorted(SUFFIXES))} and by content)")


def name_of_item(item: Any) -> str | None:
    """The path of an image as it was given; None of one that has none."""
    if isinstance(item, (str, Path)):
        return str(item)
    return getattr(item, "filename", None) or None


def open_item(item: Any, options: PixelOptions = _DEFAULT) -> Image.Image:
    """One image, upright and in RGB. A JPEG, PNG, ... in bytes is read as the file would be.

    Args:
        item: see `ImageItem`. Arrays are (H, W), (H, W, 3) or (H, W, 4) in RGB order, of uint8; (H, W) also of uint16.
        options: how to read images of more than 8 bits or more than three bands.

    Raises:
        ImageError: it cannot be read; the message is the reason alone.
    """
    with image_errors():
        if isinstance(item, (str, Path)):
            if str(item).startswith(("http://", "https://")):
                raise ImageError("an address, not a file: download the image and give its path")
            with one_large_image(image_pixels(item)):
                return open_image(item, options=options)
        if isinstance(item, (bytes, bytearray)):
            return decode_image({"bytes": bytes(item), "path": None}, options)
        if isinstance(item, np.ndarray):
            return decode_image(_from_array(item), options)
        if isinstance(item, Image.Image):
            return decode_image(item, options)
        raise ImageError(f"expected a path, bytes, a PIL image or a NumPy array, found {type(item).__name__}")


def _from_array(array: np.ndarray) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not (shaped and array.size and (array.dtype == np.uint8 or (array.dtype == np.uint16 and array.ndim == 2))):
        raise ImageError(
            "expected an array of uint8 with the shape (height, width), (height, width, 3) or (height, width, 4), "
            f"found {array.dtype} with the shape {array.shape}"
        )
    return Image.fromarray(np.ascontiguousarray(array))

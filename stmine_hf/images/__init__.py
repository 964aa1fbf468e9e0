"""Images: find the files of a folder and read their pixels, in the same way for every task.

finding   the images of a folder, and which files are images
reading   a file or an encoded image to upright 8-bit RGB; every reader of images goes through it
deep      files of more than 8 bits a sample, or of bands that Pillow does not know
options   how such files become 8-bit RGB: the stretch and the choice of bands
limits    how much memory one image may take, and the lock that keeps large ones from adding up
"""

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
from .limits import MAX_BYTES, MAX_PIXELS, one_large_image
from .options import PixelOptions
from .reading import decode_image, image_pixels, open_image

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "SUFFIXES",
    "ImageError",
    "ImageFile",
    "PixelOptions",
    "Skip",
    "content_digest",
    "decode_image",
    "find_images",
    "image_errors",
    "image_file",
    "image_pixels",
    "looks_like_image",
    "one_large_image",
    "open_image",
]

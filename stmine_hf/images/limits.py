"""Memory that one image may take, known from its header, and the lock that keeps large ones from adding up.

Guarantee: whatever a file states, reading it takes at most `MAX_BYTES`, and at most one image of more than `LARGE`
pixels is processed in a process at a time. The others take 8 bytes a pixel at most, 128 MB for each reading thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .finding import ImageError

# Twice Pillow's own limit, as there: a full 10,980 px Sentinel-2 tile passes.
MAX_PIXELS = 2 * 89_478_485
# What decoding one image may take, its RGB form included: 8 bytes for each of MAX_PIXELS, and a little.
MAX_BYTES = 3 * 2**29
# Images above this many pixels are decoded one at a time.
LARGE = 2**24
_large = threading.RLock()


@contextmanager
def one_large_image(pixels: int) -> Iterator[bool]:
    """Wait until no other thread works on a large image, if this one is large; whether it is.

    The same thread may enter again.
    """
    if pixels <= LARGE:
        yield False
        return
    with _large:
        yield True


def require_pixels(width: int, height: int) -> None:
    """
    Raises:
        ImageError: the image has more pixels than MAX_PIXELS, or none.
    """
    if width < 1 or height < 1:
        raise ImageError(f"corrupt: its size is {width} x {height} px")
    if width * height > MAX_PIXELS:
        raise ImageError(too_many_pixels((width, height)))


def require_bytes(needed: int, what: str) -> None:
    """
    Raises:
        ImageError: decoding would take more than MAX_BYTES.
    """
    if needed > MAX_BYTES:
        raise ImageError(
            f"{what} would take {needed / 2**30:.1f} GB of memory, over the limit of {MAX_BYTES / 2**30:.1f} GB: "
            "cut it into tiles or shrink it"
        )


def bytes_of_rows(size: tuple[int, int]) -> int:
    """What Pillow's images take beside their pixels: a pointer and a rounded length for each row of each copy.

    An image one pixel wide has as many rows as pixels; turned, it has as many as columns. None for images of usual
    shapes, where it is less than a byte a pixel.
    """
    return max(0, 32 * (size[0] + size[1]) - size[0] * size[1])


def too_many_pixels(size: tuple[int, int] | None) -> str:
    found = f"{size[0]} x {size[1]} px is" if size else "its size is"
    return f"{found} over the limit of {MAX_PIXELS // 1_000_000} megapixels: cut it into tiles or shrink it"

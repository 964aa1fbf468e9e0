"""What a file holds beside its pixels, bounded: readers of it take any number of parts, of any length.

A header of 50 MB is read byte by byte, or kept in pieces that are joined again for each further one; entries of EXIF
or TIFF that share one block are each a copy of it, so that 5 MB become 10 GB.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from .finding import ImageError

MOST_READS = 100_000  # until the pixels begin: chunks, comments, entries, each of them a few
MOST_BYTES = 2**29
MOST_SCANS = 100  # of a progressive JPEG, each of which goes over the whole image; programs write about ten
MOST_COMMENTS = 10_000  # among the pixels of a PPM file in plain text, each of which is cut out of a megabyte
_SMALLEST_PART = 2**8  # bytes of pixels that are read at a time, on average
_SLACK = 2**16  # bytes of EXIF that several entries may share
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_POINTERS = (0x8769, 0x8825, 0xA005)  # EXIF, GPS, Interop
_INVALID = (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error)  # EXIF
_BLOCK = 2**20
_READ_AT_ONCE = 2**16
_MOST_BLOCKS = 100  # of EXIF, or what looks so by chance
_MOST_MARKS = 10_000  # between the scans of a JPEG: scans, tables, comments
_JPEG_MARK = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])")  # that a length follows, or the end of the image


class Jpeg(JpegImageFile):
    """Pillow's reader, which looks into the EXIF block as soon as it opens a file."""

    def getexif(self) -> Image.Exif:
        require_sound_exif(self)
        return super().getexif()


class Metered:
    """A file that may be read so many times and bytes; `pixels_begin` gives it more.

    Args:
        file: open at its start; everything else of it is as it is.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        start = file.tell()
        self._size = file.seek(0, os.SEEK_END)
        file.seek(start)
        self.metadata_begin()

    def metadata_begin(self) -> None:
        """Allow what is beside the pixels."""
        self._reads, self._bytes = MOST_READS, min(MOST_BYTES, 2 * self._size + _SLACK)

    def read(self, size: int = -1) -> bytes:
        """
        Raises:
            ImageError: once too often, or too much.
        """
        part = self._file.read(size)
        self._reads -= 1
        self._bytes -= len(part)
        if self._reads < 0 or self._bytes < 0:
            raise ImageError(
                f"corrupt: what it holds beside its pixels has more than {MOST_READS:,} parts or states more bytes "
                "than a file may have. If it is sound, save it again without metadata"
            )
        return part

    def pixels_begin(self, image: Image.Image) -> None:
        """Allow what the pixels of an image take. Pillow reads on behind each piece of them."""
        rows = 4 * image.height * len(image.getbands())
        self._reads = MOST_READS + (self._size + image.width * image.height) // _SMALLEST_PART + rows
        self._bytes = self._reads * _READ_AT_ONCE + 2 * self._size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def exif_of(image: Image.Image) -> Image.Exif:
    """The EXIF block of an image, checked.

    Raises:
        ImageError: it would take more memory than it has bytes.
    """
    if image.format == "PNG" and "exif" not in image.info:
        image.load()  # it may lie behind the pixels
    require_sound_exif(image)
    return image.getexif()


def require_sound_exif(image: Image.Image) -> None:
    """Check the EXIF block of an image before it is taken apart; of a TIFF, where it is in the file, as it is read.

    Raises:
        ImageError: entries of the EXIF block are longer together than the block.
    """
    if isinstance(file := getattr(image, "fp", None), Metered):
        file.metadata_begin()
        if image.format == "TIFF":  # which Pillow reads when it has decoded the pixels, and keeps
            for pointer in _POINTERS:
                with suppress(*_INVALID):  # the pixels can be read all the same
                    image.getexif().get_ifd(pointer)
            return
    block = image.info.get("exif")
    if block is None and isinstance(text := image.info.get("Raw profile type exif"), str):  # hexadecimal, in a PNG
        digits = "".join(text.split("\n")[3:])
        block = bytes.fromhex(digits) if len(digits) % 2 == 0 and digits.isalnum() else None
    if isinstance(block, bytes):
        _require_sound(block)


def _require_sound(block: bytes) -> None:
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    stated = sum(_stated(block))
    if stated > len(block) + _SLACK:
        raise ImageError(f"corrupt: the entries of its EXIF block state {stated:,} bytes, and it has {len(block):,}")


def _stated(block: bytes) -> Iterator[int]:
    """Length of each entry that lies elsewhere in the block."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return
    waiting, seen = [struct.unpack_from(f"{order}I", block, 4)[0]], set()
    while waiting:
        place = waiting.pop()
        if place in seen or place + 2 > len(block):
            continue
        seen.add(place)
        (count,) = struct.unpack_from(f"{order}H", block, place)
        end = min(place + 2 + 12 * count, len(block) - 11)
        for at in range(place + 2, end, 12):
            tag, kind, values, value = struct.unpack_from(f"{order}HHII", block, at)
            length = values * _SIZES.get(kind, 0)
            if length > 4 and value + length <= len(block):  # others are cut short, and not kept
                yield length
            elif tag in _POINTERS:
                waiting.append(value)


def require_few_comments(file: BinaryIO) -> None:
    """Check the comments of a PPM file in plain text.

    Raises:
        ImageError: it has more than any image does.
    """
    found = 0
    while block := file.read(_BLOCK):
        found += block.count(b"#")
    file.seek(0)
    if found > MOST_COMMENTS:
        raise ImageError(f"corrupt: it has {found:,} comments; expected {MOST_COMMENTS:,} at most")


def require_few_scans(file: BinaryIO) -> None:
    """Check the scans of a progressive JPEG, from the mark of its first one to its end; what follows does not count.

    Raises:
        ImageError: it has more than any image does.
    """
    content = file.read()
    scans, place = 1, 0
    for _ in range(_MOST_MARKS):
        place += int.from_bytes(content[place : place + 2], "big")  # the length of what the mark begins
        mark = _JPEG_MARK.search(content, place)
        if mark is None or mark[1] == b"\xd9" or scans > MOST_SCANS:
            break
        scans += mark[1] == b"\xda"
        place = mark.end()
    else:
        raise ImageError(f"corrupt: it has more than {_MOST_MARKS:,} blocks between its scans")
    if scans > MOST_SCANS:
        raise ImageError(f"corrupt: it has more than {MOST_SCANS:,} scans")


def require_sound_exif_anywhere(file: BinaryIO) -> None:
    """The same for a file whose EXIF block is not known yet, of a format whose reader looks into it at once: AVIF.

    Raises:
        ImageError: there is such a block, or too many that look like one.
    """
    content = file.read()
    file.seek(0)
    starts = [found.start() for found in re.finditer(rb"II\*\0|MM\0\*", content)]
    if len(starts) > _MOST_BLOCKS:
        raise ImageError(f"corrupt: it has {len(starts):,} EXIF blocks; expected one")
    for start in starts:
        _require_sound(content[start:])

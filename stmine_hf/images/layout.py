"""Layout of samples from the header of a file: depth, kind, bands, and the blocks that they are stored in.

Pillow's mode does not show it: an RGB file of 16 bits opens as "RGB", like one of 8.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .finding import ImageError

_PNG, _JP2, _CODESTREAM = b"\x89PNG\r\n\x1a\n", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"
_BOXES_OF_BOXES, _DEEPEST_BOX = (b"jp2h", b"res ", b"asoc", b"uinf"), 8
PLAIN_PPM = (b"P1", b"P2", b"P3")  # pixels as text
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KINDS = {1: "unsigned", 2: "signed", 3: "float", 4: "unsigned", 5: "complex", 6: "complex"}  # TIFF's SampleFormat
_GREY_INVERTED, _GREY, _RGB, _PALETTE, _CMYK = 0, 1, 2, 3, 5  # TIFF's PhotometricInterpretation
_COLOUR_MODELS = {3: "palette", 4: "mask", 6: "YCbCr", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "raw camera"}


class Layout(NamedTuple):
    """The samples of a file."""

    format: str
    width: int
    height: int
    bands: int
    bits: int  # of a sample, the most of all bands
    kind: str = "unsigned"
    block: tuple[int, int] = (0, 0)  # width and height of a tile or strip; zeros: not known
    separate: bool = False  # each band by itself, not the bands of a pixel together
    orientation: int = 1  # as in EXIF
    colour_model: int = _GREY
    premultiplied: bool = False
    nodata: float | None = None
    names_colours: bool = False  # states which band is red
    georeferenced: bool = False  # may state where on Earth it is
    sparse: bool = False  # blocks without data are left out, which GDAL alone reads

    def __str__(self) -> str:
        kind = "" if self.kind == "unsigned" else f" ({self.kind})"
        return f"{self.bands} {'band' if self.bands == 1 else 'bands'} of {self.bits} bits{kind}"

    @property
    def inverted(self) -> bool:
        """0 is white."""
        return self.colour_model == _GREY_INVERTED

    @property
    def block_bytes(self) -> int:
        """What one block takes when it is decoded."""
        return self.block[0] * self.block[1] * (1 if self.separate else self.bands) * max(1, self.bits // 8)

    @property
    def deep(self) -> bool:
        """More than Pillow's 8 bits show. (Printers' CMYK fills its range, so that its upper 8 bits do.)"""
        return (self.bits > 8 or self.kind != "unsigned") and self.colour_model != _CMYK

    def require_readable(self) -> None:
        """
        Raises:
            ImageError: samples that have no known way to 8-bit RGB.
        """
        if self.kind == "complex":
            raise ImageError(f"{self}: complex numbers have no colours; save their magnitude")
        if self.colour_model in _COLOUR_MODELS and self.deep:
            raise ImageError(f"{self} in the colour model {_COLOUR_MODELS[self.colour_model]}: save it as RGB")


def read_layout(file: BinaryIO) -> Layout | None:
    """The layout of a TIFF, PNG, JPEG 2000 or PPM file; None for others, whose samples have 8 bits.

    Raises:
        Exception: of nearly any type, where the header is invalid; call it under `image_errors()`.
    """
    head = file.read(32)
    file.seek(0)
    try:
        if head.startswith(_TIFF):
            return _tiff(file)
        if head.startswith(_PNG):
            return _png(head)
        if head.startswith((_JP2, _CODESTREAM)):
            return _jpeg_2000(file)
        if head[:2] in (b"P2", b"P3", b"P5", b"P6"):
            return _ppm(file)
        return None
    finally:
        file.seek(0)


def _png(head: bytes) -> Layout:
    width, height, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", head[16:29])
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colours, 1)
    return Layout("PNG", width, height, bands, bits, block=(width, height if interlaced else 1))


def _tiff(file: BinaryIO) -> Layout:
    header = file.read(8)
    if header[2] == 43 or header[3] == 43:  # BigTIFF
        header += file.read(8)
    tags = ImageFileDirectory_v2(header)
    file.seek(tags.next)
    tags.load(file)
    width, height = int(tags[256]), int(tags[257])
    bits, formats = _numbers(tags.get(258), 1), _numbers(tags.get(339), 1)
    kinds = {_KINDS.get(number, "unsigned") for number in formats}
    block = (int(tags[322]), int(tags[323])) if 322 in tags else (width, min(height, int(tags.get(278, height))))
    extra = _numbers(tags.get(338), 0)
    return Layout(
        "TIFF",
        width,
        height,
        int(tags.get(277, 1)),
        max(bits),
        kinds.pop() if len(kinds) == 1 else "complex" if "complex" in kinds else "float",
        block,
        separate=tags.get(284, 1) == 2,
        orientation=int(_numbers(tags.get(274), 1)[0]),
        colour_model=int(tags.get(262, _GREY)),
        premultiplied=extra[0] == 1,
        nodata=_number(tags.get(42113)),
        names_colours='role="colorinterp"' in str(tags.get(42112, "")),
        georeferenced=34735 in tags,
        sparse=0 in _numbers(tags.get(325, tags.get(279)), 1),
    )


def _boxes(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, int]]:
    """Kind, and place of the content, of each JPEG 2000 box between two places of a file.

    Raises:
        ImageError: a box that ends behind what it lies in, or lies too deep. GDAL reads such files without end.
    """
    while start < end:
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        content = start + 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
            content += 8
        stop = end if length == 0 and depth == 0 else start + length  # 0: all the rest of the file
        if not content <= stop <= end and kind != b"jp2c":  # what is missing of an image, its decoder tells
            raise ImageError(
                f"corrupt: a box of this JPEG 2000 file states {length} bytes, which do not fit into the file"
            )
        if kind in _BOXES_OF_BOXES:
            if depth == _DEEPEST_BOX:
                raise ImageError(f"corrupt: boxes of this JPEG 2000 file are more than {_DEEPEST_BOX} deep")
            for _ in _boxes(file, content, stop, depth + 1):
                pass
        yield kind, content
        start = stop


def _jpeg_2000(file: BinaryIO) -> Layout:
    """From the SIZ marker, at the start of the codestream."""
    start = 0
    if file.read(4) != _CODESTREAM:
        end = file.seek(0, os.SEEK_END)
        start = next((content for kind, content in list(_boxes(file, 0, end)) if kind == b"jp2c"), -1)
    if start < 0:
        raise ImageError("corrupt: there is no image in this JPEG 2000 file")
    file.seek(start)
    if file.read(4) != _CODESTREAM:
        raise ImageError("corrupt: there is no image in this JPEG 2000 file")
    _, _, right, bottom, left, top, tile_width, tile_height, _, _, bands = struct.unpack(">HHIIIIIIIIH", file.read(38))
    depths = file.read(3 * bands)[::3]
    width, height = right - left, bottom - top
    return Layout(
        "JPEG2000",
        width,
        height,
        bands,
        max((depth & 127) + 1 for depth in depths),
        "signed" if any(depth & 128 for depth in depths) else "unsigned",
        (min(width, tile_width), min(height, tile_height)),
        colour_model=_RGB if bands > 2 else _GREY,
        georeferenced=True,
    )


def _ppm(file: BinaryIO) -> Layout | None:
    words = b" ".join(line.partition(b"#")[0] for line in file.read(1000).splitlines()).split()
    width, height, most = (int(word) for word in words[1:4])
    return Layout(
        "PPM", width, height, 3 if words[0] in (b"P3", b"P6") else 1, max(8, most.bit_length()), block=(width, 1)
    )


def _numbers(value: object, default: int) -> Sequence[int]:
    """A tag's numbers as a tuple that is never empty."""
    if value is None or value == ():
        return (default,)
    return value if isinstance(value, tuple) else (int(value),)  # type: ignore[call-overload]


def _number(value: object) -> float | None:
    """GDAL's nodata value, which is a text."""
    try:
        return float(str(value).strip().rstrip("\0"))
    except ValueError:
        return None

"""What a file holds beside its pixels costs no more than they do: it is bounded, whatever the format."""

import io
import struct
import time
import tracemalloc
import zlib
from contextlib import suppress

import pytest
from PIL import Image, features

from stmine_hf.images import ImageError, open_bytes, open_image
from stmine_hf.images.header import read_header
from stmine_hf.images.metadata import Metered
from stmine_hf.images.scenes import place_and_time

MANY = 300_000
SIDE = 16


def encoded(format: str, **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "gray").save(file, format, **options)
    return file.getvalue()


def entries(pointers: int, length: int, at: int, first: int = 40_000) -> bytes:
    """Entries that all name the same bytes."""
    tags = [struct.pack("<HHII", first + number, 7, length, at) for number in range(pointers)]
    return struct.pack("<H", pointers) + b"".join(tags) + bytes(4)


def greedy_exif(pointers: int = 2000, length: int = 2**20) -> bytes:
    place = 8 + 2 + 12 * pointers + 4
    return b"II*\0" + struct.pack("<I", 8) + entries(pointers, length, place) + bytes(length)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    whole = encoded("PNG")
    start, end = whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4
    return whole[:start] + before + whole[start:end] + after + whole[end:]


def jpeg(segments: bytes) -> bytes:
    whole = encoded("JPEG")
    return whole[:2] + segments + whole[2:]


def exif_segments(block: bytes) -> bytes:
    parts = [b"Exif\0\0" + block[at : at + 65_000] for at in range(0, len(block), 65_000)]
    return b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)


def gif(blocks: bytes) -> bytes:
    whole = encoded("GIF")
    start = whole.index(b"\x2c", 13 + 3 * 2 ** ((whole[10] & 7) + 1))
    return whole[:start] + blocks + whole[start:]


def jp2(boxes: bytes) -> bytes:
    whole = encoded("JPEG2000")
    start = whole.index(b"ftyp") - 4
    end = start + struct.unpack_from(">I", whole, start)[0]
    return whole[:end] + boxes + whole[end:]


def tiff(greedy: str) -> bytes:
    """Entries of the image itself, or of the place that its EXIF names, which share their bytes."""
    length, pointers = 2**20, 2000
    own = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    own += [(274, 3, 1, 6), (277, 3, 1, 1), (278, 4, 1, SIDE), (279, 4, 1, SIDE * SIDE)]
    place = 8 + SIDE * SIDE
    tags = place + length
    if greedy == "GPS":
        own.append((0x8825, 4, 1, tags + 2 + 12 * (len(own) + 1) + 4))
    else:
        own += [(40_000 + number, 7, length, place) for number in range(pointers)]
    listed = struct.pack("<H", len(own)) + b"".join(struct.pack("<HHII", *one) for one in own) + bytes(4)
    head = b"II*\0" + struct.pack("<I", tags) + b"\x80" * SIDE * SIDE + bytes(length)
    return head + listed + (entries(pointers, length, place, first=1) if greedy == "GPS" else b"")


def scans(count: int, between: bytes = b"") -> bytes:
    whole = encoded("JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + (between + whole[last:-2]) * count + whole[-2:]


def pnm(header: bytes, pixels: bytes = b"\x80" * SIDE * SIDE * 4) -> bytes:
    return header + pixels


SIZE = b"\n%d %d\n" % (SIDE, SIDE)
HOSTILE = {
    "PPM, a long comment": lambda: pnm(b"P6\n#" + b"x" * MANY + SIZE + b"255\n"),
    "PPM, long spaces": lambda: pnm(b"P6\n" + b" " * MANY + SIZE + b"255\n"),
    "PGM, comments": lambda: pnm(b"P5\n" + b"#\n" * MANY + SIZE + b"255\n"),
    "PBM, a long comment": lambda: pnm(b"P4\n#" + b"x" * MANY + SIZE),
    "PPM, comments among numbers": lambda: pnm(b"P3" + SIZE + b"255\n", b"1 #\n" * MANY),
    "PNG, chunks": lambda: png(chunk(b"abCd", b"") * MANY),
    "PNG, chunks behind the pixels": lambda: png(b"", chunk(b"abCd", b"") * MANY),
    "PNG, texts": lambda: png(chunk(b"tEXt", b"a\0b") * MANY),
    "PNG, EXIF": lambda: png(chunk(b"eXIf", greedy_exif())),
    "PNG, EXIF behind the pixels": lambda: png(b"", chunk(b"eXIf", greedy_exif())),
    "PNG, EXIF as text": lambda: png(
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n9\n" + greedy_exif().hex().encode()))
    ),
    "JPEG, comments": lambda: jpeg(b"\xff\xfe\0\2" * MANY),
    "JPEG, filling": lambda: jpeg(b"\xff" * MANY),
    "JPEG, EXIF": lambda: jpeg(exif_segments(greedy_exif())),
    "JPEG, scans": lambda: scans(2000),
    "JPEG, scans behind an end in a comment": lambda: scans(2000, b"\xff\xfe\0\4\xff\xd9"),
    "JPEG, scans behind a mark without length": lambda: scans(2000, b"\xff\x01\xff\xff"),
    "GIF, comments": lambda: gif(b"\x21\xfe\x01x\0" * MANY),
    "GIF, a comment in pieces": lambda: gif(b"\x21\xfe" + b"\x01x" * MANY + b"\0"),
    "GIF, zeros": lambda: gif(bytes(MANY)),
    "JPEG 2000, boxes": lambda: jp2(struct.pack(">I4s", 8, b"free") * MANY),
    "TIFF, entries": lambda: tiff("own"),
    "TIFF, entries of the place": lambda: tiff("GPS"),
    "WebP, EXIF": lambda: encoded("WEBP", exif=greedy_exif()),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_header_is_refused_at_once(tmp_path, what):
    path = tmp_path / "image"
    path.write_bytes(HOSTILE[what]())
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="corrupt"):
            open_image(path)
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()
    for read in (read_header, place_and_time):  # some of it lies where they do not look
        with suppress(ImageError):
            read(path)
    assert time.process_time() - began < 20  # they took minutes, or all memory


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_the_exif_block_of_a_turned_avif_is_checked_before_it_is_opened():
    block = bytearray(greedy_exif())
    block[10:22] = struct.pack("<HHII", 0x0112, 3, 1, 6)
    whole = encoded("AVIF", exif=b"Exif\0\0" + greedy_exif(1, 1).replace(bytes(4), bytes(4)))
    with pytest.raises(ImageError, match="EXIF block"):
        open_bytes(whole + bytes(block))
    assert open_bytes(whole).size == (SIDE, SIDE)


def test_usual_metadata_passes():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "x" * 40_000
    exif.get_ifd(0x8825)[1] = "N"
    for format in ("JPEG", "PNG", "WEBP", "TIFF"):
        assert open_bytes(encoded(format, exif=exif)).size == (SIDE, SIDE), format
    assert open_bytes(pnm(b"P5\n# by a camera\n" * 1 + b"#" + b"x" * 5000 + SIZE + b"255\n")).size == (SIDE, SIDE)
    assert open_bytes(scans(20)).size == (SIDE, SIDE)
    film = b"\xff\xda" * 500  # such as that of a motion photo, or bytes that look like scans by chance
    assert open_bytes(encoded("JPEG", progressive=True) + film).size == (SIDE, SIDE)
    assert open_bytes(jpeg((b"\xff\xfe" + struct.pack(">H", 65_533) + bytes(65_531)) * 30)).size == (SIDE, SIDE)


def test_tall_images_of_a_row_each_pass(tmp_path):
    """Pillow reads 64 KB for each row of them."""
    width, height = 10, 120_000
    place, offsets = 8, 8 + width * height
    own = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    own += [(273, 4, height, offsets), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, height, offsets + 4 * height)]
    body = b"\x80" * width * height + b"".join(struct.pack("<I", place + width * row) for row in range(height))
    body += struct.pack("<I", width) * height
    tags = struct.pack("<H", len(own)) + b"".join(struct.pack("<HHII", *one) for one in own) + bytes(4)
    whole = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + tags
    assert open_bytes(whole).size == (width, height)


def test_a_metered_file_is_the_file_but_for_its_limit():
    file = io.BytesIO(b"abcdef")
    metered = Metered(file)
    assert metered.read(2) == b"ab" and metered.tell() == 2 and metered.getvalue() == b"abcdef"
    with pytest.raises(ImageError, match="save it again without metadata"):
        for _ in range(200_000):
            metered.read(1)

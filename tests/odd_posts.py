"""Texts and images as real posts have them: strange but usable ones, and images that nobody can read."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

ODD_TEXTS = {
    "empty": "",
    "blank": " \n\t　",
    "emoji only": "😂😂🔥👍🏽",
    "links only": "http://t.cn/a1 https://x.yz/?q=1",
    "very long": "假新闻 fake news! " * 700,
    "right to left": "خبر كاذب עברית",
    "mixed scripts": "fake 假 خبر новости ニュース ข่าว",
    "special tokens": "[CLS] fake [SEP] [MASK]",
    "control characters": "fa\x00ke\u200b\ufeff news\x1b[31m",
}
assert len(ODD_TEXTS["very long"]) > 10_000


def saved(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(height: int = 30, width: int = 40, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(height * width).integers(0, 256, size=(height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels, "CMYK" if channels == 4 else "RGB")


def odd_images() -> dict[str, bytes]:
    """Images that must be read."""
    frames = [noise(20, 30 + step) for step in (0, 1)]
    return {
        "1x1.png": saved(noise(1, 1)),
        "cmyk.jpg": saved(noise(24, 24, channels=4), "JPEG"),
        "animated.gif": saved(frames[0].convert("P"), "GIF", save_all=True, append_images=[frames[1].convert("P")]),
        "wide.png": saved(Image.new("RGB", (4000, 2), "red")),
        "palette.png": saved(noise().convert("P"), transparency=3),
        "grey16.png": saved(Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 60)),
    }


def bad_images() -> dict[str, bytes]:
    """Images that must be refused, each with its reason."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return {
        "cut.png": saved(noise())[:600],
        "words.jpg": b"no image",
        "empty.jpg": b"",
        "huge.png": b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(99))),
    }

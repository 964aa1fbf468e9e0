"""Fonts for what is drawn onto pictures: Pillow's own, and where a text needs more than Latin, one of the system's."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Pillow's own font is Latin. These are looked for in the system's font folders when a text has more than that.
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "Arial Unicode.ttf",
    "DejaVuSans.ttf",
)


def font_for(size: int, text: str = "") -> Font:
    """A font of this size, in pixels, that has the letters of the text as far as this system has any."""
    return _load_font(size, max(text, default="") > "\u024f")  # the last of Latin Extended-B


@lru_cache
def _load_font(size: int, wide: bool) -> Font:
    for name in _WIDE_FONTS if wide else ():
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)

"""Fonts for drawings: Pillow's own, or a system font where a text needs more than Latin."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, ParamSpec

from PIL import ImageFont

from .printing import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
P = ParamSpec("P")

# Pillow's own font is Latin. These are looked for in the system's font folders when a text has more than that.
_WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "simhei.ttf",
    "Arial Unicode.ttf",
    "DejaVuSans.ttf",
)
_LAST_LATIN = "\u024f"  # of Latin Extended-B
_LONGEST_LINE = 120  # characters of a text in a figure
_NO_LETTER = "\U0010ffff"  # drawn as whatever a font draws for what it lacks
_told: list[str] = []  # the letter that a warning named, once


def font_for(size: int, text: str = "") -> Font:
    """A font of this size, in pixels, with the letters of the text as far as this system has them.

    Letters that no font here has come out as boxes; the first text that this happens to is logged with the remedy.
    """
    file = font_file(text)
    return _own(size) if file is None else _opened(file, size)


def font_file(text: str) -> str | None:
    """The file of a font with the letters of the text; None: they are Latin, or nothing here has more."""
    letters = frozenset(letter for letter in text if letter > _LAST_LATIN and not letter.isspace())
    return _best_file(letters) if letters else None


def wrapped(text: str, font: Font, width: int, *, most_lines: int) -> list[str]:
    """Lines of at most `width` pixels, broken between words, inside of words that are longer; the last one cut."""
    lines: list[str] = []
    rest = text[:500]
    while rest and len(lines) < most_lines - 1 and font.getlength(rest) > width:
        fits = max(1, bisect_right(range(len(rest)), float(width), key=lambda n: font.getlength(rest[:n])) - 1)
        space = rest.rfind(" ", 1, fits + 1)
        at = space if space > 0 else fits
        lines.append(rest[:at].rstrip())
        rest = rest[at:].lstrip()
    return [*lines, shortened(rest, font, width)] if rest else lines


def shortened(text: str, font: Font, width: int) -> str:
    """Both ends of a text that is too long: file names differ there."""
    if font.getlength(text) <= width:
        return text
    kept = bisect_right(range(len(text)), float(width), key=lambda n: font.getlength(_without_middle(text, n))) - 1
    return _without_middle(text, max(kept, 2))


def _without_middle(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"


def in_every_script(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that draws with matplotlib: Chinese is shown if this system has a font for it.

    Texts are shown as they are: a `$` in a name begins no formula, and what cannot be drawn is shown as its escape
    sequence.
    """

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        import matplotlib
        from matplotlib import font_manager
        from matplotlib.text import Text

        families = list(matplotlib.rcParams["font.family"])
        for file in filter(None, (_path(name) for name in _WIDE_FONTS)):
            font_manager.fontManager.addfont(file)
            families.append(font_manager.FontProperties(fname=file).get_name())
        with matplotlib.rc_context({"font.family": families}):
            figure = draw(*args, **kwargs)
        axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis) if axis.get_scale() == "log"]
        powers = {text for axis in axes for text in axis.findobj(Text)}  # the only ones that are formulas
        for text in set(figure.findobj(Text)) - powers:
            text.set_parse_math(False)
            text.set_text(drawable(text.get_text()))
        return figure

    return drawn


def drawable(text: str) -> str:
    """A text with escape sequences for what matplotlib cannot draw, and without the ends of very long lines.

    Labels of ticks need it where they are set; `in_every_script` brings all other texts.
    """
    return "\n".join(printable(line)[:_LONGEST_LINE] for line in text.split("\n"))


@lru_cache(maxsize=1024)
def _best_file(letters: frozenset[str]) -> str | None:
    """The first font that has all the letters, else the one that has most of them."""
    lacking = {file: _lacking(file, letters) for file in filter(None, (_path(name) for name in _WIDE_FONTS))}
    best = min(lacking, key=lambda file: len(lacking[file]), default=None)
    lacks = letters if best is None else lacking[best]
    if lacks and not _told:
        _told.append(min(lacks))
        logger.warning(
            "No font here has letters such as %s (U+%04X): images show boxes in their place. Install one that has "
            "them, for Chinese Noto Sans CJK (Debian and Ubuntu: apt install fonts-noto-cjk).",
            _told[0],
            ord(_told[0]),
        )
    return best


def _lacking(file: str, letters: frozenset[str]) -> frozenset[str]:
    font = _opened(file, 16)
    nothing = font.getmask(_NO_LETTER)
    return frozenset(
        letter
        for letter in letters
        if (mask := font.getmask(letter)).size == nothing.size and bytes(mask) == bytes(nothing)
    )


@lru_cache
def _path(name: str) -> str | None:
    """Path of a font, if the system has it."""
    try:
        return str(ImageFont.truetype(name, 16).path)
    except OSError:
        return None


_own = lru_cache(ImageFont.load_default)  # which decodes the font at each call, and a new font knows no letters yet


@lru_cache
def _opened(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)

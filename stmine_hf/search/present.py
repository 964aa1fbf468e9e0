"""Present hits: a contact sheet (PNG) and a self-contained page (HTML)."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from PIL import Image, ImageDraw, ImageOps

from ..fonts import font_for, shortened, wrapped
from ..images import ImageError, PixelOptions, open_image, open_scene
from ..inference.batching import read_ahead
from ..outputs import write_output

if TYPE_CHECKING:
    from .hits import Hit

# The sheet, in pixels and RGB.
_THUMB, _GAP, _CAPTION, _COLUMNS = 240, 20, 52, 5
_MOST_ON_SHEET = 200  # the PNG stays below 20 megapixels; the page shows all hits
_PAPER, _CARD, _INK, _FAINT, _ACCENT = (244, 245, 247), (255, 255, 255), (24, 28, 36), (108, 116, 130), (24, 96, 200)
_PLACEHOLDER = (226, 229, 234)
_DEFAULT = PixelOptions()


def title_of(query: str, warning: str | None) -> str:
    """The title of hits: the query, and why they may mean little."""
    return query if warning is None else f"{query}. {warning}"


def contact_sheet(hits: Sequence[Hit], out_png: str | Path, *, title: str, pixels: PixelOptions = _DEFAULT) -> None:
    """Write what `sheet_image` draws, as PNG."""
    sheet = sheet_image(hits, title=title, pixels=pixels)
    write_output(out_png, partial(sheet.save, format="PNG"), inputs=[hit.path for hit in hits[:_MOST_ON_SHEET]])


def sheet_image(hits: Sequence[Hit], *, title: str, pixels: PixelOptions = _DEFAULT) -> Image.Image:
    """The hits as a grid of thumbnails with rank, score and file name below the title (the query).

    An image that no longer exists or cannot be read gets a grey card with the reason. Above 200 hits the sheet shows
    the first 200 and says so.

    Args:
        pixels: how to read images of more than 8 bits or more than three bands: `ImageIndex.pixels`.
    """
    shown = hits[:_MOST_ON_SHEET]
    columns = max(1, min(_COLUMNS, len(shown)))
    width = max(columns, 3) * (_THUMB + _GAP) + _GAP  # three at least, so that the title has room
    heading = wrapped(_plain(title), font_for(28, title), width - 2 * _GAP, most_lines=3)
    top = _GAP + 38 * len(heading) + 30 + _GAP
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (width, top + rows * (_THUMB + _CAPTION + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)

    for line, text in enumerate(heading):
        draw.text((_GAP, _GAP + 38 * line), text, fill=_INK, font=font_for(28, text))
    draw.text((_GAP, _GAP + 38 * len(heading) + 4), _summary(len(hits), len(shown)), fill=_FAINT, font=font_for(17))
    for number, (hit, thumbnail) in enumerate(thumbnails(shown, _THUMB, pixels)):
        left = _GAP + (number % columns) * (_THUMB + _GAP)
        upper = top + (number // columns) * (_THUMB + _CAPTION + _GAP)
        _draw_card(sheet, draw, hit, thumbnail, left, upper)
    return sheet


def html_page(hits: Sequence[Hit], out_html: str | Path, *, title: str, pixels: PixelOptions = _DEFAULT) -> None:
    """Write the hits as one HTML file with embedded thumbnails, each a link to its image.

    Links are relative for images below the page's folder, so that both can move together, else absolute.

    Args:
        pixels: as of `sheet_image`.
    """
    folder = os.path.abspath(Path(out_html).parent)
    cards = "\n".join(_card(hit, thumbnail, folder) for hit, thumbnail in thumbnails(hits, 320, pixels))
    heading = escape(_plain(title))
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{heading}</title>
<style>{_STYLE}</style>
</head>
<body>
<header><h1 dir="auto">{heading}</h1><p>{_summary(len(hits), len(hits))}</p></header>
<main>
{cards}
</main>
</body>
</html>
"""
    write_output(out_html, lambda path: path.write_text(page, encoding="utf-8"), inputs=[hit.path for hit in hits])


_STYLE = """
:root { color-scheme: light dark; --paper: #f4f5f7; --card: #fff; --ink: #181c24; --faint: #6c7482; --accent: #1860c8;
  --line: #e2e5ea; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --card: #1e232b; --ink: #e8ebf0; --faint: #99a2b1;
  --accent: #7db0ff; --line: #303743; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 90rem; padding: 1.5rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.4 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; overflow-wrap: anywhere; }
header p { margin: .25rem 0 1.25rem; color: var(--faint); }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13rem, 100%), 1fr)); gap: 1rem; }
a { display: block; overflow: hidden; border: 1px solid var(--line); border-radius: .6rem; background: var(--card);
  color: inherit; text-decoration: none; }
a:hover, a:focus-visible { border-color: var(--accent); }
.image { display: grid; place-items: center; aspect-ratio: 1; background: var(--line); color: var(--faint);
  text-align: center; }
img { width: 100%; height: 100%; object-fit: contain; }
.row { display: flex; justify-content: space-between; padding: .5rem .75rem 0; font-variant-numeric: tabular-nums; }
.rank { color: var(--accent); font-weight: 600; }
.name { padding: 0 .75rem .6rem; color: var(--faint); font-size: .875rem; overflow-wrap: anywhere; }
"""


def _card(hit: Hit, thumbnail: Image.Image | str, folder: str) -> str:
    path = os.path.abspath(hit.path)
    below = path.startswith(folder + os.sep)
    link = quote(Path(os.path.relpath(path, folder)).as_posix()) if below else Path(path).as_uri()
    name = escape(name_of(hit))
    if isinstance(thumbnail, str):
        image = f"<span>{escape(thumbnail)}</span>"
    else:
        jpeg = io.BytesIO()
        thumbnail.save(jpeg, format="JPEG", quality=85)
        image = f'<img alt="{name}" src="data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}">'
    return (
        f'<a href="{escape(link)}" title="{escape(path)}"><div class="image">{image}</div>'
        f'<div class="row"><span class="rank">{hit.rank}</span><span>{hit.score:.3f}</span></div>'
        f'<div class="name">{name}</div></a>'
    )


def _draw_card(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, hit: Hit, thumbnail: Image.Image | str, left: int, upper: int
) -> None:
    right, lower = left + _THUMB, upper + _THUMB
    draw.rounded_rectangle((left - 4, upper - 4, right + 3, lower + _CAPTION - 1), radius=8, fill=_CARD)
    if isinstance(thumbnail, str):
        draw.rectangle((left, upper, right - 1, lower - 1), fill=_PLACEHOLDER)
        reason = "\n".join(wrapped(_plain(thumbnail), font_for(15), _THUMB - 40, most_lines=6))
        middle = (left + _THUMB // 2, upper + _THUMB // 2)
        draw.multiline_text(middle, reason, fill=_FAINT, font=font_for(15), anchor="mm", align="center")
    else:
        sheet.paste(thumbnail, (left + (_THUMB - thumbnail.width) // 2, upper + (_THUMB - thumbnail.height) // 2))
    draw.text((left + 6, lower + 6), str(hit.rank), fill=_ACCENT, font=font_for(17))
    draw.text((right - 6, lower + 6), f"{hit.score:.3f}", fill=_INK, font=font_for(17), anchor="ra")
    name = _plain(name_of(hit))
    font = font_for(14, name)
    draw.text((left + 6, lower + 28), shortened(name, font, _THUMB - 12), fill=_FAINT, font=font)


def thumbnails(
    hits: Sequence[Hit], side: int, pixels: PixelOptions = _DEFAULT
) -> Iterator[tuple[Hit, Image.Image | str]]:
    """Each hit with its image, as large as fits `side` x `side`, or with the reason why there is none."""

    def load(hit: Hit) -> tuple[Hit, Image.Image | str]:
        try:
            image = image_of(hit, side, pixels)
        except ImageError as error:
            return hit, str(error)
        return hit, ImageOps.contain(image, (side, side), Image.Resampling.LANCZOS)

    return read_ahead(load, hits, workers=4, ahead=16)


def image_of(hit: Hit, side: int, pixels: PixelOptions = _DEFAULT) -> Image.Image:
    """The image of a hit, or the tile of it.

    Args:
        side: pixels that are needed along the longer side of an image; see `open_image`.
        pixels: how to read images of more than 8 bits or more than three bands: `ImageIndex.pixels`.

    Raises:
        ImageError: it cannot be read.
    """
    if hit.window is None:
        return open_image(hit.path, side, pixels)
    with open_scene(hit.path, pixels) as scene:
        return scene.window(hit.window)


def name_of(hit: Hit) -> str:
    """The file's name, and where in it a tile lies."""
    return hit.path.name if hit.window is None else f"{hit.path.name} at {hit.window.left},{hit.window.top}"


def _summary(found: int, shown: int) -> str:
    number = {0: "No image", 1: "1 image"}.get(found, f"{found} images")
    first = f", the first {shown} are shown" if shown < found else ""
    return f"{number}, best first{first}. Scores are cosine similarities." if found else f"{number} found."


def _plain(text: str) -> str:
    """One line without what cannot be encoded (file names and arguments may hold foreign bytes)."""
    return " ".join(text.encode("utf-8", "replace").decode().split())

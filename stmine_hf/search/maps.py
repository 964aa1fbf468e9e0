"""Hits with their places: GeoJSON, and a map page that needs no other file and no network."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..geojson import collection, feature, unwrapped
from ..images import PixelOptions
from ..outputs import write_output
from .present import thumbnails

if TYPE_CHECKING:
    from .hits import Hit

_MOST_THUMBNAILS = 300  # each of some 5 KB
_SIDE = 128  # of a thumbnail, in pixels
_DEFAULT = PixelOptions()


def hit_properties(hit: Hit) -> dict[str, Any]:
    """Rank, score, image, window and time of a hit as JSON."""
    properties: dict[str, Any] = {"rank": hit.rank, "score": round(float(hit.score), 6), "image": str(hit.path)}
    if hit.window is not None:
        properties["window"] = list(hit.window)
    if hit.time is not None:
        properties["time"] = hit.time.isoformat()
    return properties


def write_geojson(hits: Sequence[Hit], out: str | Path) -> None:
    """Write the hits with a place as GeoJSON polygons (points, where only one is known)."""
    text = collection(feature(hit.place, hit_properties(hit)) for hit in hits if hit.place)
    write_output(out, lambda path: path.write_text(text, encoding="utf-8"), inputs=[hit.path for hit in hits])


def map_page(hits: Sequence[Hit], out_html: str | Path, *, title: str, pixels: PixelOptions = _DEFAULT) -> None:
    """Write what `map_document` makes of the hits."""
    page = map_document(hits, title=title, pixels=pixels)
    write_output(out_html, lambda path: path.write_text(page, encoding="utf-8"), inputs=[hit.path for hit in hits])


def map_document(hits: Sequence[Hit], *, title: str, pixels: PixelOptions = _DEFAULT) -> str:
    """The hits with a place as an HTML page: thumbnails where they lie, to be moved and zoomed.

    There is no map behind them, only lines of longitude and latitude: the page makes no network requests.

    Args:
        pixels: how to read images of more than 8 bits or more than three bands: `ImageIndex.pixels`.
    """
    placed = [hit for hit in hits if hit.place]
    items = []
    for hit, thumbnail in thumbnails(placed[:_MOST_THUMBNAILS], _SIDE, pixels):
        items.append(_item(hit, thumbnail))
    items += [_item(hit, "") for hit in placed[_MOST_THUMBNAILS:]]
    data = json.dumps(items).replace("<", "\\u003c")  # else a file's name could end the script, or hide its end
    heading = escape(" ".join(title.encode("utf-8", "replace").decode().split()))
    template = Path(__file__).with_name("map.html").read_text(encoding="utf-8")
    parts = {"heading": heading, "count": str(len(placed)), "items": data}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def _item(hit: Hit, thumbnail: Image.Image | str) -> dict[str, Any]:
    """The data of a hit on the page; `thumbnail` may be the reason why there is none."""
    encoded = ""
    if not isinstance(thumbnail, str):
        jpeg = io.BytesIO()
        thumbnail.save(jpeg, format="JPEG", quality=80)
        encoded = base64.b64encode(jpeg.getvalue()).decode()
    return {**hit_properties(hit), "image": hit.path.name, "corners": unwrapped(hit.place), "jpeg": encoded}

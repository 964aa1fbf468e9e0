"""Sets as LabelMe writes them: one JSON of shapes per image.

Every `*.json` in the folder and the folders in it that has `shapes`, also as X-AnyLabeling writes it. The image is
`imagePath`, which starts from the JSON's folder; where there is no such file, the image of the JSON's name beside it,
or in `images/`; where there is none either, the image in `imageData`. A folder `train`, `val` (or `valid`) or `test`
in the path says the split; without one all is train.

A rectangle is a box; a polygon, a circle, a mask or a turned box counts by the box around it, and shapes of one label
and one `group_id` are one object, as LabelMe's own converters have it. Points and lines have no area and are counted
as not used, and so are flags and descriptions. Labels are the names in alphabetical order, of all splits together,
unless the option `classes` gives them.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .annotated_images import Annotated, AnnotatedImages, Bbox, Drawn, around, pair, split_of_path
from .cells import flag_of, is_missing, key_of, name_of, shortened, text_of, whole_of
from .errors import BadRow, DataFolderError
from .folder_builder import visible
from .names import Wanted, tidy
from .tables import read_json

NO_AREA = ("point", "points", "line", "linestrip")


class LabelmeJson(AnnotatedImages):
    """Any folder with LabelMe's JSON files."""

    TITLE = "labelme_json"
    LAYOUT = "LabelMe's JSON files, one an image, beside the images or with the images in images/"

    def _annotated(self, folder: Path, image_dir: Path | None, encoding: str | None) -> Iterator[Annotated]:
        for file in visible(folder.rglob("*.json")):
            place = file.relative_to(folder).as_posix()
            try:
                content = read_json(file, encoding)
                if not is_labelme(content):
                    raise BadRow("no list of shapes")
                name = text_of(content.get("imagePath")).strip()
            except (DataFolderError, BadRow) as error:
                self._findings.skip("not a JSON of LabelMe", f"{place} ({error})")
                continue
            name = tidy(name)
            bare = name.rpartition("/")[2]
            near = (str(image_dir or file.parent),)
            further = (file.parent / "images", file.parent.parent / "images", folder / "images")
            far = () if image_dir else tuple(map(str, further))
            wanted = [Wanted(name, place, near)] if bare else []
            wanted += [Wanted(own, place, starts) for own in (name, bare) for starts in (near, far) if bare]
            wanted += [Wanted(file.stem, place, starts, stem=True, hint=bare) for starts in (near, far)]
            width, height = whole_of(content.get("imageWidth")), whole_of(content.get("imageHeight"))
            size = (width, height) if width and height and width > 0 and height > 0 else None
            if any((content.get("flags") or {}).values() if isinstance(content.get("flags"), dict) else ()):
                self._findings.pass_over("flags", place)
            objects = list(self._objects(content["shapes"], place))
            inside = file if isinstance(content.get("imageData"), str) and content["imageData"] else None
            yield Annotated(place, split_of_path(file, folder), wanted, size, objects, inside)

    def _image_inside(self, image: Annotated, most: int) -> bytes | None:
        assert image.inside is not None
        text = read_json(image.inside, self._settings.encoding)["imageData"].partition("base64,")
        encoded = text[2] or text[0]
        if len(encoded) > most * 4 // 3:
            self._findings.note("imageData that exceeds the limit for all images", image.place)
            return None
        try:
            content = base64.b64decode(encoded)
        except (ValueError, binascii.Error):
            self._findings.note("imageData that is not base64", image.place)
            return None
        self._findings.note("image read from imageData: it has no file", image.place)
        return content

    def _objects(self, shapes: list, image: str) -> Iterator[Drawn]:
        groups: dict[tuple[str, Any], Drawn] = {}
        for index, shape in enumerate(shapes):
            place = f"{image}, shapes[{index}]"
            try:
                if not isinstance(shape, dict):
                    raise BadRow(f"{shortened(shape)} is no shape")
                name = name_of(shape.get("label"))
                if not name:
                    raise BadRow("no label")
                kind = text_of(shape.get("shape_type")) or "polygon"  # the default of LabelMe's first versions
                if kind in NO_AREA:
                    self._findings.pass_over(f"shape without an area ({kind})", place)
                    continue
                one = Drawn(place, name, box_of(shape, kind), flag_of(shape.get("difficult")))
            except BadRow as error:
                self._findings.drop("malformed", f"{place} ({error})")
                continue
            if kind != "rectangle":
                self._findings.pass_over("outline", place)
            for part in ("flags", "description", "attributes"):
                value = shape.get(part)
                if any(value.values()) if isinstance(value, dict) else not is_missing(value):
                    self._findings.pass_over(part, place)
            group = None if is_missing(shape.get("group_id")) else key_of(shape["group_id"])
            first = groups.setdefault((name, group), one) if group is not None else one
            if first is not one:
                self._findings.pass_over("parts of one group (the box around them counts)", place)
                boxes = (first.bbox, one.bbox)
                first.bbox = around(corner for x, y, w, h in boxes for corner in ((x, y), (x + w, y + h)))
                first.iscrowd = first.iscrowd or one.iscrowd
            elif group is None:
                yield one
        yield from groups.values()


def is_labelme(content: Any) -> bool:
    """Whether the content of a JSON file is LabelMe's of one image."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def box_of(shape: dict[str, Any], kind: str) -> Bbox:
    """The box around a shape.

    Raises:
        BadRow: its points cannot be read, or are too few.
    """
    points = shape.get("points")
    if not isinstance(points, list):
        raise BadRow("no list of points")
    corners = [pair(point) for point in points]
    if kind == "circle":  # its centre, and a point on it
        if len(corners) != 2:
            raise BadRow(f"a circle of {len(corners)} points instead of 2")
        (x, y), (on_x, on_y) = corners
        radius = math.hypot(on_x - x, on_y - y)
        return x - radius, y - radius, 2 * radius, 2 * radius
    least = 2 if kind in ("rectangle", "mask") else 3
    if len(corners) < least:
        raise BadRow(f"a {kind} of {len(corners)} {'point' if len(corners) == 1 else 'points'}, expected {least}")
    return around(corners)

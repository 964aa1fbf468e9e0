"""Sets in CVAT's own format, "CVAT for images 1.1": one `annotations.xml` of all images of a task or project.

Every `*.xml` in the folder and the folders in it whose root is `annotations`. Images are looked for in `images/`
beside the XML (in the subset's folder there first), beside the XML, and in `images/` of the folder. The `subset` of an
image says its split, else a folder `train`, `val` or `test` in the path of the XML, else all is train.

Labels come in the order in which the XML lists them, then those of other files. A polygon, an ellipse, a mask, a
cuboid, a skeleton or a turned box counts by the box around it; points, lines and tags are counted as not used, and so
are attributes and the marks for occluded objects. Objects that are marked as outside are not in the image. "CVAT for
video 1.1" has tracks through the frames of a film, which are not available as images: it is refused.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from .annotated_images import Annotated, AnnotatedImages, Bbox, Drawn, around, ellipse, pair, split_of_path, turned
from .cells import flag_of, number_of, whole_of
from .errors import BadRow, DataFolderError
from .folder_builder import split_named, visible
from .names import Wanted
from .voc_xml import parse_xml

NO_AREA = ("polyline", "points", "tag")
SHAPES = ("box", "polygon", "ellipse", "mask", "cuboid", "skeleton")
VIDEO = (
    "{}: CVAT for video 1.1, whose tracks go through the frames of a film. Export the task as CVAT for images 1.1, "
    "with its images"
)


class CvatXml(AnnotatedImages):
    """Any folder with CVAT's XML."""

    TITLE = "cvat_xml"
    LAYOUT = "annotations.xml as CVAT for images 1.1 writes it, with the images in images/ beside it"

    def _annotated(self, folder: Path, image_dir: Path | None, encoding: str | None) -> Iterator[Annotated]:
        for file in visible(folder.rglob("*.xml")):
            place = file.relative_to(folder).as_posix()
            try:
                root = parse_xml(file.read_bytes(), encoding)
                if root.tag != "annotations":
                    raise BadRow(f"<{root.tag}> instead of <annotations>")
            except (OSError, ValueError, LookupError, ElementTree.ParseError) as error:
                self._findings.skip("not an XML of CVAT", f"{place} ({error})")
                continue
            images = root.findall("image")
            if root.find("track") is not None:
                if not images:
                    raise DataFolderError(VIDEO.format(file))
                for track in root.findall("track"):
                    self._findings.pass_over("track of a video", f"{place}, track {track.get('id', '')}")
            for name in label_names(root):
                if name not in self._names:
                    self._names.append(name)
            for index, image in enumerate(images):
                one = self._image(image, f"{place}, image {image.get('id', index)}", file, folder, image_dir)
                if one is not None:
                    yield one

    def _image(
        self, image: ElementTree.Element, place: str, file: Path, folder: Path, image_dir: Path | None
    ) -> Annotated | None:
        name, subset = (image.get("name") or "").strip(), (image.get("subset") or "").strip()
        if not name:
            self._findings.skip("malformed", f"{place} (no name)")
            return None
        if image_dir:
            starts = [image_dir / subset, image_dir]
        else:
            beside = file.parent / "images"
            starts = [beside / subset, beside, file.parent / subset, file.parent, folder / "images", folder]
        width, height = whole_of(image.get("width")), whole_of(image.get("height"))
        return Annotated(
            place,
            split_named(subset) or split_of_path(file, folder),
            [Wanted(name, place, tuple(map(str, dict.fromkeys(starts))))],
            (width, height) if width and height and width > 0 and height > 0 else None,
            list(self._objects(image, place)),
        )

    def _objects(self, image: ElementTree.Element, image_place: str) -> Iterator[Drawn]:
        for index, shape in enumerate(image):
            place = f"{image_place}, {shape.tag} {index + 1}"
            if shape.tag not in SHAPES:
                known = "tag" if shape.tag == "tag" else f"shape without an area ({shape.tag})"
                self._findings.pass_over(known if shape.tag in NO_AREA else f"element {shape.tag}", place)
                continue
            try:
                name = (shape.get("label") or "").strip()
                if not name:
                    raise BadRow("no label")
                if flag_of(shape.get("outside")):
                    self._findings.pass_over("object outside of the image", place)
                    continue
                degrees = number_of(shape.get("rotation") or 0)
                one = Drawn(place, name, box_of(shape, degrees))
                occluded = flag_of(shape.get("occluded"))
            except BadRow as error:
                self._findings.drop("malformed", f"{place} ({error})")
                continue
            if shape.tag != "box" or degrees % 360:
                self._findings.pass_over("outline", place)
            if occluded:
                self._findings.pass_over("occluded", place)
            for _ in shape.iter("attribute"):
                self._findings.pass_over("attribute", place)
            yield one


def label_names(root: ElementTree.Element) -> Iterator[str]:
    """The classes that the head of a file lists, except parts of skeletons and names of tags."""
    for label in root.iter("label"):
        name = (label.findtext("name") or "").strip()
        if name and not label.findtext("parent") and (label.findtext("type") or "").strip() != "tag":
            yield name


def box_of(shape: ElementTree.Element, degrees: float) -> Bbox:
    """The box around a shape.

    Raises:
        BadRow: a number or a point is missing.
    """

    def numbers(*names: str) -> list[float]:
        return [number_of(shape.get(name)) for name in names]

    if shape.tag == "box":
        left, top, right, bottom = numbers("xtl", "ytl", "xbr", "ybr")
        bbox = (left, top, right - left, bottom - top)
        return turned(bbox, degrees, ((left + right) / 2, (top + bottom) / 2)) if degrees % 360 else bbox
    if shape.tag == "ellipse":
        x, y, radius_x, radius_y = numbers("cx", "cy", "rx", "ry")
        return ellipse(x, y, radius_x, radius_y, degrees)
    if shape.tag == "mask":
        left, top, width, height = numbers("left", "top", "width", "height")
        return left, top, width, height
    if shape.tag == "cuboid":
        corners = ("tl", "bl", "tr", "br")
        return around(
            (number_of(shape.get(f"x{corner}{face}")), number_of(shape.get(f"y{corner}{face}")))
            for corner in corners
            for face in (1, 2)
        )
    if shape.tag == "skeleton":
        inner = [part for part in shape.iter("points") if not flag_of(part.get("outside"))]
        return around(point for part in inner for point in points_of(part))
    return around(points_of(shape))


def points_of(shape: ElementTree.Element) -> list[tuple[float, float]]:
    """The points `x,y;x,y;...` of a shape."""
    return [pair(point.split(",")) for point in (shape.get("points") or "").split(";") if point.strip()]

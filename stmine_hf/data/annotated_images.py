"""Builders for the native formats of annotation tools: the base of `labelme_json`, `cvat_xml` and `label_studio`.

Tools have objects of many shapes; rows have boxes. An outline, an ellipse, a mask or a rotated box is replaced by
its bounding box. Shapes without an area (points, lines), attributes and all else that a file says and no row holds are
counted as not used.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .boxed_images import Box, BoxedImages, BoxedImagesConfig, BoxRecord, find_images
from .cells import number_of
from .errors import BadRow, DataFolderError
from .folder_builder import contents_of, image_folder, split_named
from .names import ImageFiles, Wanted, stamp_of

Bbox = tuple[float, float, float, float]
MOST_INSIDE = 2**30  # bytes of all images that annotation files hold themselves: they are in memory


@dataclass(slots=True)
class Drawn:
    """One object of an image: its class, and corner and size of its box in what the image's `size` measures."""

    place: str
    name: str
    bbox: Bbox
    iscrowd: bool = False


@dataclass(slots=True)
class Annotated:
    """One image as a tool's file has it.

    Attributes:
        place: of the image in its file, for findings.
        split: that it is of.
        wanted: its name; then other names that it may have, used only if no other image has them.
        size: width and height that boxes are measured in; None for pixels of the file.
        objects: what is drawn.
        inside: the file that holds the image itself, used where no file of its own is found.
    """

    place: str
    split: str
    wanted: list[Wanted]
    size: tuple[int, int] | None
    objects: list[Drawn] = field(default_factory=list)
    inside: Path | None = None


@dataclass
class AnnotatedImagesConfig(BoxedImagesConfig):
    """Options.

    Args:
        classes: names in the order of their labels; objects of other names are dropped.
    """

    classes: Sequence[str] | None = None


class AnnotatedImages(BoxedImages):
    """Base of the builders; a subclass yields the images of its files."""

    BUILDER_CONFIG_CLASS = AnnotatedImagesConfig

    def _annotated(self, folder: Path, image_dir: Path | None, encoding: str | None) -> Iterator[Annotated]:
        """The images of all files; adds the classes that files list to `_names`, counts what is skipped."""
        raise NotImplementedError

    def _read(self, folder: Path, settings: Any) -> list[BoxRecord]:
        image_dir = image_folder(self.TITLE, settings.image_dir)
        read = list(self._annotated(folder, image_dir, settings.encoding))
        if not read and not self._findings:
            raise DataFolderError(f"{self.TITLE}: expected {self.LAYOUT}. In {folder} found {contents_of(folder)}")
        if settings.classes:
            self._names = list(settings.classes)
        else:
            found = {one.name for image in read for one in image.objects}
            self._names += sorted(found - set(self._names))
        if read and not self._names:
            raise DataFolderError(
                f"{self.TITLE}: no object in any of the {len(read)} images of {folder} ({self._findings}): name the "
                "classes of such a set with the option classes"
            )
        labels = {name: label for label, name in enumerate(self._names)}
        images = ImageFiles([image_dir] if image_dir else [], searched=[image_dir or folder])
        known = self._known(images, read)
        records: dict[str, BoxRecord] = {}
        seen: dict[str, set[tuple]] = {}
        inside = 0  # bytes of images that no file holds by itself
        for image, found_at in zip(
            read, find_images(images, [one.wanted[0] for one in read], self._findings, known), strict=True
        ):
            content, name = None, image.wanted[0].name.rpartition("/")[2]
            if found_at is None and image.inside is not None:
                content = self._image_inside(image, MOST_INSIDE - inside)
                inside += len(content or b"")
                found_at = None if content is None else (str(image.inside), stamp_of(str(image.inside)))
            if found_at is None:
                self._findings.skip("no such file", f"{image.place}, {image.wanted[0].name}")
                continue
            path, stamp = found_at
            filename = Path(path).name if content is None else name
            record = BoxRecord(image.place, image.split, filename, path, stamp, size=image.size, content=content)
            if path in records and (records[path].size, records[path].split) != (image.size, image.split):
                self._findings.skip("annotated before, otherwise", f"{image.place}, {record.filename}")
                continue
            if path in records:
                self._findings.correct("image annotated twice: boxes of both", f"{image.place}, {record.filename}")
            record = records.setdefault(path, record)
            for one in image.objects:
                key = (one.name, one.bbox)
                if one.name not in labels:
                    self._findings.drop("of an unknown category", f"{one.place}, {one.name!r}")
                elif key in seen.setdefault(path, set()):
                    self._findings.drop("listed twice", one.place)
                else:
                    seen[path].add(key)
                    record.boxes.append(Box(one.place, one.bbox, labels[one.name], iscrowd=one.iscrowd))
        return list(records.values())

    def _image_inside(self, image: Annotated, most: int) -> bytes | None:
        """The image that an annotation file holds itself, of at most so many bytes; None where it holds none."""
        return None

    def _known(self, images: ImageFiles, read: Sequence[Annotated]) -> list[str | None]:
        """The files that the names of the images lead to; earlier names take precedence."""
        known: list[str | None] = [None] * len(read)
        for number in range(max((len(image.wanted) for image in read), default=0)):
            asked = [
                image.wanted[number] if path is None and number < len(image.wanted) else Wanted("")
                for image, path in zip(read, known, strict=True)
            ]
            taken = set(known)
            found = images.find_near(asked)
            claims = Counter(path for path in found if path is not None)
            for place, path in enumerate(found):
                if path is None or (number and (path in taken or claims[path] > 1)):
                    continue
                known[place] = path
                if Path(path).name != read[place].wanted[0].name.rpartition("/")[2]:
                    self._findings.pass_over(
                        "name of the image (its file has another)", f"{read[place].place}, {Path(path).name}"
                    )
        return known


def split_of_path(file: Path, folder: Path) -> str:
    """The split named by the folders of a file or by its name; train if none is."""
    parts = file.relative_to(folder).with_suffix("").parts
    return next((split for part in parts if (split := split_named(part))), "train")


def around(points: Iterable[tuple[float, float]]) -> Bbox:
    """Corner and size of the box around points.

    Raises:
        BadRow: there is none.
    """
    xs, ys = zip(*points, strict=True) if (points := list(points)) else ((), ())
    if not xs:
        raise BadRow("no points")
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def turned(bbox: Bbox, degrees: float, pivot: tuple[float, float]) -> Bbox:
    """The bounding box of a box that is rotated clockwise about a point.

    Example:
        >>> [round(value) for value in turned((10, 10, 20, 10), 90, (10, 10))]
        [0, 10, 10, 20]
    """
    x, y, width, height = bbox
    corners = [(x, y), (x + width, y), (x, y + height), (x + width, y + height)]
    return around(turned_point(corner, degrees, pivot) for corner in corners)


def turned_point(point: tuple[float, float], degrees: float, pivot: tuple[float, float]) -> tuple[float, float]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = point[0] - pivot[0], point[1] - pivot[1]
    return pivot[0] + x * cosine - y * sine, pivot[1] + x * sine + y * cosine


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Bbox:
    """The box around an ellipse, by its centre."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    wide, high = math.hypot(radius_x * cosine, radius_y * sine), math.hypot(radius_x * sine, radius_y * cosine)
    return x - wide, y - high, 2 * wide, 2 * high


def pair(value: Any) -> tuple[float, float]:
    """A point.

    Raises:
        BadRow: it is none.
    """
    if isinstance(value, dict):
        value = [value.get("x"), value.get("y")]
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise BadRow("a point that is no pair of numbers")
    return number_of(value[0]), number_of(value[1])

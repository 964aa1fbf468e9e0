"""Results in the formats of other tools, beside `detections.json`.

coco      coco.json            a COCO data set: `images`, `annotations` with scores, `categories`
yolo      labels/NAME.txt      of each image lines of class, center, size (shares of the image) and score;
                               classes.txt has the names
csv       detections.csv       a row for each object
geojson   detections.geojson   of georeferenced images: a polygon for each object, WGS 84, and in `crs_polygon` that in
                               the image's own coordinates (`crs`)
jsonl     detections.jsonl     a line for each image
json                           nothing more: `detections.json` is always there
"""

from __future__ import annotations

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from ..errors import StmineError
from ..geojson import feature
from ..images import Georeference, place_and_time, scene_size
from ..inference.journal import json_line
from ..outputs import Outputs

_LABELS = "labels"


def object_feature(place: Georeference, box: Sequence[float], facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """An object as a GeoJSON feature: its polygon in WGS 84, and in the image's own coordinates as `crs_polygon`.

    Args:
        place: the georeference of its image.
        box: left, top, right and bottom in pixels of the image.
        facts: more properties.

    Returns:
        None for an object that is not on Earth.
    """
    left, top, right, bottom = box
    corners = place.corners(left, top, right - left, bottom - top)
    if corners is None:
        return None
    on_map = place.map_points([(left, top), (right, top), (right, bottom), (left, bottom)])
    own = {"crs": place.crs, "crs_polygon": [[round(x, 4), round(y, 4)] for x, y in on_map]}
    return feature(corners, {**facts, **own})


class Format(ABC):
    """A format that is written image by image.

    Args:
        root: folder of the images.
        names: of the classes.
    """

    file: ClassVar[str]
    of_videos: ClassVar[bool] = False

    def __init__(self, root: Path, names: Mapping[int, str]):
        self.root, self.names = root, names

    @contextmanager
    def open(self, outputs: Outputs) -> Iterator[None]:
        """While the images are written."""
        text: Any = {"encoding": "utf-8", "errors": "replace", "newline": ""}
        with outputs.writing(self.file) as path, open(path, "w", **text) as file:
            self.stream: Any = file
            self.begin()
            yield
            self.end()

    def begin(self) -> None:  # noqa: B027
        """Before the first image."""

    @abstractmethod
    def write(self, image: Mapping[str, Any]) -> None:
        """An image.

        Args:
            image: `file_name`, `image_id`, `width`, `height` and `detections` as in `detections.json`.
        """

    def end(self) -> None:  # noqa: B027
        """After the last image."""

    def remark(self) -> str:
        """What the user has to know about the file; "" for nothing."""
        return ""


class Csv(Format):
    file = "detections.csv"
    of_videos = True
    _SIDES = ("left", "top", "right", "bottom")
    _COLUMNS = ("file_name", "image_id", "seconds", "track", "category_id", "category", "score", *_SIDES)

    def begin(self) -> None:
        self._writer = csv.DictWriter(self.stream, self._COLUMNS, lineterminator="\n", extrasaction="ignore")
        self._writer.writeheader()

    def write(self, image: Mapping[str, Any]) -> None:
        for row in image["detections"]:
            sides = dict(zip(self._SIDES, _corners(row["bbox"]), strict=True))
            self._writer.writerow({**row, **sides, "file_name": image["file_name"]})


class JsonLines(Format):
    file = "detections.jsonl"
    of_videos = True

    def write(self, image: Mapping[str, Any]) -> None:
        left_out = ("image_id", "file_name")
        detections = [{key: row[key] for key in row if key not in left_out} for row in image["detections"]]
        kept = {key: image[key] for key in ("file_name", "image_id", "width", "height")}
        self.stream.write(json_line({**kept, "detections": detections}).decode())


class Coco(Format):
    file = "coco.json"

    def begin(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._count = 0
        self.stream.write('{"annotations": [')

    def write(self, image: Mapping[str, Any]) -> None:
        kept = {key: image[key] for key in ("file_name", "width", "height")}
        self._images.append({"id": image["image_id"], **kept})
        for row in image["detections"]:
            self._count += 1
            width, height = row["bbox"][2:]
            own = {key: row[key] for key in ("image_id", "category_id", "bbox", "score")}
            line = {"id": self._count, **own, "area": round(width * height, 2), "iscrowd": 0}
            self.stream.write(("," if self._count > 1 else "") + "\n" + json.dumps(line))

    def end(self) -> None:
        categories = [{"id": label, "name": name} for label, name in sorted(self.names.items())]
        rest = json.dumps({"images": self._images, "categories": categories}, ensure_ascii=False)
        self.stream.write("\n],\n" + rest[1:] + "\n")


class GeoJson(Format):
    file = "detections.geojson"

    def __init__(self, root: Path, names: Mapping[int, str]):
        super().__init__(root, names)
        if find_spec("rasterio") is None:
            raise StmineError("positions of images need rasterio: pip install 'stmine-hf[geo]'")
        self._images = self._placed = self._count = 0

    def begin(self) -> None:
        self.stream.write('{"type": "FeatureCollection", "features": [')

    def write(self, image: Mapping[str, Any]) -> None:
        self._images += 1
        place = self._place(image)
        if place is None:
            return
        self._placed += 1
        for row in image["detections"]:
            facts = {"image": image["file_name"], "category": row["category"], "score": row["score"]}
            found = object_feature(place, _corners(row["bbox"]), facts)
            if found is None:
                continue
            self.stream.write(("," if self._count else "") + "\n" + json.dumps(found, ensure_ascii=False))
            self._count += 1

    def _place(self, image: Mapping[str, Any]) -> Georeference | None:
        """The georeference of an image; None if it has none, or was rotated or reduced on reading."""
        path = self.root / image["file_name"]
        place = place_and_time(path).georeference
        return place if place and scene_size(path) == (image["width"], image["height"]) else None

    def end(self) -> None:
        self.stream.write("\n]}\n")

    def remark(self) -> str:
        if self._placed == self._images:
            return ""
        return (
            f"{self._images - self._placed} of {self._images} images do not say where on the Earth they are (GeoTIFF "
            f"and JPEG 2000 can): they are not in {self.file}"
        )


class Yolo(Format):
    file = "classes.txt"

    @contextmanager
    def open(self, outputs: Outputs) -> Iterator[None]:
        self._outputs, self._written = outputs, {"": ""}
        yield
        lines = [self.names.get(label, f"class {label}") for label in range(max(self.names) + 1)]
        outputs.write(self.file, lambda path: path.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8"))
        for name in outputs.written():  # of images that no longer exist
            if name.startswith(f"{_LABELS}/") and name.casefold() not in self._written:
                outputs.remove(name)

    def write(self, image: Mapping[str, Any]) -> None:
        path = PurePosixPath(image["file_name"])
        name = f"{_LABELS}/{path.with_suffix('.txt')}"
        if self._written.setdefault(name.casefold(), image["file_name"]) != image["file_name"]:  # a.jpg and a.png
            name = f"{_LABELS}/{path}.txt"
            self._written[name.casefold()] = image["file_name"]
        lines = []
        for row in image["detections"]:
            left, top, width, height = row["bbox"]
            shares = (
                (left + width / 2) / image["width"],
                (top + height / 2) / image["height"],
                width / image["width"],
                height / image["height"],
            )
            numbers = " ".join(f"{share:.6f}" for share in (*shares, row["score"]))
            lines.append(f"{row['category_id']} {numbers}\n")
        self._outputs.write(name, lambda file: file.write_text("".join(lines)))


FORMATS: dict[str, type[Format] | None] = {
    "json": None,
    "coco": Coco,
    "yolo": Yolo,
    "csv": Csv,
    "geojson": GeoJson,
    "jsonl": JsonLines,
}


def chosen_formats(
    names: Iterable[str], root: Path, classes: Mapping[int, str], *, of_video: bool = False
) -> list[Format]:
    """The formats of these names.

    Raises:
        StmineError: an unknown name, one that is for images only, or a package that is missing.
    """
    kinds = require_formats(names, of_video=of_video)
    return [kind(root, classes) for kind in kinds]


def require_formats(names: Iterable[str], *, of_video: bool = False) -> list[type[Format]]:
    """The classes of formats, checked; those that write something.

    Raises:
        StmineError: an unknown name, or one that is for images only.
    """
    kinds = []
    for name in dict.fromkeys(names):
        if name not in FORMATS:
            raise StmineError(f"format: expected {', '.join(FORMATS)}, or several of them, found {name!r}.")
        kind = FORMATS[name]
        if kind is not None and of_video and not kind.of_videos:
            usable = ", ".join(one for one, other in FORMATS.items() if other is None or other.of_videos)
            raise StmineError(f"format: {name} is for images; of a video expected {usable}.")
        if kind is not None:
            kinds.append(kind)
    return kinds


@contextmanager
def writing_formats(formats: Sequence[Format], outputs: Outputs) -> Iterator[None]:
    """While images are written in all of these formats."""
    with ExitStack() as stack:
        for one in formats:
            stack.enter_context(one.open(outputs))
        yield


def _corners(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, width, height = bbox
    return left, top, round(left + width, 2), round(top + height, 2)

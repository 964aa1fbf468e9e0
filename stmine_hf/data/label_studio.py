"""Sets as Label Studio exports them: its JSON, or JSON-MIN, of all tasks.

Every `*.json` in the folder and the folders in it that is a list of tasks. Images go by the end of their address:
`/data/upload/1/0a1b2c3d-car.jpg` is `0a1b2c3d-car.jpg`, or `car.jpg` as it was uploaded, unless two uploads have that
name; of `/data/local-files/?d=cars/car.jpg` it is the path behind `d=`. A folder `train`, `val` or `test` in the path
of the JSON, or its name, says the split; without one all is train.

Of several annotations of a task the one marked as ground truth counts, else the newest; a task that was skipped or has
none is skipped, as its content is unknown. Polygons, ellipses and turned boxes count by the box around them. Key
points, choices and texts, predictions and drafts are counted as not used; brush strokes have no known box and are
dropped. Labels are the names in alphabetical order, of all splits together, unless the option `classes` gives them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .annotated_images import Annotated, AnnotatedImages, Bbox, Drawn, around, ellipse, pair, split_of_path, turned
from .cells import flag_of, is_missing, name_of, number_of, shortened, whole_of
from .errors import BadRow, DataFolderError
from .folder_builder import split_of, visible
from .names import SUFFIXES, Wanted, tidy
from .tables import read_json

Task = dict[str, Any]
UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # prefix that Label Studio adds to the name of an upload


class LabelStudio(AnnotatedImages):
    """Any folder with exports of Label Studio."""

    TITLE = "label_studio"
    LAYOUT = "a JSON or JSON-MIN export of Label Studio, with the images in images/ or beside it"

    def _annotated(self, folder: Path, image_dir: Path | None, encoding: str | None) -> Iterator[Annotated]:
        for file in visible(folder.rglob("*.json")):
            shown = file.relative_to(folder).as_posix()
            try:
                content = read_json(file, encoding)
                if not is_label_studio(content):
                    raise BadRow("no list of tasks")
            except (DataFolderError, BadRow) as error:
                self._findings.skip("not a JSON of Label Studio", f"{shown} ({error})")
                continue
            split = split_of_path(file, folder)
            split = split_of(file.name) or "train" if split == "train" else split
            beside = [] if image_dir else [file.parent, file.parent / "images", folder / "images", folder]
            starts = tuple(map(str, dict.fromkeys([image_dir] if image_dir else beside)))
            for place, task in self._tasks(content, shown):
                try:
                    image = self._image(task, place, split, starts)
                except BadRow as error:
                    self._findings.skip("malformed", f"{place} ({error})")
                    continue
                if image is not None:
                    yield image

    def _tasks(self, content: list, shown: str) -> Iterator[tuple[str, Task]]:
        """The tasks with their places; items of JSON-MIN, of which each is one annotation, put together by image."""
        short: dict[str, tuple[str, Task]] = {}
        for index, item in enumerate(content):
            place = f"{shown}, task {item['id'] if isinstance(item, dict) and whole_of(item.get('id')) else index}"
            if not isinstance(item, dict):
                self._findings.skip("malformed", f"{place} ({shortened(item)} is no task)")
            elif isinstance(item.get("data"), dict):
                yield place, item
            else:
                regions = [one for value in item.values() if isinstance(value, list) for one in value]
                annotation = {**item, "result": [{"value": one, **one} for one in regions if isinstance(one, dict)]}
                data = {name: value for name, value in item.items() if isinstance(value, str)}
                task = {"data": data, "annotations": []}
                short.setdefault(image_of(data) or place, (place, task))[1]["annotations"].append(annotation)
        yield from short.values()

    def _image(self, task: Task, place: str, split: str, starts: tuple[str, ...]) -> Annotated | None:
        address = image_of(task["data"])
        if not address:
            self._findings.skip("no image", f"{place}, data {', '.join(map(str, task['data']))}")
            return None
        for part in ("predictions", "drafts"):
            for _ in task[part] if isinstance(task.get(part), list) else ():
                self._findings.pass_over(part.removesuffix("s"), place)
        annotation = self._annotation(task, place)
        if annotation is None:
            return None
        stated = annotation.get("result")
        results = [one for one in stated if isinstance(one, dict)] if isinstance(stated, list) else []
        if any(number_of(one["image_rotation"]) % 360 for one in results if not is_missing(one.get("image_rotation"))):
            self._findings.skip("image rotated in the tool: boxes may refer to either orientation", place)
            return None
        sizes = {(whole_of(one.get("original_width")), whole_of(one.get("original_height"))) for one in results}
        sizes = {(w, h) for w, h in sizes if w and h and w > 0 and h > 0}
        if len(sizes) > 1:
            self._findings.skip("two sizes of one image", f"{place}, {sorted(sizes)}")
            return None
        size = next(iter(sizes), (1, 1))
        wanted = [Wanted(name, place, starts) for name in names_of(address)]
        return Annotated(place, split, wanted, size, list(self._objects(results, place, size)))  # type: ignore[arg-type]

    def _annotation(self, task: Task, place: str) -> Mapping[str, Any] | None:
        """The annotation that counts, None where there is none."""
        stated = task.get("annotations", task.get("completions"))
        given = [one for one in stated if isinstance(one, dict)] if isinstance(stated, list) else []
        kept = [one for one in given if not (flag_of(one.get("was_cancelled")) or flag_of(one.get("skipped")))]
        if not kept:
            self._findings.skip("skipped by the annotator" if given else "not annotated", place)
            return None
        if len(kept) > 1:
            self._findings.note("task with several annotations: the ground truth or the newest counts", place)
        return max(
            enumerate(kept),
            key=lambda one: (
                flag_of(one[1].get("ground_truth")),
                str(one[1].get("updated_at") or one[1].get("created_at") or ""),
                one[0],
            ),
        )[1]

    def _objects(self, results: list[dict], image: str, size: tuple[int, int]) -> Iterator[Drawn]:
        regions: dict[Any, list[dict]] = {}
        for number, result in enumerate(results):  # a shape and its label may be two results of one id
            regions.setdefault(str(result.get("id") or f"#{number}"), []).append(result)
        for number, parts in enumerate(regions.values()):
            place = f"{image}, region {number + 1}"
            values = [one["value"] for one in parts if isinstance(one.get("value"), dict)]
            shapes = [value for value in values if {"x", "points", "rle", "format"} & set(value)]
            if not shapes:
                for one in parts:
                    self._findings.pass_over(str(one.get("type") or "choice or text"), place)
                continue
            try:
                value = shapes[0]
                if "rle" in value or value.get("format") == "rle":
                    self._findings.drop("brush stroke, whose box is not known", place)
                    continue
                if "x" in value and not {"width", "radiusX"} & set(value):
                    self._findings.pass_over("shape without an area (key point)", place)
                    continue
                bbox, plain = box_of(value, size)
                lists = [own for one in values for key, own in one.items() if key.endswith("labels")]
                names = [name_of(name) for own in lists if isinstance(own, list) for name in own]
                if not any(names):
                    raise BadRow("no label")
            except BadRow as error:
                self._findings.drop("malformed", f"{place} ({error})")
                continue
            if not plain:
                self._findings.pass_over("outline", place)
            for key in set(one.get("type") for one in parts) & {"choices", "textarea", "rating", "number"}:
                self._findings.pass_over(str(key), place)
            for name in dict.fromkeys(names):
                if name:
                    yield Drawn(place, name, bbox)


def is_label_studio(content: Any) -> bool:
    """Whether the content of a JSON file is a list of tasks, or of the items of JSON-MIN."""
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict):
        return False
    if isinstance(first.get("data"), dict):
        return bool({"annotations", "completions", "predictions"} & set(first))
    return bool({"annotator", "annotation_id", "lead_time"} & set(first)) and bool(image_of(first))


def image_of(data: Mapping[str, Any]) -> str:
    """The address of a task's image: the text that ends as one, `image` going first; "" for none."""
    texts = [value for name in ("image", *data) if isinstance(value := data.get(name), str)]
    return next((text for text in texts if names_of(text)), "")


def names_of(address: str) -> list[str]:
    """The names that the file of an address may have; none where it is no image.

    Example:
        >>> names_of("/data/upload/1/0a1b2c3d-car.jpg"), names_of("/data/local-files/?d=cars%2Fcar.jpg")
        (['0a1b2c3d-car.jpg', 'car.jpg'], ['cars/car.jpg'])
        >>> names_of("s3://bucket/cars/car.jpg"), names_of("a car")
        (['cars/car.jpg', 'car.jpg'], [])
    """
    try:
        parts = urlsplit(address.strip())
        local = parse_qs(parts.query).get("d", [""])[0]
    except ValueError:  # brackets that look like an address of IPv6
        return []
    path = local or (unquote(parts.path) if parts.scheme or "/data/upload/" in parts.path else parts.path)
    path = tidy(path)
    if not path.lower().endswith(SUFFIXES):
        return []
    bare = path.rpartition("/")[2]
    if local:
        return list(dict.fromkeys([path.lstrip("/"), path]))[: 1 + path.startswith("/")]
    if "/data/upload/" in path or path.startswith("upload/"):
        uploaded = UPLOADED.fullmatch(bare)
        return [bare, uploaded[1]] if uploaded else [bare]
    return list(dict.fromkeys([path.lstrip("/") if parts.scheme else path, bare]))


def box_of(value: Mapping[str, Any], size: tuple[int, int]) -> tuple[Bbox, bool]:
    """The box around a shape of percentages, in pixels, and whether the shape is just that box.

    Raises:
        BadRow: a number is missing, or the shape is turned in an image whose size is not known.
    """
    wide, high = size[0] / 100, size[1] / 100
    points = value.get("points")
    if isinstance(points, list):
        corners = [pair(point) for point in points]
        if len(corners) < 3:
            raise BadRow(f"an outline of {len(corners)} points")
        return around((x * wide, y * high) for x, y in corners), False
    degrees = 0.0 if is_missing(value.get("rotation")) else number_of(value["rotation"])
    if degrees % 360 and size == (1, 1):
        raise BadRow("rotated, in an image of unknown size")
    x, y = number_of(value.get("x")) * wide, number_of(value.get("y")) * high
    if "radiusX" in value:
        radius = number_of(value["radiusX"]) * wide, number_of(value.get("radiusY")) * high
        return ellipse(x, y, *radius, degrees), False
    bbox = (x, y, number_of(value.get("width")) * wide, number_of(value.get("height")) * high)
    return (turned(bbox, degrees, (x, y)), False) if degrees % 360 else (bbox, True)

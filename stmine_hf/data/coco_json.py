"""Sets in the layout of COCO: images and one JSON of boxes a split; and the way back, from rows to such JSON.

Files, the first kind that is there (or those that the option `files` names):

* `annotations/instances_train.json`, `annotations/instances_val2017.json`, ... or any other JSON in `annotations/`,
* the same JSON files in the folder itself,
* `train/_annotations.coco.json`, `valid/_annotations.coco.json`, ...: one folder a split.

The first word of the name that is a split (train, val, valid, validation, dev, test) decides; a lone file without such
a word is train. Images are looked for in `images/<split>`, `<split>` (`train2017` for `instances_train2017.json`),
`images/`, the folder itself and beside the JSON.

Labels are the category ids in ascending order, as COCO's tools number them; `boxed_images.category_ids` gives them
back. Ids that occur twice: an image listed twice keeps its first id and gets the boxes of both, equal ones once; two
images of one id both go, since nobody knows whose the boxes are; a box whose id is taken gets a new one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from .boxed_images import (
    Box,
    BoxedImages,
    BoxedImagesConfig,
    Record,
    category_ids,
    category_label,
    find_image,
)
from .captioned_images import (
    SPLIT_ALIASES,
    SPLITS,
    contents_of,
    file_of_each_split,
    named_files,
    read_json,
)
from .errors import DataFolderError
from .findings import Findings

PATTERNS = (
    "annotations/instances_*.json",
    "annotations/*.json",
    "instances_*.json",
    "*.json",
    "*/_annotations.coco.json",
)
KEYS = ("images", "annotations", "categories")


def to_coco(rows: datasets.Dataset | Iterable[Mapping[str, Any]], features: datasets.Features | None = None) -> dict:
    """Rows of any set with boxes as the content of a COCO JSON file.

    Args:
        rows: of `load_dataset` (whole or streamed), or any other mappings of that form; images are not opened.
        features: where the names of the categories are; needed only if `rows` has no `features`.

    Returns:
        `{"info", "licenses", "images", "annotations", "categories"}`; `categories` is in the order of the labels:
        label i of the rows has the id `categories[i]["id"]`. Ids of boxes are kept, unless one is below 1 (COCO's
        evaluation takes a match with box 0 for none) or occurs twice: then all are numbered anew.

    Raises:
        ValueError: two rows have the same `image_id`, or the names are nowhere.
    """
    features = features or getattr(rows, "features", None)
    if features is None:
        raise ValueError("to_coco: these rows do not carry the names of their categories: give features")
    if "image" in features and hasattr(rows, "remove_columns"):
        rows = rows.remove_columns("image")
    images: dict[int, dict[str, Any]] = {}
    annotations = []
    numbers = category_ids(features)
    for row in rows:
        image_id = row["image_id"]
        if image_id in images:
            raise ValueError(
                f"to_coco: image_id {image_id} occurs twice ({images[image_id]['file_name']}, {row['filename']}): "
                "give one split at a time"
            )
        image = {"id": image_id, "file_name": row["filename"], "width": row["width"], "height": row["height"]}
        images[image_id] = {**image, "source": row["source"]} if row["source"] else image
        objects = row["objects"]
        columns = (objects[name] for name in ("id", "category", "bbox", "area", "iscrowd"))
        for box_id, label, bbox, area, iscrowd in zip(*columns, strict=True):
            annotations.append(
                {
                    "id": box_id,
                    "image_id": image_id,
                    "category_id": numbers[label],
                    "bbox": list(bbox),
                    "area": area,
                    "iscrowd": int(iscrowd),
                }
            )
    box_ids = {annotation["id"] for annotation in annotations}
    if len(box_ids) < len(annotations) or min(box_ids, default=1) < 1:
        for number, annotation in enumerate(annotations, start=1):
            annotation["id"] = number
    names = category_label(features).names
    return {
        "info": {},
        "licenses": [],
        "images": list(images.values()),
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in zip(numbers, names, strict=True)],
    }


@dataclass
class CocoJsonConfig(BoxedImagesConfig):
    """Options.

    Args:
        files: the JSON of each split, in `data_dir` or as a whole path, where the names are not the usual ones:
            `{"train": "boxes.json"}`.
    """

    files: dict[str, str] | None = None


class CocoJson(BoxedImages):
    """Any folder with COCO JSON files."""

    BUILDER_CONFIG_CLASS = CocoJsonConfig

    TITLE = "coco_json"
    LAYOUT = (
        "annotations/instances_train.json (and _val, _test) with the images in images/ or train/, val/; other "
        'names: options files={"train": "boxes.json"} and image_dir'
    )

    def _read(self, folder: Path, settings: Any) -> list[Record]:
        found = self._find_files(folder, settings.files)
        contents = {split: read_coco(file) for split, file in found.items()}
        labels = self._number_categories({found[split]: content for split, content in contents.items()})
        image_dir = Path(settings.image_dir).expanduser().absolute() if settings.image_dir else None
        records: list[Record] = []
        for split, file in found.items():
            roots = image_folders(folder, image_dir, file, split)
            content = contents.pop(split)  # whole COCO is gigabytes
            records += Reader(file.name, split, roots, labels, self._findings).read(content, self._wanted(settings))
        if any(record.image_id is None for record in records):
            self._findings.mend("image ids that are no numbers: all numbered anew", ", ".join(map(str, found)))
        return records

    def _wanted(self, settings: Any) -> frozenset[str] | None:
        """The sources to keep; None for all."""
        return None

    def _find_files(self, folder: Path, files: Mapping[str, str] | None) -> dict[str, Path]:
        if files is not None:
            return named_files(self.TITLE, folder, files, "boxes.json")
        for pattern in PATTERNS:
            matching = sorted(folder.glob(pattern))
            if chosen := file_of_each_split(
                self.TITLE, folder, matching, lambda file: split_of(file.relative_to(folder).as_posix())
            ):
                return chosen
        raise DataFolderError(f"{self.TITLE}: expected {self.LAYOUT}. In {folder} found {contents_of(folder)}")

    def _number_categories(self, contents: Mapping[Path, dict[str, list]]) -> dict[int, int]:
        """Label of each category id; sets the names. All files together, so that the splits agree."""
        names: dict[int, str] = {}
        for file, content in contents.items():
            for index, category in enumerate(content["categories"]):
                place = f"{file}, categories[{index}]"
                try:
                    number, name = category["id"], str(category["name"])
                except (KeyError, TypeError) as error:
                    raise DataFolderError(f"{place}: expected an id and a name ({error!r})") from None
                if not is_whole(number):
                    raise DataFolderError(f"{place}: the id has to be a whole number, not {number!r}")
                if names.setdefault(number, name) != name:
                    raise DataFolderError(
                        f"{place}: category {number} is {name!r} here and {names[number]!r} before: the files of one "
                        "set have to agree"
                    )
        labels: dict[int, int] = {}
        for number in sorted(names):
            if names[number] in self._names:
                labels[number] = self._names.index(names[number])
                self._findings.mend(
                    "category named as another: taken as one",
                    f"{self._category_ids[labels[number]]} and {number} are {names[number]!r}",
                )
            else:
                labels[number] = len(self._names)
                self._names.append(names[number])
                self._category_ids.append(number)
        return labels


def read_coco(file: Path) -> dict[str, list]:
    """The lists of a COCO JSON file, checked to be there; what is in them is not."""
    content = read_json(file)
    missing = [key for key in KEYS if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise DataFolderError(
            f'{file}: expected {{"images": [...], "annotations": [...], "categories": [...]}}, found no list '
            f"{', '.join(missing)}"
        )
    if not content["categories"]:
        raise DataFolderError(f"{file}: the list of categories is empty")
    return {key: content[key] for key in KEYS}


def split_of(name: str) -> str | None:
    """`val` for annotations/instances_val2017.json and valid/_annotations.coco.json; None where no word tells."""
    for word in re.findall(r"[a-z]+", name.lower().removeprefix("annotations/")):
        if SPLIT_ALIASES.get(word, word) in SPLITS:
            return SPLIT_ALIASES.get(word, word)
    return None


def image_folders(folder: Path, image_dir: Path | None, file: Path, split: str) -> list[Path]:
    """Where the images of an annotation file may be, likeliest first: train2017 before train before all of them."""
    tags = [file.stem.removeprefix("instances_"), split]
    if image_dir:
        candidates = [*(image_dir / tag for tag in tags), image_dir]
    else:
        candidates = [folder / part / tag for tag in tags for part in ("images", ".")]
        candidates += [folder / "images", file.parent, folder]
    return [place for place in dict.fromkeys(candidates) if place.is_dir()]


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass
class Reader:
    """Reads the entries of one file."""

    name: str
    split: str
    roots: list[Path]
    labels: dict[int, int]
    findings: Findings

    def read(self, content: dict[str, list], sources: frozenset[str] | None) -> list[Record]:
        by_id = self._read_images(content["images"], sources)
        self._read_boxes(content["annotations"], by_id)
        return list({id(record): record for record in by_id.values() if record}.values())

    def _read_images(self, images: list, sources: frozenset[str] | None) -> dict[Any, Record | None]:
        """Records by the ids of the file, None for those that are left out; an image listed twice has two ids."""
        by_id: dict[Any, Record | None] = {}
        by_path: dict[str, Record] = {}
        for index, image in enumerate(images):
            place = f"{self.name}, images[{index}]"
            try:
                image_id, filename = image["id"], str(image["file_name"])
                hash(image_id)
            except (KeyError, TypeError) as error:
                self.findings.leave_out("malformed", f"{place} ({type(error).__name__}: {error})")
                continue
            source = image.get("source")
            source = source if isinstance(source, str) else ""
            if sources is not None and source not in sources:
                by_id.setdefault(image_id, None)
                continue
            found = find_image(filename, self.roots)
            if found is None:
                self.findings.leave_out("no such file", f"{place}, {filename}")
                by_id.setdefault(image_id, None)
                continue
            path, stamp = found
            if path in by_path:
                self.findings.mend("image listed twice: taken as one", f"{place}, {filename}")
                by_id.setdefault(image_id, by_path[path])
            elif image_id in by_id:
                for record in filter(None, (by_id[image_id],)):
                    self.findings.leave_out("two images of one id", f"{record.place}, {record.filename}")
                self.findings.leave_out("two images of one id", f"{place}, {filename}")
                by_id[image_id] = None
            else:
                size = (image.get("width"), image.get("height"))
                record = Record(
                    place,
                    self.split,
                    filename,
                    path,
                    stamp,
                    image_id=image_id if is_whole(image_id) else None,
                    size=size if all(is_whole(side) and side > 0 for side in size) else None,  # type: ignore[arg-type]
                    source=source,
                )
                by_id[image_id] = by_path[path] = record
        return by_id

    def _read_boxes(self, annotations: list, by_id: dict[Any, Record | None]) -> None:
        taken: set[int] = set()
        seen: dict[int, dict] = {}  # of each image the boxes, with the image's id there: it may have two
        for index, annotation in enumerate(annotations):
            place = f"{self.name}, annotations[{index}]"
            try:
                image_id = annotation["image_id"]
                if image_id not in by_id:
                    self.findings.drop("of no image in the list", f"{place}, image_id {image_id!r}")
                    continue
                record = by_id[image_id]
                if record is None:
                    continue  # its image is left out, and counted
                x, y, width, height = (real(value) for value in annotation["bbox"])
                category = annotation["category_id"]
                label = self.labels.get(category) if is_whole(category) else None
                area = annotation.get("area")
                area = real(area) if area is not None else None
                iscrowd = bool(annotation.get("iscrowd"))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                self.findings.drop("malformed", f"{place} ({type(error).__name__}: {error})")
                continue
            if label is None:
                self.findings.drop("of an unknown category", f"{place}, category {category!r}")
                continue
            box_id = annotation.get("id")
            box_id = box_id if is_whole(box_id) and box_id > 0 else None
            key = (label, x, y, width, height, iscrowd)
            first = seen.setdefault(id(record), {}).setdefault(key, (index, image_id))
            if first[0] != index and (box_id in taken or first[1] != image_id):
                self.findings.drop("listed twice", place)
                continue
            if box_id in taken:
                self.findings.mend("box of an id that is taken: given a new one", f"{place}, id {box_id}")
                box_id = None
            elif box_id is not None:
                taken.add(box_id)
            record.boxes.append(Box(place, (x, y, width, height), label, box_id, area, iscrowd))


def real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number")
    return float(value)

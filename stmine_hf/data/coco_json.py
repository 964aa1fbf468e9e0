"""Sets in the layout of COCO: images and one JSON of boxes per split.

Files, the first kind that is there (or those that the option `files` names):

* `annotations/instances_train.json`, `annotations/instances_val2017.json`, ... or any other JSON in `annotations/`,
* the same JSON files in the folder itself,
* `train/_annotations.coco.json`, `valid/_annotations.coco.json`, ...: one folder a split.

The first word of the name that is a split (train, val, valid, validation, dev, test) decides; a single file without
such a word is train. Images are looked for in `images/<split>`, `<split>` (`train2017` for
`instances_train2017.json`), `images/`, the folder itself and beside the JSON.

Labels are the category ids in ascending order, as COCO's tools number them; `boxed_images.category_ids` gives them
back. Ids that occur twice: an image listed twice keeps its first id and gets the boxes of both, equal ones once; two
images of one id are both skipped, since the owner of the boxes is unknown; a box whose id is in use gets a new one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from .boxed_images import Box, BoxedImages, BoxedImagesConfig, BoxRecord, category_ids, category_label, find_images
from .cells import flag_of, is_missing, key_of, list_of, number_of, plain, shortened, text_of, whole_of
from .errors import BadRow, DataFolderError
from .findings import Findings
from .folder_builder import contents_of, file_of_each_split, image_folder, named_files, split_named, visible
from .names import ImageFiles, Wanted
from .tables import read_json

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
        evaluation reads a match with box 0 as no match) or occurs twice: then all are renumbered.

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

    def _read(self, folder: Path, settings: Any) -> list[BoxRecord]:
        found = self._find_files(folder, settings.files)
        contents = {split: read_coco(file, settings.encoding) for split, file in found.items()}
        labels = self._number_categories({found[split]: content for split, content in contents.items()})
        image_dir = image_folder(self.TITLE, settings.image_dir)
        readers = [
            Reader(file.name, split, image_folders(folder, image_dir, file, split), labels, self._findings)
            for split, file in found.items()
        ]
        for reader in readers:
            reader.list_images(contents[reader.split]["images"], self._wanted(settings))
        # all splits together: what a name means depends on what the others mean
        images = ImageFiles([], searched=[image_dir or folder])
        wanted = [one for reader in readers for one in reader.wanted]
        places = iter(find_images(images, wanted, self._findings))
        records: list[BoxRecord] = []
        for reader in readers:
            content = contents.pop(reader.split)  # whole COCO is gigabytes
            records += reader.read([next(places) for _ in reader.wanted], content["annotations"])
        if any(record.image_id is None for record in records):
            self._findings.correct("image ids that are no numbers: all renumbered", ", ".join(map(str, found)))
            for record in records:
                record.image_id = None
        return records

    def _wanted(self, settings: Any) -> frozenset[str] | None:
        """The sources to keep; None for all."""
        return None

    def _find_files(self, folder: Path, files: Mapping[str, str] | None) -> dict[str, Path]:
        if files is not None:
            return named_files(self.TITLE, folder, files, "boxes.json")
        for pattern in PATTERNS:
            matching = visible(folder.glob(pattern))
            if chosen := file_of_each_split(
                self.TITLE, folder, matching, lambda file: split_of(file.relative_to(folder).as_posix())
            ):
                return chosen
        raise DataFolderError(f"{self.TITLE}: expected {self.LAYOUT}. In {folder} found {contents_of(folder)}")

    def _number_categories(self, contents: Mapping[Path, dict[str, list]]) -> dict[Any, int]:
        """Label of each category id; sets the names. All files together, so that the splits agree."""
        names: dict[Any, str] = {}
        for file, content in contents.items():
            for index, category in enumerate(content["categories"]):
                place = f"{file}, categories[{index}]"
                try:
                    number, name = category["id"], text_of(category["name"]).strip()
                    if not name:
                        raise BadRow("an empty name")
                except (KeyError, TypeError, BadRow) as error:
                    raise DataFolderError(f"{place}: expected an id and a name ({error!r})") from None
                key = key_of(number)
                if key is None:
                    raise DataFolderError(f"{place}: the id has to be a whole number, not {number!r}")
                if names.setdefault(key, name) != name:
                    raise DataFolderError(
                        f"{place}: category {key} is {name!r} here and {names[key]!r} before: the files of one "
                        "set have to agree"
                    )
        numbered = all(isinstance(key, int) and whole_of(key) is not None for key in names)
        if not numbered:
            self._findings.correct("category ids that are no numbers: all renumbered", ", ".join(map(str, contents)))
        labels: dict[Any, int] = {}
        for key in sorted(names, key=lambda key: (isinstance(key, str), key)):
            if names[key] in self._names:
                labels[key] = self._names.index(names[key])
                self._findings.correct(
                    "category with the name of another: merged",
                    f"{self._category_ids[labels[key]]} and {key} are {names[key]!r}",
                )
            else:
                labels[key] = len(self._names)
                self._names.append(names[key])
                self._category_ids.append(key if numbered else len(self._names))
        return labels


def read_coco(file: Path, encoding: str | None = None) -> dict[str, list]:
    """The lists of a COCO JSON file, checked to be there; what is in them is not."""
    content = read_json(file, encoding)
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
    """`val` for annotations/instances_val2017.json and valid/_annotations.coco.json; None if there is no such word."""
    for word in re.findall(r"[a-z]+", name.lower().removeprefix("annotations/")):
        if split := split_named(word):
            return split
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


class Reader:
    """Reads the entries of one file: first the names of its images, then, when these are found, all the rest.

    Args:
        name: of the file, for messages.
        split: that it is of.
        roots: where its images may be, likeliest first.
        labels: of the category ids.
        findings: counts what is skipped.
    """

    def __init__(
        self, name: str, split: str, roots: list[Path], labels: Mapping[Any, int], findings: Findings
    ) -> None:
        self.name, self.split, self.labels, self.findings = name, split, labels, findings
        self.roots = tuple(map(str, roots))
        self.wanted: list[Wanted] = []
        self._entries: list[tuple[Any, dict]] = []  # id and entry of each image wanted
        self._passed: set[Any] = set()  # ids of images of other sources

    def list_images(self, images: list, sources: frozenset[str] | None) -> None:
        """Note which images are wanted: all, or those of some sources."""
        for index, image in enumerate(images):
            place = f"{self.name}, images[{index}]"
            try:
                image_id, filename = key_of(image["id"]), text_of(image["file_name"])
                if image_id is None or not filename.strip():
                    raise TypeError(f"id {image['id']!r}, file_name {filename!r}")
            except (KeyError, TypeError, BadRow, AttributeError) as error:
                self.findings.skip("malformed", f"{place} ({type(error).__name__}: {error})")
                continue
            source = image.get("source")
            if sources is not None and (source if isinstance(source, str) else "") not in sources:
                self._passed.add(image_id)
                continue
            self.wanted.append(Wanted(filename, place, self.roots))
            self._entries.append((image_id, image))

    def read(self, places: list[tuple[str, tuple[int, int]] | None], annotations: list) -> list[BoxRecord]:
        """The records, with where their images are, and their boxes."""
        by_id = self._read_images(places)
        self._read_boxes(annotations, by_id)
        return list({id(record): record for record in by_id.values() if record}.values())

    def _read_images(self, places: list[tuple[str, tuple[int, int]] | None]) -> dict[Any, BoxRecord | None]:
        """Records by the ids of the file, None for those that are skipped; an image listed twice has two ids."""
        by_id: dict[Any, BoxRecord | None] = dict.fromkeys(self._passed)
        by_path: dict[str, BoxRecord] = {}
        for one, (image_id, image), found in zip(self.wanted, self._entries, places, strict=True):
            place, filename = one.place, one.name
            if found is None:
                self.findings.skip("no such file", f"{place}, {filename}")
                by_id.setdefault(image_id, None)
                continue
            path, stamp = found
            if path in by_path:
                self.findings.correct("image listed twice: merged", f"{place}, {filename}")
                by_id.setdefault(image_id, by_path[path])
            elif image_id in by_id:
                for record in filter(None, (by_id[image_id],)):
                    self.findings.skip("two images of one id", f"{record.place}, {record.filename}")
                self.findings.skip("two images of one id", f"{place}, {filename}")
                by_id[image_id] = None
            else:
                width, height = whole_of(image.get("width")), whole_of(image.get("height"))
                source = image.get("source")
                record = BoxRecord(
                    place,
                    self.split,
                    filename,
                    path,
                    stamp,
                    image_id=whole_of(image_id),
                    size=(width, height) if width and height and width > 0 and height > 0 else None,
                    source=text_of(source) if isinstance(source, str) else "",
                )
                by_id[image_id] = by_path[path] = record
        return by_id

    def _read_boxes(self, annotations: list, by_id: dict[Any, BoxRecord | None]) -> None:
        taken: set[int] = set()
        seen: dict[int, dict] = {}  # of each image the boxes, with the image's id there: it may have two
        for index, annotation in enumerate(annotations):
            place = f"{self.name}, annotations[{index}]"
            try:
                image_id = key_of(annotation["image_id"])
                if image_id not in by_id:
                    self.findings.drop(
                        "of no image in the list", f"{place}, image_id {plain(annotation['image_id'])!r}"
                    )
                    continue
                record = by_id[image_id]
                if record is None:
                    continue  # its image is skipped, and counted
                x, y, width, height, area = outline(annotation, record.size)
                category = annotation["category_id"]
                label = self.labels.get(key_of(category))
                if not is_missing(annotation.get("area")):
                    area = real(annotation["area"])
                is_ignored = flag_of(annotation.get("ignore"))
                iscrowd = flag_of(annotation.get("iscrowd")) or is_ignored
            except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
                self.findings.drop("malformed", f"{place} ({type(error).__name__}: {error})")
                continue
            if label is None:
                self.findings.drop("of an unknown category", f"{place}, category {plain(category)!r}")
                continue
            box_id = whole_of(annotation.get("id"))
            box_id = box_id if box_id is not None and box_id > 0 else None
            key = (label, x, y, width, height, iscrowd)
            first = seen.setdefault(id(record), {}).setdefault(key, (index, image_id))
            if first[0] != index and (box_id in taken or first[1] != image_id):
                self.findings.drop("listed twice", place)
                continue
            if box_id in taken:
                self.findings.correct("box whose id is in use: given a new one", f"{place}, id {box_id}")
                box_id = None
            elif box_id is not None:
                taken.add(box_id)
            if is_ignored:
                self.findings.note("box marked ignore: neither a hit nor a miss, as a crowd", place)
            for part in ("keypoints", "segmentation"):
                if annotation.get(part):
                    self.findings.pass_over(part, place)
            record.boxes.append(Box(place, (x, y, width, height), label, box_id, area, iscrowd))


def real(value: Any) -> float:
    """A number; NaN is kept, for the check of all boxes."""
    return value if isinstance(value, float) else number_of(value)


def outline(annotation: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[float, float, float, float, Any]:
    """Corner and size of a box, and the area of its outline where only that is given.

    Args:
        annotation: with `bbox`, or without one but with `segmentation`: polygons, or a mask as run lengths.
        size: width and height of the image, as the file says.

    Raises:
        TypeError, ValueError: neither can be read.
    """
    shape = annotation.get("segmentation")
    if (not is_missing(annotation.get("bbox")) and annotation["bbox"] != []) or not shape:
        numbers = list_of(annotation["bbox"])
        if len(numbers) != 4 or len({isinstance(number, str) for number in numbers}) > 1:
            raise BadRow(f"{shortened(annotation['bbox'])} where a box of 4 numbers was expected")
        x, y, width, height = map(real, numbers)  # all in quotation marks, as some converters write them, or none
        return x, y, width, height, None
    if isinstance(shape, Mapping):
        return mask_box(shape["counts"], int(shape["size"][0]), int(shape["size"][1]))
    polygons = [np.array([real(value) for value in polygon]).reshape(-1, 2) for polygon in shape]
    points = np.concatenate(polygons)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    area = sum(
        abs(float(np.dot(p[:, 0], np.roll(p[:, 1], 1)) - np.dot(p[:, 1], np.roll(p[:, 0], 1)))) / 2 for p in polygons
    )
    return left, top, right - left, bottom - top, area or None


def mask_box(counts: Any, height: int, width: int) -> tuple[float, float, float, float, float]:
    """Corner, size and area of a mask of run lengths, a list or COCO's compressed text, as pycocotools has them."""
    runs = np.array(
        run_lengths(counts) if isinstance(counts, (str, bytes)) else [int(real(one)) for one in counts], np.int64
    )
    if height <= 0 or width <= 0 or (runs < 0).any() or runs.sum() > height * width or height * width > 2**40:
        raise ValueError(f"run lengths that do not fit a mask of {width} x {height}")
    ends = np.cumsum(runs)
    first, last = ends[:-1:2], ends[1::2] - 1  # of the runs of ones, down the columns
    first, last = first[: len(last)][last >= first[: len(last)]], last[last >= first[: len(last)]]
    if not len(first):
        raise ValueError("an empty mask")
    left, right = first.min() // height, last.max() // height
    whole = first // height != last // height  # a run that continues in the next column touches both borders
    top = 0 if whole.any() else (first % height).min()
    bottom = height - 1 if whole.any() else (last % height).max()
    area = float((last - first + 1).sum())
    return float(left), float(top), float(right - left + 1), float(bottom - top + 1), area


def run_lengths(text: str | bytes) -> list[int]:
    """The run lengths in COCO's compressed text: numbers of five bits a character, from the third on as differences
    to the one before the last."""
    runs: list[int] = []
    codes = iter(text.encode() if isinstance(text, str) else text)
    for code in codes:
        value = shift = 0
        while True:
            value |= (code - 48 & 0x1F) << shift
            shift += 5
            if not code - 48 & 0x20:
                break
            code = next(codes, 48)
            if shift > 60:
                raise ValueError("run lengths that cannot be read")
        if code - 48 & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs

"""Sets in the layout of YOLO: one text file of boxes an image, in fractions of its sides.

Images are in `images/train`, `images/val`, ... or `train/images`, `valid/images`, ..., or wherever `data.yaml` says
(its entries `path`, `train`, `val`, `test`: folders or lists of files); without splits, all of `images/` is train. The
boxes of `.../images/train/a.jpg` are in `.../labels/train/a.txt`, or beside the image. A line is

    class  centre-x  centre-y  width  height        or        class  x1 y1  x2 y2  x3 y3 ...     (an outline)

with classes counted from 0. An image without such a file has no boxes, as YOLO's own tools see it; only where no
image of a split has one is the split left out. Names of the classes come from the option `classes`, from `names` in
`data.yaml` (any `*.yaml` in the folder), or from `classes.txt` or `obj.names`, a name a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .boxed_images import SUFFIXES, Box, BoxedImages, BoxedImagesConfig, Record, find_image
from .captioned_images import SPLIT_ALIASES, SPLITS, contents_of, read_text
from .errors import DataFolderError
from .voc_xml import read_classes


@dataclass
class YoloTxtConfig(BoxedImagesConfig):
    """Options.

    Args:
        classes: names of the classes 0, 1, 2, ...; by default those of `data.yaml` or `classes.txt`.
    """

    classes: Sequence[str] | None = None


class YoloTxt(BoxedImages):
    """Any folder with text files as YOLO has them."""

    BUILDER_CONFIG_CLASS = YoloTxtConfig

    TITLE = "yolo_txt"
    LAYOUT = "images/train and labels/train (and val, test), names of the classes in data.yaml or classes.txt"

    def _read(self, folder: Path, settings: Any) -> list[Record]:
        about = self._read_yaml(folder)
        names = dict(enumerate(settings.classes)) if settings.classes else class_names(about.get("names"))
        names = names or dict(enumerate(read_classes(folder / "classes.txt") or read_classes(folder / "obj.names")))
        if not names:
            raise DataFolderError(
                f"{self.TITLE}: no names of the classes in {folder}: expected data.yaml with `names`, or classes.txt, "
                f"or the option classes. Found {contents_of(folder)}"
            )
        self._names = [names[number] for number in sorted(names)]
        if len(set(self._names)) < len(self._names):
            raise DataFolderError(f"{self.TITLE}: two classes in {folder} have one name: {', '.join(self._names)}")
        labels = {number: label for label, number in enumerate(sorted(names))}
        images = self._find_images(folder, settings.image_dir, about)
        if not images:
            raise DataFolderError(f"{self.TITLE}: expected {self.LAYOUT}. In {folder} found {contents_of(folder)}")
        records = []
        for split, paths in images.items():
            texts = {path: find_label_file(path, folder, split) for path in paths}
            if not any(texts.values()):
                for path in paths:
                    self._findings.leave_out(
                        "in a split without any label file", f"{path}, {label_files(path, folder, split)[0]}"
                    )
                continue
            for path, text in texts.items():
                found = find_image(path.name, [path.parent])
                if found is None:
                    self._findings.leave_out("no such file", str(path))
                    continue
                place = (text or path).name
                record = Record(place, split, path.name, *found, size=(1, 1))
                if text:
                    self._read_boxes(text, record, labels)
                records.append(record)
        return records

    def _read_yaml(self, folder: Path) -> Mapping[str, Any]:
        import yaml

        for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")], key=lambda file: file.stem != "data"):
            try:
                content = yaml.safe_load(read_text(file))
            except yaml.YAMLError as error:
                raise DataFolderError(f"{file} is not YAML ({' '.join(str(error).split())})") from None
            if isinstance(content, Mapping) and "names" in content:
                return content
        return {}

    def _find_images(self, folder: Path, image_dir: str | None, about: Mapping[str, Any]) -> dict[str, list[Path]]:
        """Paths of the images of each split."""
        images = Path(image_dir).expanduser().absolute() if image_dir else folder / "images"
        found: dict[str, list[Path]] = {}
        for key in (*SPLITS, *SPLIT_ALIASES):
            entries = about.get(key) if image_dir is None else None
            entries = entries if isinstance(entries, list) else [entries] if entries else []
            base = folder / str(about.get("path") or ".")
            paths = [path for entry in entries for path in images_of_entry(str(entry), base, folder)]
            paths = paths or images_in(images / key) or images_in(folder / key / "images")
            if paths:
                found.setdefault(SPLIT_ALIASES.get(key, key), list(dict.fromkeys(paths)))
        if not found and (paths := images_in(images)):
            found["train"] = paths
        return {split: found[split] for split in SPLITS if split in found}

    def _read_boxes(self, file: Path, record: Record, labels: Mapping[int, int]) -> None:
        seen = set()
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            place = f"{record.place}, line {number}"
            try:
                category, *values = (float(word) for word in words)
                if category != int(category):
                    raise ValueError(f"class {words[0]}")
                if len(values) == 4:
                    x, y, width, height = values
                    bbox = (x - width / 2, y - height / 2, width, height)
                elif len(values) >= 6 and len(values) % 2 == 0:
                    left, top = min(values[::2]), min(values[1::2])
                    bbox = (left, top, max(values[::2]) - left, max(values[1::2]) - top)
                else:
                    raise ValueError(f"{len(values)} numbers after the class, expected 4 or pairs of an outline")
            except (ValueError, OverflowError) as error:
                self._findings.drop("malformed", f"{place} ({error})")
                continue
            if int(category) not in labels:
                self._findings.drop("of an unknown category", f"{place}, class {int(category)}")
            elif (category, bbox) in seen:
                self._findings.drop("listed twice", place)
            else:
                seen.add((category, bbox))
                record.boxes.append(Box(place, bbox, labels[int(category)]))


def class_names(told: Any) -> dict[int, str]:
    """Names by number, of YAML's list or mapping; empty where it is neither."""
    if isinstance(told, Mapping):
        return {number: str(name) for number, name in told.items() if isinstance(number, int)}
    return {number: str(name) for number, name in enumerate(told)} if isinstance(told, list) else {}


def images_in(folder: Path) -> list[Path]:
    """All images in a folder and the folders in it, by name."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def images_of_entry(entry: str, *bases: Path) -> list[Path]:
    """The images that an entry of data.yaml means: of a folder, or of a list of files, relative to a base."""
    # exported archives say ../train/images and mean train/images beside data.yaml
    for name in dict.fromkeys((entry, entry.replace("\\", "/").removeprefix("../"))):
        for base in bases:
            place = base / name
            if place.is_file():
                lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
                starts = (place.parent, *bases)
                return [next((start / x for start in starts if (start / x).is_file()), base / x) for x in lines]
            if paths := images_in(place):
                return paths
    return []


def label_files(image: Path, folder: Path, split: str) -> list[Path]:
    """Where the boxes of an image may be, likeliest first."""
    name = f"{image.stem}.txt"
    places = [folder / "labels" / split / name, image.with_name(name), folder / "labels" / name]
    if "images" in image.parts:
        parts = list(image.parts)
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
        places.insert(0, Path(*parts).with_name(name))
    return places


def find_label_file(image: Path, folder: Path, split: str) -> Path | None:
    return next((file for file in label_files(image, folder, split) if file.is_file()), None)

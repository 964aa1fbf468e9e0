"""Sets in the layout of YOLO: one text file of boxes per image, in fractions of its sides.

Images are in `images/train`, `images/val`, ... or `train/images`, `valid/images`, ..., or wherever `data.yaml` says
(its entries `path`, `train`, `val`, `test`: folders or lists of files), or Darknet's `obj.data`; without splits, all
of `images/` is train, or of the folder itself, where boxes lie beside the images (LabelImg). The boxes of
`.../images/train/a.jpg` are in `.../labels/train/a.txt`, or beside the image. A line is

    class  centre-x  centre-y  width  height        or        class  x1 y1  x2 y2  x3 y3 ...     (an outline)

with classes counted from 0; where `data.yaml` has `kpt_shape`, keypoints follow the box and are not used. An image
without such a file has no boxes, as YOLO's own tools see it; a split is skipped only if none of its images has one.
Names of the classes come from the option `classes`, from `names` in `data.yaml` (any `*.yaml` in the folder), or from
`classes.txt` or `obj.names`, a name a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .boxed_images import Box, BoxedImages, BoxedImagesConfig, BoxRecord
from .cells import number_of, shortened, text_of, whole_of
from .errors import BadRow, DataFolderError
from .folder_builder import SPLIT_ALIASES, SPLITS, contents_of, image_folder, visible
from .names import SUFFIXES, ImageFiles, Wanted, stamp_of
from .tables import TextFile, read_lines, read_text
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

    def _read(self, folder: Path, settings: Any) -> list[BoxRecord]:
        about = self._read_yaml(folder, settings.encoding) or self._read_darknet(folder, settings.encoding)
        names = self._read_names(folder, settings, about)
        self._names = [names[number] for number in sorted(names)]
        labels = {number: label for label, number in enumerate(sorted(names))}
        stated = whole_of(about.get("nc"))
        if stated is not None and stated != len(names):
            self._findings.note(
                "number of classes that differs from that of the names", f"nc {stated}, {len(names)} names"
            )
        keypoints = keypoint_numbers(about.get("kpt_shape"), folder)
        images = self._find_images(folder, settings, about)
        if not images:
            raise DataFolderError(f"{self.TITLE}: expected {self.LAYOUT}. In {folder} found {contents_of(folder)}")
        records = []
        for split, paths in images.items():
            texts = {path: find_label_file(path, start, folder, split) for path, start in paths.items()}
            if not any(texts.values()):
                for path, start in paths.items():
                    self._findings.skip(
                        "in a split without any label file", f"{path}, {label_files(path, start, folder, split)[0]}"
                    )
                continue
            for path, text in texts.items():
                if not path.is_file():
                    self._findings.skip("no such file", str(path))
                    continue
                place = (text or path).name
                record = BoxRecord(place, split, path.name, str(path), stamp_of(str(path)), size=(1, 1))
                if text:
                    self._read_boxes(text, record, labels, keypoints)
                records.append(record)
        self._count_labels_alone(folder, settings.image_dir, images)
        return records

    def _count_labels_alone(self, folder: Path, image_dir: str | None, images: Mapping[str, Iterable[Path]]) -> None:
        """Note the label files of which there is no image: in folders `labels`, and beside images."""
        stems = {path.stem for paths in images.values() for path in paths if path.is_file()}
        stems |= {path.stem for path in images_in(folder)}
        if image_dir is not None:
            stems |= {path.stem for path in images_in(Path(image_dir).expanduser())}
        beside = {path.parent for paths in images.values() for path in paths}
        for file in visible(folder.rglob("*.txt")):
            inside = file.relative_to(folder).parts[:-1]
            if file.stem not in stems and ("labels" in inside or file.parent in beside) and is_label_file(file):
                self._findings.skip("label file without an image", "/".join((*inside, file.name)))

    def _read_yaml(self, folder: Path, encoding: str | None) -> dict[str, Any]:
        import yaml

        for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")], key=lambda file: file.stem != "data"):
            text = read_text(file, encoding)
            try:
                if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
                    raise DataFolderError(f"{file}: has aliases (*name), which no such file needs: write them out")
                content = yaml.load(text, _texts_loader())  # noqa: S506  all scalars are texts
            except (yaml.YAMLError, ValueError, RecursionError) as error:
                raise DataFolderError(f"{file} is not YAML ({' '.join(str(error).split())})") from None
            if isinstance(content, Mapping) and "names" in content:
                return {**content, "file": file}
        return {}

    def _read_darknet(self, folder: Path, encoding: str | None) -> dict[str, Any]:
        """The content of `obj.data`: lines such as `train = data/train.txt`, whose paths start at a folder `data`."""
        file = folder / "obj.data"
        if not file.is_file():
            return {}
        pairs = (line.partition("=") for line in read_lines(file, encoding))
        about: dict[str, Any] = {key.strip(): value.strip() for key, sign, value in pairs if sign}
        return {key: about[key] for key in ("train", "valid", "val", "test") if key in about}

    def _read_names(self, folder: Path, settings: Any, about: Mapping[str, Any]) -> dict[int, str]:
        if settings.classes:
            return dict(enumerate(settings.classes))
        problem = ""
        if "names" in about:
            try:
                if names := class_names(about["names"]):
                    return names
            except BadRow as error:
                problem = f" `names` of {about['file'].name} cannot be understood: {error}."
        for file in (folder / "classes.txt", folder / "obj.names"):
            if names := dict(enumerate(read_classes(file, settings.encoding))):
                return names
        raise DataFolderError(
            f"{self.TITLE}: no names of the classes in {folder}:{problem} expected data.yaml with `names`, a list or "
            f"names by number, or classes.txt, or the option classes. Found {contents_of(folder)}"
        )

    def _find_images(self, folder: Path, settings: Any, about: Mapping[str, Any]) -> dict[str, dict[Path, Path]]:
        """The images of each split, each with the folder from which its path starts."""
        image_dir = image_folder(self.TITLE, settings.image_dir)
        images = image_dir or folder / "images"
        found: dict[str, dict[Path, Path]] = {}
        for key in (*SPLITS, *SPLIT_ALIASES):
            entries = about.get(key) if image_dir is None else None
            entries = entries if isinstance(entries, list) else [entries] if entries else []
            bases = [folder / str(about.get("path") or ".").replace("\\", "/"), folder]
            paths: dict[Path, Path] = {}
            for entry in entries:
                paths |= self._images_of_entry(str(entry), bases, folder, settings.encoding)
            for start in (images / key, folder / key / "images", *([] if image_dir else [folder / key])):
                paths = paths or dict.fromkeys(images_in(start), start)
            if paths:
                found.setdefault(SPLIT_ALIASES.get(key, key), paths)
        if not found and (paths := dict.fromkeys(images_in(images), images)):
            found["train"] = paths
        if not found and image_dir is None:
            beside = [path for path in images_in(folder) if path.with_suffix(".txt").is_file()]
            if beside:
                found["train"] = dict.fromkeys(images_in(folder), folder)
        return {split: found[split] for split in SPLITS if split in found}

    def _images_of_entry(
        self, entry: str, bases: Sequence[Path], folder: Path, encoding: str | None
    ) -> dict[Path, Path]:
        """The images that an entry of data.yaml means: of a folder, or of a list of files, relative to a base."""
        # exported archives say ../train/images and mean train/images beside data.yaml; Darknet's say data/train.txt
        entry = entry.replace("\\", "/")
        for name in dict.fromkeys((entry, entry.removeprefix("../"), entry.removeprefix("data/"))):
            for base in bases:
                place = base / name
                if place.is_file():
                    return self._images_of_list(place, bases, folder, encoding)
                if paths := images_in(place):
                    return dict.fromkeys(paths, place)
        return {}

    def _images_of_list(
        self, file: Path, bases: Sequence[Path], folder: Path, encoding: str | None
    ) -> dict[Path, Path]:
        lines = [line.strip() for line in read_lines(file, encoding) if line.strip()]
        files = ImageFiles([file.parent, *bases], searched=[folder])
        wanted = [Wanted(line, f"{file.name}, line {number}") for number, line in enumerate(lines, start=1)]
        found: dict[Path, Path] = {}
        for line, path in zip(lines, files.find(wanted, self._findings), strict=True):
            place = Path(path) if path else bases[0] / line
            found[Path(*place.parts)] = next((base for base in bases if place.is_relative_to(base)), place.parent)
        return found

    def _read_boxes(self, file: Path, record: BoxRecord, labels: Mapping[int, int], keypoints: int) -> None:
        seen = set()
        for number, line, _ in TextFile(file):
            words = line.split()
            if not words:
                continue
            place = f"{record.place}, line {number}"
            try:
                category = whole_of(words[0])
                values = [number_of(word) for word in words[1:]]
                if category is None:
                    raise BadRow(f"class {shortened(words[0])}")
                if keypoints and len(values) == 4 + keypoints:
                    values = values[:4]
                    self._findings.pass_over("keypoints", place)
                if len(values) == 4:
                    x, y, width, height = values
                    bbox = (x - width / 2, y - height / 2, width, height)
                elif len(values) >= 6 and len(values) % 2 == 0 and not keypoints:
                    left, top = min(values[::2]), min(values[1::2])
                    bbox = (left, top, max(values[::2]) - left, max(values[1::2]) - top)
                    self._findings.pass_over("outline", place)
                else:
                    points = f", {keypoints} more for keypoints" if keypoints else " or pairs of an outline"
                    raise BadRow(f"{len(values)} numbers after the class, expected 4{points}")
            except BadRow as error:
                self._findings.drop("malformed", f"{place} ({error})")
                continue
            if category not in labels:
                self._findings.drop("of an unknown category", f"{place}, class {category}")
            elif (category, bbox) in seen:
                self._findings.drop("listed twice", place)
            else:
                seen.add((category, bbox))
                record.boxes.append(Box(place, bbox, labels[category]))


def _texts_loader() -> Any:
    """A YAML loader of texts and missing values: a class may be called `no` or `on`, which YAML 1.1 reads as false and
    true."""
    import yaml

    class Texts(yaml.BaseLoader):
        pass

    Texts.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
    Texts.add_constructor("tag:yaml.org,2002:null", lambda loader, node: None)
    return Texts


def class_names(names: Any) -> dict[int, str]:
    """Names by number, of a list or a mapping, whose keys may be texts.

    Raises:
        BadRow: it is neither.
    """
    if isinstance(names, Mapping):
        numbered = {whole_of(number): name for number, name in names.items()}
        if None in numbered or len(numbered) < len(names):
            raise BadRow(f"the keys have to be numbers, found {', '.join(map(shortened, list(names)[:4]))}")
    elif isinstance(names, list):
        numbered = dict(enumerate(names))
    elif isinstance(names, str) and names.strip() and whole_of(names) is None:
        return {0: names.strip()}
    else:
        raise BadRow(f"expected a list or names by number, found {shortened(names)}")
    found = {int(number): text_of(name).strip() for number, name in numbered.items() if number is not None}
    if nameless := [number for number, name in found.items() if not name]:
        raise BadRow(f"class {nameless[0]} has no name")
    return found


def keypoint_numbers(shape: Any, folder: Path) -> int:
    """How many numbers the keypoints of a line are, 0 for none.

    Raises:
        DataFolderError: `kpt_shape` is no pair of numbers.
    """
    if shape is None:
        return 0
    numbers = [whole_of(number) for number in shape] if isinstance(shape, (list, tuple)) else []
    if len(numbers) != 2 or not numbers[0] or numbers[1] not in (2, 3):
        raise DataFolderError(
            f"{folder}: kpt_shape in data.yaml has to be the number of keypoints and 2 or 3, such as [17, 3], found "
            f"{shortened(shape)}"
        )
    return numbers[0] * numbers[1]


def is_label_file(file: Path) -> bool:
    """Whether the first line of a text file is a class and numbers, or there is none: not names, lists or notes."""
    with file.open("rb") as opened:
        words = next((line.split() for line in opened.read(4096).splitlines() if line.strip()), [])
    return not words or (len(words) >= 5 and all(re.fullmatch(rb"[-+.0-9eE]+", word) for word in words[:5]))


def images_in(folder: Path) -> list[Path]:
    """All images in a folder and the folders in it, by name."""
    return visible(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def label_files(image: Path, start: Path, folder: Path, split: str) -> list[Path]:
    """Where the boxes of an image may be, likeliest first; the folders of its path below `start` stay."""
    inside = (image.relative_to(start) if image.is_relative_to(start) else Path(image.name)).with_suffix(".txt")
    places = [folder / "labels" / split / inside, image.with_suffix(".txt"), folder / "labels" / inside]
    if "images" in image.parts:
        parts = list(image.parts)
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
        places.insert(0, Path(*parts).with_suffix(".txt"))
    return places


def find_label_file(image: Path, start: Path, folder: Path, split: str) -> Path | None:
    return next((file for file in label_files(image, start, folder, split) if file.is_file()), None)

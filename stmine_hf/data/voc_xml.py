"""Sets in the layout of Pascal VOC: one XML of boxes an image.

Folders, the first kind that is there:

* `Annotations/*.xml` with the images in `JPEGImages/` (or `images/`), the splits in `ImageSets/Main/train.txt`,
  `val.txt`, `test.txt` (`trainval.txt` is train where there is no train.txt); without such lists all is train,
* `train/`, `val/` (or `valid/`), `test/`, each with images and XML files side by side,
* images and XML files side by side in the folder itself: all train.

VOC counts pixels from 1 and the last one belongs to the box: `xmin` 1 and `xmax` 500 are 0 to 500 here. An object that
is marked `difficult` counts neither for nor against a detector; its row says `iscrowd`. Labels are the names in
alphabetical order (VOC's own order), of all splits together, unless the option `classes` or a file `classes.txt` in
the folder gives them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .boxed_images import SUFFIXES, Box, BoxedImages, BoxedImagesConfig, Record, find_image
from .captioned_images import SPLIT_ALIASES, SPLITS, contents_of, read_text
from .errors import DataFolderError


@dataclass
class VocXmlConfig(BoxedImagesConfig):
    """Options.

    Args:
        classes: names in the order of their labels; objects of other names are dropped.
        one_based: whether pixels count from 1, as in VOC; False for tools that write 0-based corners.
    """

    classes: Sequence[str] | None = None
    one_based: bool = True


class VocXml(BoxedImages):
    """Any folder with XML files as Pascal VOC has them, LabelImg's too."""

    BUILDER_CONFIG_CLASS = VocXmlConfig

    TITLE = "voc_xml"
    LAYOUT = (
        "Annotations/*.xml, JPEGImages/ and ImageSets/Main/train.txt (val.txt, test.txt), or images with XML files "
        "beside them, in the folder itself or in train/, val/, test/"
    )

    def _read(self, folder: Path, settings: Any) -> list[Record]:
        self._names = list(settings.classes or read_classes(folder / "classes.txt"))
        fixed = bool(self._names)
        found = [
            (record, objects)
            for split, file in self._find_files(folder)
            for record, objects in self._read_file(folder, split, file, settings)
        ]
        if not fixed:
            self._names = sorted({name for _, objects in found for _, name, _, _ in objects})
            if found and not self._names:
                raise DataFolderError(
                    f"{self.TITLE}: no object in any of the {len(found)} XML files of {folder}: name the classes of "
                    "such a set with the option classes"
                )
        labels = {name: label for label, name in enumerate(self._names)}
        for record, objects in found:
            for place, name, bbox, difficult in objects:
                if name in labels:
                    record.boxes.append(Box(place, bbox, labels[name], iscrowd=difficult))
                else:
                    self._findings.drop("of an unknown category", f"{place}, {name!r}")
        return [record for record, _ in found]

    def _find_files(self, folder: Path) -> Iterator[tuple[str, Path]]:
        """Split and path of every XML file, in the order of the lists or names."""
        for name in ("Annotations", "annotations"):
            annotations = folder / name
            lists = {split: folder / "ImageSets" / "Main" / f"{split}.txt" for split in (*SPLITS, "trainval")}
            if not lists["train"].is_file():
                lists["train"] = lists["trainval"]
            listed = [split for split in SPLITS if lists[split].is_file()] if annotations.is_dir() else []
            for split in listed:
                lines = read_text(lists[split]).splitlines()
                stems = dict.fromkeys(line.split()[0] for line in lines if line.strip())
                yield from ((split, annotations / f"{stem}.xml") for stem in stems)
            files = [] if listed else sorted(annotations.glob("*.xml"))
            yield from (("train", file) for file in files)
            if listed or files:
                return
        some = False
        for name in (*SPLITS, *SPLIT_ALIASES):
            for file in sorted((folder / name).glob("*.xml")):
                some = True
                yield SPLIT_ALIASES.get(name, name), file
        if some:
            return
        files = sorted(folder.glob("*.xml"))
        if not files:
            raise DataFolderError(f"{self.TITLE}: expected {self.LAYOUT}. In {folder} found {contents_of(folder)}")
        yield from (("train", file) for file in files)

    def _read_file(self, folder: Path, split: str, file: Path, settings: Any) -> Iterator[tuple[Record, list[tuple]]]:
        """The record of one XML file with its objects (place, name, bbox, difficult); nothing if it has to go."""
        place = file.relative_to(folder).as_posix()
        try:
            root = ElementTree.fromstring(file.read_bytes())
        except ElementTree.ParseError as error:  # says line and column
            self._findings.leave_out("not XML", f"{place} ({error})")
            return
        except (OSError, ValueError, LookupError) as error:  # LookupError: an encoding that nobody knows
            self._findings.leave_out("no annotation that can be read", f"{place} ({type(error).__name__}: {error})")
            return
        roots = [file.parent, folder / "JPEGImages", folder / "images", folder]
        if settings.image_dir:
            roots = [Path(settings.image_dir).expanduser().absolute()]
        told = (root.findtext("filename") or "").strip()
        # renamed files keep their old name within
        names = [f"{file.stem}{suffix}" for lower in SUFFIXES for suffix in (lower, lower.upper())] + [told]
        found = next(filter(None, (find_image(name, roots) for name in names if name)), None)
        if found is None:
            self._findings.leave_out("no such file", f"{place}, {told or file.stem}")
            return
        source = (root.findtext("source/database") or "").strip()
        record = Record(
            place,
            split,
            Path(found[0]).name,
            *found,
            size=self._read_size(root),
            source="" if source.lower() == "unknown" else source,  # LabelImg's filler
        )
        objects = []
        for index, item in enumerate(root.findall("object")):
            item_place = f"{place}, object {index + 1}"
            try:
                name = required(item, "name")
                left, top, right, bottom = (
                    float(required(item, f"bndbox/{corner}")) for corner in ("xmin", "ymin", "xmax", "ymax")
                )
                difficult = (item.findtext("difficult") or "0").strip() == "1"
            except ValueError as error:
                self._findings.drop("malformed", f"{item_place} ({error})")
                continue
            first = 1 if settings.one_based else 0
            bbox = (left - first, top - first, right - left + first, bottom - top + first)
            objects.append((item_place, name, bbox, difficult))
        yield record, objects

    def _read_size(self, root: ElementTree.Element) -> tuple[int, int] | None:
        """The size that the file says; None where it says none, or 0 as some tools do."""
        try:
            width, height = (int(required(root, f"size/{side}")) for side in ("width", "height"))
        except ValueError:
            return None
        return (width, height) if width > 0 and height > 0 else None


def required(element: ElementTree.Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"no {path}")
    return text


def read_classes(file: Path) -> list[str]:
    """One name a line; nothing where there is no such file."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()] if file.is_file() else []

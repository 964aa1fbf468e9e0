"""Sets in the layout of Pascal VOC: one XML of boxes per image.

Folders, the first kind that is there:

* `Annotations/*.xml`, also in folders there, with the images in the same folders of `JPEGImages/` (or `images/`), the
  splits in `ImageSets/Main/train.txt`, `val.txt`, `test.txt` (`trainval.txt` is train where there is no train.txt);
  without such lists all is train. A line of a list is an id such as `cam1/0001`, spaces and all; lists of one class
  have a number behind it,
* `train/`, `val/` (or `valid/`), `test/`, each with images and XML files side by side,
* images and XML files side by side in the folder itself: all train.

VOC counts pixels from 1 and the last one belongs to the box: `xmin` 1 and `xmax` 500 are 0 to 500 here. An object that
is marked `difficult` counts neither for nor against a detector; its row says `iscrowd`. An outline (`polygon`) or a
turned box (`robndbox`) without `bndbox` counts by the box around it. Labels are the names in alphabetical order (VOC's
own order), of all splits together, unless the option `classes` or a file `classes.txt` in the folder gives them.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .boxed_images import SWAPPED, Box, BoxedImages, BoxedImagesConfig, BoxRecord, find_images, in_order
from .cells import flag_of, number_of, whole_of
from .errors import BadRow, DataFolderError
from .folder_builder import SPLIT_ALIASES, SPLITS, contents_of, image_folder, split_named, visible
from .names import ImageFiles, Wanted, tidy
from .tables import read_lines

IMAGE_FOLDERS = ("JPEGImages", "images", ".")
# Declared encodings under the name of the larger one that programs write instead.
LARGER = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "cp950", "euc-kr": "cp949", "shift_jis": "cp932"}


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

    def _read(self, folder: Path, settings: Any) -> list[BoxRecord]:
        self._names = list(settings.classes or read_classes(folder / "classes.txt", settings.encoding))
        fixed = bool(self._names)
        found = self._read_files(folder, settings)
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

    def _read_files(self, folder: Path, settings: Any) -> list[tuple[BoxRecord, list[tuple]]]:
        """The records whose images are there, each with its objects (place, name, bbox, difficult)."""
        image_dir = image_folder(self.TITLE, settings.image_dir)
        read: list[tuple[str, Path, str, ElementTree.Element]] = []  # split, file, id, content
        for split, file, name in self._find_files(folder, settings.encoding):
            root = self._read_xml(file, file.relative_to(folder).as_posix(), settings.encoding)
            if root is not None:
                read.append((split, file, name, root))
        images = ImageFiles([], searched=[image_dir or folder])
        stems, names = [], []
        for _, file, name, root in read:
            inside = Path(name).parent.as_posix()
            own = file.parents[len(Path(name).parent.parts)]  # where ids start
            starts = [image_dir] if image_dir else [own, *(folder / part for part in IMAGE_FOLDERS)]
            folders = tuple(map(str, dict.fromkeys(starts)))
            place = file.relative_to(folder).as_posix()
            filename = tidy((root.findtext("filename") or "").strip())
            stems.append(Wanted(name, place, folders, stem=True, hint=filename))
            bare = filename.rpartition("/")[2]
            names.append(Wanted(filename if inside == "." else f"{inside}/{bare}" if bare else "", place, folders))
        # renamed files keep their old name within, so the id goes first
        by_id = images.find_near(stems)
        rest = [
            Wanted("", "") if path else name if name.name else stem
            for path, name, stem in zip(by_id, names, stems, strict=True)
        ]
        places = find_images(images, rest, self._findings, by_id)
        owned = {path for path in by_id if path}  # found by their ids, so used for no other
        records = []
        for (split, file, name, root), found, known in zip(read, places, by_id, strict=True):
            place = file.relative_to(folder).as_posix()
            if found is None or (known is None and found[0] in owned):
                shown = (root.findtext("filename") or "").strip() or f"{name}.*"
                self._findings.skip("no such file", f"{place}, {shown}")
                continue
            source = (root.findtext("source/database") or "").strip()
            record = BoxRecord(
                place,
                split,
                Path(found[0]).name,
                *found,
                size=self._read_size(root),
                source="" if source.lower() == "unknown" else source,  # LabelImg's filler
            )
            records.append((record, list(self._read_objects(root, place, settings.one_based))))
        return records

    def _find_files(self, folder: Path, encoding: str | None) -> Iterator[tuple[str, Path, str]]:
        """Split, path and id of every XML file, in the order of the lists or names."""
        for name in ("Annotations", "annotations"):
            annotations = folder / name
            lists = self._lists(folder) if annotations.is_dir() else {}
            for split, file in lists.items():
                lines = (line.strip() for line in read_lines(file, encoding))
                for stem in dict.fromkeys(id_of_line(line, annotations) for line in lines if line):
                    if stem.startswith("/") or ".." in stem.split("/"):
                        self._findings.skip("an id that points outside of Annotations", f"{file.name}, {stem}")
                        continue
                    yield split, annotations / f"{stem}.xml", stem
            files = [] if lists else visible(annotations.rglob("*.xml"))
            for file in files:
                yield "train", file, file.relative_to(annotations).with_suffix("").as_posix()
            if lists or files:
                return
        some = False
        for name in (*SPLITS, *SPLIT_ALIASES):
            for file in visible((folder / name).rglob("*.xml")):
                some = True
                yield SPLIT_ALIASES.get(name, name), file, file.relative_to(folder / name).with_suffix("").as_posix()
        if some:
            return
        files = visible(folder.glob("*.xml")) or visible(folder.rglob("*.xml"))
        if not files:
            raise DataFolderError(f"{self.TITLE}: expected {self.LAYOUT}. In {folder} found {contents_of(folder)}")
        for file in files:
            yield "train", file, file.relative_to(folder).with_suffix("").as_posix()

    def _lists(self, folder: Path) -> dict[str, Path]:
        """The list of each split."""
        files = {file.stem.lower(): file for file in sorted((folder / "ImageSets" / "Main").glob("*.txt"))}
        found = {split_named(name): file for name, file in reversed(files.items())}
        if "train" not in found and "trainval" in files:
            found["train"] = files["trainval"]
        return {split: found[split] for split in SPLITS if split in found}

    def _read_xml(self, file: Path, place: str, encoding: str | None) -> ElementTree.Element | None:
        """The content of an XML file, None if it is skipped."""
        try:
            return parse_xml(file.read_bytes(), encoding)
        except ElementTree.ParseError as error:  # says line and column
            self._findings.skip("not XML", f"{place} ({error})")
        except (OSError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
            self._findings.skip("no annotation that can be read", f"{place} ({type(error).__name__}: {error})")
        return None

    def _read_objects(self, root: ElementTree.Element, place: str, one_based: bool) -> Iterator[tuple]:
        first = 1 if one_based else 0
        for index, item in enumerate(root.findall("object")):
            item_place = f"{place}, object {index + 1}"
            try:
                name = required(item, "name")
                left, top, right, bottom = corners_of(item)
                if right - left + first < 0 or bottom - top + first < 0:
                    (left, top, right, bottom), _ = in_order([left, top, right, bottom])
                    self._findings.correct(SWAPPED, item_place)
                difficult = flag_of(item.findtext("difficult"))
            except ValueError as error:
                self._findings.drop("malformed", f"{item_place} ({error})")
                continue
            if item.find("polygon") is not None or item.find("robndbox") is not None:
                self._findings.pass_over("outline", item_place)
            bbox = (left - first, top - first, right - left + first, bottom - top + first)
            yield item_place, name, bbox, difficult

    def _read_size(self, root: ElementTree.Element) -> tuple[int, int] | None:
        """The size that the file says; None where it says none, or 0 as some tools do."""
        try:
            width, height = (whole_of(required(root, f"size/{side}")) for side in ("width", "height"))
        except ValueError:
            return None
        return (width, height) if width and height and width > 0 and height > 0 else None


def corners_of(item: ElementTree.Element) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of an object; of an outline or a turned box those of the box around it.

    Raises:
        ValueError: it has none, or they are no numbers.
    """
    if item.find("bndbox") is None:
        if (turned := item.find("robndbox")) is not None:
            x, y, w, h, angle = (number_of(required(turned, part)) for part in ("cx", "cy", "w", "h", "angle"))
            wide = (abs(w * math.cos(angle)) + abs(h * math.sin(angle))) / 2
            high = (abs(w * math.sin(angle)) + abs(h * math.cos(angle))) / 2
            return x - wide, y - high, x + wide, y + high
        if (polygon := item.find("polygon")) is not None:
            numbers = [
                (part.tag, number_of(part.text)) for part in polygon.iter() if re.fullmatch(r"[xy]\d*", part.tag)
            ]
            xs, ys = ([number for tag, number in numbers if tag[0] == axis] for axis in "xy")
            if xs and ys:
                return min(xs), min(ys), max(xs), max(ys)
    left, top, right, bottom = (corner(item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    return left, top, right, bottom


def corner(item: ElementTree.Element, path: str) -> float:
    try:
        return number_of(required(item, path))
    except BadRow:
        return float(required(item, path))  # its message


def required(element: ElementTree.Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"no {path}")
    return text


def parse_xml(content: bytes, encoding: str | None = None) -> ElementTree.Element:
    """The root of an XML file. Its declaration says how to read the bytes, also by encodings of several bytes a
    character, which Python's parser does not know; a byte order mark goes first. Bytes without a declaration, or
    that are not the UTF-8 that they declare, are of the encoding of the option.

    Raises:
        ElementTree.ParseError: it is no XML.
        LookupError, ValueError: unknown encoding, or the bytes are of another; or it declares entities.
    """
    if b"<!ENTITY" in content:
        raise ValueError("declares entities, which no annotation needs")
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*\?>""", content)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # the mark decides, whatever is declared in these bytes
        return ElementTree.fromstring(re.sub(r"\A\s*<\?xml[^>]*\?>", "", content.decode("utf-16")))  # noqa: S314  as below
    name = declared[1].decode().lower() if declared else (encoding or "utf-8")
    if name in ("utf-8", "utf8"):
        try:
            content.decode("utf-8")
        except UnicodeDecodeError:
            if encoding is None:
                raise ValueError("not UTF-8: say the encoding with --encoding (option encoding)") from None
            name = encoding.lower()
    if name in ("utf-8", "utf8", "us-ascii", "ascii"):
        return ElementTree.fromstring(content.lstrip() if declared else content)  # noqa: S314  expat expands no external entities and bounds the others
    name = LARGER.get(name, name)
    text = content[declared.end() if declared else 0 :].decode(name)
    return ElementTree.fromstring(text)  # noqa: S314  expat expands no external entities and bounds the others


def id_of_line(line: str, annotations: Path) -> str:
    """The id that a line of a list names: the whole line, without quotation marks; or what stands before a number,
    where the whole line has no XML file."""
    whole = tidy(line)
    candidates = [whole, re.sub(r"\.(xml|jpe?g|png|bmp|tiff?|webp)$", "", whole, flags=re.I)]
    if numbered := re.fullmatch(r"(.*\S)\s+-?[01]", line):
        candidates.append(tidy(numbered[1]))
    found = next((one for one in candidates if (annotations / f"{one}.xml").is_file()), None)
    return found or candidates[-1]


def read_classes(file: Path, encoding: str | None = None) -> list[str]:
    """One name a line; nothing where there is no such file."""
    return [name for line in read_lines(file, encoding) if (name := line.strip())] if file.is_file() else []

"""Recognition of the layout of a folder with boxes by its files, so that the folder alone suffices to read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from .coco_json import KEYS, PATTERNS
from .errors import DataError
from .folder_builder import visible
from .label_studio import is_label_studio
from .labelme_json import is_labelme
from .tables import read_json

LOOKED_AT = 8  # files of a kind
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # of the Hub's ImageFolder


def layout_of(folder: Path) -> str | None:
    """The name of the builder that reads a folder; None where it is a table, a data set of the Hub, or unknown."""
    if not folder.is_dir() or (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
        return None
    if any(next(folder.rglob(name), None) for name in TABLES):
        return None
    return _of_json(folder) or _of_xml(folder) or _of_yolo(folder)


def _of_json(folder: Path) -> str | None:
    if any(visible(folder.glob(pattern)) for pattern in PATTERNS[:1] + PATTERNS[-1:]):
        return "coco_json"  # not opened: that of COCO is of hundreds of megabytes
    for file in islice(_first(folder, "*.json"), LOOKED_AT):
        try:
            content = read_json(file)
        except DataError:
            continue
        if is_labelme(content):
            return "labelme_json"
        if is_label_studio(content):
            return "label_studio"
        if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in KEYS):
            return "coco_json"
    return None


def _of_xml(folder: Path) -> str | None:
    for file in islice(_first(folder, "*.xml"), LOOKED_AT):
        with file.open("rb") as opened:
            head = opened.read(4096)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            head = head.replace(b"\0", b"")
        if root := re.search(rb"<(annotations?)[\s>]", head):
            return "cvat_xml" if root[1] == b"annotations" else "voc_xml"
    return None


def _of_yolo(folder: Path) -> str | None:
    named = [*folder.glob("*.yaml"), *folder.glob("*.yml"), folder / "obj.data", folder / "obj.names"]
    if any(file.is_file() for file in named):
        return "yolo_txt"
    return "yolo_txt" if (folder / "classes.txt").is_file() and next(folder.rglob("*.txt"), None) else None


def _first(folder: Path, pattern: str) -> Iterator[Path]:
    """The files of the folder itself, then of those in it."""
    yield from visible(folder.glob(pattern))
    yield from visible(file for file in folder.rglob(pattern) if file.parent != folder)

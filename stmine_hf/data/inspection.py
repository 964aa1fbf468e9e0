"""What the rows of a data set hold in numbers: labels, boxes, sentences, sizes of images; and likely stumbles."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..images import ImageError, read_header
from ..loading import labels_of
from ..methods import METHODS
from ..printing import shell_word

if TYPE_CHECKING:
    import datasets

FEW = 10  # boxes of a class, or posts of a label, with less of which hardly anything is learned
_SHOWN = 6  # classes in a warning


def counts_of(rows: datasets.Dataset, kind: str) -> dict[str, Any]:
    """The numbers of a split.

    Args:
        rows: of `load_dataset`.
        kind: of them.

    Returns:
        `images`: rows with one; `sizes`: of these the smallest, the median and the largest as [width, height], by
        their area. Of posts and captions `labels`, how many rows each has, and `unlabelled`; of posts `without_text`;
        of captions `sentences` and `sentences_per_image` (least, mean, most); of boxes `boxes`, how many each class
        has, and `images_without_boxes`.
    """
    sizes = [size for image in encoded_images(rows) if (size := _size_of(image)) is not None]
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    found: dict[str, Any] = {"images": len(sizes)}
    if by_area:
        found["sizes"] = [list(by_area[place]) for place in (0, len(by_area) // 2, -1)]
    light = rows.remove_columns("image") if "image" in rows.column_names else rows
    if kind == "boxes":
        names = rows.features["objects"]["category"].feature.names
        boxes = Counter(names[label] for row in light for label in row["objects"]["category"])
        found["boxes"] = {name: boxes[name] for name in sorted(names, key=lambda name: (-boxes[name], name))}
        found["images_without_boxes"] = sum(not row["objects"]["category"] for row in light)
        return found
    names, labels = rows.features["label"].names, Counter(light["label"])
    known = {names[label]: count for label, count in sorted(labels.items(), key=lambda one: -one[1]) if label >= 0}
    if kind == "posts" or known:
        found |= {"labels": known, "unlabelled": labels[-1]}
    if kind == "posts":
        found["without_text"] = sum(not text.strip() for text in light["text"])
    else:
        counts = [len(captions) for captions in light["captions"]]
        found["sentences"] = sum(counts)
        found["sentences_per_image"] = [min(counts), round(sum(counts) / len(counts), 2), max(counts)]
    return found


def warnings_of(
    splits: Mapping[str, datasets.Dataset], kind: str, counts: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What will be a stumble when a model is trained or scored on these rows, a sentence each.

    Args:
        splits: of `load_dataset`.
        kind: of the rows.
        counts: `counts_of` each split.
    """
    found = []
    train = counts.get("train") or next(iter(counts.values()))
    if kind == "boxes" and (few := [f"{name} ({n})" for name, n in train["boxes"].items() if n < FEW]):
        found.append(f"Classes with fewer than {FEW} boxes to learn from: {_first(few)}.")
    if kind == "posts" and (few := [f"{name} ({n})" for name, n in train["labels"].items() if n < FEW]):
        found.append(f"Labels with fewer than {FEW} posts to learn from: {_first(few)}.")
    same = _same_images(splits)
    if same:
        places = "; ".join(same[:2])
        more = "; ..." if len(same) > 2 else ""
        found.append(f"Images that are copies of another one, byte by byte: {len(same)} ({places}{more}).")
    if kind == "posts" and (torn := _contradictions(splits)):
        found.append(f"{torn} texts occur with different labels.")
    if kind != "captions":
        found += _unknown_names({*_names(splits, kind)}, kind)
    return found


def _names(splits: Mapping[str, datasets.Dataset], kind: str) -> list[str]:
    features = next(iter(splits.values())).features
    return (features["objects"]["category"].feature if kind == "boxes" else features["label"]).names


def _unknown_names(names: set[str], kind: str) -> Iterator[str]:
    """A note where labels are not those of the shipped model for such rows."""
    method = next(one for one in METHODS.values() if one.rows == kind)
    known = [*(labels_of(None, method) or {}).values()]
    other = sorted(names - set(known))
    if not known or not other:
        return
    shown = _first(other)
    if kind == "posts":
        yield (
            f"The shipped model ({method.default_checkpoint}) has the labels {', '.join(known)}, not {shown}: "
            "training starts a new classifier. If they mean the same, say so by "
            f"--label {shell_word(f'{other[0]}=LABEL')}."
        )
    elif len(other) == len(names):
        yield f"The shipped model ({method.default_checkpoint}) does not know {shown}: train it on them first."


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def encoded_images(rows: datasets.Dataset) -> Iterable[Mapping[str, Any]]:
    """The images of the rows as they are stored, without missing ones."""
    import datasets

    if not isinstance(rows.features.get("image"), datasets.Image):
        return []
    images = rows.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
    return (row["image"] for row in images if row["image"] is not None)


def stored_bytes(image: Mapping[str, Any]) -> int:
    return len(image["bytes"]) if image["bytes"] is not None else os.path.getsize(image["path"])


def _size_of(image: Mapping[str, Any]) -> tuple[int, int] | None:
    try:
        return read_header(io.BytesIO(image["bytes"]) if image["bytes"] is not None else image["path"]).size
    except (ImageError, OSError):
        return None


def _same_images(splits: Mapping[str, datasets.Dataset]) -> list[str]:
    """Images that are equal to an earlier one byte by byte, in words. Posts of one file do not count."""
    by_length: dict[int, list[tuple[str, str | None, bytes | None]]] = {}
    for split, rows in splits.items():
        for number, image in enumerate(encoded_images(rows)):
            name = Path(image["path"]).name if image["path"] else f"image {number}"
            # An image in the table itself is digested at once, a file only if another one has its length.
            digest = None if image["bytes"] is None else blake2b(image["bytes"], digest_size=16).digest()
            by_length.setdefault(stored_bytes(image), []).append((f"{split}: {name}", image["path"], digest))
    found = []
    for alike in by_length.values():
        first: dict[bytes, tuple[str, str | None]] = {}
        for shown, path, digest in alike if len(alike) > 1 else ():
            digest = digest or blake2b(Path(str(path)).read_bytes(), digest_size=16).digest()
            before = first.setdefault(digest, (shown, path))
            if before[0] != shown and (path is None or before[1] != path):
                found.append(f"{shown} = {before[0]}")
    return found


def _contradictions(splits: Mapping[str, datasets.Dataset]) -> int:
    """Number of texts that posts with different labels share."""
    seen: dict[str, set[int]] = {}
    for rows in splits.values():
        for text, label in zip(rows["text"], rows["label"], strict=True):
            if text.strip() and label >= 0:
                seen.setdefault(text.strip(), set()).add(label)
    return sum(len(labels) > 1 for labels in seen.values())

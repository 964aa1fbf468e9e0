"""Validation rows for a set that has none: held out of the train split, the same ones each time, without leakage.

Rows of one image, of copies of an image, of near-copies of a text or of one event go to one side as a whole. An image
is recognized by its bytes and by its brightness pattern (a difference hash), which scaling and re-encoding hardly
change; copies that an export tool made of one image are recognized by their names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from ..images import ImageError, decode_image, image_errors
from ..printing import counted
from . import select_rows, take_rows
from .errors import DataError
from .event_clusters import event_clusters, hold_out

SHARE = 0.2  # of the train rows
FEWEST = 4  # rows that can be split
MOST_COMPARED = 5000  # rows that are compared two by two; beyond, images count as equal by their bytes or hash
_SIDE = 16  # of the grid of a difference hash
_NEAR = 10  # of its 256 bits, up to which two images are copies
_COPIED_NAME = re.compile(r"\.rf\.[0-9a-f]{16,}\b")  # Roboflow's augmented copies: NAME_jpg.rf.HASH.jpg
_ELSE = "Score rows that it was not trained on: give these as --data, or name a split of them with --split."
_COPY = 0.8  # similarity from which all captions of two images together are copies


@dataclass(frozen=True)
class TrainedOn:
    """What a training run says of the rows of a data set that it was trained on.

    Attributes:
        share: of the train rows that it held out; None: it held none out.
        rows: number and digest of those that it was trained on, see `data_fingerprint`; None: unknown.
        split: that it was trained on.
        most: number of rows that it was limited to.
    """

    share: float | None
    rows: Mapping[str, Any] | None = None
    split: str = "train"
    most: int | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any], rows: Mapping[str, Any] | None) -> TrainedOn:
        """That of a run with these settings."""
        most = settings.get("max_train_images") or settings.get("max_train_posts")
        return cls(settings.get("hold_out"), rows, settings.get("train_split") or "train", most)

    def require_same(self, splits: Any, what_to_do: str) -> None:
        """Check that holding out left the rows that the run was trained on: else some of them may be held out.

        Args:
            splits: of `with_validation`.
            what_to_do: for the message, the user's ways out.

        Raises:
            DataError: they are others.
        """
        if self.rows is None:
            return
        found = data_fingerprint(take_rows(splits, self.split, self.most))
        if found is not None and dict(self.rows) != found:
            raise DataError(
                f"The run of the model was trained on {_shown(self.rows)}; of the rows that are read now it would be "
                f"{_shown(found)}. The data have changed since, or are read with other options, or a version of "
                "stmine-hf trained the model that held out other rows: which ones it has not seen is unknown. "
                f"{what_to_do}"
            )


def data_fingerprint(rows: Any) -> dict[str, Any] | None:
    """Number of rows, and a digest of their names; None for a stream."""
    if not hasattr(rows, "__len__"):
        return None
    name = next((name for name in ("filename", "post_id") if name in rows.column_names), None)
    digest = sha256("\n".join(map(str, rows[name] if name else [])).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return {"rows": len(rows), "digest": digest}


def with_validation(splits: Any, kind: str, share: float = SHARE) -> tuple[Any, str | None]:
    """The splits, with validation rows held out of the train rows where there is no split `val`.

    Args:
        splits: of `load_dataset`.
        kind: of the rows: captions, posts or boxes.
        share: of the train rows to hold out, in (0, 1).

    Returns:
        The splits, and what was held out in words; None where the set has validation rows.

    Raises:
        DataError: no train rows, too few of them, or none that could be held out without a leak.
    """
    if "val" in splits:
        return splits, None
    if "train" not in splits:
        raise DataError(f"The data set has no split train; it has {', '.join(splits)}. Name the files train and val.")
    rows = splits["train"]
    if len(rows) < FEWEST:
        raise DataError(
            f"The data set has {_count(len(rows), kind)} and no validation split: expected {FEWEST} rows at least, of "
            "which some are held out to measure on. Add some."
        )
    groups, labels = groups_of(rows, kind), _strata(rows, kind)
    held = hold_out(groups, labels, share)
    if len(held) < share * len(rows) / 2:
        held = hold_out(groups, [0] * len(rows), share)  # most labels alone have too few rows
    if not held or len(held) == len(rows):
        raise DataError(
            f"The {_count(len(rows), kind)} of the data set are of {len(set(groups))} different images or events, "
            "none of which can be held out to measure on. Add a split val (a file or folder of that name) or rows."
        )
    apart = set(held)
    kept = [row for row in range(len(rows)) if row not in apart]
    made = datasets.DatasetDict({**splits, "train": rows.select(kept), "val": rows.select(held)})
    made["val"].info.dataset_name = rows.info.dataset_name
    together = "image or event" if kind == "posts" else "image"
    return made, (
        f"no validation split: {_count(len(held), kind)} held out of {len(rows):,}, the same ones each time; rows of "
        f"one {together} stay together ({len(set(groups)):,} groups)"
    )


def rows_to_score(
    splits: Any, kind: str, split: str | None = None, *, trained_on: TrainedOn | None = None
) -> tuple[Any, str]:
    """The rows of the user's own data that a model is scored on.

    Args:
        splits: of `load_dataset`.
        kind: of the rows.
        split: train, val, test, a slice of one, or "all". A split val that is not there is what `with_validation`
            holds out, so that a score compares with those that training prints. None: val; else test, or the only
            split that is not train; else all rows, but of data that the model was trained on those held out.
        trained_on: the rows of these data that the model was trained on; None: none, as far as is known.

    Returns:
        The rows, and which these are in words.

    Raises:
        DataError: there is no such split, or the model was trained on rows of it.
    """
    if split is None:
        others = [name for name in ("val", "test") if name in splits] or [name for name in splits if name != "train"]
        split = others[0] if others else "val" if trained_on else "all"
        if split == "all":
            rows, said = rows_to_score(splits, kind, split)
            return rows, f"{said}. If the model was trained on them, score the held-out ones alone: --split val"
    if split == "all" and split not in splits:
        rows = datasets.concatenate_datasets(list(splits.values())) if len(splits) > 1 else next(iter(splits.values()))
        return rows, f"all {len(rows):,}"
    if split != "val" or "val" in splits or "train" not in splits:
        rows = select_rows(splits, split)
        return rows, f"the split {split}" + (f", {len(rows):,}" if hasattr(rows, "__len__") else "")
    share = SHARE if trained_on is None else trained_on.share
    if share is None:
        raise DataError(
            f"The model was trained on these data, and its run held no rows out. {_ELSE} --split all scores those "
            "that it knows, too."
        )
    made, _ = with_validation(splits, kind, share)
    if trained_on is not None:
        trained_on.require_same(made, f"{_ELSE} --split all scores those that it knows, too.")
    rows = made["val"]
    rows._split = datasets.NamedSplit("val")  # a subset of the train rows keeps their name
    return rows, f"the {len(rows):,} of {len(splits['train']):,} that training holds out (there is no split val)"


def groups_of(rows: Any, kind: str) -> list[int]:
    """A number for each row, equal for rows that must not be on two sides of a split."""
    light = rows.cast_column("image", datasets.Image(decode=False)) if "image" in rows.features else rows
    union = _Union(len(rows))
    names, prints = [], []
    for row in light:
        names.append(_source_of(str(row.get("filename") or "")))
        prints.append(_print_of(row.get("image")))
    union.join_equal(names)
    union.join_equal([digest for digest, _ in prints])
    union.join_near([bits for _, bits in prints])
    if kind == "posts":
        union.join_equal([group if group >= 0 else None for group in rows["group"]])
    if len(rows) <= MOST_COMPARED:
        if kind == "posts":
            union.join_equal(event_clusters([text or "" for text in rows["text"]]))
        elif kind == "captions":
            union.join_equal(
                _without_large(
                    event_clusters([" ".join(sorted(own)) for own in rows["captions"]], copy=_COPY, event=1)
                )
            )
    return union.numbers()


class _Union:
    """Rows joined to groups."""

    def __init__(self, count: int) -> None:
        self._root = list(range(count))

    def join(self, one: int, other: int) -> None:
        one, other = self._find(one), self._find(other)
        self._root[max(one, other)] = min(one, other)

    def join_equal(self, keys: Iterable[Hashable]) -> None:
        """Join rows of one key; None joins nothing."""
        first: dict[Hashable, int] = {}
        for row, key in enumerate(keys):
            if key is not None:
                self.join(first.setdefault(key, row), row)

    def join_near(self, prints: Sequence[np.ndarray | None]) -> None:
        """Join rows whose hashes differ in few bits."""
        known = [row for row, bits in enumerate(prints) if bits is not None]
        if not known:
            return
        bits = np.stack([prints[row] for row in known])  # type: ignore[misc]  # none of them is None
        if len(known) > MOST_COMPARED:
            self.join_equal([None if one is None else one.tobytes() for one in prints])
            return
        for place, row in enumerate(known[:-1]):
            (near,) = np.nonzero((bits[place + 1 :] != bits[place]).sum(axis=1) <= _NEAR)
            for other in near.tolist():
                self.join(row, known[place + 1 + other])

    def numbers(self) -> list[int]:
        return [self._find(row) for row in range(len(self._root))]

    def _find(self, row: int) -> int:
        while self._root[row] != row:
            self._root[row] = self._root[self._root[row]]
            row = self._root[row]
        return row


def _print_of(image: Mapping[str, Any] | None) -> tuple[bytes | None, np.ndarray | None]:
    """Digest of an image's file and the bits of its difference hash; None where there is none, or nothing in it."""
    if image is None:
        return None, None
    try:
        content = image.get("bytes") or Path(str(image["path"])).read_bytes()
        with image_errors():
            small = decode_image(image).convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    except (ImageError, OSError):
        return None, None
    grey = np.asarray(small, dtype=np.int16)
    bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    plain = grey.max() - grey.min() < 16  # of a nearly uniform image the bits are noise
    return blake2b(content, digest_size=16).digest(), None if plain else bits


def _source_of(name: str) -> str | None:
    """The original of an image, by the name that an export tool gave it; None if the name does not state it."""
    return _COPIED_NAME.split(name)[0] if _COPIED_NAME.search(name) else None


def _without_large(groups: Sequence[int]) -> list[int | None]:
    """Groups of texts, without those of so many rows that they share only the wording: "a farm"."""
    sizes = Counter(groups)
    most = max(4, len(groups) // 20)
    return [group if sizes[group] <= most else None for group in groups]


def _strata(rows: Any, kind: str) -> list[Hashable]:
    """The label of each row, of which each is to be held out alike; of boxes the rarest class of an image."""
    if kind != "boxes":
        return list(rows["label"])
    classes = [objects["category"] for objects in rows["objects"]]
    counts = Counter(label for own in classes for label in set(own))
    return [min(set(own), key=lambda label: (counts[label], label)) if own else -1 for own in classes]


def _shown(rows: Mapping[str, Any]) -> str:
    return f"{counted(int(rows['rows']), 'row')} (digest {rows['digest']})"


def _count(number: int, kind: str) -> str:
    return counted(number, "post" if kind == "posts" else "image")

"""What a data set is: kind, origin, terms, columns, and of one at hand its splits, size and first rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _BUILDER_CONFIG_FIELDS, BUILDERS, KINDS, DataError, load_dataset

if TYPE_CHECKING:
    import datasets

DRAWN = "drawn by this package: nobody's images, texts or rights"
# Terms of the sets that have a common source; else: `SOURCE` of the builder says.
TERMS = {
    "rsicd": "published without a license: cite the paper, ask its authors before you pass it on",
    "weibo": "posts and images of Weibo's users, published without a license: for research, not to be passed on",
    "indiscernible": "those of its sources: CAMO and SIRST state no license, COD10K is for non-commercial use, EBIKE "
    "states no terms",
    **dict.fromkeys(("toy_scenes", "toy_posts", "toy_camouflage"), DRAWN),
}


@dataclass(frozen=True)
class Entry:
    """A builder.

    Attributes:
        name: for `load_dataset`.
        kind: captions, posts or boxes.
        about: one line.
        source: where its files come from; "" for layouts of one's own and drawn sets.
        terms: under which.
        options: of `load_dataset` for it.
    """

    name: str
    kind: str
    about: str
    source: str
    terms: str
    options: list[str]


@dataclass
class Description:
    """A data set at hand.

    Attributes:
        name: as it was asked for.
        kind: captions, posts or boxes.
        terms: under which it may be used.
        columns: name to type.
        splits: name to `rows` and `image_bytes`, as stored.
        samples: first rows of the first split; of images their size.
    """

    name: str
    kind: str
    terms: str
    columns: dict[str, str]
    splits: dict[str, dict[str, int]]
    samples: list[dict[str, Any]] = field(default_factory=list)


def entries() -> list[Entry]:
    """Every builder, in the order of `load_dataset`'s documentation."""
    return [entry(name) for name in BUILDERS]


def entry(name: str) -> Entry:
    """
    Raises:
        DataError: no builder of that name.
    """
    if name not in BUILDERS:
        raise DataError(f"unknown data set {name!r}: expected one of {', '.join(BUILDERS)}")
    script, builder_class = BUILDERS[name]
    module = import_module(f".{script}", __package__)
    builder = getattr(module, builder_class)
    source = getattr(builder, "SOURCE", "")
    options = [option.name for option in fields(builder.BUILDER_CONFIG_CLASS)]
    return Entry(
        name=name,
        kind=kind_of(name),
        about=" ".join(str(module.__doc__).split("\n\n")[0].split()),
        source=source,
        terms=TERMS.get(name) or (f"those of its authors: see {source}" if source else "yours: these are your files"),
        options=[option for option in options if option not in _BUILDER_CONFIG_FIELDS],
    )


def kind_of(name: str) -> str:
    """The kind of rows that a builder yields."""
    return next(kind for kind, names in KINDS.items() if name in names)


def load_all(name: str, kind: str | None, **options: Any) -> tuple[datasets.DatasetDict, str]:
    """All splits of a data set by name or of one's own, and their kind; options as of `load_dataset`."""
    kind = kind or (kind_of(name) if name in BUILDERS else None)
    splits = load_dataset(name, kind=kind, **options)
    return splits, str(kind)


def describe(name: str, splits: datasets.DatasetDict, kind: str, *, samples: int = 3) -> Description:
    """
    Args:
        name: of the data set.
        splits: its rows.
        kind: of them.
        samples: how many rows to show.
    """
    first = next(iter(splits.values()))
    return Description(
        name=name,
        kind=kind,
        terms=entry(name).terms if name in BUILDERS else "whoever published it says",
        columns=columns_of(first.features),
        splits={
            split: {"rows": len(rows), "image_bytes": sum(map(stored_bytes, encoded_images(rows)))}
            for split, rows in splits.items()
        },
        samples=[shown(row) for row in first.select(range(min(samples, len(first))))],
    )


def columns_of(features: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Columns and what they hold, fields of mappings as `objects.bbox`.

    Example:
        >>> import datasets
        >>> columns_of({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["fake", "real"])})
        {'text': 'string', 'label': 'class (2): fake, real'}
    """
    columns: dict[str, str] = {}
    for name, feature in features.items():
        if isinstance(feature, Mapping):
            columns |= columns_of(feature, f"{prefix}{name}.")
        else:
            columns[f"{prefix}{name}"] = type_of(feature)
    return columns


def type_of(feature: Any) -> str:
    """In words: `image`, `string`, `list of float64`, `class (2): fake, real`."""
    names = getattr(feature, "names", None)
    if names is not None:
        return f"class ({len(names)}): {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
    if hasattr(feature, "feature"):
        return f"list of {type_of(feature.feature)}"
    return str(feature.dtype) if feature._type == "Value" else feature._type.lower()


def encoded_images(rows: datasets.Dataset) -> Iterable[Mapping[str, Any]]:
    """The images of the rows as they are stored, none left out but those that are not there."""
    import datasets

    if not isinstance(rows.features.get("image"), datasets.Image):
        return []
    images = rows.select_columns(["image"]).cast_column("image", datasets.Image(decode=False))
    return (row["image"] for row in images if row["image"] is not None)


def stored_bytes(image: Mapping[str, Any]) -> int:
    return len(image["bytes"]) if image["bytes"] is not None else os.path.getsize(image["path"])


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as text can show it: of an image its size."""
    image = row.get("image")
    return {**row, **({"image": f"{image.width} x {image.height}"} if image is not None else {})}

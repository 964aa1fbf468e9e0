"""Descriptions of data sets: kind, origin, terms and columns; for a loaded one also splits, size and first rows."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import BUILDERS, builder_class, builder_options, kind_of, read_dataset
from .findings import Findings
from .inspection import counts_of, encoded_images, stored_bytes, warnings_of

if TYPE_CHECKING:
    import datasets


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
    """A loaded data set.

    Attributes:
        name: as it was asked for.
        kind: captions, posts or boxes.
        terms: under which it may be used.
        columns: name to type.
        splits: name to `rows` and `image_bytes`, as stored.
        samples: first rows of the first split; of images their size.
        findings: what was skipped, changed or is suspicious: `fate`, `reason`, `count` and `places`.
        counts: of each split, see `stmine_hf.data.inspection.counts_of`; empty unless asked for.
        warnings: what will be a stumble, see `stmine_hf.data.inspection.warnings_of`.
    """

    name: str
    kind: str
    terms: str
    columns: dict[str, str]
    splits: dict[str, dict[str, int]]
    samples: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def entries() -> list[Entry]:
    """Every builder, in the order of `load_dataset`'s documentation."""
    return [entry(name) for name in BUILDERS]


def entry(name: str) -> Entry:
    """The description of a set by name.

    Raises:
        DataError: no set of that name.
    """
    builder = builder_class(name)
    about, source = getattr(builder, "ABOUT", None), getattr(builder, "SOURCE", "")
    return Entry(
        name=name,
        kind=kind_of(name),
        about=" ".join(str(inspect.getdoc(inspect.getmodule(builder))).split("\n\n")[0].split()),
        source=source,
        terms=about.terms if about else "yours: these are your files",
        options=builder_options(builder),
    )


def load_all(name: str, kind: str | None, **options: Any) -> tuple[datasets.DatasetDict, str, Findings]:
    """All splits of a data set by name or of one's own, their kind, and the findings; options as of `load_dataset`."""
    kind = kind or (kind_of(name) if name in BUILDERS else None)
    splits, findings = read_dataset(name, kind=kind, **options)
    return splits, str(kind), findings


def describe(
    name: str,
    splits: datasets.DatasetDict,
    kind: str,
    *,
    samples: int = 3,
    findings: Findings | None = None,
    inspect_rows: bool = False,
) -> Description:
    """The description of a loaded data set.

    Args:
        name: of the data set.
        splits: its rows.
        kind: of them.
        samples: how many rows to show.
        findings: what was skipped, changed or is suspicious.
        inspect_rows: count labels, boxes and sizes of images, and look for what will be a stumble.
    """
    first = next(iter(splits.values()))
    counts = {split: counts_of(rows, kind) for split, rows in splits.items()} if inspect_rows else {}
    return Description(
        name=name,
        kind=kind,
        terms=entry(name).terms if name in BUILDERS else "see the publisher",
        columns=columns_of(first.features),
        splits={
            split: {"rows": len(rows), "image_bytes": sum(map(stored_bytes, encoded_images(rows)))}
            for split, rows in splits.items()
        },
        samples=[shown(row) for row in first.select(range(min(samples, len(first))))],
        findings=findings.listed() if findings is not None else [],
        counts=counts,
        warnings=warnings_of(splits, kind, counts) if counts else [],
    )


def finding_lines(findings: Iterable[Mapping[str, Any]], places: int) -> Iterator[str]:
    """What was skipped, changed or is suspicious, as `stmine data describe` and training print it.

    Args:
        findings: of `Findings.listed`.
        places: shown of each reason.
    """
    for one in findings:
        yield f"{one['fate']}: {one['count']:,} x {one['reason']}"
        for place in one["places"][:places]:
            yield f"    {place}"
        if one["count"] > places:
            yield f"    ... and {one['count'] - places:,} more (`stmine data describe --findings FILE` lists them)"


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


def plain_sample(row: Mapping[str, Any], description: Description) -> dict[str, Any]:
    """A row of `samples` as a person reads it: labels by name, without what it does not have and without weights."""
    holds = description.columns.get("label", "").partition(": ")[2].split(", ")
    found = {name: value for name, value in row.items() if name != "caption_weights" and value not in (None, "")}
    for name in ("label", "group"):
        if found.get(name) == -1:
            del found[name]
    if isinstance(found.get("label"), int) and found["label"] < len(holds) and "..." not in holds:
        found["label"] = holds[found["label"]]
    return found


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as text can show it: of an image its size."""
    image = row.get("image")
    return {**row, **({"image": f"{image.width} x {image.height}"} if image is not None else {})}

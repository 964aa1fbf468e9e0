"""Cards of the data sets that this package reads: what they are, under which terms, how to load them. No data.

What the builders know (layout, classes, sizes, options, origin, citation) is taken from them; the rest stands in
`templates/data/sets.yaml`.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCardData

from ..data import _BUILDER_CONFIG_FIELDS, BUILDERS, KINDS
from ..data.boxed_images import category_label
from ..hub.repository import CARD
from .rendering import TEMPLATES, render

_TASKS = {
    "captions": ["image-to-text", "text-retrieval"],
    "posts": ["text-classification", "image-classification"],
    "boxes": ["object-detection"],
}


def described_sets() -> list[str]:
    """Names of the sets that have a card."""
    return list(_about())


def write_data_card(name: str, folder: Path) -> None:
    """Write the card of a data set.

    Args:
        name: of the set, one of `described_sets`.
        folder: made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).write_text(data_card(name), encoding="utf-8")


def data_card(name: str) -> str:
    """The text of a data set's card."""
    about, script = _about()[name], BUILDERS[name][0]
    module = import_module(f"...data.{script}", __name__)
    builder = getattr(module, BUILDERS[name][1])
    kind = next(kind for kind, names in KINDS.items() if name in names)
    drawn = name.startswith("toy_")
    official = getattr(builder, "OFFICIAL_SIZES", None)
    sizes = about.get("sizes") or (dict(zip(("train", "val", "test"), official, strict=True)) if official else {})
    header = DatasetCardData(
        pretty_name=getattr(builder, "TITLE", name) if not drawn else name,
        license="apache-2.0" if drawn else "unknown",
        language=about.get("language", "en"),
        task_categories=_TASKS[kind],
        size_categories=_size_category(sum(sizes.values())) if sizes else None,
        tags=["stmine-hf", kind, *(["synthetic"] if drawn else [])],
    )
    title, _, summary = (inspect.getdoc(module) or "").splitlines()[0].partition(": ")
    known = [field.name for field in fields(builder.BUILDER_CONFIG_CLASS)]
    return render(
        "data/card.md",
        header,
        name=name,
        title=title,
        summary=summary,
        details=[part.replace("\n", " ") for part in (inspect.getdoc(builder) or "").split("\n\n")],
        kind=kind,
        drawn=drawn,
        about=about,
        sizes=sizes,
        classes=_classes(module, builder, drawn),
        options=[option for option in known if option not in _BUILDER_CONFIG_FIELDS],
        source=getattr(builder, "SOURCE", None),
        citation=getattr(builder, "CITATION", "").strip(),
    )


@cache
def _about() -> dict[str, dict[str, Any]]:
    return yaml.safe_load((TEMPLATES / "data" / "sets.yaml").read_text(encoding="utf-8"))


def _classes(module: Any, builder: Any, drawn: bool) -> dict[str, list[str]]:
    """Names of classes or labels, by the option that chooses them ("" where there is one list)."""
    if drawn:  # these need no files to tell
        features = builder().info.features
        return {"": features["label"].names if "label" in features else category_label(features).names}
    labels = getattr(builder, "CLASSES", None) or getattr(builder, "LABELS", None) or getattr(module, "LABELS", ())
    if isinstance(labels, dict):
        return {option: list(names) for option, names in labels.items()}
    return {"": list(labels)} if labels else {}


def _size_category(rows: int) -> str:
    bounds = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}
    return next(label for bound, label in bounds.items() if rows < bound)

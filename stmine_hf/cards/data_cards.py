"""Cards of the data sets that this package reads: what they are, under which terms, how to load them. No data.

All that a card says of a set (layout, classes, sizes, options, origin, terms, citation) is taken from its builder.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData

from ..data import BUILDERS, TASKS, builder_class, builder_options, kind_of
from ..data.boxed_images import category_label
from ..hub.repository import CARD
from .rendering import render


def described_sets() -> list[str]:
    """Names of the sets that have a card."""
    return [name for name in BUILDERS if hasattr(builder_class(name), "ABOUT")]


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
    builder, kind = builder_class(name), kind_of(name)
    module = inspect.getmodule(builder)
    about = builder.ABOUT  # type: ignore[attr-defined]
    drawn = name.startswith("toy_")
    official = getattr(builder, "OFFICIAL_SIZES", None)
    sizes = dict(about.sizes) or (dict(zip(("train", "val", "test"), official, strict=True)) if official else {})
    header = DatasetCardData(
        pretty_name=getattr(builder, "TITLE", name) if not drawn else name,
        license="apache-2.0" if drawn else "unknown",
        language=about.language,
        task_categories=list(TASKS[kind]),
        size_categories=_size_category(sum(sizes.values())) if sizes else None,
        tags=["stmine-hf", kind, *(["synthetic"] if drawn else [])],
    )
    title, _, summary = (inspect.getdoc(module) or "").splitlines()[0].partition(": ")
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
        options=builder_options(builder),
        source=getattr(builder, "SOURCE", None),
        citation=getattr(builder, "CITATION", "").strip(),
    )


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

"""Cards of the data sets that this package reads: what they are, under which terms, how to load them; no data.

All that a card says of a set (layout, classes, sizes, options, origin, terms, citation) is taken from its builder.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from huggingface_hub import DatasetCardData

from ..data import BUILDERS, TASKS, builder_class, builder_options, kind_of
from ..data.boxed_images import category_label
from ..data.description import Description, entry
from .rendering import Card, size_category

if TYPE_CHECKING:
    import datasets

ROWS = {
    "captions": "A row is an image with its captions.",
    "posts": "A row is a post: text, an image or none, and a label.",
    "boxes": "A row is an image with its boxes, x, y, width, height in pixels.",
}


def described_sets() -> list[str]:
    """Names of the sets that have a card."""
    return [name for name in BUILDERS if hasattr(builder_class(name), "ABOUT")]


def data_card(name: str) -> Card:
    """The card of a data set, one of `described_sets`."""
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
        size_categories=size_category(sum(sizes.values())) if sizes else None,
        tags=["stmine-hf", kind, *(["synthetic"] if drawn else [])],
    )
    title, _, summary = (inspect.getdoc(module) or "").splitlines()[0].partition(": ")
    facts = dict(
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
    return Card("data/card.md", header, facts)


def export_card(
    name: str, splits: datasets.DatasetDict, files: dict[str, int], description: Description, license: str | None
) -> Card:
    """The card of an exported data set, with its Parquet files and features.

    Args:
        name: of the data set.
        splits: its rows.
        files: the Parquet files with their bytes.
        description: of the rows.
        license: of the repository, by the Hub's id; None: the card says whose terms hold.
    """
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict

    known = entry(name) if name in BUILDERS else None
    first = next(iter(splits.values()))
    sizes = {
        split: SplitInfo(
            split, sum(size for file, size in files.items() if file.startswith(f"data/{split}-")), len(rows)
        )
        for split, rows in splits.items()
    }
    total = sum(files.values())
    info = DatasetInfo(features=first.features, splits=SplitDict(sizes), download_size=total, dataset_size=total)
    title = Path(name).name if Path(name).exists() else name
    header = DatasetCardData(
        pretty_name=title,
        license=license,
        task_categories=list(TASKS[description.kind]),
        size_categories=size_category(sum(numbers["rows"] for numbers in description.splits.values())),
        tags=["stmine-hf"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*"} for split in splits],
            }
        ],
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(header)
    facts = dict(
        name=title,
        about=known.about if known else "A data set.",
        form=ROWS[description.kind],
        splits=description.splits,
        columns=description.columns,
        source=known.source if known else "",
        terms=description.terms,
        license=license,
        citation=first.info.citation,
    )
    return Card("dataset.md", header, facts)


def _classes(module: ModuleType | None, builder: type, drawn: bool) -> dict[str, list[str]]:
    """Names of classes or labels, by the option that chooses them ("" where there is one list)."""
    if drawn:  # these need no files to list their classes
        features = builder().info.features
        return {"": features["label"].names if "label" in features else category_label(features).names}
    labels = getattr(builder, "CLASSES", None) or getattr(builder, "LABELS", None) or getattr(module, "LABELS", ())
    if isinstance(labels, dict):
        return {option: list(names) for option, names in labels.items()}
    return {"": list(labels)} if labels else {}

"""What the evaluations of the three methods share: rows read safely, names and versions, files written one way."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from PIL import Image

from ..errors import StmineError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PACKAGES = ("stmine-hf", "torch", "transformers", "datasets", "numpy", "pillow")


class EvaluationError(StmineError):
    """A data set on which nothing can be measured."""


def undecoded(dataset: Any) -> Any:
    """The rows with images still encoded: a broken one is then an error of its row, not of the iterator."""
    if isinstance((getattr(dataset, "features", None) or {}).get("image"), datasets.Image):
        return dataset.cast_column("image", datasets.Image(decode=False))
    return dataset


def decode_image(image: Any) -> Image.Image:
    """A PIL image, or `datasets`' encoded form of one, fully read. Call it under `picture_errors()`."""
    if isinstance(image, Mapping):
        image = datasets.Image().decode_example(dict(image))
    image.load()
    return image


def dataset_names(dataset: Any) -> tuple[str | None, str | None]:
    """Name and split of a `datasets` object, each None where unknown."""
    info, split = getattr(dataset, "info", None), getattr(dataset, "split", None)
    name = getattr(info, "dataset_name", None) or getattr(info, "builder_name", None)
    return name, None if split is None else str(split)


def model_name(model: Any) -> str:
    """The Hub id, or the last part of a folder's path: a folder's place is nobody else's business."""
    name = getattr(model, "name_or_path", None) or type(model).__name__
    return Path(name).name if Path(name).exists() else name


def versions(*more: str) -> dict[str, str]:
    """Versions of Python, of the packages that every evaluation runs on, and of `more` packages."""
    found = {"python": platform.python_version()}
    for package in (*_PACKAGES, *more):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # e.g. run from a checkout
            continue
    return found


def write_json(path: str | Path, document: Mapping[str, Any]) -> None:
    """Write a document with one line for each of its entries: short, and a change shows where it is."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items()]
    Path(path).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def save_report(
    folder: str | Path, document: Mapping[str, Any], figures: Mapping[str, Callable[[], Figure]] | None = None
) -> None:
    """Write `results.json` and pictures into a folder, which is made if need be.

    Args:
        folder: where to.
        document: what `results.json` holds. It is written first.
        figures: file names with functions that draw them (these import matplotlib).

    Raises:
        StmineError: matplotlib is missing; `results.json` is there all the same.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", document)
    for name, draw in (figures or {}).items():
        try:
            figure = draw()
        except ImportError:
            raise StmineError(
                f"Wrote {folder / 'results.json'}, but the picture needs matplotlib: pip install 'stmine-hf[train]'"
            ) from None
        figure.savefig(folder / name, dpi=150)

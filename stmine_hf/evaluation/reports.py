"""What the evaluations of the three methods share: rows read safely, names and versions, files written one way."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import datasets
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from ..errors import StmineError
from ..images import ImageError, Skip, image_errors
from ..inference.batching import read_ahead

if TYPE_CHECKING:
    from matplotlib.figure import Figure

R = TypeVar("R")
_PACKAGES = ("stmine-hf", "torch", "transformers", "datasets", "numpy", "pillow")


class EvaluationError(StmineError):
    """A data set on which nothing can be measured."""


def undecoded(dataset: Any) -> Any:
    """The rows with images still encoded: a broken one is then an error of its row, not of the iterator."""
    if isinstance((getattr(dataset, "features", None) or {}).get("image"), datasets.Image):
        return dataset.cast_column("image", datasets.Image(decode=False))
    return dataset


def decode_image(image: Any) -> Image.Image:
    """A PIL image, or `datasets`' encoded form of one, fully read. Call it under `image_errors()`."""
    if isinstance(image, Mapping):
        image = datasets.Image().decode_example(dict(image))
    image.load()
    return image


def readable(
    rows: Any,
    load: Callable[[Mapping[str, Any], Image.Image, int], R],
    skipped: list[Skip],
    *,
    doing: str,
    progress: bool,
) -> Generator[R, None, None]:
    """What `load` makes of each row, in their order; images are read ahead in threads.

    Args:
        rows: with `image`: a `datasets.Dataset`, a stream, or any iterable.
        load: gets a row, its image (PIL) and its number; a ImageError skips the row, as bad images do.
        skipped: is told of the rows left out, by `filename` or number, and why.
        doing: beside the bar.
        progress: show a bar on stderr.
    """

    def attempt(item: tuple[int, Mapping[str, Any]]) -> R | Skip:
        number, row = item
        try:
            with image_errors():
                return load(row, decode_image(row["image"]), number)
        except ImageError as error:
            return Skip(row_name(row, number), str(error))

    encoded = undecoded(rows)
    total = len(encoded) if hasattr(encoded, "__len__") else None
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        task = bar.add_task(doing, total=total)
        with closing(read_ahead(attempt, enumerate(encoded), workers=2, ahead=16)) as loaded:
            for one in loaded:
                bar.advance(task)
                if isinstance(one, Skip):
                    skipped.append(one)
                else:
                    yield one


def row_name(row: Mapping[str, Any], number: int) -> str:
    """The image's file name, for messages."""
    return str(row.get("filename") or f"row {number}")


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


def fill_page(page: Path, name: str, text: str) -> None:
    """Put a table, or other text, between the two marks of this name on a Markdown page.

    Raises:
        StmineError: the page has no such marks.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    whole = page.read_text(encoding="utf-8") if page.is_file() else ""
    if start not in whole or end not in whole:
        raise StmineError(f"{page} has no place for the table: expected the lines {start.strip()!r} and {end!r}.")
    before, rest = whole.split(start, 1)
    page.write_text(before + start + text + "\n" + end + rest.split(end, 1)[1], encoding="utf-8")


def save_report(
    folder: str | Path, document: Mapping[str, Any], figures: Mapping[str, Callable[[], Figure]] | None = None
) -> None:
    """Write `results.json` and images into a folder, which is made if need be.

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
                f"Wrote {folder / 'results.json'}, but the image needs matplotlib: pip install 'stmine-hf[train]'"
            ) from None
        figure.savefig(folder / name, dpi=150)

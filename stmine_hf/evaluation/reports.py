"""Shared by the evaluations: read rows safely, names and versions, write files."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sized
from contextlib import closing
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import datasets
from PIL import Image

from ..errors import StmineError
from ..files import write_entries
from ..images import ImageError, PixelOptions, Skip, decode_image, image_errors
from ..inference.batching import read_ahead
from ..inference.progress import ProgressBar
from ..outputs import Outputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["EvaluationError", "fill_page", "undecoded", "versions"]

R = TypeVar("R")
Rows = TypeVar("Rows", bound=Iterable[Mapping[str, Any]])
MISSES = "worst_misses.png"  # of a report: images of the set, so it stays where it was written
_PACKAGES = ("stmine-hf", "torch", "transformers", "datasets", "numpy", "pillow")


class EvaluationError(StmineError):
    """A data set on which nothing can be measured."""


def undecoded(dataset: Rows) -> Rows:
    """Rows with images still encoded: a broken image is then an error of its row, not of the iterator."""
    if isinstance((getattr(dataset, "features", None) or {}).get("image"), datasets.Image):
        return dataset.cast_column("image", datasets.Image(decode=False))  # type: ignore[attr-defined]
    return dataset


def readable(
    rows: Iterable[Mapping[str, Any]],
    load: Callable[[Mapping[str, Any], Image.Image, int], R],
    skipped: list[Skip],
    *,
    doing: str,
    progress: bool,
    pixels: PixelOptions | None = None,
) -> Generator[R, None, None]:
    """Yield `load` of each row, in order; images are read ahead in threads.

    Args:
        rows: with `image`: a `datasets.Dataset`, a stream, or any iterable.
        load: called with a row, its image (PIL) and its number; an ImageError skips the row, as bad images do.
        skipped: skipped rows are added here, by `filename` or number, with the reason.
        doing: beside the bar.
        progress: show a bar on stderr.
        pixels: what becomes of images of more than 8 bits or three bands.
    """
    options = pixels or PixelOptions()

    def attempt(item: tuple[int, Mapping[str, Any]]) -> R | Skip:
        number, row = item
        try:
            with image_errors():
                return load(row, decode_image(row["image"], options), number)
        except ImageError as error:
            return Skip(row_name(row, number), str(error))

    encoded = undecoded(rows)
    total = len(encoded) if isinstance(encoded, Sized) else None
    with (
        ProgressBar(doing, total, shown=progress) as bar,
        closing(read_ahead(attempt, enumerate(encoded), workers=2, ahead=16)) as loaded,
    ):
        for one in loaded:
            bar.advance()
            if isinstance(one, Skip):
                skipped.append(one)
            else:
                yield one


def pixel_settings(pixels: PixelOptions | None) -> dict[str, Any] | None:
    """How images were read, for a report: None for the default."""
    return None if pixels in (None, PixelOptions()) else pixels.document()  # type: ignore[union-attr]


def row_name(row: Mapping[str, Any], number: int) -> str:
    """The image's file name, for messages."""
    return str(row.get("filename") or f"row {number}")


def dataset_names(dataset: object) -> tuple[str | None, str | None]:
    """Name and split of a `datasets` object, each None where unknown."""
    info, split = getattr(dataset, "info", None), getattr(dataset, "split", None)
    name = getattr(info, "dataset_name", None) or getattr(info, "builder_name", None)
    return name, None if split is None else str(split)


def model_name(model: object) -> str:
    """The Hub id, or the last part of a folder's path, since the rest is private."""
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


# Names in results written by version 0.1, and their present ones.
_PRESENT_KEYS = {"pictures_unreadable": "images_unreadable", "pictures": "images", "train_pictures": "train_images"}


def with_present_names(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of results (`results.json`) with present names for those of version 0.1."""
    renamed = {}
    for key, value in document.items():
        name = _PRESENT_KEYS.get(key, re.sub(r"^(eval_)?honest_", r"\1same_text_", key))
        renamed[name] = with_present_names(value) if isinstance(value, Mapping) else value
    return renamed


def fill_page(page: Path, name: str, text: str) -> None:
    """Put a table or other text between the two marks of this name on a Markdown page.

    Raises:
        StmineError: the page has no such marks.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    whole = page.read_text(encoding="utf-8") if page.is_file() else ""
    if start not in whole or end not in whole:
        raise StmineError(f"{page} has no place for the table: expected the lines {start.strip()!r} and {end!r}.")
    before, rest = whole.split(start, 1)
    page.write_text(before + start + text + "\n" + end + rest.split(end, 1)[1], encoding="utf-8")


def finish_curve(
    axes: Axes, title: str, *, legend: Literal["upper left", "upper right", "lower left", "lower right"]
) -> None:
    """Finish a plot of curves: a title on the left, a pale grid, no frame above and right, a legend in a corner.

    Args:
        axes: with its curves.
        title: above them.
        legend: its corner, such as "upper left".
    """
    axes.set_title(title, fontsize="medium", loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small", loc=legend)


def save_report(
    outputs: Outputs,
    document: Mapping[str, Any],
    figures: Mapping[str, Callable[[], Figure]] | None = None,
    *,
    prefix: str = "",
) -> None:
    """Write `results.json` and images.

    Args:
        outputs: the output folder.
        document: what `results.json` holds. It is written first.
        figures: file names with functions that draw them (these import matplotlib).
        prefix: of all names, such as "results/test/".

    Raises:
        OutputError: a file is there that this package did not write.
        StmineError: matplotlib is missing; `results.json` is written nevertheless.
    """
    results = outputs.write(f"{prefix}results.json", lambda path: write_entries(path, document))
    for name, draw in (figures or {}).items():
        try:
            figure = draw()
        except ImportError:
            raise StmineError(
                f"Wrote {results}, but the image needs matplotlib: pip install 'stmine-hf[train]'"
            ) from None
        outputs.write(prefix + name, partial(figure.savefig, dpi=150))

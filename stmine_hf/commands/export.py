"""`stmine export ...`: a model for another runtime, checked against PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..errors import StmineError
from ..export import FORMAT_NAMES, MANIFEST
from ..methods import FISVL, MTTV, SAT
from ..outputs import Outputs
from ..printing import say
from .methods import fisvl, mttv
from .methods.sat import ModelOption
from .terminal import JsonOption, print_json, prints_only_json, require_folder, stmine_command

if TYPE_CHECKING:
    from ..export.parts import PartsReport

CHECKED_IMAGES = 128  # enough for the ranges of activations, half a minute of work

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="Write a model for another runtime, checked against PyTorch.")


@app.command(
    "sat",
    epilog="""[bold]Examples[/bold]

  stmine export sat --format onnx --out sat.onnx.d

  stmine export sat --format ncnn --size 320 --out sat.ncnn.d

  stmine export sat --format int8 --images my_images --out sat.int8.d

  stmine export sat --format int8 --out sat.int8.d --dataset coco_json --data-dir data/coco   # on its train images

`stmine detect --model` and `stmine evaluate sat --model` take the folder as a model.""",
)
def export_sat(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    format: Annotated[
        str,
        typer.Option(
            help="onnx (any size), ncnn (phones; one size), int8 (ONNX, 8-bit convolutions) or openvino (any size)."
        ),
    ] = "onnx",
    model: ModelOption = None,
    size: Annotated[
        int, typer.Option(help="Height and width of ncnn's input and of the check, a multiple of 32.")
    ] = 320,
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images to check with; int8 measures its ranges on them. Default for int8: images of "
            "the data set's split train."
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Also score PyTorch and the export on this data set, as `stmine evaluate sat` does."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of that data set.")] = None,
    split: Annotated[str, typer.Option(help="Its split.")] = "val",
    as_json: JsonOption = False,
) -> None:
    """Write a detector for another runtime, and print how much it differs from PyTorch.

    Its README.md has code that uses it without this package. Boxes are given before non-maximum suppression (NMS):
    `stmine detect` and the saved image processor apply it.
    """
    from ..data.paths import require_dataset
    from ..images import find_images
    from ..loading import load_sat, require_model

    _require_own_folder(out)
    require_model(model, method=SAT)
    if format not in FORMAT_NAMES:
        raise typer.BadParameter(f"--format: expected one of {', '.join(FORMAT_NAMES)}, found {format!r}")
    if size < 32 or size % 32:
        raise typer.BadParameter(f"--size: expected a multiple of 32, found {size}")
    if images is not None and (not images.is_dir() or next(find_images(images), None) is None):
        raise StmineError(f"{images}: expected a folder with images to check with, found none that can be read.")
    if dataset is not None:
        require_dataset(dataset, data_dir)
    elif format == "int8" and images is None:
        raise typer.BadParameter("--format int8 measures its ranges on images: give --images or --dataset")
    from ..export.sat import export_sat, open_exported

    with prints_only_json(as_json):
        network, processor = load_sat(model, device="cpu")
        shown: list[Any] = []
        if images:
            shown = _images(images, size)
        elif dataset and format == "int8":
            shown = _train_images(dataset, data_dir)
        report = export_sat(network, processor, out, format=format, size=size, images=shown)
        document: dict[str, Any] = {**asdict(report), "folder": str(out)}
        if dataset:
            scores = {"pytorch": (network, processor), format: open_exported(out)}
            document["ap"] = {
                name: _average_precision(*pair, dataset, data_dir, split, not as_json) for name, pair in scores.items()
            }
    if as_json:
        print_json(document)
        return
    say(f"Written: {out} ({report.file_bytes:,} bytes, {format})")
    say(
        f"Against PyTorch on {report.inputs} input(s): class probabilities differ by at most "
        f"{report.score_difference:.2g}; the mean difference of those above 0.3 is {report.confident_difference:.2g}; "
        f"box sides differ by at most {report.box_difference:.2g} pixels"
    )
    for name, value in document.get("ap", {}).items():
        say(f"AP on {dataset} {split}, {name}: {value:.4f}")
    say(f"Next: {stmine_command()} detect IMAGES --model {out} --out found")


@app.command(
    "fisvl",
    epilog="""[bold]Examples[/bold]

  stmine export fisvl --out fisvl-onnx""",
)
def export_fisvl(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    format: Annotated[str, typer.Option(help="onnx: any number of rows, sentences of any length.")] = "onnx",
    model: fisvl.ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the image tower and the text tower as ONNX files, and print how much they differ from PyTorch.

    Its README.md has code that embeds images and sentences without this package.
    """
    from ..loading import load_fisvl, require_model

    _require_own_folder(out)
    require_model(model, method=FISVL)
    _require_onnx(format)
    from ..export.fisvl import export_fisvl

    with prints_only_json(as_json):
        report = export_fisvl(*load_fisvl(model, device="cpu"), out)
    _show_parts(report, out, as_json)


@app.command(
    "mttv",
    epilog="""[bold]Examples[/bold]

  stmine export mttv --out mttv-onnx""",
)
def export_mttv(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    format: Annotated[str, typer.Option(help="onnx: any number of posts, texts of any length.")] = "onnx",
    model: mttv.ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a classifier of posts as an ONNX file, and print how much it differs from PyTorch.

    Its README.md has code that classifies posts without this package.
    """
    from ..loading import load_mttv, require_model

    _require_own_folder(out)
    require_model(model, method=MTTV)
    _require_onnx(format)
    from ..export.mttv import export_mttv

    with prints_only_json(as_json):
        report = export_mttv(*load_mttv(model, device="cpu"), out)
    _show_parts(report, out, as_json)


def _require_own_folder(out: Path) -> None:
    """Check, before the model is loaded, that `out` is new, empty, or an earlier export."""
    require_folder(out)
    if out.is_dir():
        with Outputs(out) as outputs:
            outputs.require_own_folder(MANIFEST)


def _require_onnx(format: str) -> None:
    if format != "onnx":
        raise typer.BadParameter(f"--format: expected onnx, found {format!r}")


def _show_parts(report: PartsReport, out: Path, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(report), "folder": str(out)})
        return
    for file, difference in report.differences.items():
        say(
            f"Written: {out / file} ({report.file_bytes[file]:,} bytes); differs from PyTorch by at most "
            f"{difference:.2g} on {report.inputs} inputs"
        )
    say(f"Next: read {out / 'README.md'}: how to use it without this package")


def _images(folder: Path, size: int) -> list[Any]:
    """Readable images spread over a folder, `CHECKED_IMAGES` at most."""
    from ..images import ImageError, find_images, open_image

    found = []
    for file in _spread(list(find_images(folder))):
        try:
            found.append(open_image(folder / file.path, size))
        except ImageError:
            continue
    if not found:
        raise StmineError(f"{folder}: expected images to check with, found none that can be read.")
    return found


def _train_images(dataset: str, data_dir: Path | None) -> list[Any]:
    """Readable images spread over a data set's split train: images that are scored must not set the ranges."""
    from .. import load_dataset
    from ..evaluation.reports import readable

    rows = load_dataset(dataset, data_dir=data_dir, split="train")
    chosen = rows.select(_spread(range(len(rows))))
    found = list(readable(chosen, lambda row, image, number: image, [], doing="Reading images", progress=False))
    if not found:
        raise StmineError(f"{dataset}: expected images that can be read in its split train, found none.")
    return found


def _spread(items: Sequence[T]) -> list[T]:
    """`CHECKED_IMAGES` at most, evenly over the whole: data sets often stand in order of their origins."""
    step = max(1.0, len(items) / CHECKED_IMAGES)
    return [items[int(number * step)] for number in range(min(len(items), CHECKED_IMAGES))]


def _average_precision(
    model: Any, processor: Any, dataset: str, data_dir: Path | None, split: str, progress: bool
) -> float:
    from .. import load_dataset
    from ..evaluation.detection import evaluate_detection

    rows = load_dataset(dataset, data_dir=data_dir, split=split)
    return evaluate_detection(model, processor, rows, progress=progress).metrics["ap"]

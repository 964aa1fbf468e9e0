"""`stmine export ...`: a model for another runtime, checked against PyTorch."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..errors import StmineError
from ..export import FORMAT_NAMES, PART_FORMAT_NAMES
from ..inference.exported import MANIFEST
from ..methods import FISVL, MTTV, SAT, Method
from ..outputs import Outputs
from ..printing import say
from .methods import fisvl, mttv
from .methods.sat import ModelOption
from .terminal import (
    BuilderOption,
    JsonOption,
    builder_options,
    print_json,
    prints_only_json,
    require_folder,
    say_next,
)

if TYPE_CHECKING:
    from ..export.parts import PartsReport

CHECKED_IMAGES = 128  # enough for the ranges of activations, half a minute of work

T = TypeVar("T")

ImagesOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of images to check with; int8 measures its ranges on them. Default for int8: images of the data "
        "set's split train."
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(help="Also score PyTorch and the export on this data set, as `stmine evaluate` does."),
]
DataDirOption = Annotated[Path | None, typer.Option(help="Folder of that data set.")]
SplitOption = Annotated[str, typer.Option(help="Its split.")]
PartFormatOption = Annotated[
    str,
    typer.Option(
        help="onnx, fp16 (ONNX, 16-bit floats), int8 (ONNX, 8-bit integers) or openvino; any number of rows, texts of "
        "any length."
    ),
]

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
            help="onnx (any size), ncnn (phones; one size), int8 (ONNX, 8-bit convolutions), openvino (any size) or "
            "fp16 (ONNX, 16-bit floats)."
        ),
    ] = "onnx",
    model: ModelOption = None,
    size: Annotated[
        int, typer.Option(help="Height and width of ncnn's input and of the check, a multiple of 32.")
    ] = 320,
    nms: Annotated[
        bool,
        typer.Option("--nms", help="Put the non-maximum suppression (NMS) into the network; not for ncnn."),
    ] = False,
    images: ImagesOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    split: SplitOption = "val",
    option: BuilderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a detector for another runtime, and print how much it differs from PyTorch.

    Its README.md has code that uses it without this package. Boxes are given before non-maximum suppression (NMS),
    which `stmine detect` and the saved image processor apply; with --nms also after it.
    """
    if size < 32 or size % 32:
        raise typer.BadParameter(f"--size: expected a multiple of 32, found {size}")
    _check(SAT, out, model, format, FORMAT_NAMES, images, dataset, data_dir)
    from ..export.sat import export_sat

    with prints_only_json(as_json):
        data = _Data(SAT, dataset, data_dir, split, builder_options(option))
        network, processor = _loaded(SAT, model)
        shown = data.to_check_with(images, size, format)
        report = export_sat(network, processor, out, format=format, size=size, images=shown, nms=nms)
        document: dict[str, Any] = {**asdict(report), "folder": str(out)}
        document |= data.scores(network, processor, out, format, progress=not as_json)
    if as_json:
        print_json(document)
        return
    say(f"Written: {out} ({report.file_bytes:,} bytes, {format})")
    say(
        f"Against PyTorch on {report.inputs} inputs: class probabilities differ by at most "
        f"{report.score_difference:.2g}; the mean difference of those above 0.3 is {report.confident_difference:.2g}; "
        f"box sides differ by at most {report.box_difference:.2g} pixels"
    )
    data.show(document)
    _say_next("stmine detect and stmine evaluate sat take", out, images, ["detect"])


@app.command(
    "fisvl",
    epilog="""[bold]Examples[/bold]

  stmine export fisvl --out fisvl-onnx

  stmine export fisvl --tower image --format openvino --out image-tower

  stmine export fisvl --format int8 --out fisvl-int8 --dataset rsicd --data-dir data/rsicd   # ranges on train images

`stmine index`, `stmine search` and `stmine evaluate fisvl` take the folder as a model.""",
)
def export_fisvl(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    format: PartFormatOption = "onnx",
    model: fisvl.ModelOption = None,
    tower: Annotated[
        str, typer.Option(help="both, image (enough to index and to search by images) or text (to search).")
    ] = "both",
    images: ImagesOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    split: SplitOption = "val",
    option: BuilderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the image tower and the text tower for another runtime, and print how much they differ from PyTorch.

    Its README.md has code that embeds images and sentences without this package.
    """
    _check(FISVL, out, model, format, PART_FORMAT_NAMES, images, dataset, data_dir, converts_images=tower != "text")
    if tower not in ("both", "image", "text"):
        raise typer.BadParameter(f"--tower: expected both, image or text, found {tower!r}")
    if tower != "both" and dataset and format != "int8":
        raise typer.BadParameter("--dataset scores both towers: omit --tower")
    from ..export.fisvl import export_fisvl

    def write(network: Any, processor: Any, shown: Sequence[Any]) -> PartsReport:
        return export_fisvl(network, processor, out, format=format, tower=tower, images=shown)

    data = _Data(FISVL, dataset, data_dir, split, builder_options(option), scored=tower == "both")
    users = {
        "both": "stmine index and stmine evaluate fisvl take",
        "image": "stmine index takes",
        "text": "stmine search takes",
    }
    shown = None if tower == "text" else ["index", "--out", f"{out.absolute().name}.index"]
    _export_parts(data, model, out, format, images, write, as_json, users[tower], shown)


@app.command(
    "mttv",
    epilog="""[bold]Examples[/bold]

  stmine export mttv --out mttv-onnx

  stmine export mttv --format int8 --out mttv-int8 --dataset weibo --data-dir data/weibo --option validation=events

`stmine classify` and `stmine evaluate mttv` take the folder as a model.""",
)
def export_mttv(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    format: PartFormatOption = "onnx",
    model: mttv.ModelOption = None,
    images: ImagesOption = None,
    dataset: DatasetOption = None,
    data_dir: DataDirOption = None,
    split: SplitOption = "val",
    option: BuilderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a classifier of posts for another runtime, and print how much it differs from PyTorch.

    Its README.md has code that classifies posts without this package.
    """
    _check(MTTV, out, model, format, PART_FORMAT_NAMES, images, dataset, data_dir)
    from ..export.mttv import export_mttv

    def write(network: Any, processor: Any, shown: Sequence[Any]) -> PartsReport:
        return export_mttv(network, processor, out, format=format, images=shown)

    data = _Data(MTTV, dataset, data_dir, split, builder_options(option))
    users = "stmine classify and stmine evaluate mttv take"
    _export_parts(data, model, out, format, images, write, as_json, users, None)


def _check(
    method: Method,
    out: Path,
    model: str | None,
    format: str,
    formats: Sequence[str],
    images: Path | None,
    dataset: str | None,
    data_dir: Path | None,
    *,
    converts_images: bool = True,
) -> None:
    """Check the options before the model is loaded.

    Raises:
        StmineError: a file or folder that cannot be used.
        typer.BadParameter: options that cannot be used.
    """
    from ..data.paths import require_dataset
    from ..images import find_images
    from ..loading import require_model

    require_folder(out)
    if out.is_dir():
        with Outputs(out) as outputs:
            outputs.require_own_folder(MANIFEST)
    require_model(model, method=method)
    if format not in formats:
        raise typer.BadParameter(f"--format: expected one of {', '.join(formats)}, found {format!r}")
    if images is not None and (not images.is_dir() or next(find_images(images), None) is None):
        raise StmineError(f"{images}: expected a folder with images to check with, found none that can be read.")
    if dataset is not None:
        require_dataset(dataset, data_dir)
    elif format == "int8" and images is None and converts_images:
        raise typer.BadParameter("--format int8 measures its ranges on images: give --images or --dataset")


def _loaded(method: Method, model: str | None) -> tuple[Any, Any]:
    """
    Raises:
        StmineError: the model is an export already, or cannot be loaded.
    """
    from ..loading import load_model, resolve

    if model is not None and method.is_exported(resolve(model)):
        raise StmineError(f"{model} is an export already: give the model that it was made from.")
    return load_model(method, model, device="cpu")


def _export_parts(
    data: _Data,
    model: str | None,
    out: Path,
    format: str,
    images: Path | None,
    write: Callable[[Any, Any, Sequence[Any]], PartsReport],
    as_json: bool,
    users: str,
    on_images: list[str] | None,
) -> None:
    with prints_only_json(as_json):
        network, processor = _loaded(data.method, model)
        side = max(dict(processor.image_processor.size).values())
        report = write(network, processor, data.to_check_with(images, side, format))
        document: dict[str, Any] = {**asdict(report), "folder": str(out)}
        document |= data.scores(network, processor, out, format, progress=not as_json)
    if as_json:
        print_json(document)
        return
    for file, difference in report.differences.items():
        say(
            f"Written: {out / file} ({report.file_bytes[file]:,} bytes); output values differ from PyTorch's by at "
            f"most {difference:.2g}, answers by {report.answer_differences[file]:.2g}, on {report.inputs} inputs"
        )
    for file in report.float_convolutions:
        say(f"{out / file}: its convolutions stay in 32-bit floats, since 8-bit integers would lose too much")
    data.show(document)
    _say_next(users, out, images, on_images)


def _say_next(users: str, out: Path, images: Path | None, on_images: list[str] | None) -> None:
    """What uses the export: a command for the folder of images that it was checked with, or else in words.

    Args:
        users: commands that take it as a model.
        on_images: one of them without its images; None: none takes images alone.
    """
    if images is not None and on_images is not None:
        say_next([on_images[0], str(images), *on_images[1:], "--model", str(out)])
    else:
        say(f"Next: {users} it as a model (--model {shlex.quote(str(out))}).")
    say(f"{out / 'README.md'} has code that runs it without this package.")


class _Data:
    """The data set that an export is scored on, whose train images set the ranges of integers."""

    def __init__(
        self,
        method: Method,
        dataset: str | None,
        data_dir: Path | None,
        split: str,
        options: dict[str, Any],
        *,
        scored: bool = True,
    ) -> None:
        self.method, self._dataset, self._split, self._scored = method, dataset, split, scored
        self._options = {"data_dir": data_dir, **options}
        self._metric = next(iter(method.metrics))

    def to_check_with(self, images: Path | None, side: int, format: str) -> list[Any]:
        """Images of the folder; without one, for int8, of the data set's split train."""
        if images:
            return _images(images, side)
        return self._train_images() if self._dataset and format == "int8" else []

    def scores(self, network: Any, processor: Any, out: Path, format: str, *, progress: bool) -> dict[str, Any]:
        """The metric of the task before and after, and what was lost; {} without a data set."""
        if not self._dataset or not self._scored:
            return {}
        from .. import load_dataset

        rows = load_dataset(self._dataset, kind=self.method.rows, split=self._split, **self._options)
        models = {"pytorch": (network, processor), format: self.method.open_exported(out)}
        found = {
            name: self.method.evaluate(*pair, rows, progress=progress).metrics[self._metric]
            for name, pair in models.items()
        }
        return {self._metric: found, "loss": found["pytorch"] - found[format]}

    def show(self, document: dict[str, Any]) -> None:
        """Print what `scores` has found."""
        title = self.method.metrics[self._metric]
        for name, value in document.get(self._metric, {}).items():
            say(f"{title} on {self._dataset} {self._split}, {name}: {value:.4f}")
        if "loss" in document:
            say(f"Lost: {document['loss']:+.4f}")

    def _train_images(self) -> list[Any]:
        """Readable images spread over the split train: images that are scored must not set the ranges."""
        from .. import load_dataset
        from ..evaluation.reports import readable, undecoded

        rows = load_dataset(str(self._dataset), kind=self.method.rows, split="train", **self._options)
        chosen = [row for row in undecoded(rows.select(_spread(range(len(rows))))) if row["image"] is not None]
        found = list(readable(chosen, lambda row, image, number: image, [], doing="Reading images", progress=False))
        if not found:
            raise StmineError(f"{self._dataset}: expected images that can be read in its split train, found none.")
        return found


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


def _spread(items: Sequence[T]) -> list[T]:
    """`CHECKED_IMAGES` at most, evenly over the whole: data sets often stand in order of their origins."""
    step = max(1.0, len(items) / CHECKED_IMAGES)
    return [items[int(number * step)] for number in range(min(len(items), CHECKED_IMAGES))]

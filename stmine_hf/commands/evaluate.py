"""`stmine evaluate ...`: a model's scores by its paper's protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..data import one_of
from ..methods import FISVL, MTTV, SAT, Method
from .terminal import (
    BuilderOption,
    ColumnOption,
    DetectorOption,
    DeviceOption,
    EncodingOption,
    FindingsOption,
    FisvlOption,
    JsonOption,
    MttvOption,
    SatOption,
    StrictOption,
    builder_options,
    column_mapping,
    print_json,
    prints_only_json,
    reading_options,
    require_folder,
)

OWN = "Or your own: a CSV or JSONL file, a folder, a Hub id."
SplitOption = Annotated[str, typer.Option(help="train, val or test.")]

app = typer.Typer(no_args_is_help=True, help="Score a model with its paper's protocol.")


@app.command(
    FISVL.name,
    epilog="""[bold]Examples[/bold]

  stmine evaluate fisvl --dataset rsicd --data-dir data/rsicd --split val

  stmine evaluate fisvl --model my_model --dataset rsitmd --data-dir data/rsitmd --split test --out results

  stmine evaluate fisvl --dataset mine.csv --split train --column image=file --column captions=sentence""",
)
def evaluate_fisvl(
    dataset: Annotated[str, typer.Option(help=f"{one_of('captions')}. {OWN}")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the data set's files (toy_scenes needs none).")
    ] = None,
    split: SplitOption = "val",
    option: BuilderOption = None,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    findings: FindingsOption = None,
    strict: StrictOption = False,
    model: FisvlOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json and recall_curve.png.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images embedded at a time.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N images only: a quick look.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recall at 1, 5 and 10 in both directions, and their mean (mR), as the FISVL paper reports them.

    A second table counts a caption as right if its text equals one of the image's own captions.
    """
    _evaluate(
        FISVL,
        _Rows(dataset, data_dir, split, option, column, reading_options(encoding, findings, strict), limit),
        model,
        device,
        out,
        as_json,
        files=("results.json", "recall_curve.png"),
        options=lambda network: {"batch_size": batch_size},
    )


@app.command(
    MTTV.name,
    epilog="""[bold]Examples[/bold]

  stmine evaluate mttv --dataset weibo --data-dir data/weibo --split val --option validation=events

  stmine evaluate mttv --dataset fakeddit --data-dir data/fakeddit --split val --model my_model --out results

Choose among models by val; evaluate on test once, at the end.""",
)
def evaluate_mttv(
    dataset: Annotated[str, typer.Option(help=f"{one_of('posts')}. {OWN}")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the data set's files (toy_posts needs none).")
    ] = None,
    split: SplitOption = "val",
    option: BuilderOption = None,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    findings: FindingsOption = None,
    strict: StrictOption = False,
    model: MttvOption = None,
    detector: DetectorOption = None,
    features: Annotated[
        Path | None, typer.Option(help="Folder of `stmine features mttv`: read instead of the images.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.json, confusion_matrix.png and reliability.png.")
    ] = None,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="With --out: write every prediction to predictions.jsonl, too.")
    ] = False,
    bins: Annotated[int, typer.Option(min=1, help="Bins of the calibration error.")] = 15,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            help="Posts classified at a time: small batches are fastest on a CPU, try 64 on a GPU.",
        ),
    ] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N posts only: a quick look.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accuracy, macro F1, precision, recall and F1 of each label, and the calibration error (ECE).

    A post whose image cannot be read is classified by its text, and counted.
    """
    if predictions and out is None:
        raise typer.BadParameter("--predictions needs --out: the folder to write them to")
    if features is not None and detector is not None:
        raise typer.BadParameter("--features hold the regions already; leave --detector out")

    def options(network: Any) -> dict[str, Any]:
        from ..posts import FeatureStore
        from ..posts.detectors import load_detector

        store = None if features is None else FeatureStore.open(features)
        if store is not None:
            store.require(network.config)
        regions = None if detector is None else load_detector(detector, network.device, model=network)
        return {"batch_size": batch_size, "detector": regions, "features": store, "bins": bins}

    _evaluate(
        MTTV,
        _Rows(dataset, data_dir, split, option, column, reading_options(encoding, findings, strict), limit),
        model,
        device,
        out,
        as_json,
        files=("results.json", "confusion_matrix.png", "reliability.png", *["predictions.jsonl"] * predictions),
        options=options,
        saving={"predictions": predictions},
    )


@app.command(
    SAT.name,
    epilog="""[bold]Examples[/bold]

  stmine evaluate sat --dataset coco_json --data-dir data/coco --split val

  stmine evaluate sat --dataset indiscernible --data-dir data/indiscernible --option sources=CAMO --out results""",
)
def evaluate_sat(
    dataset: Annotated[str, typer.Option(help=f"{one_of('boxes')}. {OWN}")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the data set's files (toy_camouflage needs none).")
    ] = None,
    split: SplitOption = "val",
    option: BuilderOption = None,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    findings: FindingsOption = None,
    strict: StrictOption = False,
    model: SatOption = None,
    fit: Annotated[
        str | None, typer.Option(help="pad, letterbox or stretch images to the input. Default: as the model says.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results.json, detections.json, pr_curve.png and worst_misses.png."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images detected together, where their sizes agree.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N images only: a quick look.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """COCO's average precision: over all images, for each of their sources and for each class.

    Images that cannot be read are skipped and counted; a class without boxes is left out of the mean.
    """
    if fit not in (None, "pad", "letterbox", "stretch"):
        raise typer.BadParameter(f"--fit: expected pad, letterbox or stretch, found {fit!r}")
    _evaluate(
        SAT,
        _Rows(dataset, data_dir, split, option, column, reading_options(encoding, findings, strict), limit),
        model,
        device,
        out,
        as_json,
        files=("results.json", "detections.json", "pr_curve.png", "worst_misses.png"),
        options=lambda network: {"batch_size": batch_size, "fit": fit},
    )


class _Rows:
    """The rows that the options of a command name; wrong options are refused at once."""

    def __init__(
        self,
        dataset: str,
        data_dir: Path | None,
        split: str,
        option: list[str] | None,
        column: list[str] | None,
        reading: dict[str, Any],
        limit: int | None,
    ) -> None:
        self._dataset, self._limit = dataset, limit
        self._options = {
            "data_dir": data_dir,
            "split": split,
            "column_mapping": column_mapping(column),
            **builder_options(option),
            **reading,
        }

    def load(self, kind: str) -> Any:
        from .. import load_dataset

        rows = load_dataset(self._dataset, kind=kind, **self._options)
        return rows if self._limit is None else rows.select(range(min(self._limit, len(rows))))


def _evaluate(
    method: Method,
    rows: _Rows,
    model: str | None,
    device: str | None,
    out: Path | None,
    as_json: bool,
    *,
    files: Sequence[str],
    options: Callable[[Any], dict[str, Any]],
    saving: Mapping[str, Any] | None = None,
) -> None:
    """Evaluate a model, save and print the report.

    Args:
        method: whose model and evaluation.
        rows: to evaluate on.
        model: folder or Hub id.
        device: where the model runs.
        out: folder for the report.
        as_json: print the report as JSON.
        files: what the report may write into `out`.
        options: the loaded model -> options of the evaluation.
        saving: options of the report's `save`.
    """
    from ..loading import load_model

    require_folder(out)
    with prints_only_json(as_json):
        loaded = rows.load(method.rows)
        network, processor = load_model(method, model, device=device)
        report = method.evaluate(network, processor, loaded, progress=not as_json, **options(network))
        if out:
            report.save(out, **(saving or {}))
    if as_json:
        print_json(report.to_dict())
        return
    console = Console()
    console.print(report.table())
    if hasattr(report, "class_table"):
        console.print(report.class_table())
    if out:
        print(f"Written: {', '.join(str(out / name) for name in files if (out / name).exists())}")

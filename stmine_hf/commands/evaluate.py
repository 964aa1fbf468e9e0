"""`stmine evaluate ...`: a model's scores by its paper's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .terminal import (
    BuilderOption,
    ColumnOption,
    DetectorOption,
    DeviceOption,
    FisvlOption,
    JsonOption,
    MttvOption,
    SatOption,
    builder_options,
    column_mapping,
    print_json,
    prints_only_json,
    require_folder,
)

OWN = "Or your own: a CSV or JSONL file, a folder, a Hub id."

app = typer.Typer(no_args_is_help=True, help="Score a model with its paper's protocol.")


@app.command(
    "fisvl",
    epilog="""[bold]Examples[/bold]

  stmine evaluate fisvl --dataset rsicd --data-dir data/rsicd --split val

  stmine evaluate fisvl --model my_model --dataset rsitmd --data-dir data/rsitmd --split test --out results

  stmine evaluate fisvl --dataset mine.csv --split train --column image=file --column captions=sentence""",
)
def evaluate_fisvl(
    dataset: Annotated[str, typer.Option(help=f"rsicd, rsitmd, ucm_captions, sydney_captions or toy_scenes. {OWN}")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the data set's files (toy_scenes needs none).")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    option: BuilderOption = None,
    column: ColumnOption = None,
    model: FisvlOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json and recall_curve.png.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images embedded at a time.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N images only: a quick look.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recall at 1, 5 and 10 in both directions, and their mean (mR), as the FISVL paper reports them.

    Beside it stands the honest variant: a caption whose text equals one of the image's own counts as right.
    """
    options, mapping = builder_options(option), column_mapping(column)
    from .. import load_dataset
    from ..evaluation.retrieval import evaluate_retrieval
    from ..loading import load_fisvl

    require_folder(out)
    with prints_only_json(as_json):
        rows = load_dataset(
            dataset, data_dir=data_dir, split=split, kind="captions", column_mapping=mapping, **options
        )
        if limit is not None:
            rows = rows.select(range(min(limit, len(rows))))
        network, processor = load_fisvl(model, device=device)
        report = evaluate_retrieval(
            network, processor, rows, batch_size=batch_size, device=device, progress=not as_json
        )
        if out:
            report.save(out)
    if as_json:
        print_json(report.to_dict())
    else:
        Console().print(report.table())
        if out:
            print(f"Written: {out / 'results.json'}, {out / 'recall_curve.png'}")


@app.command(
    "mttv",
    epilog="""[bold]Examples[/bold]

  stmine evaluate mttv --dataset weibo --data-dir data/weibo --split val --option validation=events

  stmine evaluate mttv --dataset fakeddit --data-dir data/fakeddit --split val --model my_model --out results

Choose among models by val; look at test once, at the end.""",
)
def evaluate_mttv(
    dataset: Annotated[str, typer.Option(help=f"weibo, fakeddit, posts or toy_posts. {OWN}")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the data set's files (toy_posts needs none).")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    option: BuilderOption = None,
    column: ColumnOption = None,
    model: MttvOption = None,
    detector: DetectorOption = None,
    features: Annotated[
        Path | None, typer.Option(help="Folder of `stmine features mttv`: read in the place of the images.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.json, confusion_matrix.png and reliability.png.")
    ] = None,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="With --out: write every verdict to predictions.jsonl, too.")
    ] = False,
    bins: Annotated[int, typer.Option(min=1, help="Bins of the calibration error.")] = 15,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Posts judged at a time: few are fastest on a CPU, try 64 on a GPU.")
    ] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Judge the first N posts only: a quick look.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accuracy, macro F1, precision, recall and F1 of each label, and the calibration error (ECE).

    A post whose image cannot be read is judged by its text, and counted.
    """
    options, mapping = builder_options(option), column_mapping(column)
    if predictions and out is None:
        raise typer.BadParameter("--predictions needs --out: where to write them")
    if features is not None and detector is not None:
        raise typer.BadParameter("--features hold the regions already; leave --detector out")
    from .. import load_dataset
    from ..evaluation.classification import evaluate_posts
    from ..loading import load_mttv
    from ..posts import FeatureStore
    from ..posts.detectors import load_detector

    require_folder(out)
    with prints_only_json(as_json):
        rows = load_dataset(dataset, data_dir=data_dir, split=split, kind="posts", column_mapping=mapping, **options)
        if limit is not None:
            rows = rows.select(range(min(limit, len(rows))))
        network, processor = load_mttv(model, device=device)
        store = None if features is None else FeatureStore.open(features)
        if store is not None:
            store.require(network.config)
        report = evaluate_posts(
            network,
            processor,
            rows,
            batch_size=batch_size,
            detector=None if detector is None else load_detector(detector, network.device, model=network),
            features=store,
            bins=bins,
            progress=not as_json,
        )
        if out:
            report.save(out, predictions=predictions)
    if as_json:
        print_json(report.to_dict())
    else:
        Console().print(report.table())
        if out:
            names = ["results.json", "confusion_matrix.png", "reliability.png"]
            names += ["predictions.jsonl"] * predictions
            print("Written: " + ", ".join(str(out / name) for name in names))


@app.command(
    "sat",
    epilog="""[bold]Examples[/bold]

  stmine evaluate sat --dataset coco_json --data-dir data/coco --split val

  stmine evaluate sat --dataset indiscernible --data-dir data/indiscernible --option sources=CAMO --out results""",
)
def evaluate_sat(
    dataset: Annotated[
        str, typer.Option(help=f"coco_json, voc_xml, yolo_txt, indiscernible or toy_camouflage. {OWN}")
    ],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the data set's files (toy_camouflage needs none).")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    option: BuilderOption = None,
    column: ColumnOption = None,
    model: SatOption = None,
    fit: Annotated[
        str | None, typer.Option(help="pad, letterbox or stretch images to the input. Default: as the model says.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results.json, detections.json, pr_curve.png and worst_misses.png."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images looked at together, where their sizes agree.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N images only: a quick look.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """COCO's average precision: over all images, for each of their sources and for each class.

    Images that cannot be read are skipped and counted; a class without boxes takes no part.
    """
    options, mapping = builder_options(option), column_mapping(column)
    from .. import load_dataset
    from ..evaluation.detection import evaluate_detection
    from ..loading import load_sat

    if fit not in (None, "pad", "letterbox", "stretch"):
        raise typer.BadParameter(f"--fit: expected pad, letterbox or stretch, found {fit!r}")
    require_folder(out)
    with prints_only_json(as_json):
        rows = load_dataset(dataset, data_dir=data_dir, split=split, kind="boxes", column_mapping=mapping, **options)
        if limit is not None:
            rows = rows.select(range(min(limit, len(rows))))
        network, processor = load_sat(model, device=device)
        report = evaluate_detection(
            network, processor, rows, batch_size=batch_size, device=device, fit=fit, progress=not as_json
        )
        if out:
            report.save(out)
    if as_json:
        print_json(report.to_dict())
    else:
        Console().print(report.table())
        Console().print(report.class_table())
        if out:
            files = ("results.json", "detections.json", "pr_curve.png", "worst_misses.png")
            print(f"Written: {', '.join(str(out / name) for name in files if (out / name).exists())}")

"""`stmine evaluate sat` and `stmine convert sat`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...methods import SAT
from ..converting import label_names, report_conversion
from ..evaluating import DataDirOption, RowsToEvaluate, SplitOption, dataset_option, evaluate_and_print
from ..terminal import (
    BandsOption,
    BuilderOption,
    ColumnOption,
    DeviceOption,
    EncodingOption,
    FindingsOption,
    JsonOption,
    SliceOption,
    SliceOverlapOption,
    StretchOption,
    StrictOption,
    model_option,
    prints_only_json,
    reading_options,
    require_file,
)

DatasetOption = Annotated[str, dataset_option(SAT)]
ModelOption = Annotated[str | None, model_option(SAT)]

EVALUATE_EXAMPLES = """  stmine evaluate sat --dataset coco_json --data-dir data/coco --split val

  stmine evaluate sat --dataset indiscernible --data-dir data/indiscernible --option sources=CAMO --out results"""
CONVERT_EXAMPLES = """  stmine convert sat nanodet_m.ckpt nanodet-m-coco

  stmine convert sat nanodet_m.safetensors my-detector --labels ebike,person"""


def evaluate(
    dataset: DatasetOption,
    data_dir: DataDirOption = None,
    split: SplitOption = None,
    option: BuilderOption = None,
    column: ColumnOption = None,
    encoding: EncodingOption = None,
    findings: FindingsOption = None,
    strict: StrictOption = False,
    model: ModelOption = None,
    fit: Annotated[
        str | None,
        typer.Option(
            help="How to fit images to the input: pad, letterbox or stretch. Default: as the image processor does."
        ),
    ] = None,
    side: SliceOption = None,
    overlap: SliceOverlapOption = 0.2,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results.json, detections.json, pr_curve.png and worst_misses.png."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch, where their sizes agree.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N images only.")] = None,
    stretch: StretchOption = None,
    bands: BandsOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute COCO's average precision: over all images, for each of their sources and for each class.

    Images that cannot be read are skipped and counted; a class without boxes does not count in the mean.
    """
    if fit not in (None, "pad", "letterbox", "stretch"):
        raise typer.BadParameter(f"--fit: expected pad, letterbox or stretch, found {fit!r}")

    def options(network: Any) -> dict[str, Any]:
        from ...detect.slicing import Slices

        slices = None if side is None else Slices(side, overlap)
        return {"batch_size": batch_size, "fit": fit, "slices": slices}

    def check(rows: Any, names: dict[int, str]) -> None:
        from ...evaluation.detection import matched_labels

        matched_labels(names, rows.features)

    evaluate_and_print(
        SAT,
        RowsToEvaluate(dataset, data_dir, split, option, column, reading_options(encoding, findings, strict), limit),
        model,
        device,
        out,
        as_json,
        pixels=(stretch, bands),
        files=("results.json", "detections.json", "pr_curve.png", "worst_misses.png"),
        options=options,
        check=check,
    )


def convert(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="Official NanoDet-m (421 tensors): .safetensors, .pth or .ckpt."),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: safetensors, config, image processor and code.")
    ],
    labels: Annotated[
        str | None, typer.Option(help="Names of the classes in the order of the outputs. Default for 80: COCO's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert an official NanoDet-m, the parent of SAT, to a folder that the Auto classes load.

    The network of SAT itself was never published. Only tensors and plain values are read from the file; code in it is
    never run.
    """
    require_file(checkpoint, "the weights of an official NanoDet-m")
    with prints_only_json(as_json):
        config = SAT.convert(checkpoint, out, labels=None if labels is None else label_names(labels))
    report_conversion(
        {"checkpoint": str(checkpoint), "out": str(out), "labels": list(config.id2label.values())},
        f"{out} ({config.num_labels} classes)",
        f'Next, in Python: pipeline("object-detection", model="{out}", trust_remote_code=True)',
        as_json,
    )

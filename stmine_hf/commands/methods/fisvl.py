"""`stmine evaluate fisvl` and `stmine convert fisvl`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...methods import FISVL
from ..converting import report_conversion
from ..evaluating import DataDirOption, RowsToEvaluate, SplitOption, dataset_option, evaluate_and_print
from ..terminal import (
    BandsOption,
    BuilderOption,
    ColumnOption,
    DeviceOption,
    EncodingOption,
    FindingsOption,
    JsonOption,
    StretchOption,
    StrictOption,
    model_option,
    prints_only_json,
    reading_options,
    require_file,
    stmine_command,
)

DatasetOption = Annotated[str, dataset_option(FISVL)]
ModelOption = Annotated[str | None, model_option(FISVL)]

EVALUATE_EXAMPLES = """  stmine evaluate fisvl --dataset rsicd --data-dir data/rsicd --split val

  stmine evaluate fisvl --model my_model --dataset rsitmd --data-dir data/rsitmd --split test --out results

  stmine evaluate fisvl --dataset mine.csv --split train --column image=file --column captions=sentence"""
CONVERT_EXAMPLES = """  stmine convert fisvl checkpoint_best.pth fisvl-rsicd --vocab bert-base-uncased/vocab.txt

  stmine search my.index "a stadium beside a road" --model fisvl-rsicd"""


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
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.json, recall_curve.png and worst_misses.png.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N images only.")] = None,
    stretch: StretchOption = None,
    bands: BandsOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute recall at 1, 5 and 10 in both directions and their mean (mR), as the FISVL paper reports them.

    A second table counts a caption as right if its text equals one of the image's own captions.
    """
    evaluate_and_print(
        FISVL,
        RowsToEvaluate(dataset, data_dir, split, option, column, reading_options(encoding, findings, strict), limit),
        model,
        device,
        out,
        as_json,
        pixels=(stretch, bands),
        files=("results.json", "recall_curve.png", "worst_misses.png"),
        options=lambda network: {"batch_size": batch_size},
    )


def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The authors' .pth file (768 tensors).")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: safetensors, config, processor and code.")
    ],
    vocab: Annotated[Path | None, typer.Option(help="vocab.txt of bert-base-uncased, for the tokenizer.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert the authors' FISVL checkpoint to a folder that `AutoModel` and `stmine` load.

    Only tensors and plain values are read from the file; code in it is refused, never run.
    """
    require_file(checkpoint, "the authors' .pth file")
    require_file(vocab, "the vocab.txt of bert-base-uncased")
    with prints_only_json(as_json):
        FISVL.convert(checkpoint, out, vocab=vocab)
    next_step = f"Next: {stmine_command()} index images --model {out} --out my.index"
    report_conversion({"checkpoint": str(checkpoint), "out": str(out)}, f"{out}", next_step, as_json)

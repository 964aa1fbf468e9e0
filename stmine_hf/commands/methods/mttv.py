"""`stmine evaluate mttv` and `stmine convert mttv`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...loading import labels_of, require_model, require_regions
from ...methods import MTTV
from ..converting import label_names as names_in
from ..converting import report_conversion
from ..evaluating import DataDirOption, RowsToEvaluate, SplitOption, dataset_option, evaluate_and_print
from ..terminal import (
    BandsOption,
    BuilderOption,
    ColumnOption,
    DetectorOption,
    DeviceOption,
    EncodingOption,
    FindingsOption,
    JsonOption,
    LabelOption,
    StretchOption,
    StrictOption,
    label_names,
    model_option,
    prints_only_json,
    reading_options,
    require_file,
)

DatasetOption = Annotated[str, dataset_option(MTTV)]
ModelOption = Annotated[str | None, model_option(MTTV)]

EVALUATE_EXAMPLES = """\
  stmine evaluate mttv --dataset weibo --data-dir data/weibo --split val --option validation=events

  stmine evaluate mttv --data posts.csv --label 谣言=fake --label 真实=real

  stmine evaluate mttv --dataset fakeddit --data-dir data/fakeddit --split val --model my_model --out results

Select models on val; evaluate on test once, at the end."""
CONVERT_EXAMPLES = """  stmine convert mttv model_best.pt mttv-weibo --vocab bert-base-chinese/vocab.txt

  stmine convert mttv model_best.pt mttv-weibo --vocab bert-base-chinese/vocab.txt --resnet resnet152-394f9c45.pth

  stmine convert mttv model_best.pt mttv-fakeddit --dataset fakeddit_2_way --labels true,fake --vocab vocab.txt"""


def evaluate(
    dataset: DatasetOption,
    data_dir: DataDirOption = None,
    split: SplitOption = None,
    option: BuilderOption = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    encoding: EncodingOption = None,
    findings: FindingsOption = None,
    strict: StrictOption = False,
    model: ModelOption = None,
    detector: DetectorOption = None,
    features: Annotated[
        Path | None, typer.Option(help="Folder of `stmine features mttv`: read instead of the images.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for results.json, confusion_matrix.png, reliability.png and worst_misses.png."),
    ] = None,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="With --out: also write every prediction to predictions.jsonl.")
    ] = False,
    bins: Annotated[int, typer.Option(min=1, help="Number of bins of the calibration error.")] = 15,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            help="Posts per batch. Small batches are fastest on a CPU; try 64 on a GPU.",
        ),
    ] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N posts only.")] = None,
    stretch: StretchOption = None,
    bands: BandsOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute accuracy, macro F1, precision, recall and F1 of each label, and the calibration error (ECE).

    A post whose image cannot be read is classified by its text, and counted.
    """
    if predictions and out is None:
        raise typer.BadParameter("--predictions needs --out: the folder to write them to")
    if features is not None and detector is not None:
        raise typer.BadParameter("--features already include the regions: omit --detector")
    if features is not None and (stretch or bands):
        raise typer.BadParameter("--features are of images as read by default: omit --stretch and --bands")

    names = label_names(label)
    require_model(model, method=MTTV)
    if names and (own := labels_of(model, MTTV)) is not None:
        from ...posts.results import require_labels

        require_labels(names, list(own.values()))

    require_regions(detector, model)
    store = None
    if features is not None:
        from ...posts import FeatureStore

        store = FeatureStore.open(features)

    def check(rows: Any, labels: dict[int, str]) -> None:
        from ...evaluation.classification import known_label_names

        known_label_names(rows, [labels[number] for number in sorted(labels)])

    def options(network: Any) -> dict[str, Any]:
        from ...posts.detectors import load_detector

        if store is not None:
            store.require(network.config)
        regions = None if detector is None else load_detector(detector, network.device, model=network)
        return {"batch_size": batch_size, "detector": regions, "features": store, "bins": bins}

    evaluate_and_print(
        MTTV,
        RowsToEvaluate(
            dataset,
            data_dir,
            split,
            option,
            column,
            reading_options(encoding, findings, strict) | ({"label_names": names} if names else {}),
            limit,
        ),
        model,
        device,
        out,
        as_json,
        pixels=(stretch, bands),
        files=(
            *("results.json", "confusion_matrix.png", "reliability.png", "worst_misses.png"),
            *["predictions.jsonl"] * predictions,
        ),
        options=options,
        check=check,
        saving={"predictions": predictions},
    )


def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The authors' .pt file (113 tensors).")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: safetensors, config, processor, pipeline and code.")
    ],
    dataset: Annotated[
        str, typer.Option(help="Data set it was trained on: weibo, fakeddit_2_way, fakeddit_3_way or fakeddit_6_way.")
    ] = "weibo",
    arguments: Annotated[
        Path | None,
        typer.Option("--args", help="JSON with the authors' arguments, where they differ from the released ones."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Labels in the order of their first appearance in the training file, by name or number."),
    ] = None,
    vocab: Annotated[Path | None, typer.Option(help="vocab.txt of the BERT model, for the tokenizer.")] = None,
    resnet: Annotated[
        Path | None, typer.Option(help="torchvision's resnet152-*.pth: the model then reads images.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert the authors' MTTV checkpoint to a folder that the Auto classes load.

    Only tensors and plain values are read from the file; code in it (or in the authors' args.pt) is never run.
    """
    require_file(checkpoint, "the authors' .pt file")
    require_file(vocab, "the vocab.txt of the BERT model")
    require_file(resnet, "torchvision's resnet152-*.pth")
    require_file(arguments, "JSON with the authors' arguments")
    order = None
    if labels is not None:
        order = [int(label) if label.isdigit() else label for label in names_in(labels)]
    with prints_only_json(as_json):
        model = MTTV.convert(checkpoint, out, arguments or dataset, label_order=order, vocab=vocab, resnet=resnet)
    names = [model.config.id2label[row] for row in range(model.config.num_labels)]
    report_conversion(
        {"checkpoint": str(checkpoint), "out": str(out), "labels": names, "reads_images": bool(resnet)},
        f"{out} (labels: {', '.join(names)}; input: {'images' if resnet else 'precomputed features'})",
        f'Next, in Python: pipeline("fake-news-detection", model="{out}", trust_remote_code=True)',
        as_json,
    )

"""`stmine convert ...`: convert an authors' checkpoint to a folder that the Auto classes load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..methods import FISVL, MTTV, SAT
from .terminal import JsonOption, print_json, prints_only_json, stmine_command

app = typer.Typer(no_args_is_help=True, help="Convert an authors' checkpoint to a folder that the Auto classes load.")


@app.command(
    FISVL.name,
    epilog="""[bold]Examples[/bold]

  stmine convert fisvl checkpoint_best.pth fisvl-rsicd --vocab bert-base-uncased/vocab.txt

  stmine search my.index "a stadium beside a road" --model fisvl-rsicd""",
)
def convert_fisvl(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The authors' .pth file (768 tensors).")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: safetensors, config, processor and code.")
    ],
    vocab: Annotated[Path | None, typer.Option(help="vocab.txt of bert-base-uncased, for the tokenizer.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert an authors' FISVL checkpoint to a folder that `AutoModel` and `stmine` load.

    Only tensors and plain values are read from the file; code in it is refused, never run.
    """
    with prints_only_json(as_json):
        FISVL.convert(checkpoint, out, vocab=vocab)
    next_step = f"Next: {stmine_command()} index images --model {out} --out my.index"
    _report({"checkpoint": str(checkpoint), "out": str(out)}, f"{out}", next_step, as_json)


@app.command(
    MTTV.name,
    epilog="""[bold]Examples[/bold]

  stmine convert mttv model_best.pt mttv-weibo --vocab bert-base-chinese/vocab.txt

  stmine convert mttv model_best.pt mttv-weibo --vocab bert-base-chinese/vocab.txt --resnet resnet152-394f9c45.pth

  stmine convert mttv model_best.pt mttv-fakeddit --dataset fakeddit_2_way --labels true,fake --vocab vocab.txt""",
)
def convert_mttv(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The authors' .pt file (113 tensors).")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: safetensors, config, processor, pipeline and code.")
    ],
    dataset: Annotated[
        str, typer.Option(help="What it was trained on: weibo, fakeddit_2_way, fakeddit_3_way or fakeddit_6_way.")
    ] = "weibo",
    arguments: Annotated[
        Path | None,
        typer.Option("--args", help="JSON with the authors' arguments, where they differ from the released ones."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Labels in the order of their first appearance in the training file, by name or number."),
    ] = None,
    vocab: Annotated[Path | None, typer.Option(help="vocab.txt of the BERT, for the tokenizer.")] = None,
    resnet: Annotated[
        Path | None, typer.Option(help="torchvision's resnet152-*.pth; makes the model read images.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert an authors' MTTV checkpoint to a folder that the Auto classes load.

    Only tensors and plain values are read from the file; code in it (or in the authors' args.pt) is never run.
    """
    order = None
    if labels is not None:
        order = [int(label) if label.isdigit() else label for label in _names(labels)]
    with prints_only_json(as_json):
        model = MTTV.convert(checkpoint, out, arguments or dataset, label_order=order, vocab=vocab, resnet=resnet)
    names = [model.config.id2label[row] for row in range(model.config.num_labels)]
    _report(
        {"checkpoint": str(checkpoint), "out": str(out), "labels": names, "reads_images": bool(resnet)},
        f"{out} (labels: {', '.join(names)}; input: {'images' if resnet else 'precomputed features'})",
        f'Next, in Python: pipeline("fake-news-detection", model="{out}", trust_remote_code=True)',
        as_json,
    )


@app.command(
    SAT.name,
    epilog="""[bold]Examples[/bold]

  stmine convert sat nanodet_m.ckpt nanodet-m-coco

  stmine convert sat nanodet_m.safetensors my-detector --labels ebike,person""",
)
def convert_sat(
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
    with prints_only_json(as_json):
        config = SAT.convert(checkpoint, out, labels=None if labels is None else _names(labels))
    _report(
        {"checkpoint": str(checkpoint), "out": str(out), "labels": list(config.id2label.values())},
        f"{out} ({config.num_labels} classes)",
        f'Next, in Python: pipeline("object-detection", model="{out}", trust_remote_code=True)',
        as_json,
    )


def _names(labels: str) -> list[str]:
    return [name.strip() for name in labels.split(",")]


def _report(document: dict[str, Any], written: str, next_step: str, as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        print(f"Written: {written}")
        print(next_step)

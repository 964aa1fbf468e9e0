"""`stmine evaluate ...`: a model's scores by its paper's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .terminal import DeviceOption, FisvlOption, JsonOption, print_json, prints_only_json, require_folder

app = typer.Typer(no_args_is_help=True, help="Score a model with its paper's protocol.")


@app.command(
    "fisvl",
    epilog="""[bold]Examples[/bold]

  stmine evaluate fisvl --dataset rsicd --data-dir data/rsicd --split val

  stmine evaluate fisvl --model my_model --dataset rsitmd --data-dir data/rsitmd --split test --out results""",
)
def evaluate_fisvl(
    dataset: Annotated[str, typer.Option(help="rsicd, rsitmd, ucm_captions, sydney_captions or toy_scenes.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the data set's files (toy_scenes needs none).")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    model: FisvlOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json and recall_curve.png.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures embedded at a time.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N pictures only: a quick look.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recall at 1, 5 and 10 in both directions, and their mean (mR), as the FISVL paper reports them.

    Beside it stands the honest variant: a caption whose text equals one of the picture's own counts as right.
    """
    from .. import load_dataset
    from ..loading import load_fisvl
    from ..training.evaluation_fisvl import evaluate_retrieval

    require_folder(out)
    with prints_only_json(as_json):
        rows = load_dataset(dataset, data_dir=data_dir, split=split)
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

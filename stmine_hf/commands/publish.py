"""`stmine publish ...`: repositories for the Hub, from a model to its page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import JsonOption, from_here, print_json, prints_only_json, stmine_command

app = typer.Typer(no_args_is_help=True, help="Make, check and upload repositories for the Hugging Face Hub.")


@app.callback()
def publish() -> None:
    """A group even while there is one command in it."""


@app.command(
    "build",
    epilog="""[bold]Examples[/bold]

  stmine publish build outputs/my-run --out my-detector --data-dir data/coco --licence cc-by-4.0

  stmine publish build fisvl-rsicd --out fisvl-rsicd-hub

  stmine publish build sat-coco-small --out hub_cards/sat-coco-small

The last brings code and card of a repository up to today's; weights and figures stay.""",
)
def build_repository(
    source: Annotated[
        str,
        typer.Argument(
            metavar="REPO",
            help="A training run, a model folder, or a repository built before (its folder, or a name in hub_cards/).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; its name is the repository's.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data set of a training run: measures the model on it.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="What a run is compared with. SAT: parent, benchmark. MTTV: baselines, released.",
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, by the Hub's id. Default: that of the present card.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Assemble the folder of a Hub repository: weights, code, card, scores, licence, list of files with hashes."""
    from rich.console import Console

    from ..hub.build import build
    from ..hub.repository import files_in

    with prints_only_json(as_json):
        tables = build(source, out, data_dir=data_dir, compare=_pairs(compare), licence=licence, progress=not as_json)
    files = {name: (out / name).stat().st_size for name in files_in(out)}
    if as_json:
        print_json({"out": str(out), "files": files})
        return
    for table in tables:
        Console().print(table)
    print(f"Written: {from_here(out.absolute())} ({len(files)} files, {sum(files.values()):,} bytes)")
    print(f"Read its README.md. Next: {stmine_command()} publish check {from_here(out.absolute())}")


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for pair in given or []:
        name, sign, path = pair.partition("=")
        if not name or not sign or not path:
            raise typer.BadParameter(f"--compare: expected NAME=PATH, found {pair!r}")
        pairs[name] = path
    return pairs

"""`stmine merge`: merge an adapter into its base."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..methods import METHODS
from ..printing import say, shown_path
from .terminal import JsonOption, print_json, prints_only_json, require_folder, say_next, used_by

app = typer.Typer()


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine merge outputs/fisvl-lora/best --out my-fisvl

  stmine merge someone/sat-adapter --out my-detector"""
)
def merge(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="Adapter folder or Hub id, of any method.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write: safetensors, config, processor, code, card.")],
    as_json: JsonOption = False,
) -> None:
    """Merge an adapter into its base: the model gives the same results and needs no PEFT."""
    from ..loading import require_model, resolve

    require_folder(out)
    require_model(adapter)
    from ..hub.merging import merge_adapter

    with prints_only_json(as_json):
        merged = merge_adapter(resolve(adapter), out)
    if as_json:
        print_json({"adapter": adapter, "out": str(out), **merged})
    else:
        base = shown_path(merged["base"])
        say(f"Written: {out} ({merged['method']}, {merged['parameters']:,} parameters, base {base})")
        say(f"It is used by {used_by(METHODS[merged['method']])}, with --model {shlex.quote(str(out))}.")
        say_next(
            ["publish", "build", str(out), "--out", str(Path("hub") / out.absolute().name), "--license", "unknown"]
        )

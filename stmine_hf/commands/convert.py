"""`stmine convert ...`: convert the authors' checkpoint to a folder that the Auto classes load."""

from __future__ import annotations

import typer

from .methods import COMMANDS

app = typer.Typer(no_args_is_help=True, help="Convert the authors' checkpoint to a folder that the Auto classes load.")
for name, own in COMMANDS.items():
    app.command(name, epilog=f"[bold]Examples[/bold]\n\n{own.CONVERT_EXAMPLES}")(own.convert)

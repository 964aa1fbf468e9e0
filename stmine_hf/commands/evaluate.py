"""`stmine evaluate ...`: score a model by its paper's protocol."""

from __future__ import annotations

import typer

from .methods import COMMANDS

app = typer.Typer(no_args_is_help=True, help="Score a model by its paper's protocol.")
for name, own in COMMANDS.items():
    app.command(name, epilog=f"[bold]Examples[/bold]\n\n{own.EVALUATE_EXAMPLES}")(own.evaluate)

"""`stmine version`: what a bug report needs."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

import typer

from ..printing import say
from .terminal import JsonOption, print_json

app = typer.Typer()


def print_own(wanted: bool) -> None:
    """What `stmine --version` does."""
    if wanted:
        say(f"stmine-hf {version('stmine-hf')}")
        raise typer.Exit


@app.command("version")
def show_version(as_json: JsonOption = False) -> None:
    """Print the versions that a bug report needs."""
    versions = {"python": sys.version.split()[0]}
    for package in ("stmine-hf", "torch", "transformers", "datasets", "faiss-cpu"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    if as_json:
        print_json(versions)
    else:
        for package, number in versions.items():
            say(f"{package} {number}")

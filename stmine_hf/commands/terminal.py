"""What every command shares: options, JSON that stands alone, quiet libraries, paths as seen from here."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import StmineError


def _model_option(repository: str) -> Any:
    return Annotated[
        str | None,
        typer.Option("--model", help=f"Model folder or Hub id. Default: the {repository} of this release."),
    ]


FisvlOption = _model_option("fisvl-lite-rsicd")
MttvOption = _model_option("mttv-lite-weibo")
SatOption = _model_option("sat-coco-small")
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, mps ... Default: an accelerator if there is one.")]
DetectorOption = Annotated[
    str | None,
    typer.Option(help="Folder or Hub id of an object detector (SAT is one): its boxes are looked at one by one, too."),
]
BuilderOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the data set; may be given several times."),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="PART=COLUMN",
        help="Of a data set of your own: which of its columns is what, such as image=img; may be given several times.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


@contextmanager
def prints_only_json(as_json: bool) -> Iterator[None]:
    """While a library works: quiet loggers, and for `--json` a standard output that stays free for the document."""
    hush_libraries()
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def require_folder(out: Path | None) -> None:
    """Before the work, whose results would else be lost.

    Raises:
        StmineError: `out` is a file.
    """
    if out and out.exists() and not out.is_dir():
        raise StmineError(f"{out}: expected a folder to write to, found a file.")


def builder_options(given: list[str] | None) -> dict[str, Any]:
    """What `--option key=value` says; a value is JSON (numbers, true, lists) or else a text.

    Raises:
        typer.BadParameter: no "=" in it.
    """
    options: dict[str, Any] = {}
    for option in given or []:
        key, sign, value = option.partition("=")
        if not key or not sign:
            raise typer.BadParameter(f"--option: expected KEY=VALUE, found {option!r}")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def column_mapping(given: list[str] | None) -> dict[str, Any]:
    """What `--column part=column` says.

    Raises:
        typer.BadParameter: no "=" in it.
    """
    from ..data.captioned_images import DataFolderError
    from ..data.columns import parse_mapping

    try:
        return parse_mapping(given or [])
    except DataFolderError as error:
        raise typer.BadParameter(f"--column: {error}") from None


def hush_libraries() -> None:
    """Keep loading bars and notes of transformers off the terminal: what matters to the user, we print."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def stmine_command() -> str:
    """How to call this command from here: by its path while its environment is not the active one."""
    return "stmine" if shutil.which("stmine") else str(from_here(Path(sys.executable).parent / "stmine"))


def from_here(path: Path) -> Path:
    """Shorter to read, and just as good to copy into the next command."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

"""The `stmine` command: each command reads its arguments, calls the library and prints.

The commands are in `commands/`; torch and transformers are imported inside them only, so `stmine --help` answers at
once. Exit codes: 0 done, 1 an error the user can fix (one red line), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from .commands import (
    classify,
    convert,
    data,
    demo,
    detect,
    evaluate,
    export,
    features,
    merge,
    publish,
    serve,
    toy,
    train,
    version,
)
from .commands import search as images
from .errors import StmineError, placeholder_hint
from .files import write_problem
from .printing import printable, say

_FORMER_OPTIONS = {
    "--licence": "--license",
    "--pictures": "--images",
    "--without-bad-pictures": "--without-bad-images",
}

INTERRUPTED = 130  # exit code
RESUMED = ("index", "classify", "detect", "features")  # commands that go on where a run was interrupted

app = typer.Typer(
    name="stmine",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""[bold]A first search, in three commands[/bold]

  stmine toy scenes --count 96

  stmine index scenes --out scenes.index

  stmine search scenes.index "many planes near a terminal"

Examples of a command: stmine COMMAND --help""",
)


@app.callback()
def stmine(
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=version.print_own)
    ] = False,
) -> None:
    """Three methods: find satellite images, classify posts, detect hard-to-see objects.

    [bold]FISVL[/bold] finds satellite images by a sentence, or by another image: index, search, merge-indexes.

    [bold]MTTV[/bold] classifies a post of text and image as real or fake: classify, features.

    [bold]SAT[/bold] detects hard-to-see objects in images, video and camera: detect.

    For all three: train, evaluate, export, convert, merge, publish, serve, demo.
    """  # `main` reads --debug; here it is declared for the help


app.add_typer(images.app)
app.add_typer(classify.app)
app.add_typer(detect.app)
app.add_typer(demo.app)
app.add_typer(serve.app)
app.add_typer(train.app)
app.add_typer(toy.app)
app.add_typer(data.app, name="data")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(features.app, name="features")
app.add_typer(export.app, name="export")
app.add_typer(convert.app, name="convert")
app.add_typer(merge.app)
app.add_typer(publish.app, name="publish")
app.add_typer(version.app)


def _present_name(word: str) -> str:
    """The present name of an option; names of version 0.1 keep working."""
    option, equals, value = word.partition("=")
    return _FORMER_OPTIONS.get(option, option) + equals + value


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stmine`; `--debug` may stand anywhere, so it can be appended to a command that failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        app([_present_name(word) for word in words if word != "--debug"], prog_name="stmine")
    except SystemExit as end:
        if end.code == INTERRUPTED and words and words[0] in RESUMED:
            say("Interrupted. Run the same command again to resume it.", to_stderr=True)
        raise
    except Exception as error:  # wrong usage has already become SystemExit(2)
        if debug:
            raise
        problem = write_problem(error)
        message = printable(" ".join((problem or str(error)).split()))
        if problem is None and not isinstance(error, (StmineError, OSError)):
            message = f"{type(error).__name__}: {message} (--debug shows where)"
        elif problem is None:
            message += placeholder_hint(words)
        Console(stderr=True, soft_wrap=True).print(f"error: {message}", style="red", markup=False, highlight=False)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()

"""What the commands share: options, JSON output, quiet libraries, paths relative to the current folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import StmineError
from ..inference.engines import ENGINES
from ..methods import Method
from ..printing import from_here as from_here
from ..printing import printable_json, say


def model_option(method: Method) -> Any:
    """`--model` of the commands that use a model of a method."""
    return typer.Option(
        "--model",
        help=f"Model folder, Hub id, or a shipped checkpoint: {', '.join(method.checkpoints)}. Default: "
        f"{method.default_checkpoint}.",
    )


DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, mps ... Default: an accelerator if there is one.")]
EngineOption = Annotated[
    str,
    typer.Option(
        help=f"What runs the model: {', '.join(ENGINES)}. auto: the fastest one by a short measurement, where the job "
        "is long enough; results agree within a stated tolerance."
    ),
]
DetectorOption = Annotated[
    str | None,
    typer.Option(
        help="Folder, Hub id or name of an object detector, such as sat-coco-small; its boxes are further inputs."
    ),
]
BuilderOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the data set; repeat it for several."),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="PART=COLUMN",
        help="For your own data: the column that holds a part, such as image=img; repeat it for several.",
    ),
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="WORD=LABEL",
        help="For your own posts: what a word of the label column means, such as 谣言=fake; repeat it for several.",
    ),
]
StretchOption = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH",
        help="For images of more than 8 bits: the values that become black and white, such as 0,3000, or percentiles "
        "of each image, such as 1%,99%. Default: 2%,98%; the whole range for an image that fills it.",
    ),
]
BandsOption = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="Bands that become red, green and blue, such as 4,3,2; or one, in grey. Default: those that the file "
        "names, else the first three.",
    ),
]
SliceOption = Annotated[
    int | None,
    typer.Option(
        "--slice",
        metavar="SIDE",
        min=32,
        max=4096,
        help="Find small objects in large images: cut into slices of this side in pixels, merge the detections.",
    ),
]
SliceOverlapOption = Annotated[
    float,
    typer.Option(
        "--overlap",
        min=0,
        max=0.9,
        help="Fraction of a slice that its neighbor also covers; use more than the size of the largest object.",
    ),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(
        help="Encoding of text files that are not UTF-8 and have no byte order mark, such as gb18030 or big5."
    ),
]
FindingsOption = Annotated[
    Path | None,
    typer.Option("--findings", help="Write what is skipped, changed or suspicious in the data to this file, as JSON."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Fail if any data is skipped, changed or suspicious.")]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Ask the service that `stmine serve` has started there, such as http://127.0.0.1:8000: no model is "
        "loaded here. Its key comes from the environment variable STMINE_API_KEY.",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run on the workers of a Ray cluster, one for each GPU or CPU: `local` starts one on this machine, else "
        "`auto` or HOST:PORT of one that runs. All its machines need the files under the same paths.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


POSTS = "posts as JSON lines, CSV, TSV, Excel or Parquet"


@contextmanager
def prints_only_json(as_json: bool) -> Iterator[None]:
    """Quiet loggers while a library works; with `--json`, whatever it prints goes to standard error."""
    hush_libraries()
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def require_default(
    context: typer.Context, *names: str, why: str = "the service decides it", option: str = "--server"
) -> None:
    """Check that options which another one leaves no room for are not given.

    Args:
        context: of the command.
        names: of its parameters.
        why: they cannot be.
        option: the other one.

    Raises:
        typer.BadParameter: one is given.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"{parameter.opts[0]} does not go with {option}: {why}")


def device_of(context: typer.Context, device: str | None, ray: str | None) -> str | None:
    """Where the model of a command runs: with --ray on the workers, and here it is loaded into the main memory.

    Raises:
        typer.BadParameter: --device is given, too.
    """
    if ray is None:
        return device
    require_default(context, "device", why="the workers use GPUs if the cluster has any", option="--ray")
    return "cpu"


def require_folder(out: Path | None) -> None:
    """Check, before the work is done, that a folder can be written to.

    Raises:
        StmineError: `out` is a file.
    """
    if out and out.exists() and not out.is_dir():
        raise StmineError(f"{out}: expected a folder to write to, found a file.")


def require_file(file: Path | None, expected: str) -> None:
    """Check a file to read before libraries are imported that take seconds.

    Raises:
        StmineError: there is nothing of that name.
    """
    if file and not file.exists():
        raise StmineError(f"{file}: no such file. Expected {expected}.")


def builder_options(given: list[str] | None) -> dict[str, Any]:
    """The options given as `--option key=value`; a value is read as JSON, or else as a string.

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


def reading_options(encoding: str | None, findings: Path | None, strict: bool) -> dict[str, Any]:
    """Options of `load_dataset` for what --encoding, --findings and --strict say."""
    given = {"encoding": encoding, "findings": findings, "strict": strict or None}
    return {name: value for name, value in given.items() if value is not None}


def column_mapping(given: list[str] | None) -> dict[str, Any]:
    """The mapping given as `--column part=column`.

    Raises:
        typer.BadParameter: no "=" in it.
    """
    from ..data import DataFolderError
    from ..data.columns import parse_mapping

    try:
        return parse_mapping(given or [])
    except DataFolderError as error:
        raise typer.BadParameter(f"--column: {error}") from None


def label_names(given: list[str] | None) -> dict[str, str]:
    """What words mean, given as `--label word=label`.

    Raises:
        typer.BadParameter: no "=" in it.
    """
    names: dict[str, str] = {}
    for one in given or []:
        word, sign, label = one.partition("=")
        if not (word.strip() and sign and label.strip()):
            raise typer.BadParameter(f"--label: expected WORD=LABEL, found {one!r}")
        names[word.strip()] = label.strip()
    return names


def hush_libraries() -> None:
    """Turn off the progress bars and warnings of libraries; the commands print what matters."""
    for kind in (FutureWarning, DeprecationWarning):  # for developers
        warnings.simplefilter("ignore", kind)
    if "transformers" not in sys.modules:  # it takes seconds to import, and errors are reported before
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        if "huggingface_hub" in sys.modules:  # it has read its environment, and transformers asks it
            from huggingface_hub.utils import disable_progress_bars

            disable_progress_bars()
        return
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def warn(text: str) -> None:
    """A line on standard error, beside the answer."""
    say(f"Warning: {text}", to_stderr=True)


def print_json(document: dict[str, Any]) -> None:
    print(printable_json(document))


def say_next(*commands: Sequence[str], after: str = "Next:") -> None:
    """Print commands to go on with, one a line, as they are typed in the current folder.

    Args:
        commands: words of each, without `stmine`.
        after: the line above them.
    """
    say(after)
    for words in commands:
        say(f"  {shlex.quote(stmine_command())} {shlex.join(words)}")


def used_by(method: Method) -> str:
    """The commands that use a model of a method, in words."""
    *first, last = (f"stmine {command}" for command in method.commands)
    return f"{', '.join(first)} and {last}"


def stmine_command() -> str:
    """How to call `stmine` from the current folder: by its path if its environment is not active."""
    return "stmine" if shutil.which("stmine") else str(from_here(Path(sys.executable).parent / "stmine"))

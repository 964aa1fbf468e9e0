"""`stmine train`: train a method on your own data, starting from the shipped model."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ..errors import StmineError, placeholder_hint
from ..methods import METHODS
from ..printing import printable, say
from .terminal import (
    BuilderOption,
    ColumnOption,
    EncodingOption,
    LabelOption,
    builder_options,
    column_mapping,
    label_names,
    say_next,
    stmine_command,
    used_by,
)

if TYPE_CHECKING:
    from ..training.own_set import Trained

app = typer.Typer()


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine train fisvl --data captions.csv

  stmine train mttv --data posts.jsonl --epochs 5

  stmine train sat --data my_boxes --output outputs/birds

  stmine train sat --output outputs/birds --resume

  accelerate launch --num_processes 2 -m stmine_hf.cli train sat --data my_boxes"""
)
def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="fisvl (captions), mttv (posts) or sat (boxes).")],
    data: Annotated[
        str | None,
        typer.Option(help="A table (CSV, JSONL, Excel, Parquet), a folder in a known layout, or a Hub id."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run. Default: outputs/NAME-METHOD, by the name of the data.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to start from. Default: the one that ships with this release.")
    ] = None,
    column: ColumnOption = None,
    label: LabelOption = None,
    encoding: EncodingOption = None,
    option: BuilderOption = None,
    lora: Annotated[
        bool | None,
        typer.Option(
            "--lora/--full", help="Train an adapter, or the whole model. Default: by method and number of rows."
        ),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(min=0.001, help="Passes over the data. Default: by the number of rows.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Number of steps, instead of epochs.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Default: that of the method.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples per step and process.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of order, augmentation and new weights.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --output, with its settings.")] = False,
) -> None:
    """Train on your own data, starting from the shipped model, and evaluate on held-out rows.

    The layout and the columns of the data are recognised and printed. If there is no validation split,
    rows are held out: the same ones each time, with all rows of one image or event on the same side.
    """
    if method not in METHODS:
        raise typer.BadParameter(f"expected one of {', '.join(METHODS)}, found {method!r}", param_hint="METHOD")
    changes = {
        "num_train_epochs": epochs,
        "max_steps": max_steps,
        "learning_rate": learning_rate,
        "per_device_train_batch_size": batch_size,
    }
    if epochs is not None and max_steps is not None:
        raise typer.BadParameter("--epochs and --max-steps both say how long to train: give one of them")
    of_data = (column, label, encoding, option)
    if resume and any(value is not None for value in (model, lora, *of_data, *changes.values())):
        raise typer.BadParameter("--resume continues a run with its own settings: give --output (or --data) alone")
    if data is None and not (resume and output):
        raise typer.BadParameter("expected a file, a folder or a Hub id, found none", param_hint="--data")
    from ..data.paths import require_data

    if not resume:
        try:
            require_data(str(data))
        except StmineError as error:
            _refuse(str(error), data)
    from ..training.own_set import default_output, plan_training, require_run, resume_training, train_planned

    def again(folder: Path) -> str:
        launcher = ["accelerate", "launch", "-m", "stmine_hf.cli"] if _launched() else [stmine_command()]
        return shlex.join([*launcher, "train", method, "--output", str(folder), "--resume"])

    plan = None
    if resume:
        try:
            require_run(output or default_output(str(data), method))
        except StmineError as error:
            _refuse(str(error))
    else:
        try:
            mapping, names = column_mapping(column), label_names(label)
            plan = plan_training(
                method,
                str(data),
                output=output,
                model=model,
                column_mapping=mapping,
                encoding=encoding,
                options=builder_options(option) | ({"label_names": names} if names else {}),
            )
        except StmineError as error:
            _refuse(str(error), data, model, *(column or []))
        for line in plan.lines:
            _say(line)
        _say(f"Score: {METHODS[method].score_meaning}")
    from ..training.script import run_script
    from .terminal import hush_libraries

    given = {
        "--data": data,
        "--model": model,
        "--column": column,
        "--label": label,
        "--encoding": encoding,
        "--option": option,
        "--epochs": epochs,
        "--max-steps": max_steps,
        "--learning-rate": learning_rate,
        "--batch-size": batch_size,
        "--seed": seed or None,
    }

    def main() -> None:
        if plan is None:
            trained = resume_training(method, output or default_output(str(data), method), resume_command=again)
        else:
            trained = train_planned(
                plan,
                adapter=lora,
                changes={**changes, "seed": seed},
                resume_command=again,
                command=_shared_command(method, given, lora),
                say=_say,
            )
        if trained is not None:
            _print_next(trained, _words(method, given, lora) if plan else _words_again(trained))

    hush_libraries()
    run_script(main)


def _shared_command(method: str, options: dict[str, Any], lora: bool | None) -> str:
    """The command for others: data, models and files without their places on this machine, no folder of the run."""
    from ..data.paths import absolute
    from ..loading import hub_id

    def shared(option: str, value: Any) -> str:
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float):
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        if option == "--model":
            return hub_id(value) or absolute(value).name
        if option == "--data":
            return absolute(value).name if absolute(value).exists() else value
        key, sign, place = value.partition("=")
        return key + sign + absolute(place).name if option == "--option" and key.endswith("_dir") else value

    return shlex.join(["stmine", *_words(method, options, lora, shared)])


def _words(
    method: str,
    options: dict[str, Any],
    lora: bool | None,
    shown: Callable[[str, Any], str] = lambda _, value: str(value),
) -> list[str]:
    """The words of the command, without `stmine`."""
    words = ["train", method]
    for option, given in options.items():
        for value in given if isinstance(given, list) else [] if given is None else [given]:
            words += [option, shown(option, value)]
    return words + ([] if lora is None else ["--lora" if lora else "--full"])


def _words_again(trained: Trained) -> list[str] | None:
    """The words of the command by which a run that was resumed began; None where it names places that are unknown."""
    words = shlex.split(trained.results.get("command") or "")[1:]
    if "--data" not in words or trained.data is None or {"--model", "--option"} & {*words}:
        return None
    words[words.index("--data") + 1] = str(trained.data)
    return words


def _longer(trained: Trained, words: list[str]) -> list[str]:
    """The command that trains again for more epochs, into another folder."""
    from ..training.parts import free_path

    kept, left = list[str](), iter(words)
    for word in left:
        if word in ("--epochs", "--max-steps"):
            next(left)
        else:
            kept.append(word)
    run = trained.run
    output = free_path(run.with_name(f"{run.name}-longer"))
    return [*kept, "--epochs", str(trained.more_epochs), "--output", str(output)]


def _print_next(trained: Trained, words: list[str] | None = None) -> None:
    """What training added, and what to type next.

    Args:
        trained: the result.
        words: of the command that trained so, without `stmine`; None: unknown.
    """
    from ..training.parts import free_path

    method = trained.method
    before, after = trained.score("start"), trained.score("best")
    if useless := trained.nothing_learned:
        epochs = trained.epochs
        length = "" if epochs is None else f" after {epochs:.3g} epoch{'' if epochs == 1 else 's'}"
        first = "" if words is None else " That is the first command below."
        say(
            f"The model has learned nothing of use yet: {useless}{length}. Train longer, {trained.more_epochs} epochs "
            f"or more, before you use or publish it.{first} If that does not help, look for wrong labels or boxes "
            "among the rows, and try a higher --learning-rate."
        )
    elif before is not None and after is not None and after <= before:
        other = "--full (the whole model)" if trained.adapter else "--lora (an adapter)"
        say(
            f"Training did not help: {trained.metric_title} on the held-out rows was {before:.4g} before and "
            f"{after:.4g} after. Use the model that you started from, or try:"
        )
        say("  more rows, and rows more like those you will use the model on")
        say("  fewer or more passes (--epochs), a lower or higher rate (--learning-rate), or " + other)
        say("  a look at the worst misses: wrong labels, captions or boxes among the rows teach the wrong thing")
    if before == 0 and method.rows == "boxes":
        say("0 before training is what classes give that the start does not know.")
    misses = trained.model / "worst_misses.png"
    if misses.is_file():
        say(f"Look at the worst misses: {misses}")
    run = trained.run
    commands = [
        *([_longer(trained, words)] if useless and words else []),
        *trained.examples,
        ["export", method.name, "--model", str(trained.model), "--out", str(free_path(Path(f"{run.name}-onnx")))],
        ["publish", "build", str(run), *(["--data-dir", str(trained.data)] if trained.data else [])],
    ]
    commands[-1] += ["--out", str(free_path(Path("hub") / run.name)), "--license", "unknown"]
    say_next(*commands, after=f"Model, scores and curves are in {run}. Next:")
    if not trained.examples:
        say(f"The model is used by {used_by(method)}, with --model {shlex.quote(str(trained.model))}.")
    say(
        "To publish it, put the license that the weights are to have in place of unknown, such as cc-by-4.0, and add "
        f"--repo with your name on the Hub and the model's, such as jane-doe/{run.name}."
    )


def _refuse(message: str, *given: str | None) -> NoReturn:
    """One line on standard error, and the exit code of wrong usage.

    Args:
        given: values of options, in which placeholders of documents are looked for.
    """
    message += placeholder_hint(given)
    if _launched():
        from ..training.script import end_with

        end_with(f"error: {message}", code=2)
    from rich.console import Console

    text = printable(" ".join(message.split()))
    Console(stderr=True, soft_wrap=True).print(f"error: {text}", style="red", markup=False, highlight=False)
    raise SystemExit(2)


def _say(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        say(line)
        sys.stdout.flush()


def _launched() -> bool:
    return "ACCELERATE_MIXED_PRECISION" in os.environ

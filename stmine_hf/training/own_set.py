"""From a path to a trained model: find the data, check them, choose settings for their size, run the training.

`plan_training` needs no PyTorch, so that errors in the data or the output folder are reported at once.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import shlex
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from ..cards.own_run import data_options
from ..data.boxed_images import IN_TWO_SPLITS
from ..data.columns import parse_mapping
from ..data.held_out import SHARE, TrainedOn, with_validation
from ..data.paths import absolute, data_places
from ..data.recognition import Recognized, kinds_of, read_recognized
from ..documents import read_yaml
from ..errors import StmineError
from ..evaluation.reports import undecoded
from ..inference import scope
from ..loading import labels_of, model_type_of, published, resolve
from ..methods import METHODS, Method, get
from ..outputs import OutputError, require_apart
from ..printing import counted, from_here, shell_word
from .identity import RunIdentity, contents, require_apart_from_images
from .write_up import BY_CLASS

# Kinds of rows in words.
_ROWS = {"captions": "images with captions", "posts": "posts with labels", "boxes": "images with boxes"}
_ROWS_TRIED = 20  # held-out rows, for one that has a file
# Options of the scripts in messages of a run, as patterns -> as the command has them.
_OPTIONS = {
    r"--resume_from_checkpoint (auto|FOLDER)": "--resume",
    r", or remove it and start a new run with --overwrite_output_dir true": ", or remove the folder",
    r"raise num_train_epochs or max_steps; to start a new run, choose another --output_dir": "train again with more "
    "--epochs or --max-steps and another --output",
    r"--output_dir\b": "--output",
    r"--model_name_or_path\b": "--model",
    r"--column_mapping\b": "--column",
    r" or max_grad_norm \(now [^)]*\)": "",  # which the command does not have
    r"(?<![\w-])learning_rate\b": "--learning-rate",
}


@dataclass(frozen=True)
class TrainingPlan:
    """A training that can begin.

    Attributes:
        method: of the model.
        settings: of data, start and output, as the training arguments have them.
        rows: number of rows to train on.
        lines: a description for the user of how the data were interpreted.
    """

    method: Method
    settings: dict[str, Any]
    rows: int
    lines: list[str] = field(default_factory=list)

    @property
    def output_dir(self) -> Path:
        return Path(self.settings["output_dir"])


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        method: of the model.
        model: folder of the best model.
        results: content of `results.json`.
        adapter: the folder holds an adapter.
        metric: that chose the best model.
        data: the file or folder that it was trained on; None for a data set by name or id.
        examples: commands that use the model on a held-out row, as words without `stmine`.
    """

    method: Method
    model: Path
    results: dict[str, Any]
    adapter: bool
    metric: str
    data: Path | None = None
    examples: list[list[str]] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return self.model.parent if self.model.parent.name else Path.cwd()

    @property
    def nothing_learned(self) -> str | None:
        """How the held-out rows show that the model is of no use yet; None: it is of some, or was at the start."""
        start, best = (self.results.get(when) or {} for when in ("start", "best"))
        if not any(key.startswith("eval_") for key in best):
            return None
        if self.score("best") == 0 and not self.score("start"):
            return f"{self.metric_title} on the held-out rows is 0"
        held = [row["held_out"] for row in self.results.get(BY_CLASS) or []]
        accuracy = best.get("eval_accuracy")
        if accuracy is None or not sum(held):
            return None
        share = max(held) / sum(held)
        of_one_label = {"eval_accuracy": share, "eval_macro_f1": 2 * share / (1 + share) / len(held)}
        for score, least in of_one_label.items():
            if max(best.get(score, 0), start.get(score, 0)) > least + 1e-6:
                return None
        return f"accuracy on the held-out rows is {accuracy:.4g}, and one label for all of them gives {share:.4g}"

    @property
    def metric_title(self) -> str:
        """The metric as the Hub lists it."""
        return self.method.metrics.get(self.metric, self.metric)

    @property
    def epochs(self) -> float | None:
        """Passes over the data; None: unknown."""
        return (self.results.get("training") or {}).get("epoch")

    @property
    def more_epochs(self) -> int:
        """Passes for a longer training: those for data of this size, or three times as many as there were."""
        count = (self.results.get("rows") or {}).get("train")
        usual = self.method.training.own_sets.for_size(count)["num_train_epochs"] if count else 1
        return max(usual, math.ceil(3 * (self.epochs or 1)))

    def score(self, when: str) -> float | None:
        """The metric of `start` or `best`, None if there was no such evaluation."""
        entry = self.results.get(when)
        return None if entry is None else entry[f"eval_{self.metric}"]


def default_output(data: str, method: str) -> Path:
    """`outputs/NAME-METHOD` for data of that name."""
    return Path("outputs") / f"{absolute(data).name.partition('.')[0] or 'data'}-{method}"


def plan_training(
    name: str,
    data: str,
    *,
    output: Path | None = None,
    model: str | None = None,
    column_mapping: Mapping[str, Any] | None = None,
    encoding: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> TrainingPlan:
    """Check the data and the output folder of a run.

    Args:
        name: of the method.
        data: a table, a folder, a drawn set or a Hub id.
        output: folder of the run; None: `default_output`.
        model: to start from; None: the shipped one.
        column_mapping: columns that are known.
        encoding: of a table that is not UTF-8 and does not declare its encoding.
        options: further ones of the data set, such as `image_dir`.

    Raises:
        StmineError: data that cannot be read or trained on, an output folder that holds a run, no such model.
    """
    method = get(name)
    output = output or default_output(data, name)
    if output.exists() and not output.is_dir():
        raise StmineError(f"{output}: expected a folder to write to, found a file.")
    if output.is_dir() and (found := contents(output)):
        raise StmineError(
            f"{output} holds a run ({', '.join(found)}), which is not overwritten. Continue it with --resume, or "
            "choose another folder with --output."
        )
    try:
        require_apart(output, data_places(data, None, options))
    except OutputError as error:
        raise OutputError(f"{error} (--output)") from None
    start = published(method.default_checkpoint) if model is None else _start(model, method)
    if not column_mapping and not options and Path(data).expanduser().exists():
        _require_kind(method, data, encoding)
    datasets.disable_progress_bars()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is in the findings
        given = {"encoding": encoding} if encoding else {}
        splits, findings, taken = read_recognized(
            data, method.rows, column_mapping=column_mapping, **{**given, **(options or {})}
        )
    options = {**taken.options, **given, **(options or {})}
    columns = [
        f"{part}={column if isinstance(column, str) else ','.join(column)}"
        for part, column in taken.column_mapping.items()
    ]
    require_apart_from_images(output, splits.values())
    if "train" not in splits and len(splits) == 1:
        raise StmineError(f"{data} has only a split {next(iter(splits))}: expected rows to train on.")
    if "train" in splits:
        _require_variety(splits["train"], method.rows, data)
    splits, held = with_validation(splits, method.rows)
    train = splits["train"]
    _require_variety(train, method.rows, data)
    lines = [f"Data: {'; '.join(taken.taken) or data}."]
    if findings:
        lines.append(f"Of the data: {findings}.")
    rows = f"Rows: {len(train):,} to train on, {len(splits['val']):,} held out to measure on"
    lines.append(f"{rows} ({held})." if held else f"{rows} (the split val).")
    if twice := findings.counts["noted"][IN_TWO_SPLITS]:
        lines.append(
            f"Warning: {counted(twice, 'image')} both in the split train and in another: scores are of images that "
            "the model has learned from. Take them out of one; of data without a split val, rows are held out."
        )
    lines.append(f"Start: {start}.")
    if method.rows == "posts" and (note := _other_labels(start, method, train.features["label"].names)):
        lines.append(note)
    if note := _outside_scope(start, train, method.rows):
        lines.append(note)
    is_file = not taken.data_dir and Path(taken.dataset).exists()
    settings = {
        "dataset": str(absolute(taken.dataset)) if is_file else taken.dataset,
        "data_dir": str(absolute(taken.data_dir)) if taken.data_dir else None,
        "dataset_options": options or None,
        "column_mapping": columns,
        "hold_out": SHARE,
        "model_name_or_path": start,
        "output_dir": str(output),
    }
    return TrainingPlan(method, settings, len(train), lines)


def train_planned(
    plan: TrainingPlan,
    *,
    adapter: bool | None = None,
    changes: Mapping[str, Any] | None = None,
    resume_command: Callable[[Path], str] | None = None,
    command: str | None = None,
    say: Callable[[str], None] = print,
) -> Trained | None:
    """Train as planned.

    Args:
        plan: of `plan_training`.
        adapter: whether to train a LoRA adapter; None: depends on the number of rows.
        changes: settings in place of those for the size of the set; None as a value leaves one as it is.
        resume_command: gives the command that resumes the run in a folder.
        command: that trains so, for the model's card.
        say: called with a description of the settings.

    Returns:
        The result; None in other processes than the first.
    """
    training = plan.method.training
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    shipped = plan.settings["model_name_or_path"] == published(plan.method.default_checkpoint)
    own = training.own_sets.for_size(plan.rows, adapter=adapter, processes=processes, shipped=shipped)
    settings = {**own, **plan.settings}
    settings |= {name: value for name, value in (changes or {}).items() if value is not None}
    if settings.get("max_steps"):
        settings.pop("num_train_epochs", None)
    steps, epochs = settings.get("max_steps"), settings.get("num_train_epochs")
    what = "a LoRA adapter" if settings.get("peft") else "the whole model"
    length = counted(steps, "step") if steps else f"{epochs:g} epoch{'' if epochs == 1 else 's'}"
    say(
        f"Settings for {plan.rows:,} rows: {what}, {length} in batches of "
        f"{settings['per_device_train_batch_size'] * processes}, learning rate {settings['learning_rate']:g}."
    )
    argv = _as_argv(settings, training.arguments)
    return _run(plan.method, argv, resume_command, command, shows_rows=False)  # the plan has shown them


def resume_training(name: str, output: Path, *, resume_command: Callable[[Path], str] | None = None) -> Trained | None:
    """Continue the run in a folder with its own settings; see `train_planned`.

    Raises:
        StmineError: there is no run.
    """
    config = require_run(output)
    argv = ["--config", str(config), "--output_dir", str(output), "--resume_from_checkpoint", "auto"]
    return _run(get(name), argv, resume_command)


def require_run(output: Path) -> Path:
    """The settings of the run in a folder.

    Raises:
        StmineError: there is no run.
    """
    config = output / "config.yaml"
    if not config.is_file():
        raise StmineError(f"{output} holds no run to resume: expected {config}.")
    return config


def in_words_of_command(message: str) -> str:
    """A message of a run with the options that the command has."""
    for option, ours in _OPTIONS.items():
        message = re.sub(option, ours, message)
    return message


def _run(
    method: Method,
    argv: list[str],
    resume_command: Callable[[Path], str] | None,
    command: str | None = None,
    *,
    shows_rows: bool = True,
) -> Trained | None:
    import torch

    from . import script
    from .progress import show_progress
    from .run import finish_run, start_run
    from .script import RunFinished

    training = method.training
    try:
        run = start_run(
            *training.arguments, argv=argv, resume_command=resume_command or script.resume_command, command=command
        )
        run.args.dataloader_pin_memory = torch.accelerator.is_available()
        run.shows_rows = shows_rows
        trainer = training.build(run)
        show_progress(trainer)
        run.train(trainer, method.name)
        if not trainer.is_world_process_zero():
            return None
        results = finish_run(run, trainer)
    except (StmineError, RunFinished) as error:
        error.args = (in_words_of_command(str(error)),)
        raise
    found = (training.examples(row, run.best) for row in undecoded(trainer.eval_dataset or []))
    examples: list[list[str]] = next(filter(None, itertools.islice(found, _ROWS_TRIED)), [])
    metric, place = str(run.args.metric_for_best_model), Path(run.data.data_dir or run.data.dataset)
    data = from_here(place) if place.exists() else None
    return Trained(method, run.best, results, run.args.peft is not None, metric, data, examples)


def _as_argv(settings: Mapping[str, Any], dataclasses: Any) -> list[str]:
    from .arguments import settings_argv

    return settings_argv({name: value for name, value in settings.items() if value is not None}, dataclasses)


def _start(model: str, method: Method) -> str:
    name = resolve(model)
    if (Path(name) / "adapter_config.json").is_file():
        merge = shlex.join(["stmine", "merge", name, "--out", "merged"])
        raise StmineError(f"{name} is an adapter. Make a whole model of it first: {merge}")
    if (found := model_type_of(name)) != method.name:
        raise StmineError(f"{name}: expected a {method.title} model to start from, found one of type {found!r}.")
    return name


def _require_kind(method: Method, data: str, encoding: str | None) -> None:
    """
    Raises:
        StmineError: the data are plainly those of another method.
    """
    found = kinds_of(data, encoding)
    if not found or method.rows in found:
        return
    kind, reason = next(iter(found.items()))
    other = next(one for one in METHODS.values() if one.rows == kind)
    train = shlex.join(["stmine", "train", other.name, "--data", data])
    raise StmineError(
        f"{data} holds {_ROWS[kind]} ({reason}), and {method.title} is trained on {_ROWS[method.rows]}. To train "
        f"{other.title} on them: {train}. If they are {_ROWS[method.rows]} all the same, say which columns hold what: "
        "--column PART=COLUMN"
    )


def _outside_scope(start: str, rows: datasets.Dataset, kind: str) -> str | None:
    """A note for the user if most texts are in another script than those that the start was trained on."""
    file = Path(start) / scope.FILE
    if kind == "boxes" or not file.is_file():
        return None
    known = scope.Scope.read(file)
    texts = rows["text"] if kind == "posts" else [captions[0] for captions in rows["captions"]]
    foreign = sum((found := known.check_text(text)) is not None and found.kind == scope.OTHER_SCRIPT for text in texts)
    if 2 * foreign <= len(texts):
        return None
    return (
        f"Note: {foreign:,} of {len(texts):,} texts are in another script than those that the start was trained on "
        f"({known.script}). It was not trained on their words, and a small data set is not enough to learn them."
    )


def trained_on(model: str | None, taken: Recognized) -> TrainedOn | None:
    """What the run of a model says of these data, if it was trained on them, by the files in the run's folder.

    Args:
        model: its folder, such as RUN/best; of a Hub id, a short name or None nothing is known.
        taken: the data.

    Raises:
        StmineError: a damaged `run.json`.
    """
    found = _run_on(model, taken.data_dir or taken.dataset)
    if found is None:
        return None
    run, settings = found
    identity = RunIdentity.read(run)
    return TrainedOn.of(settings, None if identity is None else identity.data)


@dataclass(frozen=True)
class ReadBy:
    """How the run of a model read the data that it was trained on.

    Attributes:
        columns: which column holds what.
        options: of the data set.
        given: those of them that the user gave, as options of the command.
    """

    columns: dict[str, Any]
    options: dict[str, Any]
    given: str

    @classmethod
    def of(cls, model: str | None, data: str) -> ReadBy | None:
        """That of the run of a model; None if it was not trained on these data, or nothing is known of it."""
        found = _run_on(model, data)
        if found is None:
            return None
        run, settings = found
        identity = RunIdentity.read(run)
        words = shlex.split(data_options(settings, identity.command if identity else None))
        given = [words[at : at + 2] for at in range(0, len(words), 2) if words[at] != "--data"]
        return cls(
            parse_mapping(settings.get("column_mapping") or []),
            dict(settings.get("dataset_options") or {}),
            " ".join(shell_word(word) for pair in given for word in pair),
        )


def _run_on(model: str | None, data: str) -> tuple[Path, dict[str, Any]] | None:
    """The folder and settings of a model's run, if it was trained on these data."""
    if model is None or not Path(model).is_dir():
        return None
    folders = (Path(os.path.abspath(model)).parent, Path(model).resolve().parent)  # `best` may be a link
    run = next((folder for folder in folders if (folder / "config.yaml").is_file()), None)
    if run is None:
        return None
    try:
        settings = read_yaml(run / "config.yaml")
    except StmineError:
        return None
    if not isinstance(settings, dict):
        return None
    return (run, settings) if _is_same_place(settings.get("data_dir") or settings.get("dataset"), data) else None


def _is_same_place(one: Any, other: str) -> bool:
    """Whether two places of data are the same file or folder; of what is not here, such as a Hub id, the same id."""
    there = Path(other).expanduser()
    if not there.exists():
        return str(one) == other
    return os.path.realpath(Path(str(one)).expanduser()) == os.path.realpath(there)


def _other_labels(start: str, method: Method, labels: list[str]) -> str | None:
    """A note for the user if the labels of the data are not those of the start."""
    known = [*(labels_of(start, method) or {}).values()]
    if not known or set(known) == set(labels):
        return None
    return (
        f"Labels: {', '.join(labels)}. Those of the start are {', '.join(known)}: a new classifier with random "
        "weights is trained, so that the score before training is that of chance. If they mean the same, say so: "
        f"--label {shell_word(f'{labels[0]}=LABEL')}, and so on, with {' or '.join(known)} for LABEL."
    )


def _require_variety(rows: datasets.Dataset, kind: str, data: str) -> None:
    """
    Raises:
        StmineError: rows that cannot be trained on.
    """
    if kind == "boxes":
        if not any(objects["bbox"] for objects in rows["objects"]):
            raise StmineError(f"{data}: none of the {len(rows):,} images has a box.")
    elif kind == "posts":
        names = rows.features["label"].names
        seen = sorted({names[label] for label in rows["label"] if label >= 0})
        if len(seen) < 2:
            found = f"all labelled posts are {seen[0]!r}" if seen else "no post has a label"
            raise StmineError(f"{data}: expected posts of two labels at least, but {found}.")
    elif len({" ".join(captions) for captions in rows["captions"]}) < 2:
        raise StmineError(f"{data}: expected images with different captions, found {len(rows):,} with the same ones.")

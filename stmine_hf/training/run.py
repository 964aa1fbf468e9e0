"""Begin and end of a training run: its settings, folder, identity and results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import set_seed

from ..cards.run import RunCard
from ..cards.settings import outcome_of, resolved_arguments
from ..data.paths import absolute, data_places
from ..errors import StmineError
from ..files import only_writer
from ..methods import get
from ..outputs import require_apart, require_readable_name
from ..printing import print_table, say
from .arguments import ZooDataArguments, ZooTrainingArguments, parse_arguments, save_arguments
from .checkpoints import recover_interrupted_save
from .identity import (
    RESULTS,
    RUN_FILE,
    RunIdentity,
    Start,
    choose_start,
    data_fingerprint,
    require_apart_from_images,
)
from .rows import Rows, load_rows
from .script import RunFinished, resume_command
from .streamed import Streamed
from .trainer import BEST_FOLDER, ZooTrainer
from .write_up import (
    BY_CLASS,
    best_evaluation,
    class_hints,
    class_rows,
    class_table,
    plot_curves,
    scores_table,
    start_evaluation,
    write_results,
)

logger = logging.getLogger(__name__)

_Prepared = tuple[Start | StmineError, ExitStack]
_STARTS = (
    "model_name_or_path",
    "init_from",
    "preset",
    "toy_model",
    "vision_backbone",
    "conv_backbone",
    "text_backbone",
)


@dataclass
class Run:
    """A training run: its settings and where it begins.

    Attributes:
        model: settings of the model.
        data: settings of the data.
        args: settings of the training.
        identity: of the run.
        checkpoint: the one that it resumes from; None for a new run.
        resume_command: gives the command that resumes the run in a folder.
        shows_rows: print how many rows there are, and what was found in the data.
    """

    model: Any
    data: Any
    args: ZooTrainingArguments
    identity: RunIdentity
    checkpoint: str | None
    resume_command: Callable[[Path], str] = resume_command
    _held: ExitStack = field(default_factory=ExitStack, repr=False)  # the lock of the folder
    shows_rows: bool = True

    @property
    def output_dir(self) -> Path:
        return Path(self.args.output_dir or ".")

    @property
    def best(self) -> Path:
        """The folder of the best model."""
        return self.output_dir / BEST_FOLDER

    def load_rows(self, kind: str, most_train: int | None, most_eval: int | None) -> tuple[Rows, Rows | None]:
        """The rows to train on and those that select the best model; see `load_rows`."""
        data: ZooDataArguments = self.data
        train_rows, eval_rows = load_rows(kind, data, self.args, most_train, most_eval, show=self.shows_rows)
        if self.identity.data is None:
            require_apart_from_images(self.output_dir, [train_rows, eval_rows])
        found, before = data_fingerprint(train_rows), self.identity.data
        if self.checkpoint and before is not None and found != before:
            logger.warning(
                "The training rows changed since the run began (%s rows then, %s now): the resumed run differs from "
                "an uninterrupted one.",
                *(before["rows"], "unknown" if found is None else found["rows"]),
            )
        self.identity = replace(self.identity, data=found)
        if self.args.should_save:
            self.identity.write(self.output_dir)
        return train_rows, eval_rows

    def train(self, trainer: ZooTrainer, method: str) -> None:
        """Train from the beginning or the checkpoint.

        Args:
            trainer: of the run.
            method: name of the method, for the card beside the best weights.

        Raises:
            RunFinished: the run was finished before, with its results written.
        """
        script = f"examples/train_{method}.py"
        trainer.card = RunCard(method, self.model, self.data, self.args, script, self.identity.command)
        trainer.resume_command = self.resume_command
        trainer.checkpoint_files = {RUN_FILE: self.identity.text}
        trainer.train(resume_from_checkpoint=self.checkpoint)
        if trainer.was_finished and (self.output_dir / RESULTS).is_file():
            raise RunFinished(
                f"The run in {self.output_dir} is finished: step {trainer.state.global_step} of "
                f"{trainer.state.max_steps}. Its model is {self.best}. To continue training, raise "
                "num_train_epochs or max_steps; to start a new run, choose another --output_dir."
            )


def start_run(
    *dataclasses: Any,
    argv: Sequence[str] | None = None,
    resume_command: Callable[[Path], str] = resume_command,
    command: str | None = None,
) -> Run:
    """Read the settings of a run from the command line, prepare its folder and set the random seeds.

    The folder is locked for this process, and gets `config.yaml` (the settings as resolved) and `run.json`.

    Args:
        dataclasses: of the settings of model, data and training.
        argv: the command line without the program's name; by default that of this process.
        resume_command: gives the command that resumes the run in a folder.
        command: that starts a new run, for its card.

    Raises:
        StmineError: settings that do not fit, a folder that holds another run or is being written by one, no such
            checkpoint.
    """
    model, data, args = parse_arguments(dataclasses, argv)
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.ERROR, format="%(message)s")
    # Whether to resume or overwrite is not a setting of the run: whoever reads config.yaml next decides it again.
    resume, args.resume_from_checkpoint = args.resume_from_checkpoint, None
    overwrite, args.overwrite_output_dir = args.overwrite_output_dir, False
    shared: list[Any] = [None]
    held = ExitStack()
    if args.should_save:
        shared[0], held = _prepare_folder((model, data, args), resume, overwrite, command)
    start = broadcast_object_list(shared)[0]
    if isinstance(start, StmineError):
        raise start
    set_seed(args.seed)
    return Run(model, data, args, start.identity, start.checkpoint, resume_command, held)


def finish_run(run: Run, trainer: ZooTrainer) -> dict[str, Any]:
    """Write `results.json` and `curves.png`, print the scores before and after. Only the main process calls it.

    Args:
        run: that `start_run` began.
        trainer: after training.

    Returns:
        The content of `results.json`: `start` and `best` are the evaluations before the first step and of the best
        model, None without any.
    """
    facts = trainer.last_results()
    if trainer.eval_dataset is None:
        trainer.keep_last()
    history, parameters = trainer.state.log_history, sum(tensor.numel() for tensor in trainer.network.parameters())
    metric = str(run.args.metric_for_best_model)
    start, best = start_evaluation(history, metric), best_evaluation(history, metric, bool(run.args.greater_is_better))
    more = {"start": start, "parameters": parameters, "unreadable": trainer.samples.unreadable}
    method = get(trainer.network.config.model_type)
    classes = class_rows(
        (start or {}).get(BY_CLASS, []),
        outcome_of(run.best).get(BY_CLASS, []) if best else [],
        trainer.class_counts(),
        method.rows,
        method.class_metrics,
    )
    more |= {BY_CLASS: classes} if classes else {}
    more |= {"command": run.identity.command} if run.identity.command else {}
    if best is not None and not isinstance(trainer.samples, Streamed):
        more["rows"] = {"train": len(trainer.samples.rows), "val": len(trainer.eval_dataset)}
    results = write_results(run.output_dir / RESULTS, history, best, **more, seed=run.args.seed, **facts)
    plot_curves(run.output_dir / "curves.png", history, list(trainer.scores), trainer.scores_label, best)
    if best is not None:
        rows = {"before training": start, f"best: step {best['step']}, epoch {best['epoch']:.3g}": best}
        print_table(scores_table({**rows, **{name: row for name, row in facts.items() if row}}, trainer.scores))
    if classes:
        print_table(class_table(classes, method.rows, method.class_metrics))
        for line in class_hints(classes, method.rows):
            say(line)
    return results


def _prepare_folder(
    run: tuple[Any, Any, ZooTrainingArguments], resume: str | None, overwrite: bool, command: str | None
) -> _Prepared:
    """Lock the folder and decide how the run begins; an error is returned, for all processes to raise."""
    folder, held = Path(run[2].output_dir or "."), ExitStack()
    try:
        require_readable_name(folder)
        if resume is None or not (folder / RUN_FILE).is_file():  # earlier versions began runs in such folders
            _require_apart(folder, *run[:2])
        folder.mkdir(parents=True, exist_ok=True)
        held.enter_context(only_writer(folder))
        recover_interrupted_save(folder)
        settings = {name: value for name, value in resolved_arguments(*run).items() if name != "output_dir"}
        start = choose_start(folder, resume, overwrite, _own_settings(*run), settings)
        if command is not None:
            start = replace(start, identity=replace(start.identity, command=command))
    except StmineError as error:
        return error, held
    start.identity.write(folder)
    save_arguments(folder / "config.yaml", *run)
    return start, held


def _require_apart(folder: Path, model: Any, data: Any) -> None:
    """
    Raises:
        OutputError: the folder of the run is, contains or lies in its data; or is or contains the model of its start.
    """
    features = getattr(data, "features", None)
    places = data_places(data.dataset, data.data_dir, data.dataset_options)
    require_apart(folder, [*places, *([absolute(features)] if features else [])])
    models = [getattr(model, name, None) for name in _STARTS] + [getattr(data, "detector", None)]
    require_apart(folder, [absolute(one) for one in models if isinstance(one, str)], inside=True)


def _own_settings(model: Any, data: Any, args: ZooTrainingArguments) -> dict[str, Any]:
    """The settings that distinguish this run from others. Paths by their last part: a folder may have moved since."""
    starts = {name: getattr(model, name, None) for name in _STARTS}
    settings = {"dataset": data.dataset, **starts, "model_config": model.model_config, "peft": args.peft}
    plain = {name: Path(value).name if isinstance(value, str) else value for name, value in settings.items()}
    return {**plain, "seed": args.seed}

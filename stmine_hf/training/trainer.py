"""`transformers.Trainer` as all methods use it: selection of the best model, mean weights, loss terms, resuming.

The trainer of a method is a subclass that defines how a model is evaluated and, where it differs, the learning rates.
"""

from __future__ import annotations

import logging
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import Field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import TrainOutput

from ..cards.adapter import has_adapter
from ..errors import StmineError
from .adapters import frozen_batchnorms, save_adapter
from .arguments import ZooTrainingArguments
from .batch_rows import ROWS, WithRows, report_batch
from .checkpoint_trainer import CheckpointTrainer
from .checkpoints import (
    UNFINISHED,
    free_space,
    is_write_failure,
    last_checkpoint,
    put_in_place,
    recover_interrupted_save,
)
from .ema import WeightEma
from .fit import fit_to_set
from .gradient_checkpointing import prepare_gradient_checkpointing
from .interruption import Interrupted, StopSignals, leaving_signals_to_parent
from .loss_terms import LossTerms, describe_broken_loss, term_values
from .parameters import freeze_batchnorm, freeze_by_name, parameter_groups, train_only
from .script import resume_command
from .streamed import Streamed
from .write_up import BY_CLASS, evaluations

if TYPE_CHECKING:
    from .rows import Rows

logger = logging.getLogger(__name__)

BEST_FOLDER = "best"


class Report(Protocol):
    """The result of an evaluation, as of `evaluate_retrieval`: a dataclass with a field `model`, a name."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def seconds(self) -> float: ...

    @property
    def metrics(self) -> dict[str, float]: ...

    @property
    def by_class(self) -> list[dict[str, Any]]: ...

    def save(self, folder: str | Path) -> None: ...


class Card(Protocol):
    """Writes the README.md beside the best weights; see `stmine_hf.cards.run.RunCard`."""

    def write(
        self, folder: Path, network: PreTrainedModel, metrics: Mapping[str, Any] | None, step: int, steps: int
    ) -> None: ...


class _NothingLeft(Exception):
    """Ends the loop of a run that is resumed at its last step, before it trains another step."""


class ZooTrainer(CheckpointTrainer):
    """Trains a model of this project.

    * Every term of `loss_dict` is logged; a loss that is not finite stops the run.
    * `evaluate()` measures `eval_dataset` by `measure`. Each time the metric of `metric_for_best_model` improves, the
      model is saved to `<output_dir>/best`, so that an interrupted run has saved its best model.
    * With `ema_decay` the mean weights are evaluated and saved there. Checkpoints hold both kinds.
    * `set_epoch` of the training set is called at each epoch, counted from 0.
    * SIGTERM and Ctrl-C end the run after the current step, with a checkpoint.
    * A run resumed from its last step trains no further step; `was_finished` is then true.
    * Of a model with an adapter (`adapters.add_adapter`), only the adapter is trained, saved and resumed.

    Args:
        model: Its outputs have `loss` and, if that has several terms, `loss_dict`.
        args: Training arguments; its freezing fields are applied to `model` here, and settings that do not fit a small
            set are changed (see `fit_to_set`).
        train_dataset: The samples.
        eval_dataset: The argument of `measure`, or None with `eval_strategy="no"`.
        data_collator: Makes the model's inputs from samples.
        processing_class: The processor, saved beside the model.

    Raises:
        StmineError: From `train()`, when the loss is not finite (the message names the term and the rows), or when the
            best model cannot be written.
        Interrupted: From `train()`, after SIGTERM or Ctrl-C; the message says how to resume.
    """

    parts: Mapping[str, Sequence[str]] = MappingProxyType({})  # name -> prefixes of parameters; "head": all others
    scores: Mapping[str, str] = MappingProxyType({})  # metrics of tables and curves -> titles
    scores_label = "validation"  # of the axis of the curves
    optimizer: torch.optim.Optimizer
    control: TrainerControl
    data_collator: Any

    def __init__(self, model: nn.Module, args: ZooTrainingArguments, train_dataset: Any, **kwargs: Any):
        if not isinstance(train_dataset, Streamed):
            fit_to_set(args, len(train_dataset))
        self._frozen_norms = self.freeze(model, args)
        if args.train_only:
            self._frozen_norms += train_only(model, self.parts, args.train_only)
        if has_adapter(model):
            self._frozen_norms = frozen_batchnorms(model)
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        self.samples, self.network, self.processor = train_dataset, model, self.processing_class
        self.ema = WeightEma(model, args.ema_decay) if args.ema_decay else None
        self.card: Card | None = None  # written beside the best weights
        self.resume_command: Callable[[Path], str] = resume_command  # of the folder of the run
        self.was_finished = False
        self._terms = LossTerms()
        self._signals = StopSignals()
        self._stopping: int | None = None  # the signal that ends the run
        self.add_callback(_EachStep(self))
        if isinstance(model, PreTrainedModel):
            prepare_gradient_checkpointing(model, self.checkpointed_blocks())

    def measure(self, rows: Rows) -> Report:
        """Evaluate the current weights on the rows of a split."""
        raise NotImplementedError

    def last_results(self) -> dict[str, Any]:
        """Further results, computed after the last step."""
        return {}

    def class_counts(self) -> dict[str, int]:
        """How often the training samples have each class; empty where this is unknown, or rows have no classes."""
        return {}

    def model_inputs(self) -> dict[str, Any]:
        """Arguments of the model's `forward` in addition to those of the collator."""
        return {}

    def lr_multipliers(self) -> dict[str, float]:
        """Mapping of prefixes of parameter names to multipliers of the learning rate; "" stands for all others."""
        return {"": 1.0}

    def checkpointed_blocks(self) -> list[nn.Module]:
        """Blocks that `gradient_checkpointing` recomputes, in addition to the layers of transformers' encoders."""
        return []

    def freeze(self, model: nn.Module, args: ZooTrainingArguments) -> list[nn.Module]:
        """Freeze parameters as `args` say; returns the batch norms to keep in eval mode."""
        freeze_by_name(model, args.freeze)
        return freeze_batchnorm(model) if args.freeze_batchnorm else []

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        if self.args.should_save:
            recover_interrupted_save(self.args.output_dir or ".")
        notice = "Stopping after this step, with a checkpoint." if self.is_world_process_zero() else ""
        self._stopping, self.was_finished = None, False
        with StopSignals(notice) as self._signals:
            try:
                output = super().train(*args, **kwargs)
            except _NothingLeft:
                self.was_finished, self.is_in_train = True, False
                self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
                output = TrainOutput(self.state.global_step, 0.0, {})
        if self._stopping is not None:
            raise Interrupted(self._how_to_resume(), self._stopping)
        return output

    def asked_to_stop(self) -> int | None:
        """The signal that any of the processes has received; the same in all of them."""
        number = self._signals.received or 0
        if self.args.world_size > 1:
            signals = torch.tensor(number, device=self.args.device)
            torch.distributed.all_reduce(signals, torch.distributed.ReduceOp.MAX)
            number = int(signals)
        return number or None

    def _how_to_resume(self) -> str:
        assert self._stopping is not None
        state, output_dir = self.state, Path(self.args.output_dir or ".")
        saved = last_checkpoint(output_dir)
        where = f"its last checkpoint is {saved}" if saved else "no checkpoint could be written"
        return (
            f"stopped by {signal.Signals(self._stopping).name} after step {state.global_step} of {state.max_steps}; "
            f"{where}. Resume with:\n  {self.resume_command(output_dir)}"
        )

    def get_train_dataloader(self) -> DataLoader:
        collator, self.data_collator = self.data_collator, WithRows(self.data_collator)
        try:
            streamed = isinstance(self.samples, Streamed)
            loader = self._stream_loader(self.samples) if streamed else super().get_train_dataloader()
        finally:
            self.data_collator = collator
        if loader.num_workers:
            loader.worker_init_fn = leaving_signals_to_parent(loader.worker_init_fn)
        return loader

    def _stream_loader(self, samples: Streamed) -> DataLoader:
        """A loader of rows that already belong to this process, so that accelerate does not distribute them."""
        workers = samples.workers if self.args.dataloader_num_workers else 0
        loader: Any = DataLoader(
            samples,
            batch_size=self.args.train_batch_size,
            collate_fn=self.data_collator,
            num_workers=workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True, dispatch_batches=False
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        self.keep_norms_frozen()
        rows = inputs.pop(ROWS, None)
        outputs = model(**inputs, **self.model_inputs())
        self.note_terms(outputs, inputs, rows)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def keep_norms_frozen(self) -> None:
        """Set frozen batch norms back to eval mode: a step has just set the whole model to train mode."""
        for norm in self._frozen_norms:
            norm.eval()

    def note_terms(self, outputs: Any, inputs: dict[str, Any], rows: Tensor | None) -> None:
        """Add the terms of the loss to those of the next log line.

        Args:
            outputs: of the model.
            inputs: the batch.
            rows: numbers of the batch's rows in the training split.

        Raises:
            StmineError: the loss is not finite.
        """
        if not torch.isfinite(outputs.loss):
            raise StmineError(
                f"The loss is {outputs.loss.item()} at step {self.state.global_step} (epoch {self.current_epoch})"
                f"{describe_broken_loss(outputs)}.{self._broken_rows(inputs, rows, term_values(outputs))} Lower "
                f"learning_rate (now {self.args.learning_rate:.2g}) or max_grad_norm (now "
                f"{self.args.max_grad_norm:g}), and resume from the last checkpoint with --resume_from_checkpoint "
                "auto."
            )
        self._terms.add(outputs)

    @property
    def current_epoch(self) -> int:
        """Epochs completed, an integer from 0."""
        return int((self.state.epoch or 0.0) + 1e-6)  # the state's fraction is a quotient of integers

    def _broken_rows(self, inputs: dict[str, Any], rows: Tensor | None, terms: dict[str, float]) -> str:
        if rows is None:
            return ""
        rank = f"-{self.args.process_index}" if self.args.world_size > 1 else ""
        file = Path(self.args.output_dir or ".") / f"failed_batch{rank}.json"
        facts = {"step": self.state.global_step, "epoch": self.current_epoch, "terms": terms}
        return " " + report_batch(file, facts, inputs, rows.tolist(), self.samples.rows)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self._terms.pop_means(lambda means: self.accelerator.reduce(means, reduction="mean"))
        super().log(logs, start_time)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            args = self.args
            groups = parameter_groups(self.network, args.learning_rate, args.weight_decay, self.lr_multipliers())
            for group in groups:
                del group["names"]
            kind, options = self.get_optimizer_cls_and_kwargs(args)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        shared: list[Any] = [None]
        if self.is_world_process_zero():  # the others wait: evaluation takes only seconds
            try:
                with self.ema.applied() if self.ema else nullcontext():
                    shared[0] = self._measure_and_keep(rows, metric_key_prefix)
            except StmineError as error:
                shared[0] = error
        metrics = broadcast_object_list(shared)[0]
        if isinstance(metrics, StmineError):
            raise metrics
        classes = metrics.pop(BY_CLASS, None)
        self.log(metrics)
        if classes is not None:  # after `log`, whose trackers take numbers only
            self.state.log_history[-1][BY_CLASS] = classes
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.is_in_train and self.patience_is_over():
            logger.info(
                "No better %s in %d evaluations: stopping.",
                *(self.args.metric_for_best_model, self.args.early_stopping_patience),
            )
            self.control.should_training_stop = True
        return metrics

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        at_start = skip_scheduler  # set for `eval_on_start`, which the Trainer repeats in a resumed run
        if at_start and (self.state.global_step or self.eval_dataset is None):
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)

    def patience_is_over(self) -> bool:
        """Whether the last `early_stopping_patience` evaluations were no better than one before them."""
        patience, name = self.args.early_stopping_patience, self.args.metric_for_best_model
        sign = 1 if self.args.greater_is_better else -1
        scores = [sign * entry[f"eval_{name}"] for entry in evaluations(self.state.log_history, str(name))]
        if patience is None or not scores:
            return False
        return len(scores) - 1 - scores.index(max(scores)) >= patience

    def _measure_and_keep(self, rows: Rows | None, prefix: str) -> dict[str, Any]:
        report = self.measure(rows)
        metrics: dict[str, Any] = {f"{prefix}_{name}": value for name, value in report.metrics.items()}
        metrics[f"{prefix}_runtime"] = round(report.seconds, 2)
        if self.is_in_train and not self.state.global_step:  # of the best model, they are beside its weights
            metrics[BY_CLASS] = report.by_class
        if self.is_in_train and self.state.global_step and self._is_best(metrics):
            self._keep_best(report)
        return metrics

    def _is_best(self, metrics: dict[str, float]) -> bool:
        value, best = metrics[f"eval_{self.args.metric_for_best_model}"], self.state.best_metric
        return best is None or (value > best if self.args.greater_is_better else value < best)

    def keep_last(self) -> None:
        """Save the current (mean) weights as the run's best model, for runs without evaluation."""
        with self.ema.applied() if self.ema else nullcontext():
            self._keep_best()

    def _keep_best(self, report: Report | None = None) -> None:
        """Write model, processor and scores to a temporary folder, then replace the previous best model."""
        output_dir = Path(self.args.output_dir or ".")
        new = output_dir / UNFINISHED / BEST_FOLDER
        shutil.rmtree(new, ignore_errors=True)
        part: Any
        try:
            if has_adapter(self.network):
                save_adapter(self.network, self.processor, new)
            else:
                for part in (self.network, self.processor):
                    part.save_pretrained(new)
            if report is not None:  # of the new model, no longer of the one it started from
                replace(report, model=output_dir.absolute().name).save(new)
            if self.card is not None:
                metrics = None if report is None else report.metrics
                self.card.write(new, self.network, metrics, self.state.global_step, self.state.max_steps)
            put_in_place(output_dir, BEST_FOLDER)
        except Exception as error:
            if not is_write_failure(error):
                raise
            recover_interrupted_save(output_dir)
            saved = last_checkpoint(output_dir) or "the start: there is no checkpoint yet"
            raise StmineError(
                f"Cannot write the best model to {output_dir} ({free_space(output_dir)}): {error}. Free some space "
                f"and resume with --resume_from_checkpoint auto, from {saved}."
            ) from error


class _EachStep(TrainerCallback):
    """Callbacks: set the epoch of the samples, update the mean weights, stop on a signal."""

    def __init__(self, trainer: ZooTrainer):
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.global_step:
            return
        # A checkpoint of the last step of an epoch is written before that epoch's evaluation; a kill in between left
        # none, and the epoch is not trained again.
        if args.eval_strategy == "epoch" and _at_end_of_epoch(state):
            name = f"eval_{args.metric_for_best_model}"
            if not any(name in entry and entry["step"] == state.global_step for entry in state.log_history):
                self.trainer._determine_best_metric(self.trainer.evaluate(), None)
        if state.global_step >= state.max_steps or self.trainer.patience_is_over():
            raise _NothingLeft  # the Trainer looks at its flags after a step only

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if hasattr(self.trainer.samples, "set_epoch"):
            self.trainer.samples.set_epoch(self.trainer.current_epoch)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.trainer.ema:
            self.trainer.ema.update()
        if (number := self.trainer.asked_to_stop()) and state.global_step < state.max_steps:
            self.trainer._stopping = number
            control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.trainer._stopping is None:
            return
        # The end of an epoch for the Trainer alone: its work there would come in the middle of one. At a true end it
        # evaluates as usual, because the resumed run begins after that.
        if not _at_end_of_epoch(state):
            control.should_evaluate = control.should_log = False
        control.should_save = True


def _at_end_of_epoch(state: TrainerState) -> bool:
    return abs(state.epoch - round(state.epoch)) < 1e-6

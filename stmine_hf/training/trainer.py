"""`transformers.Trainer` as all methods use it: one measure of the best model, weight mean, loss terms, safe resuming.

A method's own trainer is a subclass that says how a model is measured and, where it differs, what trains how fast.
"""

from __future__ import annotations

import logging
import math
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainerCallback

from ..cards.adapter import has_adapter
from ..cards.run import RunCard
from ..errors import StmineError
from .adapters import held_norms, load_adapter_weights, save_adapter
from .arguments import ZooTrainingArguments
from .batch_rows import ROWS, WithRows, is_broken, report_batch
from .checkpoints import UNFINISHED, free_space, is_write_failure, last_checkpoint, mend, put_in_place, remove_oldest
from .ema import WeightEma
from .gradient_checkpointing import prepare_recomputing
from .interruption import Interrupted, StopSignals, leaving_signals_to_parent
from .parameters import freeze_batchnorm, freeze_by_name, parameter_groups, train_only
from .streamed import Streamed

logger = logging.getLogger(__name__)

EMA_FILE = "ema.safetensors"
BEST_FOLDER = "best"


class Report(Protocol):
    """What a measurement gives: `evaluate_retrieval` and its like."""

    @property
    def seconds(self) -> float: ...

    @property
    def metrics(self) -> dict[str, float]: ...

    def save(self, folder: str | Path) -> None: ...


class ZooTrainer(Trainer):
    """Trains a model of this project.

    * Every term of `loss_dict` is logged; a loss that is no longer a number stops the run.
    * `evaluate()` measures `eval_dataset` by `measure`. Each time the metric of `metric_for_best_model` improves, the
      model goes to `<output_dir>/best`: a run cut short leaves its best model behind.
    * With `ema_decay` the mean weights are what is evaluated and kept there. Checkpoints hold both kinds.
    * A training set that has `set_epoch` is told each epoch, counted from 0.
    * SIGTERM and Ctrl-C end the run after the present step, with a checkpoint.
    * A checkpoint appears in its place only when it is whole. One that cannot be written is left out with a warning,
      and the run goes on.
    * Of a model with an adapter (`adapters.add_adapter`) the adapter alone is trained, kept and resumed.

    Args:
        model: Its outputs have `loss` and, if that has several terms, `loss_dict`.
        args: Training arguments; its freezing fields are applied to `model` here.
        train_dataset: The samples.
        eval_dataset: What `measure` takes, or None with `eval_strategy="no"`.
        data_collator: Makes the model's inputs of samples.
        processing_class: The processor, saved beside the model.

    Raises:
        StmineError: From `train()`, when the loss is no longer a number (the message names the term and the rows), or
            when the best model cannot be written.
        Interrupted: From `train()`, after SIGTERM or Ctrl-C; the message says how to go on.
    """

    args: ZooTrainingArguments
    parts: Mapping[str, Sequence[str]] = MappingProxyType({})  # name to prefixes of parameters; "head" is the rest
    optimizer: Any
    control: Any
    data_collator: Any

    def __init__(self, model: nn.Module, args: ZooTrainingArguments, train_dataset: Any, **kwargs: Any):
        self._frozen_norms = self.freeze(model, args)
        if args.train_only:
            self._frozen_norms += train_only(model, self.parts, args.train_only)
        if has_adapter(model):
            self._frozen_norms = held_norms(model)
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        self.samples, self.network, self.processor = train_dataset, model, self.processing_class
        self.ema = WeightEma(model, args.ema_decay) if args.ema_decay else None
        self._terms: dict[str, Tensor] = {}
        self._terms_steps = 0
        self.card: RunCard | None = None  # written beside the best weights
        self._folder: str | None = None  # of checkpoints, while one is being written
        self._signals = StopSignals()
        self._stopping: int | None = None  # the signal that the run is being left for
        self.add_callback(_EachStep(self))
        if isinstance(model, PreTrainedModel):
            prepare_recomputing(model, self.recomputed())

    # ---- what a method says ----

    def measure(self, rows: Any) -> Report:
        """Score the present weights on the rows of a split."""
        raise NotImplementedError

    def model_inputs(self) -> dict[str, Any]:
        """Arguments of the model's `forward` beside what the collator made."""
        return {}

    def lr_multipliers(self) -> dict[str, float]:
        """Prefix of a parameter's name to multiplier of its learning rate; "" is the rest."""
        return {"": 1.0}

    def recomputed(self) -> list[nn.Module]:
        """Blocks that `gradient_checkpointing` computes twice, beside the layers of transformers' encoders."""
        return []

    def freeze(self, model: nn.Module, args: ZooTrainingArguments) -> list[nn.Module]:
        """Freeze what `args` says; returns the batch norms to keep in eval mode."""
        freeze_by_name(model, args.freeze)
        return freeze_batchnorm(model) if args.freeze_batchnorm else []

    # ---- beginning and end ----

    def train(self, *args: Any, **kwargs: Any) -> Any:
        if self.args.should_save:
            mend(self.args.output_dir or ".")
        say = "Stopping after this step, with a checkpoint." if self.is_world_process_zero() else ""
        with StopSignals(say) as self._signals:
            self._stopping = None
            output = super().train(*args, **kwargs)
        if self._stopping is not None:
            raise Interrupted(self._farewell(), self._stopping)
        return output

    def asked_to_stop(self) -> int | None:
        """The signal that any of the processes has received; the same answer in all of them."""
        number = self._signals.received or 0
        if self.args.world_size > 1:
            signals = torch.tensor(number, device=self.args.device)
            torch.distributed.all_reduce(signals, torch.distributed.ReduceOp.MAX)
            number = int(signals)
        return number or None

    def _farewell(self) -> str:
        assert self._stopping is not None
        state, output_dir = self.state, Path(self.args.output_dir or ".")
        kept = last_checkpoint(output_dir)
        where = f"its last checkpoint is {kept}" if kept else "no checkpoint could be written"
        return (
            f"stopped by {signal.Signals(self._stopping).name} after step {state.global_step} of {state.max_steps}; "
            f"{where}. Go on with:\n  accelerate launch {sys.argv[0]} --config {output_dir / 'config.yaml'} "
            "--resume_from_checkpoint auto"
        )

    # ---- the batches ----

    def get_train_dataloader(self) -> Any:
        collator, self.data_collator = self.data_collator, WithRows(self.data_collator)
        try:
            streamed = isinstance(self.samples, Streamed)
            loader = self._stream_loader(self.samples) if streamed else super().get_train_dataloader()
        finally:
            self.data_collator = collator
        if loader.num_workers:
            loader.worker_init_fn = leaving_signals_to_parent(loader.worker_init_fn)
        return loader

    def _stream_loader(self, samples: Streamed) -> Any:
        """Of rows that are this process's own already, so that accelerate has nothing to share out."""
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

    # ---- the step ----

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        self.hold_norms()
        rows = inputs.pop(ROWS, None)
        outputs = model(**inputs, **self.model_inputs())
        self.note_terms(outputs, inputs, rows)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def hold_norms(self) -> None:
        """Frozen batch norms back to eval mode: a step has just set the whole model to train mode."""
        for norm in self._frozen_norms:
            norm.eval()

    def note_terms(self, outputs: Any, inputs: dict[str, Any], rows: Tensor | None) -> None:
        """Add the terms of the loss to what is logged.

        Args:
            outputs: of the model.
            inputs: the batch.
            rows: of the training split that the batch consists of.

        Raises:
            StmineError: the loss is not a number.
        """
        if not torch.isfinite(outputs.loss):
            raise StmineError(self._not_a_number(outputs, inputs, rows))
        for name, value in (getattr(outputs, "loss_dict", None) or {}).items():
            self._terms[name] = self._terms.get(name, 0.0) + value.detach().float()
        self._terms_steps += 1

    @property
    def current_epoch(self) -> int:
        """Epochs completed, an integer from 0."""
        return int((self.state.epoch or 0.0) + 1e-6)  # the state's fraction is a quotient of integers

    def _not_a_number(self, outputs: Any, inputs: dict[str, Any], rows: Tensor | None) -> str:
        terms = {name: value.item() for name, value in (getattr(outputs, "loss_dict", None) or {}).items()}
        guilty = [name for name, value in terms.items() if not math.isfinite(value)]
        because = f" because of {', '.join(guilty or ['the sum of the terms'])}" if terms else ""
        upstream = [name for name, value in outputs.items() if name != "loss" and is_broken(value)]
        origin = f" ({' and '.join(upstream)} are not finite already)" if upstream else ""
        values = "; all terms: " + ", ".join(f"{name} {value:.4g}" for name, value in terms.items()) if terms else ""
        return (
            f"The loss is {outputs.loss.item()} at step {self.state.global_step} (epoch {self.current_epoch})"
            f"{because}{origin}{values}.{self._guilty_rows(inputs, rows, terms)} Lower learning_rate (now "
            f"{self.args.learning_rate:.2g}) or max_grad_norm (now {self.args.max_grad_norm:g}), and go on from the "
            "last checkpoint with --resume_from_checkpoint auto."
        )

    def _guilty_rows(self, inputs: dict[str, Any], rows: Tensor | None, terms: dict[str, float]) -> str:
        if rows is None:
            return ""
        rank = f"-{self.args.process_index}" if self.args.world_size > 1 else ""
        file = Path(self.args.output_dir or ".") / f"failed_batch{rank}.json"
        facts = {"step": self.state.global_step, "epoch": self.current_epoch, "terms": terms}
        return " " + report_batch(file, facts, inputs, rows.tolist(), self.samples.rows)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._terms:
            names = sorted(self._terms)
            means = torch.stack([self._terms[name] for name in names]) / self._terms_steps
            means = self.accelerator.reduce(means, reduction="mean")
            logs |= {f"loss_{name}": round(value, 5) for name, value in zip(names, means.tolist(), strict=True)}
        if "loss" in logs:
            self._terms, self._terms_steps = {}, 0
        super().log(logs, start_time)

    # ---- optimizer ----

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            args = self.args
            groups = parameter_groups(self.network, args.learning_rate, args.weight_decay, self.lr_multipliers())
            for group in groups:
                del group["names"]
            kind, options = self.get_optimizer_cls_and_kwargs(args)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    # ---- the Hub: nothing goes there before the end ----

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        from ..hub import require_login

        if self.is_world_process_zero():
            require_login(self.args.hub_model_id or "")  # hours before it is needed

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        pass

    # ---- evaluation and the best model ----

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        shared: list[Any] = [None]
        if self.is_world_process_zero():  # the others wait: a validation set takes seconds
            try:
                with self.ema.applied() if self.ema else nullcontext():
                    shared[0] = self._measure_and_keep(rows, metric_key_prefix)
            except StmineError as error:
                shared[0] = error
        metrics = broadcast_object_list(shared)[0]
        if isinstance(metrics, StmineError):
            raise metrics
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.is_in_train and self._patience_is_over():
            self.control.should_training_stop = True
        return metrics

    def _patience_is_over(self) -> bool:
        patience, name = self.args.early_stopping_patience, self.args.metric_for_best_model
        if patience is None:
            return False
        sign = 1 if self.args.greater_is_better else -1
        scores = [sign * entry[f"eval_{name}"] for entry in self.state.log_history if f"eval_{name}" in entry]
        over = len(scores) - 1 - scores.index(max(scores)) >= patience
        if over:
            logger.info("No better %s in %d evaluations: stopping.", name, patience)
        return over

    def _measure_and_keep(self, rows: Any, prefix: str) -> dict[str, float]:
        report = self.measure(rows)
        metrics = {f"{prefix}_{name}": value for name, value in report.metrics.items()}
        metrics[f"{prefix}_runtime"] = round(report.seconds, 2)
        if self.is_in_train and self._is_best(metrics):
            self._keep_best(report)
        return metrics

    def _is_best(self, metrics: dict[str, float]) -> bool:
        value, best = metrics[f"eval_{self.args.metric_for_best_model}"], self.state.best_metric
        return best is None or (value > best if self.args.greater_is_better else value < best)

    def keep_last(self) -> None:
        """Make the present (mean) weights the run's best model: for runs that evaluate nothing."""
        with self.ema.applied() if self.ema else nullcontext():
            self._keep_best()

    def _keep_best(self, report: Report | None = None) -> None:
        """Write model, processor and scores, then let them take the place of the best so far."""
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
            if report is not None:
                report.save(new)
            if self.card is not None:
                metrics = None if report is None else report.metrics
                self.card.write(new, self.network, metrics, self.state.global_step, self.state.max_steps)
            put_in_place(output_dir, BEST_FOLDER)
        except Exception as error:
            if not is_write_failure(error):
                raise
            mend(output_dir)
            kept = last_checkpoint(output_dir) or "the start: there is no checkpoint yet"
            raise StmineError(
                f"Cannot write the best model to {output_dir} ({free_space(output_dir)}): {error}. Make room and go "
                f"on with --resume_from_checkpoint auto, from {kept}."
            ) from error

    # ---- checkpoints ----

    def _get_output_dir(self, trial: Any = None) -> str:
        return self._folder or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        """Write a checkpoint aside and move it to its place when all processes have written their parts."""
        output_dir, name = Path(self.args.output_dir or "."), f"checkpoint-{self.state.global_step}"
        if not all(torch.isfinite(parameter).all() for parameter in self.network.parameters()):
            raise StmineError(
                f"The weights are no longer numbers after step {self.state.global_step}: this checkpoint is left out. "
                f"Lower learning_rate (now {self.args.learning_rate:.2g}) and go on from the last one with "
                "--resume_from_checkpoint auto."
            )
        self.state.best_global_step = None  # the best model is not in a checkpoint, so none is kept for it
        self._folder = str(output_dir / UNFINISHED)
        failure = None
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            if not is_write_failure(error):
                raise
            failure = str(error)
        finally:
            self._folder = None
        failures = [text for text in gather_object([failure]) if text]  # waits for all processes, too
        if self.args.should_save and not failures:
            put_in_place(output_dir, name)
            remove_oldest(output_dir, self.args.save_total_limit)
        elif self.args.should_save:
            mend(output_dir)
            logger.warning(
                "Cannot write %s to %s (%s): %s. The run goes on; make room for the next one. The last complete one: "
                "%s.", name, output_dir, free_space(output_dir), failures[0], last_checkpoint(output_dir)
            )  # fmt: skip

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not has_adapter(self.network):
            return super()._save(output_dir, state_dict)
        save_adapter(self.network, self.processor, output_dir or self.args.output_dir or ".", state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if has_adapter(self.network):
            return load_adapter_weights(self.network, resume_from_checkpoint)
        # transformers saves some encoders (Swin) under older names and maps them back in `from_pretrained` alone: the
        # Trainer's plain `load_state_dict(..., strict=False)` would leave those parameters as they are.
        if not isinstance(self.network, PreTrainedModel):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = type(self.network).from_pretrained(resume_from_checkpoint, dtype=self.network.dtype)
        self.network.load_state_dict(saved.state_dict())

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.ema and self.args.should_save:
            self.ema.save(Path(output_dir) / EMA_FILE)
        super()._save_optimizer_and_scheduler(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.ema and checkpoint is not None:
            if (file := Path(checkpoint) / EMA_FILE).is_file():
                self.ema.load(file)
            else:
                logger.warning("%s has no %s: the weight mean starts from its weights.", checkpoint, EMA_FILE)
                self.ema.restart()


class _EachStep(TrainerCallback):
    """What happens with the beat of training: the samples learn the epoch, the weight mean takes in each step."""

    def __init__(self, trainer: ZooTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # A checkpoint of the last step of an epoch is written before that epoch's evaluation; a kill in between left
        # none, and the epoch is not trained again.
        if args.eval_strategy == "epoch" and state.global_step and abs(state.epoch - round(state.epoch)) < 1e-6:
            name = f"eval_{args.metric_for_best_model}"
            if not any(name in entry and entry["step"] == state.global_step for entry in state.log_history):
                self.trainer._determine_best_metric(self.trainer.evaluate(), None)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if hasattr(self.trainer.samples, "set_epoch"):
            self.trainer.samples.set_epoch(self.trainer.current_epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.ema:
            self.trainer.ema.update()
        if (number := self.trainer.asked_to_stop()) and state.global_step < state.max_steps:
            self.trainer._stopping = number
            control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer._stopping is None:
            return
        # The end of an epoch for the Trainer alone: what it does then would come in the middle of one. At a true end
        # it evaluates as usual, because the resumed run begins after that.
        if abs(state.epoch - round(state.epoch)) > 1e-6:
            control.should_evaluate = control.should_log = False
        control.should_save = True

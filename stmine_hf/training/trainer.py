"""`transformers.Trainer` as all methods use it: one measure of the best model, weight mean, loss terms, safe resuming.

A method's own trainer is a subclass that says how a model is measured and, where it differs, what trains how fast.
"""

from __future__ import annotations

import logging
import math
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainerCallback

from ..errors import StmineError
from .arguments import ZooTrainingArguments
from .ema import WeightEma
from .parameters import freeze_batchnorm, freeze_by_name, parameter_groups

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

    Args:
        model: Its outputs have `loss` and, if that has several terms, `loss_dict`.
        args: Training arguments; its freezing fields are applied to `model` here.
        train_dataset: The samples.
        eval_dataset: What `measure` takes, or None with `eval_strategy="no"`.
        data_collator: Makes the model's inputs of samples.
        processing_class: The processor, saved beside the model.

    Raises:
        StmineError: From `train()`, when the loss is no longer a number; the message names the term.
    """

    args: ZooTrainingArguments
    optimizer: Any
    control: Any

    def __init__(self, model: nn.Module, args: ZooTrainingArguments, train_dataset: Any, **kwargs: Any):
        self._frozen_norms = self.freeze(model, args)
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        self.samples, self.network, self.processor = train_dataset, model, self.processing_class
        self.ema = WeightEma(model, args.ema_decay) if args.ema_decay else None
        self._terms: dict[str, Tensor] = {}
        self._terms_steps = 0
        self.add_callback(_EachStep(self))

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

    def freeze(self, model: nn.Module, args: ZooTrainingArguments) -> list[nn.Module]:
        """Freeze what `args` says; returns the batch norms to keep in eval mode."""
        freeze_by_name(model, args.freeze)
        return freeze_batchnorm(model) if args.freeze_batchnorm else []

    # ---- the step ----

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        for norm in self._frozen_norms:  # `training_step` has just set the whole model to train mode
            norm.eval()
        outputs = model(**inputs, **self.model_inputs())
        if not torch.isfinite(outputs.loss):
            raise StmineError(self._not_a_number(outputs))
        for name, value in (getattr(outputs, "loss_dict", None) or {}).items():
            self._terms[name] = self._terms.get(name, 0.0) + value.detach().float()
        self._terms_steps += 1
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    @property
    def current_epoch(self) -> int:
        """Epochs completed, an integer from 0."""
        return int((self.state.epoch or 0.0) + 1e-6)  # the state's fraction is a quotient of integers

    def _not_a_number(self, outputs: Any) -> str:
        terms = {name: value.item() for name, value in (getattr(outputs, "loss_dict", None) or {}).items()}
        guilty = [name for name, value in terms.items() if not math.isfinite(value)]
        because = f" because of {', '.join(guilty or ['the sum of the terms'])}" if terms else ""
        upstream = [
            name
            for name, value in outputs.items()
            if name != "loss" and isinstance(value, Tensor) and not torch.isfinite(value).all()
        ]
        origin = f" ({' and '.join(upstream)} are not finite already)" if upstream else ""
        values = "; all terms: " + ", ".join(f"{name} {value:.4g}" for name, value in terms.items()) if terms else ""
        return (
            f"The loss is {outputs.loss.item()} at step {self.state.global_step} (epoch {self.current_epoch})"
            f"{because}{origin}{values}. Lower learning_rate (now {self.args.learning_rate:.2g}) or max_grad_norm "
            f"(now {self.args.max_grad_norm:g}), and go on from the last checkpoint with --resume_from_checkpoint "
            "auto."
        )

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

    # ---- evaluation and the best model ----

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        shared: list[Any] = [None]
        if self.is_world_process_zero():  # the others wait: a validation set takes seconds
            with self.ema.applied() if self.ema else nullcontext():
                shared[0] = self._measure_and_keep(rows, metric_key_prefix)
        metrics = broadcast_object_list(shared)[0]
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

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
        """Write model, processor and scores beside `best`, then take its place: never half a model there."""
        best = Path(self.args.output_dir or ".") / BEST_FOLDER
        new = best.with_name(BEST_FOLDER + ".new")
        shutil.rmtree(new, ignore_errors=True)
        part: Any
        for part in (self.network, self.processor):
            part.save_pretrained(new)
        if report is not None:
            report.save(new)
        shutil.rmtree(best, ignore_errors=True)
        new.rename(best)

    # ---- checkpoints ----

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
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

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if hasattr(self.trainer.samples, "set_epoch"):
            self.trainer.samples.set_epoch(self.trainer.current_epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.ema:
            self.trainer.ema.update()


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The newest complete checkpoint in a folder: one whose last file to be written is there."""
    folders = [path.parent for path in Path(output_dir).glob("checkpoint-*/trainer_state.json")]
    return str(max(folders, key=lambda path: int(path.name.split("-")[-1]))) if folders else None


def resume_point(args: ZooTrainingArguments) -> str | None:
    """The checkpoint to go on from: `--resume_from_checkpoint auto` takes the newest of the output folder, if any."""
    if args.resume_from_checkpoint != "auto":
        return args.resume_from_checkpoint
    found = last_checkpoint(args.output_dir or ".")
    logger.info("Going on from %s" if found else "No checkpoint in %s: starting anew.", found or args.output_dir)
    return found


def take_rows(splits: Any, split: str, count: int | None) -> Any:
    """The rows of a split, or `count` of them, evenly spread: files often list one class after the other.

    Raises:
        StmineError: the data set has no such split.
    """
    if split not in splits:
        raise StmineError(f"The data set has no split {split!r}; it has {', '.join(splits)}.")
    rows = splits[split]
    if count is None or count >= len(rows):
        return rows
    return rows.select([place * len(rows) // count for place in range(count)])

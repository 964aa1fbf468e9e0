"""`transformers.Trainer` for FISVL: released optimizer groups, retrieval as evaluation, weight mean, best kept."""

from __future__ import annotations

import logging
import math
import re
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainerCallback

from ..errors import StmineError
from .arguments import FisvlTrainingArguments
from .collator_fisvl import CaptionedPictures
from .ema import WeightEma
from .evaluation_fisvl import evaluate_retrieval
from .parameters import freeze_batchnorm, freeze_by_name, parameter_groups

logger = logging.getLogger(__name__)

EMA_FILE = "ema.safetensors"
BEST_FOLDER = "best"


class FisvlTrainer(Trainer):
    """Trains a `FisvlModel` on `CaptionedPictures`.

    * The model is told the epoch (the value-guided schedule reads it); every loss term is logged.
    * `evaluate()` measures retrieval on `eval_dataset`, rows as `stmine_hf.load_dataset` yields. Each time the
      validation metric rises, the model goes to `<output_dir>/best`: a run cut short leaves its best model behind.
    * With `ema_decay` the mean weights are what is evaluated and kept there. Checkpoints hold both kinds.

    Args:
        model: A `FisvlModel`.
        args: Training arguments; its freezing fields are applied to `model` here.
        train_dataset: The samples.
        eval_dataset: Rows of the validation split, or None with `eval_strategy="no"`.
        data_collator: A `FisvlCollator`.
        processing_class: The `FisvlProcessor`, saved beside the model.

    Raises:
        StmineError: From `train()`, when the loss is no longer a number; the message names the term.
    """

    args: FisvlTrainingArguments
    optimizer: Any
    control: Any

    def __init__(
        self, model: nn.Module, args: FisvlTrainingArguments, train_dataset: CaptionedPictures, **kwargs: Any
    ):
        self._frozen_norms = apply_freezing(model, args)
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        self.samples, self.fisvl, self.processor = train_dataset, model, self.processing_class
        self.ema = WeightEma(model, args.ema_decay) if args.ema_decay else None
        self._terms: dict[str, Tensor] = {}
        self._terms_steps = 0
        self.add_callback(_EachStep(self))

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
        outputs = model(**inputs, epoch=self.current_epoch, return_loss=True)
        if not torch.isfinite(outputs.loss):
            raise StmineError(self._not_a_number(outputs))
        for name, value in outputs.loss_dict.items():
            self._terms[name] = self._terms.get(name, 0.0) + value.detach().float()
        self._terms_steps += 1
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    @property
    def current_epoch(self) -> int:
        """Epochs completed, an integer from 0."""
        return int((self.state.epoch or 0.0) + 1e-6)  # the state's fraction is a quotient of integers

    def _not_a_number(self, outputs: Any) -> str:
        terms = {name: value.item() for name, value in outputs.loss_dict.items()}
        guilty = [name for name, value in terms.items() if not math.isfinite(value)] or ["the sum of the terms"]
        upstream = [
            kind for kind in ("image_embeds", "text_embeds") if not torch.isfinite(getattr(outputs, kind)).all()
        ]
        origin = f" ({' and '.join(upstream)} are not finite already)" if upstream else ""
        values = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
        return (
            f"The loss is {outputs.loss.item()} at step {self.state.global_step} (epoch {self.current_epoch}) because "
            f"of {', '.join(guilty)}{origin}; all terms: {values}. Lower learning_rate (now "
            f"{self.args.learning_rate:.2g}) or max_grad_norm (now {self.args.max_grad_norm:g}), and go on from the "
            "last checkpoint with --resume_from_checkpoint auto."
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._terms_steps:
            names = sorted(self._terms)
            means = torch.stack([self._terms[name] for name in names]) / self._terms_steps
            means = self.accelerator.reduce(means, reduction="mean")
            logs |= {f"loss_{name}": round(value, 5) for name, value in zip(names, means.tolist(), strict=True)}
            self._terms, self._terms_steps = {}, 0
        super().log(logs, start_time)

    # ---- optimizer and schedule ----

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            args = self.args
            multipliers = {
                "": args.head_lr_mult,
                "vision_encoder.": args.vision_lr_mult,
                "conv_encoder.": args.vision_lr_mult,
                "text_encoder.": args.text_lr_mult,
            }
            groups = parameter_groups(self.fisvl, args.learning_rate, args.weight_decay, multipliers)
            for group in groups:
                del group["names"]
            kind, options = self.get_optimizer_cls_and_kwargs(args)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        if self.args.released_schedule_length:
            per_epoch = math.ceil(len(self.samples) / self.get_total_train_batch_size(self.args))
            num_training_steps = math.ceil(per_epoch * self.args.num_train_epochs)
        return super().create_scheduler(num_training_steps, optimizer)

    # ---- evaluation and the best model ----

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        shared: list[Any] = [None]
        if self.is_world_process_zero():  # the others wait: a validation set takes seconds
            with self.ema.applied() if self.ema else nullcontext():
                shared[0] = self._measure(rows, metric_key_prefix)
        metrics = broadcast_object_list(shared)[0]
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _measure(self, rows: Any, prefix: str) -> dict[str, float]:
        report = evaluate_retrieval(
            self.fisvl,
            self.processor,
            rows,
            batch_size=self.args.per_device_eval_batch_size,
            progress=not self.args.disable_tqdm,
        )
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

    def _keep_best(self, report: Any = None) -> None:
        """Write model, processor and scores beside `best`, then take its place: never half a model there."""
        best = Path(self.args.output_dir or ".") / BEST_FOLDER
        new = best.with_name(BEST_FOLDER + ".new")
        shutil.rmtree(new, ignore_errors=True)
        part: Any
        for part in (self.fisvl, self.processor):
            part.save_pretrained(new)
        if report is not None:
            report.save(new)
        shutil.rmtree(best, ignore_errors=True)
        new.rename(best)

    # ---- checkpoints ----

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # transformers saves some encoders (Swin) under older names and maps them back in `from_pretrained` alone: the
        # Trainer's plain `load_state_dict(..., strict=False)` would leave those parameters as they are.
        if not isinstance(self.fisvl, PreTrainedModel):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = type(self.fisvl).from_pretrained(resume_from_checkpoint, dtype=self.fisvl.dtype)
        self.fisvl.load_state_dict(saved.state_dict())

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

    def __init__(self, trainer: FisvlTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.samples.set_epoch(self.trainer.current_epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.ema:
            self.trainer.ema.update()


def apply_freezing(model: nn.Module, args: FisvlTrainingArguments) -> list[nn.Module]:
    """Freeze what `args` says; returns the batch norms to keep in eval mode."""
    patterns = list(args.freeze)
    if args.freeze_conv:
        patterns += [r"^conv_encoder\.", r"^sensing\."]
    if args.freeze_vision_stages:
        patterns += vision_stage_patterns(model, args.freeze_vision_stages)
    freeze_by_name(model, patterns)
    if not args.freeze_batchnorm:
        return []
    encoders: list[Any] = [model.vision_encoder, model.conv_encoder]  # the sensing module's norms start untrained
    return [norm for encoder in encoders if encoder is not None for norm in freeze_batchnorm(encoder)]


def vision_stage_patterns(model: nn.Module, count: int) -> list[str]:
    """Patterns for the image encoder's first `count` stages, of which the stem (or patch embedding) is the first.

    Knows how transformers and timm name stages: `layers.N`, `stages.N`, `blocks.N` or `layer.N`.

    Raises:
        StmineError: The encoder has fewer stages.
    """
    stage = re.compile(r"^vision_encoder\.(?:\w+\.)*?(?:layers|stages|blocks|layer)\.(\d+)\.")
    names = [name for name, _ in model.named_parameters() if name.startswith("vision_encoder.")]
    found = [(name, match) for name in names if (match := stage.match(name))]
    stages = 1 + len({match[1] for _, match in found})
    if count > stages:
        raise StmineError(f"freeze_vision_stages is {count}, but the image encoder has {stages} (stem included).")
    first_stage = next((at for at, name in enumerate(names) if stage.match(name)), len(names))
    chosen = names[:first_stage] + [name for name, match in found if int(match[1]) < count - 1]
    return [f"^{re.escape(name)}$" for name in chosen]


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The newest complete checkpoint in a folder: one whose last file to be written is there."""
    folders = [path.parent for path in Path(output_dir).glob("checkpoint-*/trainer_state.json")]
    return str(max(folders, key=lambda path: int(path.name.split("-")[-1]))) if folders else None

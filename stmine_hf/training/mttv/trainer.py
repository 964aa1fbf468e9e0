"""The trainer of MTTV: sampling, the released optimizer, reduction of the rate on a plateau, classification scores."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from ...evaluation.classification import ClassificationReport, Features, evaluate_posts
from ..parameters import layer_multipliers, parameter_groups
from ..trainer import BEST_FOLDER, ZooTrainer
from ..write_up import evaluations
from .arguments import MttvTrainingArguments
from .bert_adam import BertAdam, released_total_steps, warmup_linear
from .sampler import PostSampler, sample_weights
from .samples import Posts, PostStream

if TYPE_CHECKING:
    from ...modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ...posts.prediction import RegionDetector
    from ..rows import Rows

logger = logging.getLogger(__name__)


class MttvTrainer(ZooTrainer):
    """Trains an `MttvForSequenceClassification` on `Posts`; see `ZooTrainer`.

    `eval_dataset` are rows as `stmine_hf.load_dataset` yields; their predictions are scored.

    Args:
        detector: finds regions in the images of the evaluated posts; see `MttvProcessor`.
        features: visual features of the evaluated posts, which replace their images.
    """

    args: MttvTrainingArguments
    parts = {"vision": ["mttv.vision_encoder."], "text": ["mttv.encoder."]}  # noqa: RUF012
    samples: Posts
    network: MttvForSequenceClassification
    lr_scheduler: LambdaLR

    def __init__(
        self,
        model: nn.Module,
        args: MttvTrainingArguments,
        train_dataset: Posts | PostStream,
        *,
        detector: RegionDetector | None = None,
        features: Features | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, args, train_dataset, **kwargs)
        chosen = str(args.metric_for_best_model)
        self.scores = {chosen: chosen, "accuracy": "accuracy", "macro_f1": "macro F1", "ece": "ECE"}
        self.detector, self.features = detector, features

    def measure(self, rows: Rows) -> ClassificationReport:
        return evaluate_posts(
            self.network,
            self.processor,
            rows,
            detector=self.detector,
            features=self.features,
            batch_size=self.args.per_device_eval_batch_size,
            pixels=self.samples.pixels,
            progress=not self.args.disable_tqdm,
        )

    def class_counts(self) -> dict[str, int]:
        if not isinstance(self.samples, Posts):
            return {}
        labels, names = self.samples.labels, self.network.config.id2label
        return {names[label]: int((labels == label).sum()) for label in sorted(names)}

    def lr_multipliers(self) -> dict[str, float]:
        args, network = self.args, self.network
        return {
            "": args.head_lr_mult,
            **layer_multipliers(network, "mttv.vision_encoder.", args.layer_lr_decay, args.vision_lr_mult),
            **layer_multipliers(network, "mttv.encoder.", args.layer_lr_decay, args.text_lr_mult),
        }

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.args.label_smoothing_factor:
            smoothing = self.args.label_smoothing_factor
            loss = F.cross_entropy(outputs.logits, inputs["labels"], label_smoothing=smoothing)
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> PostSampler:
        args = self.args
        weights = sample_weights(self.samples.labels, self.samples.groups, args.class_balance, args.group_balance)
        alike = args.train_sampling_strategy == "group_by_length"
        batch_size = self.get_total_train_batch_size(args) if alike else None
        return PostSampler(self.samples, args.seed, weights, batch_size)

    # ---- the released optimizer and schedule ----

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.args.released_optimizer:
            args = self.args
            groups = parameter_groups(self.network, args.learning_rate, args.weight_decay, self.lr_multipliers())
            for group in groups:
                del group["names"]
            self.optimizer = BertAdam(groups, lr=args.learning_rate)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        if self.lr_scheduler is None and self.args.released_optimizer:
            batch_size = self.get_total_train_batch_size(self.args)
            total = released_total_steps(len(self.samples), batch_size, self.args.num_train_epochs)
            warmup = self.args.warmup_steps if self.args.warmup_steps < 1 else self.args.warmup_steps / total
            self.lr_scheduler = LambdaLR(self.optimizer, lambda step: warmup_linear(step, total, warmup))
        return super().create_scheduler(num_training_steps, optimizer)

    # ---- after an evaluation ----

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        if self.is_in_train and self.args.plateau_patience is not None:
            name, sign = self.args.metric_for_best_model, 1 if self.args.greater_is_better else -1
            scores = [sign * entry[f"eval_{name}"] for entry in evaluations(self.state.log_history, name)]
            self._set_base_rate(plateau_factor(scores, self.args.plateau_patience, self.args.plateau_factor))
        return metrics

    def _set_base_rate(self, factor: float) -> None:
        """Multiply the base rates of the schedule; this takes effect at the next step."""
        schedule = self.lr_scheduler
        schedule.base_lrs = [group["initial_lr"] * factor for group in self.optimizer.param_groups]
        for group, rate, share in zip(
            self.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = rate * share(schedule.last_epoch)

    def last_results(self) -> dict[str, Any]:
        return {"scaled": self.fit_scaling_factors(self.args.scaling_tau) if self.args.scaling_tau else None}

    def fit_scaling_factors(self, tau: float) -> dict[str, float] | None:
        """Fit the scalable classifier of the best model on validation, and keep it if the best metric does not fall.

        Afterwards the network has the weights of the best model.

        Args:
            tau: strength of the correction; see `MttvForSequenceClassification.fit_scaling_factors`.

        Returns:
            The metrics with the factors, or None where they were not kept.
        """
        best = Path(self.args.output_dir or ".") / BEST_FOLDER
        self._load_from_checkpoint(str(best))
        before = self.measure(self.eval_dataset)
        self.network.fit_scaling_factors(before.recalls, tau)
        after = self.measure(self.eval_dataset)
        name = self.args.metric_for_best_model
        old, new = before.metrics[name], after.metrics[name]
        kept = new >= old if self.args.greater_is_better else new <= old
        logger.info(
            "Scalable classifier, tau %g: %s %.4g -> %.4g%s.", tau, name, old, new, "" if kept else ": not applied"
        )
        if not kept:
            self.network.scaling_factors.fill_(1.0)
            return None
        self._keep_best(after)
        return after.metrics


def plateau_factor(scores: Sequence[float], patience: int, factor: float = 0.5) -> float:
    """Factor by which `ReduceLROnPlateau` has multiplied a rate after these scores (higher is better).

    Example:
        >>> plateau_factor([0.6, 0.7, 0.7, 0.69, 0.7], patience=2)
        0.5
    """
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    plateau = ReduceLROnPlateau(optimizer, mode="max", factor=factor, patience=patience, eps=0.0)
    for score in scores:
        plateau.step(score)
    return optimizer.param_groups[0]["lr"]

"""The trainer of SAT: the released schedule and weight decay, detection as the evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ...errors import StmineError
from ...evaluation.detection import DetectionReport, evaluate_detection
from ...modeling.sat.modeling_sat import SatHeadLevel, SatShuffleBlock
from ..parameters import freeze_by_name, layer_multipliers
from ..trainer import ZooTrainer
from .arguments import SatTrainingArguments
from .samples import BoxedImages

if TYPE_CHECKING:
    from ...modeling.sat.modeling_sat import SatForObjectDetection
    from ..rows import Rows


class SatTrainer(ZooTrainer):
    """Trains a `SatForObjectDetection` on `BoxedImages`; see `ZooTrainer`.

    `eval_dataset` are rows as `stmine_hf.load_dataset` yields; the detections on them are evaluated.
    """

    args: SatTrainingArguments
    network: SatForObjectDetection
    scores = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}  # noqa: RUF012
    scores_label = "validation average precision"
    parts = {"backbone": ["sat.backbone."], "neck": ["sat.neck."]}  # noqa: RUF012
    lr_scheduler: LambdaLR

    def measure(self, rows: Rows) -> DetectionReport:
        return evaluate_detection(
            self.network,
            self.processor,
            rows,
            batch_size=self.args.per_device_eval_batch_size,
            pixels=self.samples.pixels,
            progress=not self.args.disable_tqdm,
        )

    def class_counts(self) -> dict[str, int]:
        if not isinstance(self.samples, BoxedImages):
            return {}
        labels, names = torch.cat(self.samples.class_labels), self.network.config.id2label
        return {names[label]: int((labels == label).sum()) for label in sorted(names)}

    def lr_multipliers(self) -> dict[str, float]:
        args = self.args
        return {
            "": 1.0,
            **layer_multipliers(self.network, "sat.backbone.", args.layer_lr_decay, args.backbone_lr_mult),
        }

    def checkpointed_blocks(self) -> list[nn.Module]:
        stem = self.network.sat.backbone.stem
        return [stem, *(m for m in self.network.modules() if isinstance(m, (SatShuffleBlock, SatHeadLevel)))]

    def freeze(self, model: nn.Module, args: SatTrainingArguments) -> list[nn.Module]:
        """Freeze what `args` says; returns the batch norms to keep in eval mode.

        Unlike in the shared rule, batch norms with frozen statistics still train their scales and shifts: folded
        weights have all their biases there.
        """
        patterns = list(args.freeze)
        parts = []
        if args.freeze_backbone_stages:
            parts = backbone_parts(model, args.freeze_backbone_stages)
            patterns += [rf"^{prefix}\." for prefix, _ in parts]
        freeze_by_name(model, patterns)
        frozen = [model] if args.freeze_batchnorm else [part for _, part in parts]
        return [norm for part in frozen for norm in part.modules() if isinstance(norm, nn.BatchNorm2d)]

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        fresh = self.optimizer is None
        super().create_optimizer(model)
        if fresh and self.args.decay_everything:
            for group in self.optimizer.param_groups:
                group["weight_decay"] = self.args.weight_decay
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        args = self.args
        if not args.lr_milestones:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            factor = multistep_factor(
                [epoch / args.num_train_epochs * num_training_steps for epoch in args.lr_milestones],
                args.get_warmup_steps(num_training_steps),
                args.lr_gamma,
                args.warmup_start,
            )
            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, factor)
        return self.lr_scheduler


def multistep_factor(
    milestones: list[float], warmup: int, gamma: float = 0.1, start: float = 0.1
) -> Callable[[int], float]:
    """The released schedule as a function of the step: linear warm-up, then a factor `gamma` at every milestone.

    Args:
        milestones: Steps at which the learning rate is multiplied by `gamma`.
        warmup: Steps over which the factor rises from `start` to 1.
        gamma: Factor at a milestone.
        start: Factor of the first step.

    Example:
        >>> factor = multistep_factor([100, 200], warmup=10)
        >>> [round(factor(step), 4) for step in (0, 5, 10, 99, 100, 200)]
        [0.1, 0.55, 1.0, 1.0, 0.1, 0.01]
    """

    def factor(step: int) -> float:
        if step < warmup:
            return 1 - (1 - step / warmup) * (1 - start)
        return math.prod(gamma for milestone in milestones if step >= milestone)

    return factor


def backbone_parts(model: SatForObjectDetection, count: int) -> list[tuple[str, nn.Module]]:
    """Names and modules of the stem and of the first `count - 1` stages.

    Raises:
        StmineError: The backbone has fewer stages.
    """
    stages = model.sat.backbone.stages
    if count > len(stages) + 1:
        raise StmineError(
            f"freeze_backbone_stages is {count}, but the backbone has {len(stages) + 1} parts, stem included."
        )
    chosen = [(f"sat.backbone.stages.{i}", stage) for i, stage in enumerate(stages[: count - 1])]
    return [("sat.backbone.stem", model.sat.backbone.stem), *chosen]

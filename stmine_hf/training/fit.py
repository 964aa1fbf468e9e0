"""Adapt settings to the size of a data set: settings for a user's own set, and changes of settings for a small set."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import StmineError
from ..printing import counted

if TYPE_CHECKING:
    from .arguments import ZooTrainingArguments

logger = logging.getLogger(__name__)

_FEWEST_STEPS = 4  # of an epoch, where the batch had to be made smaller
_FEWEST_LINES = 5  # of the log
_EPOCHS = (3, 30)  # minimum and maximum for a user's own set
_EVERY = 0.25  # of all steps: evaluation and checkpoint


@dataclass(frozen=True)
class OwnSets:
    """Settings of a method for a user's own set, trained from the shipped model; measured in examples/RECIPES.md.

    Attributes:
        batch: samples a step, of all processes together.
        samples: seen in a run; determines the number of epochs.
        settings: in every case.
        whole: additional settings where the whole model is trained.
        shipped: settings in addition to `whole` where the shipped model is trained.
        adapter: additional settings where a LoRA adapter is trained.
        adapter_up_to: training rows up to which an adapter scored better.
    """

    batch: int
    samples: int
    settings: Mapping[str, Any]
    whole: Mapping[str, Any]
    adapter: Mapping[str, Any]
    adapter_up_to: int
    shipped: Mapping[str, Any] = field(default_factory=dict)

    def for_size(
        self, count: int, *, adapter: bool | None = None, processes: int = 1, shipped: bool = True
    ) -> dict[str, Any]:
        """The settings for a set of `count` training rows.

        Args:
            count: training rows.
            adapter: whether to train an adapter; None: depends on the size of the set.
            processes: that share a batch.
            shipped: the start is the shipped model.

        Example:
            >>> OwnSets(16, 900, {}, {"learning_rate": 1e-3}, {"learning_rate": 5e-3}, 500).for_size(90)["peft"]
            'lora'
        """
        adapter = count <= self.adapter_up_to if adapter is None else adapter
        epochs = min(max(math.ceil(self.samples / max(count, 1)), _EPOCHS[0]), _EPOCHS[1])
        batch = min(self.batch, max(2, count // 2))
        whole = {**self.whole, **(self.shipped if shipped else {})}
        return {
            **self.settings,
            **({"peft": "lora", **self.adapter} if adapter else whole),
            "num_train_epochs": epochs,
            "per_device_train_batch_size": max(1, batch // processes),
            "eval_strategy": "steps",
            "eval_steps": _EVERY,
            "save_strategy": "steps",
            "save_steps": _EVERY,
            "save_total_limit": 1,
        }


def fit_to_set(args: ZooTrainingArguments, count: int) -> None:
    """Change settings with which a set of `count` samples could not be trained, logged or evaluated.

    Each change is one line in the log. Settings that fit stay as they are.

    Args:
        args: changed in place.
        count: training samples.

    Raises:
        StmineError: too few samples for a batch of two on each process.
    """
    _fit_batch(args, count)
    total = total_steps(args, count)
    if args.warmup_steps >= 1 and args.warmup_steps > total > 0:
        _set(args, "warmup_steps", 0.1, f"the run has {counted(total, 'step')}")
    if args.logging_strategy == "steps" and args.logging_steps >= 1 and total < _FEWEST_LINES * args.logging_steps:
        fitting = max(1, total // (2 * _FEWEST_LINES))
        if fitting < args.logging_steps:
            _set(args, "logging_steps", fitting, f"the run has {counted(total, 'step')}")
    if args.eval_strategy == "steps" and (args.eval_steps or 0) >= 1 and args.eval_steps > total > 0:
        _set(args, "eval_steps", total, f"the run has {counted(total, 'step')}")


def total_steps(args: ZooTrainingArguments, count: int) -> int:
    """Steps of a run over `count` samples an epoch."""
    if args.max_steps > 0:
        return args.max_steps
    batch = args.train_batch_size * args.world_size
    batches = count // batch if args.dataloader_drop_last else math.ceil(count / batch)
    return math.ceil(args.num_train_epochs * max(1, math.ceil(batches / args.gradient_accumulation_steps)))


def _fit_batch(args: ZooTrainingArguments, count: int) -> None:
    """Reduce the batch size where the set has no full batch: with smaller batches dropped, an epoch would be empty."""
    if not args.dataloader_drop_last or count >= args.train_batch_size * args.world_size:
        return
    if count < 2 * args.world_size:
        raise StmineError(
            f"The training set has {counted(count, 'sample')}; at least {2 * args.world_size} are needed, two on each "
            "process. Add some, or set dataloader_drop_last: false."
        )
    fitting = max(2, count // (_FEWEST_STEPS * args.world_size))
    if args.gradient_accumulation_steps > 1:
        _set(args, "gradient_accumulation_steps", 1, f"the training set has {counted(count, 'sample')}")
    _set(args, "per_device_train_batch_size", fitting, f"the training set has {counted(count, 'sample')}")


def _set(args: ZooTrainingArguments, name: str, value: float, because: str) -> None:
    logger.warning("%s: %g instead of %g, since %s.", name, value, getattr(args, name), because)
    setattr(args, name, value)

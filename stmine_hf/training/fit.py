"""Settings that fit large sets, made to fit a small one: batch size, warm-up, logging and evaluation interval."""

from __future__ import annotations

import logging
import math

from ..errors import StmineError
from .arguments import ZooTrainingArguments

logger = logging.getLogger(__name__)

_FEWEST_STEPS = 4  # of an epoch, where the batch had to be made smaller
_FEWEST_LINES = 5  # of the log


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
        _set(args, "warmup_steps", 0.1, f"the run has {total} steps")
    if args.logging_strategy == "steps" and args.logging_steps >= 1 and total < _FEWEST_LINES * args.logging_steps:
        fitting = max(1, total // (2 * _FEWEST_LINES))
        if fitting < args.logging_steps:
            _set(args, "logging_steps", fitting, f"the run has {total} steps")
    if args.eval_strategy == "steps" and (args.eval_steps or 0) >= 1 and args.eval_steps > total > 0:
        _set(args, "eval_steps", total, f"the run has {total} steps")


def total_steps(args: ZooTrainingArguments, count: int) -> int:
    """Steps of a run over `count` samples an epoch."""
    if args.max_steps > 0:
        return args.max_steps
    batch = args.train_batch_size * args.world_size
    batches = count // batch if args.dataloader_drop_last else math.ceil(count / batch)
    return math.ceil(args.num_train_epochs * max(1, math.ceil(batches / args.gradient_accumulation_steps)))


def _fit_batch(args: ZooTrainingArguments, count: int) -> None:
    """Without a whole batch an epoch would be empty, where smaller batches are dropped."""
    if not args.dataloader_drop_last or count >= args.train_batch_size * args.world_size:
        return
    if count < 2 * args.world_size:
        raise StmineError(
            f"The training set has {count} samples; at least {2 * args.world_size} are needed, two on each process. "
            "Add some, or set dataloader_drop_last: false."
        )
    fitting = max(2, count // (_FEWEST_STEPS * args.world_size))
    if args.gradient_accumulation_steps > 1:
        _set(args, "gradient_accumulation_steps", 1, f"the training set has {count} samples")
    _set(args, "per_device_train_batch_size", fitting, f"the training set has {count} samples")


def _set(args: ZooTrainingArguments, name: str, value: float, because: str) -> None:
    logger.warning("%s: %g instead of %g, since %s.", name, value, getattr(args, name), because)
    setattr(args, name, value)

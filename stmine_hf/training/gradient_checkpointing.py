"""Less memory for more time: activations inside blocks are computed again on the way back instead of being held.

What the Trainer asks of a model with `--gradient_checkpointing`, done here for all three: transformers' own way knows
transformers' encoders, SAT has none; and it asks inputs for gradients that its default kind of checkpoint has no use
for, at which adapters of encoders like Swin fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel


def prepare_recomputing(model: PreTrainedModel, blocks: Iterable[nn.Module]) -> None:
    """Have the Trainer's `gradient_checkpointing_enable` do for this model what is said above.

    Args:
        model: its encoders of transformers recompute by themselves.
        blocks: further modules, of one tensor to one tensor, that are to recompute. Their batch norms measure twice
            and remember once.
    """
    blocks, enabled = list(blocks), False

    def enable(gradient_checkpointing_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        nonlocal enabled
        options = {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})}
        if model.supports_gradient_checkpointing:
            model._set_gradient_checkpointing(True, partial(checkpoint, **options))
        if not enabled:  # each `train()` asks anew
            for block in blocks:
                _recompute(block)
        enabled = True

    model.gradient_checkpointing_enable = enable  # type: ignore[method-assign]


def _recompute(block: nn.Module) -> None:
    forward = block.forward

    def recomputed(x: torch.Tensor) -> torch.Tensor:
        if not (block.training and torch.is_grad_enabled()):
            return forward(x)
        return checkpoint(forward, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _unremembered(block)))

    block.forward = recomputed


@contextmanager
def _unremembered(block: nn.Module) -> Iterator[None]:
    """Batch norms measure inside the block, but do not remember."""
    norms: list[Any] = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)

"""Gradient checkpointing: activations inside blocks are computed again in the backward pass instead of being stored.

This implements the Trainer's `--gradient_checkpointing` for all three models: transformers' own version covers
transformers' encoders only, SAT has none; and it makes inputs require gradients, which its default checkpointing
does not need and with which adapters of encoders like Swin fail.
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


def prepare_gradient_checkpointing(model: PreTrainedModel, blocks: Iterable[nn.Module]) -> None:
    """Replace the model's `gradient_checkpointing_enable`, which the Trainer calls; see the top of this file.

    Args:
        model: its transformers encoders checkpoint their own layers.
        blocks: further modules to checkpoint, each of one tensor to one tensor. Their batch norms compute statistics
            twice and update the running ones once.
    """
    blocks, enabled = list(blocks), False

    def enable(gradient_checkpointing_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        nonlocal enabled
        options = {"use_reentrant": False, **(gradient_checkpointing_kwargs or {})}
        if model.supports_gradient_checkpointing:
            model._set_gradient_checkpointing(True, partial(checkpoint, **options))
        if not enabled:  # each `train()` calls this again
            for block in blocks:
                _checkpoint_block(block)
        enabled = True

    model.gradient_checkpointing_enable = enable  # type: ignore[method-assign]


def _checkpoint_block(block: nn.Module) -> None:
    forward = block.forward

    def checkpointed(x: torch.Tensor) -> torch.Tensor:
        if not (block.training and torch.is_grad_enabled()):
            return forward(x)
        return checkpoint(
            forward, x, use_reentrant=False, context_fn=lambda: (nullcontext(), unchanged_statistics(block))
        )

    block.forward = checkpointed


@contextmanager
def unchanged_statistics(block: nn.Module) -> Iterator[None]:
    """Inside this context batch norms in train mode normalise by the batch and do not update running statistics."""
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

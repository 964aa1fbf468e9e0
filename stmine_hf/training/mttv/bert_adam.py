"""The optimizer and schedule of the released MTTV training: BertAdam with linear warm-up and decay.

Differences from `torch.optim.AdamW`: no bias correction; epsilon 1e-6 is added to the root; the gradient of *each*
parameter is clipped separately, to norm 1; the decay is part of the update (as in AdamW, too). AdamW with
`max_grad_norm` and a linear schedule is close to it, not equal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

NO_DECAY = ("bias", "LayerNorm.weight")


class BertAdam(Optimizer):
    """Adam as in BERT's first release: m / (sqrt(v) + eps) + weight_decay * w, times the learning rate.

    Args:
        params: parameters or groups of them.
        lr: learning rate, which a schedule multiplies.
        betas: decay of the two moments.
        eps: added to the root of the second moment.
        weight_decay: decoupled weight decay.
        max_grad_norm: norm that the gradient of each parameter is clipped to; 0 does not clip.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float = 1.0,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "max_grad_norm": max_grad_norm}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        """One update. The moments change even where the learning rate is 0, as in the first step of the schedule."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group["max_grad_norm"] > 0:
                    nn.utils.clip_grad_norm_(parameter, group["max_grad_norm"])
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["exp_avg"].mul_(beta1).add_(parameter.grad, alpha=1 - beta1)
                state["exp_avg_sq"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                update = state["exp_avg"] / (state["exp_avg_sq"].sqrt() + group["eps"])
                if group["weight_decay"] > 0:
                    update += group["weight_decay"] * parameter
                parameter.add_(update, alpha=-group["lr"])
        return loss


def warmup_linear(step: int, total_steps: float, warmup: float = 0.1) -> float:
    """Factor on the learning rate in update `step`, counted from 0; the first update has factor 0.

    Args:
        step: updates done before this one.
        total_steps: length of the schedule; may be fractional. Past its end the factor is 0.
        warmup: share of the schedule in which the factor rises to 1.

    Example:

    >>> [round(warmup_linear(step, 20), 3) for step in (0, 1, 2, 11, 20, 21)]
    [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    done = step / total_steps
    return done / warmup if done < warmup else max((done - 1) / (warmup - 1), 0.0)


def released_total_steps(samples: int, batch_size: int, epochs: int, accumulation: int = 1) -> float:
    """Length of the released schedule. Not rounded, so it can be smaller than the actual number of updates."""
    return samples / batch_size / accumulation * epochs


def released_optimizer(
    model: nn.Module, lr: float, total_steps: float, warmup: float = 0.1, weight_decay: float = 0.01
) -> tuple[BertAdam, LambdaLR]:
    """Optimizer and schedule (one step an update) of the released training; no decay on biases and norms."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    exempt = [parameter for name, parameter in named if any(part in name for part in NO_DECAY)]
    decayed = [parameter for name, parameter in named if not any(part in name for part in NO_DECAY)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    optimizer = BertAdam(groups, lr=lr)
    return optimizer, LambdaLR(optimizer, lambda step: warmup_linear(step, total_steps, warmup))

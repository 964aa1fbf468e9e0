"""The terms of a loss between two log lines, and the message for a loss that is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .batch_rows import is_broken


class LossTerms(dict[str, Tensor]):
    """Sums of the terms in a model's `loss_dict` since the last log line, by name."""

    steps = 0

    def add(self, outputs: Any) -> None:
        """Count the terms of one step."""
        for name, value in (getattr(outputs, "loss_dict", None) or {}).items():
            self[name] = self.get(name, 0.0) + value.detach().float()
        self.steps += 1

    def pop_means(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The mean of each term, under its name with the prefix `loss_`; resets the sums.

        Args:
            reduce: averages a tensor over all processes.
        """
        names = sorted(self)
        means: dict[str, float] = {}
        if names:
            values = reduce(torch.stack([self[name] for name in names]) / self.steps)
            means = {f"loss_{name}": round(value, 5) for name, value in zip(names, values.tolist(), strict=True)}
        self.clear()
        self.steps = 0
        return means


def term_values(outputs: Any) -> dict[str, float]:
    """The terms of one step as numbers."""
    return {name: value.item() for name, value in (getattr(outputs, "loss_dict", None) or {}).items()}


def describe_broken_loss(outputs: Any) -> str:
    """Which terms of a loss are not finite, whether the outputs before them are, and all terms."""
    terms = term_values(outputs)
    broken = [name for name, value in terms.items() if not math.isfinite(value)]
    because = f" because of {', '.join(broken or ['the sum of the terms'])}" if terms else ""
    upstream = [name for name, value in outputs.items() if name != "loss" and is_broken(value)]
    origin = f" ({' and '.join(upstream)} are not finite already)" if upstream else ""
    values = "; all terms: " + ", ".join(f"{name} {value:.4g}" for name, value in terms.items()) if terms else ""
    return f"{because}{origin}{values}"

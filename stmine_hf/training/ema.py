"""An exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


class WeightEma:
    """Mean of a model's trained parameters and floating buffers over the training steps.

    Step n sets the mean to `d mean + (1 - d) weights`, with `d = min(decay, (1 + n) / (10 + n))`, so that the
    initial weights soon have little influence (the rule of TensorFlow's and timm's moving averages).

    Args:
        model: Its tensors are read at every `update`; frozen parameters are excluded.
        decay: In [0, 1). 0.999 averages over about the last thousand steps.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self._live: dict[str, Tensor] = {
            name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad
        }
        self._live |= {name: tensor for name, tensor in model.named_buffers() if tensor.is_floating_point()}
        self.mean = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the mean with the model's current weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.mean.values()), [tensor.detach() for tensor in self._live.values()], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the model has the mean weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def save(self, path: str | Path) -> None:
        save_file(
            {name: tensor.contiguous() for name, tensor in self.mean.items()}, path, {"updates": str(self.updates)}
        )

    @torch.no_grad()
    def load(self, path: str | Path) -> None:
        with safe_open(path, framework="pt") as file:
            self.updates = int(file.metadata()["updates"])
            for name, mean in self.mean.items():
                mean.copy_(file.get_tensor(name))

    @torch.no_grad()
    def restart(self) -> None:
        """Reset the mean to the model's current weights."""
        self.updates = 0
        for name, tensor in self._live.items():
            self.mean[name].copy_(tensor)

    def _swap(self) -> None:
        for name, tensor in self._live.items():
            tensor.data, self.mean[name] = self.mean[name], tensor.data

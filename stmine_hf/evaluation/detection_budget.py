"""Cost of a SAT design: parameters, and multiply-adds for one image. Only shapes are computed."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..modeling.sat.configuration_sat import SatConfig
from ..modeling.sat.modeling_sat import SatForObjectDetection

# NanoDet's tables give 0.72 B operations for NanoDet-m at 320 x 320, whose convolutions have 342.2 M multiply-adds:
# two for each, and a little for everything else.
OPERATIONS_PER_MULTIPLY_ADD = 0.72e9 / 342.2232e6
PUBLISHED_PARAMETERS = 0.84e6  # of SAT, by its authors' table
PUBLISHED_OPERATIONS = 0.65e9


class Budget(NamedTuple):
    """Parameters of a design, and multiply-adds of its convolutions (there are hardly any others)."""

    parameters: int
    multiply_adds: int

    @property
    def operations(self) -> float:
        """As NanoDet's tables count them."""
        return self.multiply_adds * OPERATIONS_PER_MULTIPLY_ADD

    def __str__(self) -> str:
        return (
            f"{self.parameters / 1e6:.3f} M parameters, {self.multiply_adds / 1e6:.1f} M multiply-adds "
            f"({self.operations / 1e9:.3f} B operations as NanoDet counts them; SAT's: 0.84 M, 0.65 B)"
        )


def budget(config: SatConfig, size: int = 320) -> Budget:
    """The costs of a configuration, batch norms included, for an image of `size` x `size` pixels.

    Example:

    >>> budget(SatConfig.preset("nanodet-m"))
    Budget(parameters=950036, multiply_adds=342223200)
    """
    counts = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        counts.append(output.numel() * weight[0].numel())

    config = copy.deepcopy(config)
    config.fused = False
    with torch.device("meta"):
        model = SatForObjectDetection(config)
        for module in model.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                module.register_forward_hook(count)
        model(torch.zeros(1, 3, size, size))
    return Budget(sum(parameter.numel() for parameter in model.parameters()), sum(counts))

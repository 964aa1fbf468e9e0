"""The image tower of FISVL as other runtimes run it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..inference.fixed_pool import FixedPool

if TYPE_CHECKING:
    from ..modeling.fisvl.modeling_fisvl import FisvlModel


class ImageTower(nn.Module):
    """`pixel_values` (B, 3, H, W) of one size -> embeddings (B, D) of unit length."""

    def __init__(self, model: FisvlModel, size: tuple[int, int]):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        if model.config.fusion:
            self._fix_pools(size)

    @torch.no_grad()
    def _fix_pools(self, size: tuple[int, int]) -> None:
        """Adaptive pooling cannot be exported where the maps' size is not known to the tracer."""
        seen: list[torch.Size] = []
        pool = self.model.sensing.pool
        hooks = [scale.register_forward_hook(lambda *args: seen.append(args[2].shape)) for scale in self._scales()]
        self.model.get_image_features(torch.zeros(1, 3, *size))
        for hook in hooks:
            hook.remove()
        for scale, shape in zip(self._scales(), seen, strict=True):
            scale.append(FixedPool((shape[2], shape[3]), pool.output_size))
        self.model.sensing.pool = nn.Identity()

    def _scales(self) -> list[nn.Sequential]:
        return list(self.model.sensing.scales)  # type: ignore[arg-type]

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model.get_image_features(pixel_values).pooler_output

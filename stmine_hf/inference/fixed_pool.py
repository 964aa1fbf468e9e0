"""Adaptive pooling that other runtimes have, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FixedPool(nn.Module):
    """Adaptive average pooling of maps of one known size, as two products of matrices, which every runtime has.

    Args:
        size: height and width of the maps.
        grid: rows and columns that come out.
    """

    def __init__(self, size: tuple[int, int], grid: tuple[int, int]):
        super().__init__()
        self.rows: Tensor
        self.columns: Tensor
        rows, columns = (_averages(length, cells) for length, cells in zip(size, grid, strict=True))
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns.T.contiguous())

    def forward(self, maps: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, rows, columns)
        return self.rows @ maps @ self.columns


def _averages(length: int, cells: int) -> Tensor:
    """(cells, length): the share of each place in each cell, as `adaptive_avg_pool` cuts them."""
    shares = torch.zeros(cells, length)
    for cell in range(cells):
        start, end = cell * length // cells, -(-(cell + 1) * length // cells)
        shares[cell, start:end] = 1 / (end - start)
    return shares

"""Weights, images and tensors that depend on nothing but a name: how the reference numbers were made.

Each generator is PCG64 seeded with the CRC-32 of the name, so any machine remakes the same "checkpoint" or "image".
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch


def named_generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def named_tensor(name: str, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal float32 values."""
    return torch.from_numpy(np.asarray(named_generator(name).standard_normal(tuple(shape)))).float()


def named_weight(key: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The value of one floating-point entry of a state dict, scaled by what its name says it is."""
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(tuple(shape), dtype=dtype)
    generator = named_generator(key)
    if last == "running_var":
        return torch.from_numpy(np.asarray(0.5 + generator.random(tuple(shape)))).to(dtype)
    values = generator.standard_normal(tuple(shape))
    if last == "running_mean":
        scale, shift = 0.1, 0.0
    elif last == "bias":
        scale, shift = 0.02, 0.0
    elif last.endswith("bias_table"):
        scale, shift = 0.2, 0.0
    elif len(shape) <= 1:
        scale, shift = 0.05, 1.0  # norms and factors
    elif (last == "weight" and len(shape) == 2 and "embeddings" in key) or "token" in last or "pos_embed" in last:
        scale, shift = 0.02, 0.0
    elif last == "weight":
        scale, shift = 1 / math.sqrt(math.prod(shape[1:])), 0.0
    else:
        scale, shift = 1.0, 0.0  # free parameters
    return torch.from_numpy(np.asarray(shift + scale * values)).to(dtype)


def named_weights(manifest: Mapping[str, Mapping]) -> dict[str, torch.Tensor]:
    """All entries of a manifest (`shape`, `dtype`, `fill`) whose `fill` is true."""
    return {
        key: named_weight(key, entry["shape"], getattr(torch, entry["dtype"]))
        for key, entry in manifest.items()
        if entry["fill"]
    }


def named_image(height: int, width: int, seed: int) -> np.ndarray:
    """A uint8 RGB image (height, width, 3) in integer arithmetic: colour fields, blended blocks, fine texture."""
    generator = named_generator(f"image/{height}x{width}/{seed}")
    cells = 6
    colours = generator.integers(0, 256, size=(cells + 1, cells + 1, 3), dtype=np.int64)

    def fixed_point(length: int) -> tuple[np.ndarray, np.ndarray]:
        return np.divmod(np.arange(length, dtype=np.int64) * cells * 256 // length, 256)

    (row, down), (column, right) = fixed_point(height), fixed_point(width)
    down, right = down[:, None, None], right[None, :, None]
    above = colours[row][:, column] * (256 - right) + colours[row][:, column + 1] * right
    below = colours[row + 1][:, column] * (256 - right) + colours[row + 1][:, column + 1] * right
    image = (above * (256 - down) + below * down) // 65536
    for _ in range(6):
        top, bottom = np.sort(generator.integers(0, height + 1, size=2, dtype=np.int64))
        left, end = np.sort(generator.integers(0, width + 1, size=2, dtype=np.int64))
        colour = generator.integers(0, 256, size=3, dtype=np.int64)
        image[top:bottom, left:end] = (image[top:bottom, left:end] + colour) // 2
    image = image + generator.integers(-20, 21, size=(height, width, 3), dtype=np.int64)
    return np.clip(image, 0, 255).astype(np.uint8)

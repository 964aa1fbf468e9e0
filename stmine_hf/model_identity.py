"""Identify the weights of a model, so that resumed work is not mixed with that of another model."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any


def weights_digest(module: Any, *, size: int = 16, also: bytes = b"") -> str:
    """Hexadecimal digest of the names and values of all weights.

    Digests are kept in indexes, feature files and lists of results, so they never change: floating-point weights count
    as float32, whatever they are stored as.

    Args:
        module: a model, or a part of one.
        size: bytes, each of which gives two digits. A shorter digest is no prefix of a longer one.
        also: further bytes to digest.
    """
    digest = blake2b(digest_size=size)
    for name, tensor in sorted(module.state_dict().items()):
        values = (tensor.float() if tensor.is_floating_point() else tensor).contiguous().cpu()
        digest.update(f"{name} {tuple(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    digest.update(also)
    return digest.hexdigest()


def model_tag(model: Any) -> str:
    """A short name of a model: its folder's or repository's last part, and the start of its digest."""
    name = Path(getattr(model, "name_or_path", "") or type(model).__name__).name
    return f"{name}@{weights_digest(model)[:8]}"

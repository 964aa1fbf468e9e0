"""Which weights something was made with, so that work that is resumed is not mixed with that of another model."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any


def weights_digest(module: Any) -> str:
    """32 hexadecimal digits that follow from the names and values of all weights."""
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        values = (tensor.float() if tensor.is_floating_point() else tensor).contiguous().cpu()
        digest.update(f"{name} {tuple(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def model_tag(model: Any) -> str:
    """A short name of a model: its folder's or repository's last part, and the start of its digest."""
    name = Path(getattr(model, "name_or_path", "") or type(model).__name__).name
    return f"{name}@{weights_digest(model)[:8]}"

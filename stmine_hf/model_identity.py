"""Identify the weights of a model, so that resumed work is not mixed with that of another model."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import StmineError

if TYPE_CHECKING:
    import numpy as np


def weights_digest(module: Any, *, size: int = 16, also: bytes = b"") -> str:
    """Hexadecimal digest of the names and values of all weights.

    Digests are kept in indexes, feature files and lists of results, so they never change: floating-point weights count
    as float32, whatever they are stored as.

    Args:
        module: a model, or a part of one.
        size: bytes, each of which gives two digits. A shorter digest is no prefix of a longer one.
        also: further bytes to digest.
    """
    tensors = sorted(module.state_dict().items(), key=lambda pair: pair[0])
    values = ((name, (one.float() if one.is_floating_point() else one).contiguous().cpu()) for name, one in tensors)
    return _digest(((name, one.numpy()) for name, one in values), size, also)  # one copy at a time


def file_digest(weights: Path, *, size: int = 16, also: bytes = b"") -> tuple[str | None, list[str]]:
    """The digest as of `weights_digest` of the tensors in a safetensors file, and their names; None: an unusual file.

    It needs no PyTorch, so that a wrong model is refused before the seconds that its import takes. The loaded model
    has this digest if its tensors keep their names; transformers renames those of some models, such as Swin.
    """
    from safetensors import SafetensorError, safe_open

    from .checkpoints import require_bounded_header

    names: list[str] = []
    try:
        require_bounded_header(weights)
        with safe_open(weights, framework="numpy") as stored:
            names = sorted(stored.keys())
            values = ((name, stored.get_tensor(name)) for name in names)
            return _digest(((name, _plain(one)) for name, one in values), size, also), names
    except (OSError, StmineError, SafetensorError, TypeError, AttributeError):  # damaged, or bfloat16, not in NumPy
        return None, names


def model_tag(model: Any) -> str:
    """A short name of a model: its folder's or repository's last part, and the start of its digest."""
    name = Path(getattr(model, "name_or_path", "") or type(model).__name__).name
    return f"{name}@{weights_digest(model)[:8]}"


def _plain(values: np.ndarray) -> np.ndarray:
    """Floating-point values as float32; TypeError for types such as bfloat16, which other packages add to NumPy."""
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{values.dtype} is no type of NumPy's own")
    return values.astype("float32") if values.dtype.kind == "f" else values


def _digest(tensors: Iterable[tuple[str, np.ndarray]], size: int, also: bytes) -> str:
    """The digest of tensors, which come in the order of their names."""
    digest = blake2b(digest_size=size)
    for name, values in tensors:
        digest.update(f"{name} {tuple(values.shape)}".encode())
        digest.update(values.tobytes())
    digest.update(also)
    return digest.hexdigest()

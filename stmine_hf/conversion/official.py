"""What the conversions share: reading an authors' file without running it, comparing names, finding the tokenizer."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..checkpoints import CheckpointError, require_bounded_header, require_tokenizer_bounds
from ..errors import StmineError


def read_official(path: Path, what: str, advice: str, *, also_safetensors: bool = False) -> Any:
    """Read a checkpoint with `weights_only=True`: nothing in it is executed.

    Args:
        path: the file.
        what: what it should be, for the message when it is not there.
        advice: last sentence of the message when it cannot be read.
        also_safetensors: a file named `.safetensors` is read as such.

    Raises:
        StmineError: no such file, or not a checkpoint of tensors and plain values.
    """
    if not path.is_file():
        raise StmineError(f"{path}: no such file. Expected {what}.")
    try:
        if also_safetensors and path.suffix == ".safetensors":
            require_bounded_header(path)
            return load_file(path)
        _require_plain_archive(path)
        with warnings.catch_warnings():  # torch warns of pickles that it then refuses
            warnings.simplefilter("ignore")
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError as error:
        raise StmineError(f"{path}: {error}. {advice}") from error
    except Exception as error:
        raise StmineError(
            f"{path}: not a readable checkpoint ({type(error).__name__}). It is cut short, of another kind, or holds "
            f"objects other than tensors and plain values; nothing of it was run. {advice}"
        ) from error
    _require_real_tensors(stored, path)
    return stored


def _require_plain_archive(path: Path) -> None:
    """Refuse an archive that would grow: `torch.save` stores its entries as they are, one after the other."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    grown = sum(entry.file_size for entry in entries)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or grown > path.stat().st_size:
        raise CheckpointError(
            f"its entries are {grown:,} bytes in a file of {path.stat().st_size:,}. torch.save compresses nothing, so "
            "this is not a checkpoint that it wrote"
        )


def _require_real_tensors(stored: Any, path: Path) -> None:
    """Refuse tensors that show more values than are stored, as a view with a stride of 0 does."""
    groups = [stored, *stored.values()] if isinstance(stored, Mapping) else []
    size = path.stat().st_size
    for name, tensor in (
        (name, value) for group in groups if isinstance(group, Mapping) for name, value in group.items()
    ):
        if isinstance(tensor, Tensor) and tensor.numel() * tensor.element_size() > size:
            raise StmineError(
                f"{path}: tensor {name!r} has the shape {tuple(tensor.shape)}, which is more than the file's "
                f"{size:,} bytes can hold."
            )


def require_same_names(converted: Mapping[str, Tensor], expected: Mapping[str, Tensor], advice: str) -> None:
    """Refuse a converted state dict that lacks tensors of the model or has others; `advice` ends the message."""
    missing = sorted(expected.keys() - converted.keys())
    foreign = sorted(converted.keys() - expected.keys())
    if missing or foreign:
        raise StmineError(
            f"the checkpoint does not fit the config: {len(missing)} tensors are missing ({', '.join(missing[:3])}), "
            f"{len(foreign)} have no place ({', '.join(foreign[:3])}). {advice}"
        )


def bert_tokenizer(vocab: str | Path | None, name: str, size: int) -> Any:
    """The tokenizer of a `vocab.txt`, or of the BERT `name` (with `size` word pieces) on the Hub or in its cache."""
    from transformers import AutoTokenizer, BertTokenizer

    if vocab is not None:
        if not Path(vocab).is_file():
            raise StmineError(f"{vocab}: no such file. Expected vocab.txt of {name} ({size:,} lines).")
        require_tokenizer_bounds(Path(vocab))
        return BertTokenizer(vocab=str(vocab))
    try:
        return AutoTokenizer.from_pretrained(f"google-bert/{name}")
    except Exception as error:
        raise StmineError(
            f"the tokenizer of {name} is not on this machine nor reachable; pass its vocab.txt (--vocab)."
        ) from error

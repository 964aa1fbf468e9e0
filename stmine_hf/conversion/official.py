"""What every conversion does with an authors' file: read it without running it, see that it fits, find its words."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import StmineError


def read_official(path: Path, what: str, advice: str, *, also_safetensors: bool = False) -> Any:
    """What is stored in a checkpoint, read with `weights_only=True`: nothing in it is executed.

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
            return load_file(path)
        with warnings.catch_warnings():  # torch remarks on pickles that it then refuses
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise StmineError(
            f"{path}: not a readable checkpoint ({type(error).__name__}). It is cut short, of another kind, or holds "
            f"objects other than tensors and plain values; nothing of it was run. {advice}"
        ) from error


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
    """The tokenizer of a `vocab.txt`, or that of the BERT `name` (of `size` word pieces) from the Hub or its cache."""
    from transformers import AutoTokenizer, BertTokenizer

    if vocab is not None:
        if not Path(vocab).is_file():
            raise StmineError(f"{vocab}: no such file. Expected vocab.txt of {name} ({size:,} lines).")
        return BertTokenizer(vocab=str(vocab))
    try:
        return AutoTokenizer.from_pretrained(f"google-bert/{name}")
    except Exception as error:
        raise StmineError(
            f"the tokenizer of {name} is not on this machine nor reachable; pass its vocab.txt (--vocab)."
        ) from error

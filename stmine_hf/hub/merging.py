"""Merge an adapter and its base into one model: a folder that needs neither PEFT nor the base, ready to publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from ..cards.rendering import Card
from ..errors import StmineError
from ..loading import adapter_base, hub_id, load_model, model_type_of
from ..methods import METHODS, Method
from .assembly import assembled

_OURS = ("README.md", "config.json", "model.safetensors")  # of any merge


def merge_adapter(adapter: str, out: str | Path) -> dict[str, Any]:
    """Write the whole model: weights, config, processor, code and a card that names the base.

    Args:
        adapter: folder or Hub id, of any method.
        out: folder to write; files of an earlier merge are replaced, all others stay.

    Returns:
        `method`, `base`, `revision` (None if unknown) and `parameters`.

    Raises:
        StmineError: no adapter, no base, layers that cannot be merged, `out` is the adapter or its base, or a file in
            the way that was not written by a merge.
    """
    found = adapter_base(adapter)
    if found is None:
        raise StmineError(
            f"{adapter}: no adapter found. Expected a folder or Hub id with adapter_config.json, as a run with --peft "
            "leaves it in best/."
        )
    base, revision = found
    method = _method_of_base(adapter, base, revision)
    inputs = [Path(one) for one in (adapter, base) if Path(one).is_dir()]
    with assembled(Path(out).absolute(), inputs, refuse=_OURS.__contains__) as folder:  # before the model is loaded
        model, processor = load_merged(method, adapter)
        model.name_or_path = model.config.name_or_path = ""
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        _card(method, base, revision).write(folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"method": method.name, "base": base, "revision": revision, "parameters": parameters}


def method_of_adapter(adapter: str) -> Method:
    """The method of an adapter's base.

    Raises:
        StmineError: no base there, or a model of another library.
    """
    return _method_of_base(adapter, *(adapter_base(adapter) or (adapter, None)))


def _method_of_base(adapter: str, base: str, revision: str | None) -> Method:
    model_type = model_type_of(base, revision, adapter_of=adapter)
    if model_type not in METHODS:
        raise StmineError(f"{adapter}: its base {base} is of type {model_type!r}; expected {', '.join(METHODS)}.")
    return METHODS[model_type]


def load_merged(method: Method, adapter: str) -> tuple[Any, Any]:
    """The whole model, and its processor, of an adapter and its base.

    Raises:
        StmineError: no base, or layers that cannot be merged.
    """
    model, processor = load_model(method, adapter, device="cpu")
    if any(".base_layer." in name for name in model.state_dict()):
        raise StmineError(f"{adapter}: PEFT cannot merge all of its layers; use the adapter as it is.")
    return model, processor


def _card(method: Method, base: str, revision: str | None) -> Card:
    published = hub_id(base)
    header = ModelCardData(
        base_model=published,
        base_model_relation="finetune" if published else None,
        library_name="transformers",
        tags=["custom_code", method.name],
    )
    origin = "an unpublished model"
    if published:
        origin = f"`{published}`" + (f" at revision `{revision}`" if revision else "")
    return Card("merged.md", header, {"title": method.title, "origin": origin})

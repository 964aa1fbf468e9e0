"""An adapter and its base made one model: a folder that needs neither PEFT nor the base, ready to be published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..errors import StmineError
from ..loading import adapter_base, load_model, model_type_of
from ..methods import METHODS


def merge_adapter(adapter: str, out: str | Path) -> dict[str, Any]:
    """Write the whole model: weights, config, processor, code and a card that names the base.

    Args:
        adapter: folder or Hub id, of any method.
        out: folder to write; files of the same names are replaced.

    Returns:
        `method`, `base`, `revision` (None if unknown) and `parameters`.

    Raises:
        StmineError: no adapter, no base, or layers that cannot be merged.
    """
    found = adapter_base(adapter)
    if found is None:
        raise StmineError(
            f"{adapter}: no adapter found. Expected a folder or Hub id with adapter_config.json, as a run with --peft "
            "leaves it in best/."
        )
    base, revision = found
    model_type = model_type_of(base, revision, adapter_of=adapter)
    if (method := METHODS.get(model_type)) is None:
        raise StmineError(f"{adapter}: its base {base} is of type {model_type!r}; expected {', '.join(METHODS)}.")
    model, processor = load_model(method, adapter, device="cpu")
    if any(".base_layer." in name for name in model.state_dict()):
        raise StmineError(f"{adapter}: PEFT cannot merge all of its layers; use the adapter as it is.")
    out = Path(out)
    model.name_or_path = model.config.name_or_path = ""
    model.save_pretrained(out)
    processor.save_pretrained(out)
    published = not Path(base).is_dir()
    header: dict[str, Any] = {"base_model": base, "base_model_relation": "finetune"} if published else {}
    header |= {"library_name": "transformers", "tags": ["custom_code", method.name]}
    origin = f"`{base}`" + (f" at revision `{revision}`" if revision else "") if published else "an unpublished model"
    (out / "README.md").write_text(
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n# {method.title} model, fine-tuned\n\n"
        f"Made by `stmine merge` of an adapter and its base, {origin}. It loads as any {method.title} model does, "
        "with `trust_remote_code=True`.\n",
        encoding="utf-8",
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"method": method.name, "base": base, "revision": revision, "parameters": parameters}

"""The card of an adapter: its base and revision, how to load it, how to merge it into a whole model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..loading import hub_id
from ..methods import get

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

ADAPTER = "default"  # PEFT's name of the only adapter


def has_adapter(model: object) -> bool:
    """Whether a model has an adapter beside its weights."""
    return bool(getattr(model, "_hf_peft_config_loaded", False))


def adapter_kind(config: PeftConfig) -> str:
    """`LORA`, `IA3` ..."""
    return str(getattr(config.peft_type, "value", config.peft_type))


def adapter_card(model: PreTrainedModel) -> str:
    """The README.md of an adapter folder: base and revision, how to load it, how to merge it into a whole model."""
    header = yaml.safe_dump(adapter_header(model), sort_keys=False).strip()
    title = f"# {adapter_kind(model.peft_config[ADAPTER])} adapter of a {model.config.model_type.upper()} model"
    return f"---\n{header}\n---\n\n{title}\n\n{adapter_use(model)}"


def adapter_header(model: PreTrainedModel) -> dict[str, Any]:
    """What the Hub reads of an adapter's card: the base, unless it is a folder, library, task and tags."""
    config, method = model.peft_config[ADAPTER], model.config.model_type
    base = hub_id(config.base_model_name_or_path)
    return {
        **({} if base is None else {"base_model": base, "base_model_relation": "adapter"}),
        "library_name": "peft",
        "pipeline_tag": get(method).task,
        "tags": ["custom_code", adapter_kind(config).lower(), method],
    }


def adapter_use(model: PreTrainedModel) -> str:
    """The part of an adapter's card that names base and revision and says how to load and to merge it."""
    from peft import get_peft_model_state_dict

    config = model.peft_config[ADAPTER]
    base, revision = hub_id(config.base_model_name_or_path) or str(config.base_model_name_or_path), config.revision
    # The embeddings are those of the base; to ask whether they were resized, PEFT would call the Hub.
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    kept = sum(tensor.numel() for tensor in weights.values())
    size = sum(tensor.numel() for name, tensor in model.named_parameters() if f".{ADAPTER}" not in name)
    method = get(model.config.model_type)
    auto, command = method.auto_class, method.command_example
    pinned = f', revision="{revision}"' if revision else ""
    if Path(base).is_dir():
        where = (
            f"a folder, `{Path(base).name}`, and no published model: publish it and write its id into "
            "`adapter_config.json` (`base_model_name_or_path`), or publish the merged model instead"
        )
        base = "BASE"
    else:
        where = f"`{base}`" + (f" at revision `{revision}`" if revision else "")
    share = f"{100 * kept / size:.1f} %"
    return f"""{kept:,} values beside the {size:,} parameters of the base ({share}). The base is {where}.

```python
from transformers import {auto}

model = {auto}.from_pretrained("ADAPTER", trust_remote_code=True)
```

`ADAPTER` is this folder or its id on the Hub. This reads the base as it is today; with the base as it was in training:

```python
from peft import PeftModel
from transformers import {auto}

base = {auto}.from_pretrained("{base}", trust_remote_code=True{pinned})
model = PeftModel.from_pretrained(base, "ADAPTER")
```

The `stmine` command takes the folder wherever it takes a model, on the base as it was, and makes a whole model of it:

```bash
{command}
stmine merge ADAPTER --out MERGED
```
"""

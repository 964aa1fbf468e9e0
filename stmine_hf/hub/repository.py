"""What every published repository holds: small weights, clean configs, requirements, licence, a list of its files."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import StmineError

if TYPE_CHECKING:
    import torch
    from transformers import BaseImageProcessor, PreTrainedModel, ProcessorMixin

ORGANISATION = "stmine-hf"
WEIGHTS_LIMIT = 30_000_000  # bytes
_WEIGHTS = "model.safetensors"
_DISTRIBUTION = "stmine-hf"
_CHECKOUT = Path(__file__).resolve().parents[2]
# Settings of a run that say nothing about what it learned.
_BOOKKEEPING = {
    "accelerator_config",
    "dataloader_pin_memory",
    "debug",
    "disable_tqdm",
    "do_eval",
    "logging_steps",
    "report_to",
    "resume_from_checkpoint",
}


class PublishError(StmineError):
    """A model that cannot be published as it is."""


def write_model(
    folder: Path, model: PreTrainedModel, processor: ProcessorMixin | BaseImageProcessor, *, limit: int = WEIGHTS_LIMIT
) -> None:
    """Write a model and its processor as a folder that the Auto classes load, code files included.

    Matrices and filters are stored in float16; vectors and scalars (biases, norms and their statistics, temperatures),
    next to nothing in size, stay float32. The config says float32, so that everything loads as that.

    Args:
        folder: made if need be; files of the same names are replaced.
        model: its class is registered for the Auto classes, as importing it from `stmine_hf` does.
        processor: the model's.
        limit: most bytes of the weights' file.

    Raises:
        PublishError: the weights are larger than `limit`, or do not fit into float16. Nothing is written then.
    """
    import torch
    from safetensors.torch import save

    tensors = {}
    for name, tensor in model.float().state_dict().items():
        small = tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
        if not torch.isfinite(small).all():
            raise PublishError(f"{name} has values that are not finite in float16: was the training stable?")
        tensors[name] = small.contiguous()
    weights = save(tensors, metadata={"format": "pt"})
    if len(weights) > limit:
        raise PublishError(
            f"The weights take {len(weights):,} bytes, more than the {limit:,} allowed: prune the vocabulary or "
            "layers, or narrow projection_dim."
        )
    for config in (model.config, *(getattr(model.config, name, None) for name in model.config.sub_configs)):
        if config is not None:
            config.name_or_path = ""  # the folders it was built from
    if tokenizer := getattr(processor, "tokenizer", None):
        for key in ("is_local", "local_files_only"):  # how it was loaded, which it would pass on
            tokenizer.init_kwargs.pop(key, None)
    model.save_pretrained(folder)
    (folder / _WEIGHTS).write_bytes(weights)
    processor.save_pretrained(folder)


def write_requirements(folder: Path, *extra: str) -> None:
    """Write `requirements.txt`: what the published code imports, with the floors that this package's tests run on.

    Args:
        folder: the repository.
        extra: packages needed beyond torch, torchvision, transformers and pillow.
    """
    from packaging.requirements import Requirement

    floors = {}
    for line in metadata.requires(_DISTRIBUTION) or ():
        requirement = Requirement(line)
        floors[requirement.name] = f"{requirement.name}{requirement.specifier}"
    wanted = ("torch", "torchvision", "transformers", "pillow", *extra)
    (folder / "requirements.txt").write_text("".join(f"{floors[name]}\n" for name in wanted), encoding="utf-8")


def write_licence(folder: Path) -> None:
    """Write `LICENSE`, that of this package's code."""
    own = _CHECKOUT / "LICENSE"
    if own.is_file():
        text: str | None = own.read_text(encoding="utf-8")
    else:
        text = metadata.distribution(_DISTRIBUTION).read_text("licenses/LICENSE")
    if not text:
        raise PublishError(f"The installed {_DISTRIBUTION} lacks its LICENSE file: install it again.")
    (folder / "LICENSE").write_text(text, encoding="utf-8")


def files_of(folder: Path) -> list[tuple[str, int]]:
    """Name and size in bytes of every file of a repository but its card, in order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def portable_settings(settings: dict[str, Any], paths: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training run, as a user of the repository would write them.

    Args:
        settings: of the run's `config.yaml`.
        paths: what replaces the paths of the machine it ran on; comes first.
    """
    return paths | {key: value for key, value in settings.items() if key not in {*paths, *_BOOKKEEPING}}


def hardware(device: torch.device) -> str:
    """What something ran on, as a class of machines."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} {platform.machine()} CPU cores"


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))

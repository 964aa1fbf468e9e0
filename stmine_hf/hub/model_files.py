"""The files of every model's repository besides its card: weights, clean configs, code, requirements, license."""

from __future__ import annotations

import shutil
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..documents import read_json
from ..methods import METHODS
from .repository import PublishError

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel, ProcessorMixin

WEIGHTS = "model.safetensors"
_DISTRIBUTION = "stmine-hf"
_CHECKOUT = Path(__file__).resolve().parents[2]


def write_model(
    folder: Path, model: PreTrainedModel, processor: ProcessorMixin | BaseImageProcessor, *, halve: bool = True
) -> None:
    """Write a model and its processor as a folder that the Auto classes load, code files included.

    Halved, matrices and filters are stored in float16; vectors and scalars (biases, norms and their statistics,
    temperatures), which take almost no space, stay float32. The config says float32, so that everything loads as that.

    Args:
        folder: created if missing; files of the same names are replaced.
        model: its class is registered for the Auto classes, as importing it from `stmine_hf` does.
        processor: the model's.
        halve: False stores everything in float32.

    Raises:
        PublishError: halved weights do not fit into float16. Nothing is written then.
    """
    import torch
    from safetensors.torch import save

    tensors = {}
    for name, tensor in model.float().state_dict().items():
        small = tensor.half() if halve and tensor.is_floating_point() and tensor.ndim > 1 else tensor
        if not torch.isfinite(small).all():
            raise PublishError(f"{name} has values that are not finite in float16: was the training stable?")
        tensors[name] = small.contiguous()
    for config in (model.config, *(getattr(model.config, name, None) for name in model.config.sub_configs)):
        if config is not None:
            config.name_or_path = ""  # the folders it was built from
    if tokenizer := getattr(processor, "tokenizer", None):
        for key in ("is_local", "local_files_only"):  # how it was loaded, which would be saved with it
            tokenizer.init_kwargs.pop(key, None)
    model.save_pretrained(folder)
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    processor.save_pretrained(folder)


def method_of(folder: Path) -> str:
    """The method whose model a folder holds.

    Raises:
        PublishError: no model of this project's methods.
    """
    if not (folder / "config.json").is_file():
        raise PublishError(f"{folder}: expected a folder with the config.json of a model, found none.")
    model_type = read_json(folder / "config.json").get("model_type")
    if model_type not in METHODS:
        raise PublishError(f"{folder}: expected a model of type {', '.join(METHODS)}, found {model_type!r}.")
    return str(model_type)


def code_files(method: str) -> dict[str, Path]:
    """The files of `modeling/<method>/` that go to the Hub, by name."""
    package = find_spec(f"stmine_hf.modeling.{method}")
    assert package and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    return {file.name: file for file in sorted(folder.glob(f"*_{method}.py"))}


def write_code(folder: Path, method: str) -> None:
    """Write the code files, those of this package."""
    for name, file in code_files(method).items():
        shutil.copyfile(file, folder / name)


def write_requirements(folder: Path, *extra: str) -> None:
    """Write `requirements.txt`: what the published code imports, with the floors that this package's tests run on.

    Args:
        folder: the repository.
        extra: packages needed beyond torch, torchvision, transformers and pillow.
    """
    from packaging.requirements import Requirement

    floors: dict[str, str] = {}
    for line in metadata.requires(_DISTRIBUTION) or ():
        requirement = Requirement(line)
        # Requirements of extras come last, so the first of a name stays.
        floors.setdefault(requirement.name, f"{requirement.name}{requirement.specifier}")
    wanted = ("torch", "torchvision", "transformers", "pillow", *extra)
    (folder / "requirements.txt").write_text("".join(f"{floors[name]}\n" for name in wanted), encoding="utf-8")


def write_license(folder: Path) -> None:
    """Write `LICENSE`, that of this package's code."""
    own = _CHECKOUT / "LICENSE"
    if own.is_file():
        text: str | None = own.read_text(encoding="utf-8")
    else:
        text = metadata.distribution(_DISTRIBUTION).read_text("licenses/LICENSE")
    if not text:
        raise PublishError(f"The installed {_DISTRIBUTION} lacks its LICENSE file: install it again.")
    (folder / "LICENSE").write_text(text, encoding="utf-8")

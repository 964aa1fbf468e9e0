"""Load a published model: for the command line, the search index, training and the demos."""

from __future__ import annotations

import copy
import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoints import (
    TOKENIZER_FILES,
    CheckpointError,
    building_within,
    checkpoint_file,
    opening,
    read_config,
    read_settings,
    require_processor_bounds,
    require_tokenizer_bounds,
    stored_weights,
)
from .errors import StmineError
from .methods import FISVL, METHODS, MTTV, SAT, Method, get
from .model_identity import file_digest

if TYPE_CHECKING:
    import torch

    from .modeling.fisvl.modeling_fisvl import FisvlModel
    from .modeling.fisvl.processing_fisvl import FisvlProcessor
    from .modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from .modeling.mttv.processing_mttv import MttvProcessor
    from .modeling.sat.image_processing_sat import SatImageProcessor
    from .modeling.sat.modeling_sat import SatForObjectDetection

__all__ = ["load_fisvl", "load_model", "load_mttv", "load_sat", "published", "shipped_names"]

logger = logging.getLogger(__name__)

_ORGANIZATION = "stmine-hf"
_NOT_ON_THE_HUB = "The shipped checkpoints are not on the Hub yet: they are in hub_cards/ of a checkout."
_CARDS = Path(__file__).resolve().parents[1] / "hub_cards"


def published(repository: str) -> str:
    """Location of a model of this project: its folder in a checkout, else its id on the Hub."""
    folder = _CARDS / repository
    return str(folder) if (folder / "model.safetensors").is_file() else f"{_ORGANIZATION}/{repository}"


def shipped_names() -> list[str]:
    """The short names of the checkpoints that ship with the project, such as "sat-indiscernible"."""
    return [name for method in METHODS.values() for name in method.checkpoints]


def hub_id(model: str | Path) -> str | None:
    """The id on the Hub of a model: itself, or that of a shipped checkpoint; None for any other folder.

    Example:
        >>> hub_id("my-organization/my-model"), hub_id(published("sat-coco-small"))
        ('my-organization/my-model', 'stmine-hf/sat-coco-small')
    """
    path = Path(model)
    if path.name in shipped_names() and (path == Path("hub_cards", path.name) or str(path) == published(path.name)):
        return f"{_ORGANIZATION}/{path.name}"
    if path.is_dir():
        shipped = (name for name in shipped_names() if os.path.isdir(published(name)))
        name = next((name for name in shipped if os.path.samefile(path, published(name))), None)
        return name and f"{_ORGANIZATION}/{name}"
    return str(model) if re.fullmatch(r"[\w][\w.-]*/[\w.-]+", str(model)) else None


def resolve(model: str | Path) -> str:
    """The folder or Hub id that a person means by the name of a model.

    Args:
        model: a folder, the short name of a shipped checkpoint, or a Hub id. A folder of the current directory wins
            over a shipped checkpoint of its name, with a warning.

    Raises:
        StmineError: neither a folder nor a shipped checkpoint nor of the form of a Hub id, which is "owner/name".

    Example:
        >>> resolve("my-organization/my-model")
        'my-organization/my-model'
    """
    name = str(model)
    shipped = name in shipped_names()
    if os.path.isdir(name):
        folder = published(name)
        if shipped and not (os.path.isdir(folder) and os.path.samefile(name, folder)):
            _tell_of_local_folder(name, folder, os.getcwd())
        return name
    if shipped:
        return published(name)
    if len(re.split(r"[/\\]", name)) != 1:
        return name  # what opens it says what is wrong
    found = "a file" if os.path.isfile(name) else "nothing of that name"
    raise StmineError(
        f"{name}: no model found. Expected a folder with config.json and model.safetensors, a Hub id (owner/name) or "
        f"one of the shipped checkpoints {', '.join(shipped_names())}; found {found}. {_NOT_ON_THE_HUB}"
    )


@cache
def _tell_of_local_folder(name: str, shipped: str, place: str) -> None:
    """Once for each name and place: a command asks several times."""
    logger.warning(
        "%s: using the local folder of this name, not the shipped checkpoint. For that one, pass %s.", name, shipped
    )


def require_model(*models: str | Path | None, method: Method | None = None) -> None:
    """Check, before libraries are imported that take seconds, that names of models can be such.

    Args:
        models: folders, short names or Hub ids; None stands for a shipped checkpoint.
        method: that the models must be of; checked for folders alone.

    Raises:
        StmineError: a path where there is no folder, or a folder with a model of another method.
    """
    for model in models:
        name = "" if model is None else resolve(model)
        if name and not os.path.isdir(name) and not re.fullmatch(r"[\w.-]*\w[\w.-]*/[\w.-]+", name):
            found = "a file" if os.path.isfile(name) else "nothing"
            raise StmineError(
                f"{name}: no model found. Expected a folder with config.json and model.safetensors, found {found}."
            )
        if method is not None and os.path.isdir(name):
            base, revision = adapter_base(name) or (name, None)
            if os.path.isdir(base) and (found := model_type_of(base, revision)) != method.name:
                raise StmineError(_another_method(name, method, found))


def whole_model_here(model: str | Path | None, method: Method) -> str | None:
    """The folder of a model, whose files can be looked at before it is loaded; None: on the Hub, or an adapter."""
    name = published(method.default_checkpoint) if model is None else resolve(model)
    return name if os.path.isdir(name) and adapter_base(name) is None else None


def labels_of(model: str | Path | None, method: Method) -> dict[int, str] | None:
    """The names of a model's classes by their numbers, from its config alone; None if its folder is not here.

    Raises:
        StmineError: no config in the folder.
    """
    name = whole_model_here(model, method)
    names = None if name is None else read_config(name).get("id2label")
    return {int(number): str(label) for number, label in names.items()} if isinstance(names, dict) else None


def require_regions(detector: str | Path | None, model: str | Path | None) -> None:
    """Check, before models are loaded, a detector whose regions an MTTV model is to take.

    Raises:
        StmineError: no model there, or, as far as its files tell, the MTTV model takes no regions.
    """
    if detector is None:
        return
    require_model(detector)
    folder = whole_model_here(model, MTTV)
    if folder is not None and read_config(folder).get("num_region_tokens") == 0:
        raise no_regions()


def no_regions() -> StmineError:
    """The error for an MTTV model that a detector is of no use to."""
    return StmineError("This model takes no regions (num_region_tokens is 0): omit the detector.")


def stored_digest(model: str | Path | None, method: Method, *, size: int = 16, also: bytes = b"") -> str | None:
    """The `weights_digest` of a model all of whose modules are this package's, from its file; None: it does not tell.

    Example:
        >>> stored_digest("sat-coco-small", SAT, size=4)
        '8827a11e'
    """
    name = whole_model_here(model, method)
    return None if name is None else file_digest(Path(name, "model.safetensors"), size=size, also=also)[0]


def is_surely_other(model: str | Path | None, known: str | Path | None, digest: str, method: Method) -> bool:
    """Whether the file of a model shows, before it is loaded, that it has other weights than a known model.

    Args:
        model: folder, Hub id, short name, or None for the shipped checkpoint.
        known: where the known model was.
        digest: its `weights_digest`; see `file_digest` for why both files and their names are looked at.
        method: of both.

    Returns:
        False also where only the loaded model tells.
    """
    try:
        folders = [whole_model_here(one, method) for one in (model, known)]
    except StmineError:  # the known one has been moved
        return False
    given, other = folders
    if given is None or other is None or os.path.samefile(given, other):
        return False
    theirs, their_names = file_digest(Path(other, "model.safetensors"))
    if theirs != digest:
        return False
    ours, names = file_digest(Path(given, "model.safetensors"))
    return names == their_names and ours not in (None, digest)


def __getattr__(name: str) -> str:
    """`DEFAULT_FISVL` and so on, of version 0.1: location of the default model of a method."""
    prefix, _, method = name.lower().partition("_")
    if prefix != "default" or method not in METHODS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return published(METHODS[method].default_checkpoint)


def load_model(
    method: Method | str, model: str | Path | None = None, device: str | torch.device | None = None
) -> tuple[Any, Any]:
    """Load a model of a method for use: evaluation mode, float32.

    The code is this package's own: nothing from the folder is run.

    Args:
        method: its record or its name.
        model: folder, Hub id or short name of a shipped checkpoint (see `resolve`); None is the method's shipped
            checkpoint. An adapter opens too: its base is
            loaded as it was when the adapter was trained (at that revision), and the adapter merged into it. So does
            a folder written by `stmine export`: what it gives is called in the same way, and runs on the CPU.
        device: "cpu", "cuda", "mps", ...; None is CUDA where there is one, else the CPU.

    Returns:
        The model and its processor.

    Raises:
        StmineError: not a folder or reachable Hub id, a model of another method, or damaged; no such device here.
    """
    method = get(method) if isinstance(method, str) else method
    name = published(method.default_checkpoint) if model is None else resolve(model)
    method.register()
    if model is not None and method.is_exported and method.is_exported(name):
        read_config(name)
        return method.open_exported(name)
    return _load(method, name, device)


def load_fisvl(
    model: str | Path | None = None, device: str | torch.device | None = None
) -> tuple[FisvlModel, FisvlProcessor]:
    """Load a FISVL model for use; see `load_model`."""
    return load_model(FISVL, model, device)


def load_mttv(
    model: str | Path | None = None, device: str | torch.device | None = None
) -> tuple[MttvForSequenceClassification, MttvProcessor]:
    """Load an MTTV model for use; see `load_model`."""
    return load_model(MTTV, model, device)


def load_sat(
    model: str | Path | None = None, device: str | torch.device | None = None
) -> tuple[SatForObjectDetection, SatImageProcessor]:
    """Load a SAT (or NanoDet-m) detector for use; see `load_model`."""
    return load_model(SAT, model, device)


def place(model: Any, device: str | torch.device | None) -> None:
    """Move the model to a device, in evaluation mode."""
    model.eval()
    if device is not None:
        model.to(device)


def on_cpu(model: Any) -> Any:
    """The model, or a copy of it on the CPU if it is elsewhere, to be sent to another process.

    Raises:
        StmineError: an exported model, which cannot be sent.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        raise StmineError("The workers of a cluster need the model itself, found one exported for another runtime.")
    return model if model.device.type == "cpu" else copy.deepcopy(model).cpu()


def _load(method: Method, name: str, device: Any) -> tuple[Any, Any]:
    import torch

    try:
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except Exception as error:
        raise StmineError(f"device {str(device)!r}: not usable here ({_first_line(error)}).") from error
    adapter = adapter_base(name)
    base, revision = adapter or (name, None)
    model_type = model_type_of(base, revision, adapter_of=name if adapter else None)
    if model_type != method.name:
        raise StmineError(_another_method(name, method, model_type))
    try:
        with opening(base, revision):
            loaded, report = method.model_class.from_pretrained(
                base,
                revision=revision,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        processor = load_processor(method, name)
    except Exception as error:
        raise StmineError(
            f"{name}: the model cannot be loaded ({_first_line(error)}). Download or train it again."
        ) from error
    if unused := sorted(report["unexpected_keys"]):
        raise StmineError(
            f"{base}: {len(unused)} tensors of model.safetensors are not part of the model that config.json describes "
            f"({', '.join(unused[:3])}). Download or train it again."
        )
    if missing := sorted(report["missing_keys"]):  # they would start at random
        raise StmineError(
            f"{base}: {len(missing)} tensors are missing in model.safetensors ({', '.join(missing[:3])}). Download or "
            "train it again."
        )
    if adapter is not None:
        loaded = _with_adapter(loaded, name)
        loaded.name_or_path = loaded.config.name_or_path = name
    _require_usable(method, loaded, processor, name)
    # Convolutions on a CPU are two to three times as fast on channels-last weights; results agree to rounding.
    loaded = loaded.to(device, memory_format=torch.channels_last)
    return loaded.eval(), processor


def _require_usable(method: Method, model: Any, processor: Any, name: str) -> None:
    """Refuse what loads without an error and could only give nonsense.

    Raises:
        StmineError: weights that are not finite, a tokenizer of another vocabulary, two labels of one name.
    """
    import torch

    if broken := [key for key, tensor in model.named_parameters() if not torch.isfinite(tensor.detach().sum())]:
        raise StmineError(
            f"{name}: {len(broken)} of its tensors hold values that are not finite ({', '.join(broken[:3])}). "
            "Download or train it again."
        )
    tokenizer = getattr(processor, "tokenizer", None)
    size = getattr(getattr(model.config, "text_config", None), "vocab_size", None)
    if tokenizer is not None and size is not None:
        largest = max(tokenizer.get_vocab().values(), default=0)
        if largest >= size:
            raise StmineError(
                f"{name}: its tokenizer has ids up to {largest:,}, but the model has {size:,} word pieces: it is the "
                "tokenizer of another model."
            )
    labels = list(model.config.id2label.values())
    if method.rows == "posts" and len(set(labels)) < len(labels):
        raise StmineError(f"{name}: config.json names two labels alike ({', '.join(map(str, labels[:10]))}).")


def model_type_of(name: str, revision: str | None = None, *, adapter_of: str | None = None) -> str:
    """The `model_type` in the config of a model; nothing from there is run.

    Args:
        name: folder or Hub id.
        revision: of a Hub id.
        adapter_of: the adapter whose base it is, for the message.

    Raises:
        StmineError: no config there.
    """
    try:
        config = read_config(name, revision)
        if not isinstance(config.get("model_type"), str):
            raise CheckpointError("config.json names no model_type")
        return config["model_type"]
    except Exception as error:
        wanted, there = name, ""
        if adapter_of:
            wanted = f"{adapter_of} is an adapter of {name}" + (f" at {revision}" if revision else "")
            there = " there"
        raise StmineError(
            f"{wanted}: no model found{there}. Expected a folder with config.json and model.safetensors, or the id of "
            f"a Hub repository that can be reached ({_first_line(error)}).{_advice(name)}"
        ) from error


def _advice(name: str) -> str:
    """What to do where a shipped checkpoint is not here: the installed package has no weights."""
    owner, _, repository = name.partition("/")
    if owner != _ORGANIZATION or repository not in shipped_names():
        return ""
    return (
        f" The installed package has no weights. {_NOT_ON_THE_HUB} Get the repository and pass "
        f"CHECKOUT/hub_cards/{repository}."
    )


def load_processor(method: Method, name: str, **options: Any) -> Any:
    """The processor of a checkpoint, whose settings are bounded, such as the size of its images.

    Raises:
        StmineError: settings that are refused.
        OSError: no processor there.
    """
    require_bounded_processor(name)
    return method.processor_class.from_pretrained(name, trust_remote_code=False, **options)


def require_bounded_processor(name: str) -> None:
    """Check the files of the processor of a checkpoint before anything reads them.

    Raises:
        StmineError: settings that are refused.
        OSError: no such checkpoint.
    """
    for file in ("processor_config.json", "preprocessor_config.json"):
        if path := checkpoint_file(name, file):
            require_processor_bounds(read_settings(path), file)
    for file in TOKENIZER_FILES:
        if path := checkpoint_file(name, file):
            require_tokenizer_bounds(path)


def _another_method(name: str, expected: Method, model_type: str) -> str:
    message = f"{name}: expected a {expected.title} model, found one of type {model_type!r}."
    if found := METHODS.get(model_type):
        commands = ", ".join(f"stmine {command}" for command in found.commands)
        return f"{message} That is a {found.title} model; these commands use it: {commands}."
    return f"{message} Give the folder or Hub id of a {expected.title} model; code from a folder is never run."


def adapter_base(name: str) -> tuple[str, str | None] | None:
    """The model that an adapter belongs to and its revision (None: the newest); None if it is no adapter.

    Args:
        name: folder or Hub id.

    Raises:
        StmineError: an adapter that names no base.
    """
    try:
        file = checkpoint_file(name, "adapter_config.json")
    except (OSError, ValueError):  # opening it as a model will say what is wrong
        return None
    if file is None:
        return None
    try:
        settings = read_settings(file)
    except (OSError, StmineError) as error:
        raise StmineError(f"{name}: the adapter cannot be loaded ({_first_line(error)}).") from error
    base, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(base, str) or not base:
        raise StmineError(f"{name}: adapter_config.json names no base_model_name_or_path; write the model's id there.")
    beside = Path(name).resolve().parent / Path(base).name
    if Path(base).is_absolute() and not Path(base).is_dir() and beside.is_dir():
        return str(beside), None  # a run's folder that was moved with its base
    return base, revision if isinstance(revision, str) else None


def _with_adapter(model: Any, name: str) -> Any:
    """The model with an adapter merged into its weights, or beside them where its layers cannot be merged."""
    try:
        from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
        from peft.utils import load_peft_weights
    except ImportError as error:
        raise StmineError(f'{name} is an adapter, which needs PEFT: pip install "stmine-hf[train]".') from error
    try:
        config = _adapter_settings(name)
        config.base_model_name_or_path = model.name_or_path  # the base may have been moved
        with building_within(stored_weights(name, file="adapter_model.safetensors")):
            adapted = get_peft_model(model, config)
        weights = load_peft_weights(name, device="cpu")
        expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        if missing := sorted(set(expected) - set(weights)):
            raise StmineError(f"{len(missing)} tensors are missing in its file ({', '.join(missing[:3])})")
        outcome: Any = set_peft_model_state_dict(adapted, weights)
        if foreign := outcome.unexpected_keys:
            raise StmineError(f"it has tensors for which the base has no place ({', '.join(foreign[:3])})")
    except Exception as error:
        raise StmineError(f"{name}: the adapter does not fit its base: {_first_line(error)}.") from error
    adapted.requires_grad_(False)
    try:
        return adapted.merge_and_unload()
    except (AttributeError, NotImplementedError) as error:
        logger.info("%s: cannot be merged (%s); it is used beside its base.", name, _first_line(error))
        return adapted.get_base_model()


def _adapter_settings(name: str) -> Any:
    """The PEFT configuration of an adapter, without what could import modules, load other adapters or never end."""
    from peft import PeftConfig

    path = checkpoint_file(name, "adapter_config.json")
    settings = read_settings(path) if path else {}
    for field in ("megatron_config", "layer_replication"):
        if settings.get(field):
            raise CheckpointError(f"adapter_config.json: {field} is not supported")
    patterns = [settings.get(field) for field in ("target_modules", "exclude_modules", "layers_pattern")]
    patterns += [key for field in ("rank_pattern", "alpha_pattern") for key in settings.get(field) or ()]
    for pattern in patterns:
        if isinstance(pattern, str) and (len(pattern) > 200 or re.search(r"\)[*+{]|(?:[*+}].*){5}", pattern)):
            raise CheckpointError(
                f"adapter_config.json: the pattern {pattern[:40]!r} is too complex; list the modules"
            )
    config = PeftConfig.from_pretrained(name)
    if not hasattr(config, "target_modules"):
        raise CheckpointError(f"adapter_config.json: {settings.get('peft_type')} changes no layers of the model")
    return config


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""Opening a published model: one door for the command line, the search index, training and the demos."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import StmineError
from .methods import FISVL, METHODS, MTTV, SAT, Method, get

if TYPE_CHECKING:
    import torch

    from .modeling.fisvl.modeling_fisvl import FisvlModel
    from .modeling.fisvl.processing_fisvl import FisvlProcessor
    from .modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from .modeling.mttv.processing_mttv import MttvProcessor
    from .modeling.sat.image_processing_sat import SatImageProcessor
    from .modeling.sat.modeling_sat import SatForObjectDetection

logger = logging.getLogger(__name__)

_CARDS = Path(__file__).resolve().parents[1] / "hub_cards"


def published(repository: str) -> str:
    """Where a model of this project lies: its folder in a checkout, else its id on the Hub."""
    folder = _CARDS / repository
    return str(folder) if (folder / "model.safetensors").is_file() else f"stmine-hf/{repository}"


def __getattr__(name: str) -> str:
    """`DEFAULT_FISVL` and so on, of version 0.1: where the default model of a method lies."""
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
        model: folder or Hub id; None is the small model that ships with the project. An adapter opens too: its base is
            loaded as it was when the adapter was trained (at that revision), and the adapter merged into it. So does
            a folder written by `stmine export`: what it gives is called in the same way, and runs on the CPU.
        device: "cpu", "cuda", "mps", ...; None is CUDA where there is one, else the CPU.

    Returns:
        The model and its processor.

    Raises:
        StmineError: not a folder or reachable Hub id, a model of another method, or damaged; no such device here.
    """
    method = get(method) if isinstance(method, str) else method
    method.register()
    if model is not None and method.is_exported and method.is_exported(model):
        return method.open_exported(model)
    return _load(method, str(model or published(method.default_checkpoint)), device)


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
    """Put the model where it is to run, with dropout and batch statistics off."""
    model.eval()
    if device is not None:
        model.to(device)


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
        loaded, report = method.model_class.from_pretrained(
            base, revision=revision, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
        )
        processor = method.processor_class.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        raise StmineError(
            f"{name}: the model cannot be loaded ({_first_line(error)}). Download or train it again."
        ) from error
    if missing := sorted(report["missing_keys"]):  # they would start at random
        raise StmineError(
            f"{base}: {len(missing)} tensors are missing in model.safetensors ({', '.join(missing[:3])}). Download or "
            "train it again."
        )
    if adapter is not None:
        loaded = _with_adapter(loaded, name)
        loaded.name_or_path = loaded.config.name_or_path = name
    # Convolutions on a CPU are two to three times as fast on channels-last weights; results agree to rounding.
    loaded = loaded.to(device, memory_format=torch.channels_last)
    return loaded.eval(), processor


def model_type_of(name: str, revision: str | None = None, *, adapter_of: str | None = None) -> str:
    """The `model_type` in the config of a model; nothing from there is run.

    Args:
        name: folder or Hub id.
        revision: of a Hub id.
        adapter_of: the adapter whose base it is, for the message.

    Raises:
        StmineError: no config there.
    """
    from transformers import PreTrainedConfig

    try:
        config, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
        if "model_type" not in config:
            raise ValueError("config.json names no model_type")
        return str(config["model_type"])
    except Exception as error:
        wanted, there = name, ""
        if adapter_of:
            wanted = f"{adapter_of} is an adapter of {name}" + (f" at {revision}" if revision else "")
            there = " there"
        raise StmineError(
            f"{wanted}: no model found{there}. Expected a folder with config.json and model.safetensors, or the id of "
            f"a Hub repository that can be reached ({_first_line(error)})."
        ) from error


def _another_method(name: str, expected: Method, model_type: str) -> str:
    message = f"{name}: expected a {expected.title} model, found one of type {model_type!r}."
    if found := METHODS.get(model_type):
        message += f" That is a {found.title} model; these commands use it: {_listed(found)}."
    return message


def _listed(method: Method) -> str:
    return ", ".join(f"stmine {command}" for command in method.commands)


def adapter_base(name: str) -> tuple[str, str | None] | None:
    """The model that an adapter belongs to and its revision (None: the newest); None of what is no adapter.

    Args:
        name: folder or Hub id.

    Raises:
        StmineError: an adapter that names no base.
    """
    from transformers.utils import find_adapter_config_file

    try:
        file = find_adapter_config_file(name)
        settings = json.loads(Path(file).read_text(encoding="utf-8")) if file else None
    except (OSError, ValueError):  # whatever it is, opening it as a model will tell
        return None
    if settings is None:
        return None
    base = settings.get("base_model_name_or_path")
    if not base:
        raise StmineError(f"{name}: adapter_config.json names no base_model_name_or_path; write the model's id there.")
    beside = Path(name).resolve().parent / Path(base).name
    if Path(base).is_absolute() and not Path(base).is_dir() and beside.is_dir():
        return str(beside), None  # a run's folder that was moved with its base
    return base, settings.get("revision")


def _with_adapter(model: Any, name: str) -> Any:
    """The model with an adapter merged into its weights, or beside them where its layers cannot be merged."""
    try:
        from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
        from peft.utils import load_peft_weights
    except ImportError as error:
        raise StmineError(f'{name} is an adapter, which needs PEFT: pip install "stmine-hf[train]".') from error
    try:
        config = PeftConfig.from_pretrained(name)
        config.base_model_name_or_path = model.name_or_path  # a base that was moved is no surprise
        weights = load_peft_weights(name, device="cpu")
        adapted = get_peft_model(model, config)
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

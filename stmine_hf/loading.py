"""Opening a published model: one door for the command line, the search index, training and the demos."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import StmineError

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


DEFAULT_FISVL = published("fisvl-lite-rsicd")
DEFAULT_MTTV = published("mttv-lite-weibo")
DEFAULT_SAT = published("sat-coco-small")


def load_fisvl(
    model: str | Path | None = None, device: str | torch.device | None = None
) -> tuple[FisvlModel, FisvlProcessor]:
    """Loads a FISVL model for use: evaluation mode, float32, on the fastest device unless told otherwise.

    The code is this package's own: nothing from the folder is run.

    Args:
        model: folder or Hub id; None is the small model that ships with the project. An adapter opens too: its base is
            loaded as it was when the adapter was trained (at that revision), and the adapter merged into it.
        device: "cpu", "cuda", "mps", ...; None takes CUDA where there is one, else the CPU.

    Returns:
        The model and its processor.

    Raises:
        StmineError: not a folder or reachable Hub id, not a FISVL model, or damaged; no such device here.
    """
    from . import FisvlModel, FisvlProcessor

    return _load("FISVL", FisvlModel, FisvlProcessor, str(model or DEFAULT_FISVL), device)


def load_mttv(
    model: str | Path | None = None, device: str | torch.device | None = None
) -> tuple[MttvForSequenceClassification, MttvProcessor]:
    """Loads an MTTV model for use; see `load_fisvl`."""
    from . import MttvForSequenceClassification, MttvProcessor

    return _load("MTTV", MttvForSequenceClassification, MttvProcessor, str(model or DEFAULT_MTTV), device)


def load_sat(
    model: str | Path | None = None, device: str | torch.device | None = None
) -> tuple[SatForObjectDetection, SatImageProcessor]:
    """Loads a SAT (or NanoDet-m) detector for use; see `load_fisvl`.

    A folder written by `stmine export sat` opens too: what it gives is called in the same way, and runs on the CPU.
    """
    from . import SatForObjectDetection, SatImageProcessor
    from .export.runtimes_sat import is_exported, open_exported

    if model is not None and is_exported(model):
        return open_exported(model)  # type: ignore[return-value]
    return _load("SAT", SatForObjectDetection, SatImageProcessor, str(model or DEFAULT_SAT), device)


def place(model: Any, device: str | torch.device | None) -> None:
    """Put the model where it is to run, with dropout and batch statistics off."""
    model.eval()
    if device is not None:
        model.to(device)


def _load(method: str, model_class: Any, processor_class: Any, name: str, device: Any) -> tuple[Any, Any]:
    import torch
    from transformers import AutoConfig

    try:
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except Exception as error:
        raise StmineError(f"device {str(device)!r}: not usable here ({_first_line(error)}).") from error
    adapter = adapter_base(name)
    base, revision = adapter or (name, None)
    try:
        model_type = AutoConfig.from_pretrained(base, revision=revision).model_type
    except Exception as error:
        wanted = f"{name} is an adapter of {base}" + (f" at {revision}" if revision else "") if adapter else name
        raise StmineError(
            f"{wanted}: no model found{' there' if adapter else ''}. Expected a folder with config.json and "
            f"model.safetensors, or the id of a Hub repository that can be reached ({_first_line(error)})."
        ) from error
    if model_type != model_class.config_class.model_type:
        raise StmineError(f"{name}: expected a {method} model, found one of type {model_type!r}.")
    try:
        loaded, report = model_class.from_pretrained(
            base, revision=revision, dtype=torch.float32, output_loading_info=True
        )
        processor = processor_class.from_pretrained(name)
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

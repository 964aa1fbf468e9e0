"""Opening a published model: one door for the command line, the search index, training and the demos."""

from __future__ import annotations

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
        model: folder or Hub id; None is the small model that ships with the project.
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
    try:
        model_type = AutoConfig.from_pretrained(name).model_type
    except Exception as error:
        raise StmineError(
            f"{name}: no model found. Expected a folder with config.json and model.safetensors, or the id of a Hub "
            f"repository that can be reached ({_first_line(error)})."
        ) from error
    if model_type != model_class.config_class.model_type:
        raise StmineError(f"{name}: expected a {method} model, found one of type {model_type!r}.")
    try:
        loaded, report = model_class.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        processor = processor_class.from_pretrained(name)
    except Exception as error:
        raise StmineError(
            f"{name}: the model cannot be loaded ({_first_line(error)}). Download or train it again."
        ) from error
    if missing := sorted(report["missing_keys"]):  # they would start at random
        raise StmineError(
            f"{name}: {len(missing)} tensors are missing in model.safetensors ({', '.join(missing[:3])}). Download or "
            "train it again."
        )
    # Convolutions on a CPU are two to three times as fast on channels-last weights; results agree to rounding.
    loaded = loaded.to(device, memory_format=torch.channels_last)
    return loaded.eval(), processor


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""Opening a published model: one door for the command line, the search index, training and the demos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import StmineError

if TYPE_CHECKING:
    import torch

    from .modeling.fisvl.modeling_fisvl import FisvlModel
    from .modeling.fisvl.processing_fisvl import FisvlProcessor

_CHECKOUT = Path(__file__).resolve().parents[1] / "hub_cards" / "fisvl-lite-rsicd"
DEFAULT_FISVL = str(_CHECKOUT) if (_CHECKOUT / "model.safetensors").is_file() else "stmine-hf/fisvl-lite-rsicd"


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
    import torch
    from transformers import AutoConfig

    from . import FisvlModel, FisvlProcessor

    name = str(model or DEFAULT_FISVL)
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
    if model_type != FisvlModel.config_class.model_type:
        raise StmineError(f"{name}: expected a FISVL model, found one of type {model_type!r}.")
    try:
        loaded, report = FisvlModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
        processor = FisvlProcessor.from_pretrained(name)
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

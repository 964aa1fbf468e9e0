"""Load a detector of regions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints import CheckpointError, opening, read_config
from ..errors import StmineError
from ..loading import no_regions, require_bounded_processor, resolve
from ..methods import by_auto_class
from ..modeling.mttv.processing_mttv import TransformersDetector

if TYPE_CHECKING:
    import torch

    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification


def load_detector(
    name: str | Path, device: str | torch.device | None = None, *, model: MttvForSequenceClassification | None = None
) -> TransformersDetector:
    """Load a detector of regions: any model for `AutoModelForObjectDetection`, SAT among them.

    No code from the folder is run: a model of a type that transformers and this package do not know is refused.

    Args:
        name: folder, Hub id or short name; see `resolve`.
        device: where to run; default: the CPU.
        model: the `MttvForSequenceClassification` that takes the regions, if it is loaded already.

    Raises:
        StmineError: no such detector here, or a model that takes no regions.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES

    if model is not None and not model.config.num_region_tokens:
        raise no_regions()
    detectors = list(by_auto_class("AutoModelForObjectDetection"))
    for method in detectors:
        method.register()
    name = resolve(name)
    try:
        config = read_config(name)
        known = {method.name for method in detectors} | MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES.keys()
        if config.get("model_type") not in known:
            raise CheckpointError(
                f"found one of type {config.get('model_type')!r}, which transformers has no detector for; code from a "
                "folder is never run"
            )
        require_bounded_processor(name)
        with opening(name):
            detector = TransformersDetector.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StmineError(
            f"{name}: no detector found. Expected the folder or Hub id of a model for AutoModelForObjectDetection "
            f"({reason[:200]})."
        ) from error
    if device is not None:
        detector.model.to(device)
    return detector

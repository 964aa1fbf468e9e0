"""stmine-hf: models for mining multimodal spatio-temporal data, as first-class `transformers` models.

Importing this package is cheap: torch and transformers load when the first public name that needs them is touched.
Touching a model class also registers its family with the `transformers` Auto classes.

Example:
    >>> from stmine_hf import FisvlModel, load_dataset  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .data import load_dataset as load_dataset
    from .modeling.fisvl.configuration_fisvl import FisvlConfig as FisvlConfig
    from .modeling.fisvl.modeling_fisvl import FisvlModel as FisvlModel
    from .modeling.fisvl.processing_fisvl import FisvlProcessor as FisvlProcessor
    from .modeling.mttv.configuration_mttv import MttvConfig as MttvConfig
    from .modeling.mttv.modeling_mttv import MttvForSequenceClassification as MttvForSequenceClassification
    from .modeling.mttv.modeling_mttv import MttvModel as MttvModel
    from .modeling.mttv.processing_mttv import MttvProcessor as MttvProcessor
    from .modeling.sat.configuration_sat import SatConfig as SatConfig
    from .modeling.sat.image_processing_sat import SatImageProcessor as SatImageProcessor
    from .modeling.sat.modeling_sat import SatForObjectDetection as SatForObjectDetection
    from .modeling.sat.modeling_sat import SatModel as SatModel
    from .search import ImageIndex as ImageIndex

_HOME = {
    "FisvlConfig": ".modeling.fisvl.configuration_fisvl",
    "FisvlModel": ".modeling.fisvl.modeling_fisvl",
    "FisvlProcessor": ".modeling.fisvl.processing_fisvl",
    "ImageIndex": ".search",
    "MttvConfig": ".modeling.mttv.configuration_mttv",
    "MttvForSequenceClassification": ".modeling.mttv.modeling_mttv",
    "MttvModel": ".modeling.mttv.modeling_mttv",
    "MttvProcessor": ".modeling.mttv.processing_mttv",
    "SatConfig": ".modeling.sat.configuration_sat",
    "SatForObjectDetection": ".modeling.sat.modeling_sat",
    "SatImageProcessor": ".modeling.sat.image_processing_sat",
    "SatModel": ".modeling.sat.modeling_sat",
    "load_dataset": ".data",
}

__all__ = [
    "FisvlConfig",
    "FisvlModel",
    "FisvlProcessor",
    "ImageIndex",
    "MttvConfig",
    "MttvForSequenceClassification",
    "MttvModel",
    "MttvProcessor",
    "SatConfig",
    "SatForObjectDetection",
    "SatImageProcessor",
    "SatModel",
    "__version__",
    "load_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    if name.startswith("Fisvl"):
        _register_fisvl()
    elif name.startswith("Mttv"):
        _register_mttv()
    elif name.startswith("Sat"):
        _register_sat()
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register_fisvl() -> None:
    """Let the Auto classes find FISVL without `trust_remote_code`, and let what is saved carry its code along."""
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForZeroShotImageClassification,
        AutoProcessor,
    )

    from .modeling.fisvl.configuration_fisvl import FisvlConfig
    from .modeling.fisvl.modeling_fisvl import FisvlModel
    from .modeling.fisvl.processing_fisvl import FisvlImageProcessor, FisvlProcessor

    AutoConfig.register(FisvlConfig.model_type, FisvlConfig, exist_ok=True)
    AutoModel.register(FisvlConfig, FisvlModel, exist_ok=True)
    AutoModelForZeroShotImageClassification.register(FisvlConfig, FisvlModel, exist_ok=True)
    backends = dict.fromkeys(("pil", "torchvision"), FisvlImageProcessor)  # one class, whichever is asked for
    AutoImageProcessor.register(FisvlConfig, image_processor_classes=backends, exist_ok=True)
    AutoProcessor.register(FisvlConfig, FisvlProcessor, exist_ok=True)
    for saved_with_code in (FisvlConfig, FisvlModel, FisvlImageProcessor, FisvlProcessor):
        saved_with_code.register_for_auto_class()


def _register_mttv() -> None:
    """The same for MTTV, and its task for `pipeline("fake-news-detection")`."""
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForSequenceClassification,
        AutoProcessor,
    )
    from transformers.pipelines import PIPELINE_REGISTRY

    from .modeling.mttv.configuration_mttv import MttvConfig
    from .modeling.mttv.modeling_mttv import MttvForSequenceClassification, MttvModel
    from .modeling.mttv.pipeline_mttv import TASK, MttvPipeline
    from .modeling.mttv.processing_mttv import MttvImageProcessor, MttvProcessor

    AutoConfig.register(MttvConfig.model_type, MttvConfig, exist_ok=True)
    AutoModel.register(MttvConfig, MttvModel, exist_ok=True)
    AutoModelForSequenceClassification.register(MttvConfig, MttvForSequenceClassification, exist_ok=True)
    backends = dict.fromkeys(("pil", "torchvision"), MttvImageProcessor)
    AutoImageProcessor.register(MttvConfig, image_processor_classes=backends, exist_ok=True)
    AutoProcessor.register(MttvConfig, MttvProcessor, exist_ok=True)
    for saved_with_code in (MttvConfig, MttvModel, MttvImageProcessor, MttvProcessor):
        saved_with_code.register_for_auto_class()
    MttvForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK, pipeline_class=MttvPipeline, pt_model=AutoModelForSequenceClassification, type="multimodal"
        )


def _register_sat() -> None:
    """The same for SAT."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForObjectDetection

    from .modeling.sat.configuration_sat import SatConfig
    from .modeling.sat.image_processing_sat import SatImageProcessor
    from .modeling.sat.modeling_sat import SatForObjectDetection, SatModel

    AutoConfig.register(SatConfig.model_type, SatConfig, exist_ok=True)
    AutoModel.register(SatConfig, SatModel, exist_ok=True)
    AutoModelForObjectDetection.register(SatConfig, SatForObjectDetection, exist_ok=True)
    backends = dict.fromkeys(("pil", "torchvision"), SatImageProcessor)
    AutoImageProcessor.register(SatConfig, image_processor_classes=backends, exist_ok=True)
    SatForObjectDetection.register_for_auto_class("AutoModelForObjectDetection")
    for saved_with_code in (SatConfig, SatModel, SatImageProcessor):
        saved_with_code.register_for_auto_class()

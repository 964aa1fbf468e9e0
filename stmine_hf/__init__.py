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


def _register(config: Any, models: dict[str, Any], image_processor: Any, processor: Any = None) -> None:
    """Let the Auto classes find a method without `trust_remote_code`, and let what is saved carry its code along.

    `models` maps the name of each Auto class to what it opens; a class is saved for the first that names it.
    """
    import transformers

    transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
    saved_for: dict[Any, str] = {}
    for auto_class, model in models.items():
        getattr(transformers, auto_class).register(config, model, exist_ok=True)
        saved_for.setdefault(model, auto_class)
    for model, auto_class in saved_for.items():
        model.register_for_auto_class(auto_class)
    backends = dict.fromkeys(("pil", "torchvision"), image_processor)  # one class, whichever is asked for
    transformers.AutoImageProcessor.register(config, image_processor_classes=backends, exist_ok=True)
    if processor is not None:
        transformers.AutoProcessor.register(config, processor, exist_ok=True)
    for saved_with_code in filter(None, (config, image_processor, processor)):
        saved_with_code.register_for_auto_class()


def _register_fisvl() -> None:
    from .modeling.fisvl.configuration_fisvl import FisvlConfig
    from .modeling.fisvl.modeling_fisvl import FisvlModel
    from .modeling.fisvl.processing_fisvl import FisvlImageProcessor, FisvlProcessor

    models = {"AutoModel": FisvlModel, "AutoModelForZeroShotImageClassification": FisvlModel}
    _register(FisvlConfig, models, FisvlImageProcessor, FisvlProcessor)


def _register_mttv() -> None:
    """The same as for the others, and the task of `pipeline("fake-news-detection")`."""
    from transformers import AutoModelForSequenceClassification
    from transformers.pipelines import PIPELINE_REGISTRY

    from .modeling.mttv.configuration_mttv import MttvConfig
    from .modeling.mttv.modeling_mttv import MttvForSequenceClassification, MttvModel
    from .modeling.mttv.pipeline_mttv import TASK, MttvPipeline
    from .modeling.mttv.processing_mttv import MttvImageProcessor, MttvProcessor

    models = {"AutoModel": MttvModel, "AutoModelForSequenceClassification": MttvForSequenceClassification}
    _register(MttvConfig, models, MttvImageProcessor, MttvProcessor)
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK, pipeline_class=MttvPipeline, pt_model=AutoModelForSequenceClassification, type="multimodal"
        )


def _register_sat() -> None:
    from .modeling.sat.configuration_sat import SatConfig
    from .modeling.sat.image_processing_sat import SatImageProcessor
    from .modeling.sat.modeling_sat import SatForObjectDetection, SatModel

    models = {"AutoModel": SatModel, "AutoModelForObjectDetection": SatForObjectDetection}
    _register(SatConfig, models, SatImageProcessor)

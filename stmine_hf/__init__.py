"""stmine-hf: models for mining multimodal spatio-temporal data, as first-class `transformers` models.

Importing this package is cheap: torch and transformers load when the first public name that needs them is used. The
first use of a model class also registers its method with the `transformers` Auto classes.

Example:
    >>> from stmine_hf import FisvlModel, load_dataset  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from .data import load_dataset as load_dataset
    from .detect import Detector as Detector
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
    from .posts import PostClassifier as PostClassifier
    from .search import ImageIndex as ImageIndex

__all__ = [
    "Detector",
    "FisvlConfig",
    "FisvlModel",
    "FisvlProcessor",
    "ImageIndex",
    "MttvConfig",
    "MttvForSequenceClassification",
    "MttvModel",
    "MttvProcessor",
    "PostClassifier",
    "SatConfig",
    "SatForObjectDetection",
    "SatImageProcessor",
    "SatModel",
    "__version__",
    "load_dataset",
]
_TASKS = {
    "Detector": "detect:Detector",
    "ImageIndex": "search:ImageIndex",
    "PostClassifier": "posts:PostClassifier",
    "load_dataset": "data:load_dataset",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .methods import METHODS, load_named

    path = _TASKS.get(name)
    for method in METHODS.values():
        if own := dict(method.public_names()).get(name):
            method.register()
            path = own
    assert path is not None, f"{name} is in __all__, but no method offers it"
    value = load_named(path)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

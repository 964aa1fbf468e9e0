"""Posts for MTTV: read them from files, classify them in batches, store their visual features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .answer import PostAnswer as PostAnswer
    from .classifier import PostClassifier as PostClassifier
    from .engine import EngineClassifier as EngineClassifier
    from .features import FeatureStore as FeatureStore

__all__ = ["EngineClassifier", "FeatureStore", "PostAnswer", "PostClassifier"]

__getattr__ = lazy_names(
    __name__,
    {
        "EngineClassifier": "engine",
        "FeatureStore": "features",
        "PostAnswer": "answer",
        "PostClassifier": "classifier",
    },
)

"""Posts for MTTV: read them from files, classify them in batches, store their visual features."""

from __future__ import annotations

from .features import FeatureStore

__all__ = ["FeatureStore"]

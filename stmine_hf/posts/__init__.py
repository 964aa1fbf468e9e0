"""Posts for MTTV: read from files, judged in batches, their visual features kept on disk."""

from __future__ import annotations

from .features import FeatureStore

__all__ = ["FeatureStore"]

"""Skipped items of a long job, and why: the first few in one line."""

from __future__ import annotations

from collections.abc import Iterable

from ..images import Skip


def first_reasons(skips: Iterable[Skip], most: int = 3) -> str:
    """The first few in one line, for messages."""
    return "; ".join(f"{path}: {reason}" for (path, reason), _ in zip(skips, range(most), strict=False))

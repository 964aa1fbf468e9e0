"""Search a folder of images by a sentence or by an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .build import BuildReport as BuildReport
    from .index import Hit as Hit
    from .index import ImageIndex as ImageIndex

__all__ = ["BuildReport", "Hit", "ImageIndex"]

__getattr__ = lazy_names(
    __name__,
    {
        "BuildReport": "build",
        "Hit": "index",
        "ImageIndex": "index",
    },
)

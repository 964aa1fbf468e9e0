"""Search a folder of images by a sentence or by an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .answer import SearchAnswer as SearchAnswer
    from .build import BuildReport as BuildReport
    from .change import Change as Change
    from .change import changes as changes
    from .embedding import embed_images as embed_images
    from .embedding import embed_texts as embed_texts
    from .engine import EngineEncoder as EngineEncoder
    from .filters import Condition as Condition
    from .filters import Where as Where
    from .hits import Hit as Hit
    from .index import ImageIndex as ImageIndex
    from .metadata import Metadata as Metadata

__all__ = [
    "BuildReport",
    "Change",
    "Condition",
    "EngineEncoder",
    "Hit",
    "ImageIndex",
    "Metadata",
    "SearchAnswer",
    "Where",
    "changes",
    "embed_images",
    "embed_texts",
]

__getattr__ = lazy_names(
    __name__,
    {
        "EngineEncoder": "engine",
        "BuildReport": "build",
        "Change": "change",
        "Condition": "filters",
        "Hit": "hits",
        "ImageIndex": "index",
        "Metadata": "metadata",
        "SearchAnswer": "answer",
        "Where": "filters",
        "changes": "change",
        "embed_images": "embedding",
        "embed_texts": "embedding",
    },
)

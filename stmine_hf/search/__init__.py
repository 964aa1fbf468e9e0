"""Search a folder of pictures by a sentence or by a picture."""

from .build import BuildReport
from .index import Hit, ImageIndex

__all__ = ["BuildReport", "Hit", "ImageIndex"]

"""Search a folder of images by a sentence or by an image."""

from .build import BuildReport
from .index import Hit, ImageIndex

__all__ = ["BuildReport", "Hit", "ImageIndex"]

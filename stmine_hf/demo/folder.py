"""The folder of images that users of the page may search."""

from __future__ import annotations

from pathlib import Path

from ..errors import StmineError
from ..images import find_images
from ..search.store import FINISHED


def require_images(folder: Path) -> None:
    """
    Raises:
        StmineError: neither an index nor a folder with images.
    """
    if not folder.is_dir():
        raise StmineError(f"{folder}: expected a folder of images, found none.")
    if not (folder / FINISHED).is_file() and next(find_images(folder), None) is None:
        raise StmineError(f"{folder}: expected images in this folder, found none. Name another one with --images.")

"""Sources that the detector accepts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from ..errors import StmineError
from ..images import looks_like_image

CAMERA = re.compile(r"camera(?::(\d+))?$|(/dev/video\d+)$")


def source_kind(source: str | Path) -> Literal["camera", "images", "video"]:
    """The type of a source: a camera ("camera", "camera:1", "/dev/video1"), images (a file or folder) or a video.

    A file or folder that is itself named camera is reached as "./camera".

    Raises:
        StmineError: there is nothing of that name.
    """
    if CAMERA.match(str(source)):
        return "camera"
    path = Path(source)
    if not path.exists():
        raise StmineError(f"{path}: expected an image, a folder of images, a video or `camera`, found nothing.")
    return "images" if path.is_dir() or looks_like_image(path) else "video"

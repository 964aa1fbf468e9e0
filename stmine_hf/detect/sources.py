"""What a person may point the detector at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from ..errors import StmineError
from ..pictures import looks_like_picture

CAMERA = re.compile(r"camera(?::(\d+))?$|(/dev/video\d+)$")


def source_kind(source: str | Path) -> Literal["camera", "pictures", "video"]:
    """A camera ("camera", "camera:1", "/dev/video1"), pictures (a file or a folder), or a video.

    A file or folder that is itself named camera is reached as "./camera".

    Raises:
        StmineError: there is nothing of that name.
    """
    if CAMERA.match(str(source)):
        return "camera"
    path = Path(source)
    if not path.exists():
        raise StmineError(f"{path}: expected a picture, a folder of pictures, a video or `camera`, found nothing.")
    return "pictures" if path.is_dir() or looks_like_picture(path) else "video"

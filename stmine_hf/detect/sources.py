"""Sources that the detector accepts."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import StmineError
from ..images import SUFFIXES, ImageError, find_images, looks_like_image, read_header

CAMERA = re.compile(r"camera(?::(\d+))?$|(/dev/video\d+)$")


@dataclass(frozen=True)
class Job:
    """What one run of the detector looks at.

    Attributes:
        kind: of the source; see `source_kind`.
        source: a video or camera; or images and folders of them.
        name: of a folder for the results.
    """

    kind: Literal["camera", "images", "video"]
    source: str | list[str]
    name: str

    @property
    def is_one(self) -> bool:
        """Whether it looks at one image, video or camera, not at a folder or at several images."""
        return self.kind != "images" or (len(self.source) == 1 and not os.path.isdir(self.source[0]))


def jobs_of(sources: Sequence[str]) -> list[Job]:
    """The runs that these sources make: one for all images and folders together, one for each video or camera.

    Args:
        sources: paths, cameras, and patterns such as "images/*.jpg" or "**/*.png". An existing file whose name looks
            like a pattern is used as it is.

    Raises:
        StmineError: nothing of a name, or nothing that a pattern finds.
    """
    paths = [path for source in sources for path in _expanded(source)]
    kinds = {path: source_kind(path) for path in paths}
    images = [path for path, kind in kinds.items() if kind == "images"]
    jobs = [Job("images", images, _stem(images[0] if len(images) == 1 else os.path.commonpath(_parents(images))))]
    jobs = jobs if images else []
    taken = {job.name for job in jobs}
    for path, kind in kinds.items():
        if kind == "images":
            continue
        name = plain = "camera" if kind == "camera" else _stem(path)
        number = 1
        while name in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name)
        jobs.append(Job(kind, path, name))
    return jobs


def require_images(sources: Sequence[str | Path], out: str | Path | None = None, *, whole: bool = True) -> None:
    """Check images and folders before a model is loaded.

    Args:
        sources: as of a [`Job`] of images.
        out: folder for the results, in which no images are looked for.
        whole: images are read whole, not in slices; the header of a single one is then checked.

    Raises:
        StmineError: no image in any of the folders, or a single image that cannot be read.
    """
    paths = [Path(os.path.abspath(source)) for source in sources]
    if len(paths) == 1 and not paths[0].is_dir():
        if whole:
            try:
                read_header(paths[0])
            except ImageError as error:
                raise StmineError(f"not one image of {sources[0]} could be read ({error}).") from None
        return
    if all(path.is_dir() and next(find_images(path, exclude=out), None) is None for path in paths):
        raise no_images(paths)


def no_images(paths: Sequence[Path]) -> StmineError:
    """The error for folders without an image."""
    shown = ", ".join(map(str, paths[:3]))
    return StmineError(f"found no images in {shown} (looked for {' '.join(sorted(SUFFIXES))} and by content)")


def _expanded(source: str) -> list[str]:
    if CAMERA.match(source) or os.path.lexists(source) or not glob.has_magic(source):
        return [source]
    found = sorted(path for path in glob.glob(source, recursive=True) if not os.path.isdir(path))
    if not found:
        raise StmineError(f"{source}: no file matches this pattern.")
    return found


def _parents(paths: Sequence[str]) -> list[str]:
    return [os.path.dirname(os.path.abspath(path)) for path in paths] or ["."]


def _stem(path: str) -> str:
    return Path(path).resolve().stem or "images"


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

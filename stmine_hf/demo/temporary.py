"""One folder for all temporary files of a running demo: uploads, annotated videos, indexes of uploads.

It is removed when the process ends. What a killed process left is removed at the next start.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from ..errors import StmineError
from ..files import LOCK, only_writer

_PREFIX = "stmine-demo-"
_held = ExitStack()  # the lock on the folder, held as long as the process runs


@cache
def root() -> Path:
    """The folder of this process."""
    remove_left()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    _held.enter_context(only_writer(folder))
    atexit.register(remove)
    return folder


def new_folder() -> Path:
    """A new folder in it."""
    return Path(tempfile.mkdtemp(dir=root()))


def remove() -> None:
    """Remove the folder of this process."""
    if root.cache_info().currsize:
        folder = root()
        root.cache_clear()
        _held.close()
        shutil.rmtree(folder, ignore_errors=True)


def remove_left() -> None:
    """Remove folders of demos that no longer run: those whose lock nobody holds."""
    for folder in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        try:
            if folder.is_symlink() or not (folder / LOCK).is_file():
                continue
            with only_writer(folder):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, StmineError):  # another user's, or in use
            continue

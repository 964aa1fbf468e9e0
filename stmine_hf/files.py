"""Folders that stay whole when a run is killed or two runs meet."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import StmineError

LOCK = ".lock"  # held by the run that writes into a folder


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make the file under another name, see it onto the disk, then put it in place in one step."""
    temporary = path.with_name(f".new-{path.name}")
    write(temporary)
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    """Write a document as JSON, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_bytes(json.dumps(content, indent=1).encode()))


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold a folder for writing. The system lets go of the lock when the process ends, however it ends.

    Raises:
        StmineError: another process holds it.
    """
    with open(folder / LOCK, "a+") as file:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise StmineError(f"another run is writing {folder}: wait until it has ended, or stop it") from None
        yield

"""Write files so that they stay whole when a run is killed or two runs write to one folder."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from .errors import StmineError

__all__ = ["write_entries"]

LOCK = ".lock"  # held by the run that writes into a folder
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_held: set[IO[str]] = set()  # the locks of this process


def cache_folder(name: str) -> Path:
    """A folder in the user's cache, which may not exist yet.

    Raises:
        OSError: the user has no home.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stmine-hf" / name
    except RuntimeError as error:
        raise OSError(f"there is no folder for a cache ({error})") from error


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` write the file under another name, flush it to the disk, then move it into place in one step.

    Links of either name are replaced, not followed.
    """
    temporary = path.with_name(f".new-{path.name}")
    temporary.unlink(missing_ok=True)
    write(temporary)
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_problem(error: BaseException) -> str | None:
    """What keeps a file from being written, if that is a full disk or one that cannot be written; and what to do.

    Libraries in other languages raise errors of their own for it, with the system's number in their text.
    """
    number, name = getattr(error, "errno", None), getattr(error, "filename", None)
    if number is None and (found := re.search(r"\(os error (\d+)\)|\[errno (\d+)\]", str(error), re.IGNORECASE)):
        number = int(found[1] or found[2])
    if number not in _DISK_FULL and number != errno.EROFS:
        return None
    remedy = "Free some space" if number in _DISK_FULL else "Choose a folder that can be written"
    return f"cannot write {name or 'a file'}: {os.strerror(number)}. {remedy}, and run the command again."


def write_json(path: Path, content: Any) -> None:
    """Write a document as JSON, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_bytes(json.dumps(content, indent=1).encode()))


def write_entries(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON object with one line for each of its entries: short, and a change shows where it is."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON list with one line for each row; see `RowWriter`."""
    with RowWriter(path) as file:
        file.write(rows)


class RowWriter:
    """Writer of a JSON list with one line for each row, as the rows come: they need not fit in memory."""

    def __init__(self, path: Path):
        self._path = path
        self._separator = "\n"

    def __enter__(self) -> RowWriter:
        self._file = open(self._path, "w", encoding="utf-8", errors="replace")
        self._file.write("[")
        return self

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self._file.write(self._separator + json.dumps(row, ensure_ascii=False))
            self._separator = ",\n"

    def __exit__(self, *exception: object) -> None:
        self._file.write("\n]\n")
        self._file.close()


def document_bytes(content: Any) -> bytes:
    """A document as a JSON file for people: indented, in letters of all scripts."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode(errors="replace")


@contextmanager
def only_writer(folder: Path, file: str | None = None) -> Iterator[None]:
    """Lock a folder for writing. The system releases the lock when the process ends, however it ends.

    Processes forked while the lock is held, such as workers that read data, do not hold it.

    Args:
        folder: an existing folder.
        file: lock this one file of the folder instead; it may not exist yet.

    Raises:
        StmineError: another process holds it.
    """
    place = folder / (LOCK if file is None else f".stmine-{sha256(os.fsencode(file)).hexdigest()[:16]}{LOCK}")
    with ExitStack() as stack:
        while True:
            if os.path.lexists(place) and (place.is_symlink() or not place.is_file()):
                raise StmineError(f"{place}: expected a file that locks the folder, found something else: remove it")
            lock = stack.enter_context(open(place, "a+"))
            try:
                _lock(lock)
            except (BlockingIOError, PermissionError):
                held = folder if file is None else folder / file
                raise StmineError(f"another run is writing {held}: wait until it has ended, or stop it") from None
            if _is_at(lock, place):  # else the run before has just removed it, and a third one may have made another
                break
        _held.add(lock)
        try:
            yield
        finally:
            _held.discard(lock)
            if file is not None:
                place.unlink(missing_ok=True)


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _close_in_child() -> None:
    for lock in _held:
        lock.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)

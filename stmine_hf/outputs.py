"""Where results are written: no file that this package did not write is ever replaced or removed.

A folder with results holds `.stmine-outputs.jsonl`, one line for each file written there: its name and SHA-256.
A file may be replaced or removed only if it is on that list and unchanged. New content is written beside and moved
into place in one step, and the line is on disk before the move, so that a killed run leaves no file that is not
listed.

    with Outputs("found", inputs=["photos"]) as outputs:
        outputs.require_free("summary.json", "detections.json")  # fail before the work, not after it
        outputs.write("summary.json", lambda path: path.write_text(text))
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO

from .errors import StmineError
from .files import only_writer, write_atomically

__all__ = ["OutputError", "Outputs", "require_apart", "write_output", "write_pretrained"]

MARKER = ".stmine-outputs.jsonl"
_PART = ".stmine-{}{}"  # short, as file names end at 255 bytes; with the suffix, by which writers know the format
_STAGING = ".stmine-saving"
_LONGEST_NAME = 255  # bytes
_PART_NAME = r"\.stmine-[0-9a-f]{16}(\..*)?"


class OutputError(StmineError):
    """An output that would replace, remove or mix with something that this package did not write."""


def require_apart(output: str | Path, inputs: Iterable[str | Path], *, inside: bool = False) -> None:
    """Check that an output does not equal, contain or lie in an input, through links and other spellings too.

    Args:
        output: a file or folder; it may not exist yet.
        inputs: files and folders that are read. What does not exist is ignored.
        inside: the output may lie in an input, such as an index that an earlier version wrote among its images.

    Raises:
        OutputError: it does.
    """
    output = Path(output)
    for source in map(Path, inputs):
        if not os.path.exists(source):
            continue
        if os.path.exists(output) and os.path.samefile(output, source):
            where = "is the input itself"
        elif _lies_in(output, source):
            if inside:
                continue
            where = f"lies in the input {source}"
        elif os.path.isdir(output) and _lies_in(source, output):
            where = f"contains the input {source}"
        else:
            continue
        raise OutputError(f"the output {output} {where}: choose a place outside of it")


def require_other(output: str | Path | None, inputs: Iterable[str | Path | None]) -> None:
    """Check that an output is no input itself, such as the folder of the model, through links and spellings too.

    Args:
        output: a file or folder, None for none.
        inputs: names of files, folders and other things; what does not exist is ignored.

    Raises:
        OutputError: it is.
    """
    if output is None or not os.path.exists(output):
        return
    for source in inputs:
        if source is not None and os.path.exists(source) and os.path.samefile(output, source):
            raise OutputError(f"the output {output} is the input itself: choose a place outside of it")


class Outputs:
    """The results of one run in a folder, of which this run is the only writer.

    Args:
        folder: for the results; made on entry.
        inputs: what the run reads; see `require_apart`.
        file: the run writes this one file of the folder (and files named after it): other runs may write others.
        inside: see `require_apart`.

    Raises:
        OutputError: on entry, the folder (or `file`) equals, contains or lies in an input, or `folder` is a file.
        StmineError: on entry, another run writes here.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        inputs: Iterable[str | Path] = (),
        file: str | None = None,
        inside: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self._inputs, self._single, self._inside = list(inputs), file, inside
        # Of each name the last two contents: a run killed between line and move leaves the one before in place.
        self._hashes: dict[str, list[str]] = {}  # "": a file that grows
        self._parts: set[str] = set()
        self._exit = ExitStack()

    def __enter__(self) -> Outputs:
        output = self.folder / self._single if self._single else self.folder
        require_apart(output, self._inputs, inside=self._inside)
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(f"{self.folder}: expected a folder to write to, found a file")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._exit.enter_context(only_writer(self.folder, self._single))
        try:
            marker = self.folder / MARKER
            if os.path.lexists(marker) and (marker.is_symlink() or not marker.is_file()):
                raise OutputError(f"{marker}: expected a file of this package, found something else: remove it")
            self._read()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._remove_parts()
        finally:
            self._exit.close()

    @property
    def has_marker(self) -> bool:
        """Whether this package has written here, as far as the list of files knows."""
        return (self.folder / MARKER).is_file()

    def wrote(self, name: str) -> bool:
        """Whether a file is there, is on the list and has not been changed since."""
        path, known = self._path(name), self._hashes.get(name)
        if not known or path.is_symlink() or not path.is_file():
            return False
        return "" in known or sha256_of(path) in known

    def is_growing(self, name: str) -> bool:
        """Whether a file is on the list as one that grows, so that a change of it would not be noticed."""
        return "" in self._hashes.get(name, [])

    def require_free(self, *names: str) -> None:
        """Check that files can be written: nothing has their names, or only what this package wrote.

        Raises:
            OutputError: something else is there.
        """
        for name in names:
            if os.path.lexists(self._path(name)) and not self.wrote(name):
                found = "was changed since" if name in self._hashes else "is not listed as written by stmine"
                raise OutputError(
                    f"{self.folder / name} exists and {found}: it is not replaced. Choose another "
                    "output, or move it away"
                )

    def require_own_folder(self, last: str) -> None:
        """Check that the results will not be mixed with other files: of a folder that is used as a whole.

        Args:
            last: file that a complete run has written. What the user then puts beside the results stays there.

        Raises:
            OutputError: the folder has other files, and no complete run has written to it.
        """
        own = {name.partition("/")[0] for name in self._hashes}
        found = sorted(entry.name for entry in os.scandir(self.folder) if not entry.name.startswith("."))
        others = [name for name in found if name not in own]
        if others and not self.wrote(last):
            shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            raise OutputError(
                f"{self.folder} holds other files ({shown}), with which the results would be mixed: choose a new or "
                "an empty folder"
            )

    def write(self, name: str, writer: Callable[[Path], Any]) -> Path:
        """Write a file whole or not at all.

        Args:
            name: below the folder, with forward slashes.
            writer: called with the path to write to.

        Returns:
            Path: of the file.

        Raises:
            OutputError: a file of that name is there that this package did not write.
        """
        with self.writing(name) as part:
            writer(part)
        return self.folder / name

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Write a file piece by piece: the path to write to, moved into place at the end, or removed after an error.

        Raises:
            OutputError: a file of that name is there that this package did not write.
        """
        self.require_free(name)
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(_PART.format(secrets.token_hex(8), path.suffix[:32]))
        listed = part.relative_to(self.folder).as_posix()
        self._append({"part": listed})
        self._parts.add(listed)
        try:
            yield part
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            self._record(name, sha256_of(part))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
            self._parts.discard(listed)

    def open_growing(self, name: str) -> BinaryIO:
        """Open a file to append to, such as a journal that the next run reads; call `settle` at the end.

        Raises:
            OutputError: a file of that name is there that this package did not write.
        """
        self.require_free(name)
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._record(name, "")
        return open(path, "ab+")

    def settle(self, name: str) -> None:
        """Record the content of a file that has stopped growing: if it changes later, it is no longer replaced."""
        self._hashes.pop(name, None)
        self._append({"removed": name})
        self._record(name, sha256_of(self._path(name)))

    def adopt(self, names: Iterable[str]) -> None:
        """Record files of the folder that an earlier version listed as its own, before there was a marker.

        Names that are no regular files are ignored.
        """
        for name in names:
            path = self._path(name)
            if name not in self._hashes and path.is_file() and not path.is_symlink():
                self._record(name, sha256_of(path))

    def remove(self, name: str) -> None:
        """Remove a file that this package wrote; do nothing if there is none.

        Raises:
            OutputError: this package did not write it.
        """
        self.require_free(name)
        self._path(name).unlink(missing_ok=True)
        self._hashes.pop(name, None)
        self._append({"removed": name})

    def written(self) -> list[str]:
        """The names on the list, in order."""
        return sorted(self._hashes)

    def _path(self, name: str) -> Path:
        relative = PurePosixPath(name)
        if not _is_name(name) or relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise OutputError(f"{name!r}: expected the name of a file below {self.folder}")
        path = self.folder / relative
        if not _lies_in(path.parent, self.folder):
            raise OutputError(f"{path} leads out of {self.folder} by a link: it is not written")
        return path

    def _record(self, name: str, digest: str) -> None:
        self._remember(name, digest)
        self._append(_line(name, digest))

    def _remember(self, name: str, digest: str) -> None:
        self._hashes[name] = [*self._hashes.get(name, []), digest][-2:]

    def _append(self, line: dict[str, Any]) -> None:
        """Add a line. One short write in append mode: runs that write other files of the folder add theirs too."""
        with open(self.folder / MARKER, "ab") as file:
            file.write(b"\n" * _torn(self.folder / MARKER) + json.dumps(line).encode() + b"\n")

    def _read(self) -> None:
        try:
            lines = (self.folder / MARKER).read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        self._take(lines)
        if not self._single:  # else what is half written may belong to a run that writes another file of the folder
            self._remove_parts()
            if len(lines) > 3 * len(self._hashes) + 64:
                self._compact()

    def _take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            try:
                entry = json.loads(line)
                if "part" in entry:
                    self._parts.add(str(entry["part"]))
                elif "removed" in entry:
                    self._hashes.pop(str(entry["removed"]), None)
                else:
                    self._remember(str(entry["file"]), "" if entry.get("growing") else str(entry["sha256"]))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue  # cut short by a kill, or damaged: a file without its line is not replaced, which is safe

    def _compact(self) -> None:
        """Rewrite the list with one line for each file and content."""
        lines = [_line(name, digest) for name, digests in sorted(self._hashes.items()) for digest in digests]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_atomically(self.folder / MARKER, lambda path: path.write_text(text, encoding="utf-8"))

    def _remove_parts(self) -> None:
        """Remove partial files of killed runs."""
        for part in self._parts:
            if re.fullmatch(_PART_NAME, PurePosixPath(part).name):
                self._path(part).unlink(missing_ok=True)
        self._parts.clear()


def listed(folder: Path) -> set[str]:
    """The names of files that this package has written into a folder, as its list says; for what may be removed."""
    outputs = Outputs(folder)
    try:
        outputs._take((folder / MARKER).read_bytes().split(b"\n"))
    except FileNotFoundError:
        return set()
    return {*outputs._hashes}


def write_output(path: str | Path, writer: Callable[[Path], Any], *, inputs: Iterable[str | Path] = ()) -> Path:
    """Write one file that the user named, such as `--out hits.html`; see `Outputs`.

    Args:
        path: the file.
        writer: called with the path to write to, whose name ends with the same suffix.
        inputs: what was read for it.

    Raises:
        OutputError: it is an input, or a file is there that this package did not write.
    """
    path = Path(path)
    with Outputs(path.parent, inputs=inputs, file=path.name) as outputs:
        return outputs.write(path.name, writer)


def write_pretrained(out: str | Path, parts: Iterable[Any], *, inputs: Iterable[str | Path] = ()) -> None:
    """Write a model and what belongs to it, such as its processor, into one folder by their `save_pretrained`.

    Args:
        out: the folder. Of the files in it, those that this function wrote are replaced; all others stay.
        parts: saved in this order.
        inputs: what was read for it.

    Raises:
        OutputError: `out` overlaps with an input, or a file is in the way that this package did not write.
    """
    require_readable_name(out)
    staging = Path(out) / _STAGING
    with Outputs(out, inputs=inputs) as outputs:
        try:
            shutil.rmtree(staging, ignore_errors=True)  # of a killed run: the folder is locked
            for part in parts:
                part.save_pretrained(staging)
            files = {path.relative_to(staging).as_posix(): path for path in staging.rglob("*") if path.is_file()}
            outputs.require_free(*files)
            for name, file in sorted(files.items()):
                outputs.write(name, partial(os.replace, file))
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def require_output(path: str | Path, *, inputs: Iterable[str | Path] = ()) -> None:
    """Check, before the work for it is done, that `write_output` can write a file.

    Raises:
        OutputError: it is an input, or a file is there that this package did not write.
    """
    path = Path(path)
    with Outputs(path.parent, inputs=inputs, file=path.name) as outputs:
        outputs.require_free(path.name)


def require_outputs(folder: str | Path, *names: str) -> None:
    """Check, before the work for them is done, that `Outputs.write` can write files into a folder.

    Raises:
        OutputError: a file of these names is there that this package did not write.
        StmineError: another run writes there.
    """
    if Path(folder).is_dir():
        with Outputs(folder) as outputs:
            outputs.require_free(*names)


def require_readable_name(path: str | Path) -> None:
    """Check, before the work for it is done, that libraries that take paths as text can write and read an output.

    Raises:
        OutputError: the path has bytes that are no UTF-8.
    """
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError:
        raise OutputError(
            f"{path}: its name is not valid UTF-8, so it could not be read again: choose another"
        ) from None


def require_own_place(what: str, path: str | Path, others: Iterable[str | Path]) -> None:
    """Check that an output is none of the other outputs of the same run, nor lies in one: it would be replaced.

    Raises:
        OutputError: it is, or does.
    """
    place = Path(os.path.normcase(os.path.realpath(path)))
    for other in others:
        there = Path(os.path.normcase(os.path.realpath(other)))
        if there == place or there in place.parents:
            raise OutputError(f"{what} {path}: this command writes its results to {other}: choose another place")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _line(name: str, digest: str) -> dict[str, Any]:
    return {"file": name, "sha256": digest} if digest else {"file": name, "growing": True}


def _is_name(name: str) -> bool:
    """Whether a file system accepts the name."""
    try:
        parts = os.fsencode(name).split(b"/")
        return all(b"\0" not in part and len(part) <= _LONGEST_NAME for part in parts)
    except UnicodeEncodeError:
        return False


def _torn(path: Path) -> bool:
    """Whether a file ends inside a line."""
    try:
        with open(path, "rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a path is `folder` or lies below it, whatever links and spellings lead there."""
    if not os.path.exists(folder):
        return False
    there = Path(os.path.realpath(path))
    return any(os.path.exists(part) and os.path.samefile(part, folder) for part in (there, *there.parents))

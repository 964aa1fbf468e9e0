"""Assemble a folder beside its place, then move it there file by file; other files there stay."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..cards.files import CARD, MANIFEST, files_in
from ..documents import DocumentError
from ..files import LOCK
from ..outputs import MARKER, Outputs, require_readable_name, sha256_of
from .repository import PublishError, read_manifest

_STAGING = ".stmine-building"  # in the folder itself, while its lock is held: else a killed run left it


@contextmanager
def assembled(
    out: Path, inputs: Iterable[Path] = (), *, refuse: Callable[[str], bool] = lambda name: False
) -> Iterator[Path]:
    """A new folder with the name of `out`, whose files are moved into `out` at the end.

    Of the files in `out`, those that an earlier build wrote (by its list with hashes) are replaced or, if they are not
    built any more, removed. All others stay; where one is in the way, nothing is changed.

    Args:
        out: the folder to write; it may be a clone of the Hub's repository.
        inputs: what is read; see `outputs.require_apart`.
        refuse: names of files that may not be in `out` unless an earlier build wrote them.

    Raises:
        PublishError: `out` is a file.
        OutputError: `out` overlaps with an input, or a file is there that this package did not write.
        StmineError: another run writes there.
    """
    require_readable_name(out)
    if out.exists() and not out.is_dir():
        raise PublishError(f"{out}: expected a folder to write to, found a file.")
    new = not out.exists()
    ours = [out / name for name in (LOCK, MARKER) if not os.path.lexists(out / name)]
    untouched = False
    try:
        with Outputs(out, inputs=inputs) as outputs:
            untouched, staging = True, out / _STAGING
            shutil.rmtree(staging, ignore_errors=True)
            _adopt(outputs)
            outputs.require_free(*(name for name in files_in(out) if refuse(name)))
            try:
                folder = staging / out.name
                folder.mkdir(parents=True)
                yield folder
                outputs.require_free(*files_in(folder))
                untouched = False
                _move(folder, outputs)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            if (out / MANIFEST).is_file():  # from now on it lists the files of this package
                (out / MARKER).unlink(missing_ok=True)
            (out / LOCK).unlink(missing_ok=True)  # still held: a run that has it open checks again
    except BaseException:
        if new and out.is_dir() and {path.name for path in out.iterdir()} <= {LOCK, MARKER}:
            shutil.rmtree(out)
        elif untouched:  # so nothing has to be listed
            for file in ours:
                file.unlink(missing_ok=True)
        raise


def _move(folder: Path, outputs: Outputs) -> None:
    names = files_in(folder)
    before = [name for name in outputs.written() if name not in names and outputs.wrote(name)]
    for name in sorted(names, key=lambda name: name == MANIFEST):  # the list comes last
        outputs.write(name, _replacement(folder / name))
    for name in before:
        outputs.remove(name)
        for parent in (outputs.folder / name).parents:
            if parent == outputs.folder or any(parent.iterdir()):
                break
            parent.rmdir()


def _replacement(source: Path) -> Callable[[Path], None]:
    return lambda path: os.replace(source, path)


def _adopt(outputs: Outputs) -> None:
    """List unchanged files of `manifest.json` as written by this package, and a card that the Hub made."""
    folder = outputs.folder
    try:
        listed = read_manifest(folder)
    except (PublishError, DocumentError):  # a file of that name by another tool
        listed = {}
    same = [name for name, entry in listed.items() if _is(folder, name, entry["sha256"])]
    outputs.adopt([*same, *([MANIFEST] if listed else [])])
    if (folder / ".gitattributes").is_file() and _is_header_alone(folder / CARD):
        outputs.adopt([CARD])


def _is(folder: Path, name: str, digest: str) -> bool:
    path = folder / name
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    return inside and path.is_file() and not path.is_symlink() and sha256_of(path) == digest


def _is_header_alone(card: Path) -> bool:
    """Whether a card is what the Hub writes into a new repository: a license in a header, and no text."""
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    if not card.is_file() or card.is_symlink() or card.stat().st_size > 1000:
        return False
    text = card.read_text(encoding="utf-8", errors="replace")
    return bool(REGEX_YAML_BLOCK.match(text)) and not REGEX_YAML_BLOCK.sub("", text, count=1).strip()

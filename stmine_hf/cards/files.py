"""The files of a repository's folder, and the names of its card and of its list of files."""

from __future__ import annotations

from pathlib import Path

from ..files import LOCK

CARD = "README.md"
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
# Files that git, the Hub's client, Python and this package leave in a folder: never part of a repository.
_LEFTOVERS = {".git", ".gitattributes", ".cache", "__pycache__", ".DS_Store", LOCK}
_OWN_LEFTOVERS = ".stmine-"  # list of outputs, folder of an unfinished build


def files_in(folder: Path) -> list[str]:
    """The files of a repository in order, as paths from its folder with forward slashes."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if not any(map(is_leftover, path.parts)))


def described_files(folder: Path) -> list[tuple[str, int]]:
    """Name and size in bytes of each file that a card lists: all but the card itself and the manifest."""
    return [(name, (folder / name).stat().st_size) for name in files_in(folder) if name not in {CARD, MANIFEST}]


def is_leftover(part: str) -> bool:
    """Whether a part of a path is what another tool, or an unfinished build, has left in the folder."""
    return part in _LEFTOVERS or part.startswith(_OWN_LEFTOVERS)

"""What repositories of every type share: their names, and the list of their files with sizes and hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..documents import read_json
from ..errors import StmineError
from ..files import LOCK
from ..outputs import MARKER

ORGANISATION = "stmine-hf"
CARD = "README.md"
MANIFEST = "manifest.json"
# What git, the Hub's client, Python and this package leave in a folder: never part of a repository.
_LEFTOVERS = {".git", ".gitattributes", ".cache", "__pycache__", ".DS_Store", LOCK, MARKER}


class PublishError(StmineError):
    """Something that cannot be published as it is."""


def files_in(folder: Path) -> list[str]:
    """The files of a repository in order, as paths from its folder with forward slashes."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if not _LEFTOVERS & set(path.parts))


def described_files(folder: Path) -> list[tuple[str, int]]:
    """Name and size in bytes of each file that a card lists: all but the card itself and the manifest."""
    return [(name, (folder / name).stat().st_size) for name in files_in(folder) if name not in {CARD, MANIFEST}]


def manifest_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of each file but the manifest: `{"config.json": {"bytes": 1, "sha256": "..."}}`."""
    listed = {}
    for name in files_in(folder):
        if name != MANIFEST:
            with (folder / name).open("rb") as file:
                listed[name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(file)}
    return listed


def write_manifest(folder: Path) -> None:
    """Write `manifest.json`, the list of a repository's files; it comes last, when all others are there."""
    lines = (f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in manifest_of(folder).items())
    (folder / MANIFEST).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """What `write_manifest` wrote; nothing where there is none.

    Raises:
        PublishError: it is no such list.
    """
    if not (folder / MANIFEST).is_file():
        return {}
    listed = read_json(folder / MANIFEST)
    if not all(isinstance(entry, dict) and {"bytes", "sha256"} <= entry.keys() for entry in listed.values()):
        raise PublishError(f"{folder / MANIFEST}: expected bytes and sha256 of each file.")
    return listed


def sha256_of(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()

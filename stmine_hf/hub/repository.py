"""What repositories of every type share: their names, and the list of their files with sizes and hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..cards.files import MANIFEST, files_in
from ..documents import read_json
from ..errors import StmineError
from ..files import write_entries
from ..outputs import sha256_of


class PublishError(StmineError):
    """Something that cannot be published as it is."""


def manifest_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of each file but the manifest: `{"config.json": {"bytes": 1, "sha256": "..."}}`."""
    listed = {}
    for name in files_in(folder):
        if name != MANIFEST:
            listed[name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
    return listed


def write_manifest(folder: Path) -> None:
    """Write `manifest.json`, the list of a repository's files; it comes last, when all others are there."""
    write_entries(folder / MANIFEST, manifest_of(folder))


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """What `write_manifest` wrote; nothing where there is none.

    Raises:
        PublishError: it is not such a list.
    """
    if not (folder / MANIFEST).is_file():
        return {}
    listed = read_json(folder / MANIFEST)
    if not all(isinstance(entry, dict) and {"bytes", "sha256"} <= entry.keys() for entry in listed.values()):
        raise PublishError(f"{folder / MANIFEST}: expected bytes and sha256 of each file.")
    return listed

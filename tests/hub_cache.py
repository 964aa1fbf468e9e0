"""A Hub cache laid by hand: what a download would have left, so that ids of the Hub open where there is none."""

from __future__ import annotations

import hashlib
from pathlib import Path

KINDS = {"model": "models", "dataset": "datasets", "space": "spaces"}


def lay_into_cache(home: Path, repo: str, folder: Path, *, branch: str = "main", kind: str = "model") -> str:
    """Put a folder into the cache of an `HF_HOME` as the present commit of a branch.

    Args:
        home: what HF_HOME is set to.
        repo: id, such as "stmine-hf/sat-coco-small".
        folder: the repository's files; they are linked, not copied.
        branch: or tag.
        kind: "model", "dataset" or "space".

    Returns:
        The commit.
    """
    sha = hashlib.sha1(f"{repo} {branch}".encode()).hexdigest()
    place = home / "hub" / f"{KINDS[kind]}--{repo.replace('/', '--')}"
    for file in (path for path in folder.rglob("*") if path.is_file()):
        blob = place / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        pointer = place / "snapshots" / sha / file.relative_to(folder)
        blob.parent.mkdir(parents=True, exist_ok=True)
        pointer.parent.mkdir(parents=True, exist_ok=True)
        if not blob.exists():
            blob.symlink_to(file.absolute())
        pointer.symlink_to(blob)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / branch).write_text(sha)
    return sha

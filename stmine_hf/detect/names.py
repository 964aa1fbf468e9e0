"""Names of annotated copies: two images never share one, and every file system accepts them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

ANNOTATED = "images"  # folder of the copies, below that of the results
FORMER_ANNOTATED = "pictures"  # of version 0.1
_MOST_BYTES = 200  # of a name: file systems allow 255, and writers add some
_OWN_SUFFIXES = {".jpg": (".jpg", ".jpeg"), ".png": (".png",)}


class AnnotatedNames:
    """Chooses the copies' names: those of the images, with ".jpg" added to other kinds.

    Where that name is another image's, or is too long, a hash of the image's path is part of it.

    Args:
        root: folder of the images.
        known: path of an image -> its copy, of earlier runs.
    """

    def __init__(self, root: Path, known: Mapping[str, str]):
        self._root = root
        self._owner = {_key(name): path for path, name in known.items()}

    def choose(self, path: str, suffix: str) -> str:
        """The name of the copy, below the folder of the results.

        Args:
            path: of the image below `root`.
            suffix: of the copy: ".jpg" or ".png".
        """
        has_suffix = os.path.splitext(path)[1].lower() in _OWN_SUFFIXES[suffix]
        plain = path if has_suffix else path + suffix
        folder, _, file = plain.rpartition("/")
        long = len(os.fsencode(file)) > _MOST_BYTES
        # Another file or folder has this name: its copies will need it.
        taken = not has_suffix and os.path.lexists(self._root / plain)
        name = f"{ANNOTATED}/{plain}"
        if long or taken or self._owner.get(_key(name), path) != path:
            mark = f"-{blake2b(os.fsencode(path), digest_size=8).hexdigest()}{suffix}"
            stem = os.fsencode(file)[: _MOST_BYTES - len(mark)].decode("utf-8", "ignore")
            name = "/".join(part for part in (ANNOTATED, folder, stem + mark) if part)
        self._owner[_key(name)] = path
        return name


def _key(name: str) -> str:
    """Equal for names that some file systems treat as the same."""
    return name.casefold()

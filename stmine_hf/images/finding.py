"""Find the images of a folder, whatever else it holds.

A bad file is never an error here: it becomes one `Skip` with a reason that the user can act on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from ..errors import StmineError

# Only these Pillow plugins ever see a file: others run programs (EPS), are metafiles, or match almost any bytes (TGA).
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "JPEG2000", "GIF", "BMP", "PPM")
# fmt: off
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".avif", ".jp2", ".j2k", ".gif", ".bmp",
    ".ppm", ".pgm", ".pbm", ".pnm",
})
# fmt: on
_SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)


AVIF = (b"ftypavif", b"ftypavis")  # from the fifth byte on


class Skip(NamedTuple):
    """A skipped file or folder, and why."""

    path: str
    reason: str


class ImageFile(NamedTuple):
    """A file that should hold an image, as it was found.

    Attributes:
        path: below the folder searched ("/" between parts).
        size: bytes.
        mtime_ns: when its content was changed, as programs may also set it.
        ctime_ns: when anything of it was changed, which no program sets; on Windows, when it was made.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int

    def is_as(self, size: int, mtime_ns: int, ctime_ns: int) -> bool:
        """Whether it is unchanged since these were noted; a `ctime_ns` of 0 was not noted."""
        return (self.size, self.mtime_ns) == (size, mtime_ns) and ctime_ns in (0, self.ctime_ns)


class ImageError(StmineError):
    """A file cannot be used as an image; the message is the reason alone, without the path."""


def find_images(
    root: str | Path, *, on_skip: Callable[[Skip], None] = lambda skip: None, exclude: str | Path | None = None
) -> Iterator[ImageFile]:
    """Walk a folder for images, in the same order every time, holding one folder's names at a time.

    A file counts as an image if its suffix or, failing that, its first bytes say so. Names starting with "." are
    ignored. Links are followed, each folder entered once, so that loops end.

    Args:
        on_skip: called for unreadable folders, broken links, and files whose names or kinds cannot be used.
        exclude: a folder not to enter (the index itself may live among its images).
    """
    seen = set() if exclude is None or not os.path.exists(exclude) else {_identity(os.stat(exclude))}
    waiting = [""]  # folders and files below root, next one last; a trailing "/" marks a folder
    while waiting:
        path = waiting.pop()
        full = os.path.join(root, path)
        if path and not path.endswith("/"):
            if file := image_file(path, on_skip, below=root, among_others=True):
                yield file
            continue
        try:
            if (identity := _identity(os.stat(full))) in seen:
                continue
            seen.add(identity)
            with os.scandir(full) as entries:
                names = [e.name + "/" * _is_folder(e) for e in entries if not e.name.startswith(".")]
        except OSError as error:
            on_skip(Skip(_printable(path) or ".", f"folder cannot be read: {error.strerror or error}"))
            continue
        waiting.extend(path + name for name in sorted(names, reverse=True))


def image_file(
    path: str, on_skip: Callable[[Skip], None], *, below: str | Path = "", among_others: bool = False
) -> ImageFile | None:
    """Look at one file without decoding it; None if it was skipped.

    Args:
        path: absolute, or relative to the folder `below`.
        among_others: do not report files that are no images by name or content.
    """
    full = os.path.join(below, path)
    named_as_image = os.path.splitext(path)[1].lower() in SUFFIXES
    try:
        info = os.stat(full)
        problem = None if stat.S_ISREG(info.st_mode) else "not a regular file"
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    # Only regular files may be opened for a look inside: opening a pipe would wait for ever.
    if among_others and not (named_as_image if problem else looks_like_image(full)):
        return None
    if problem is None and not _is_utf8(path):
        problem = "its name is not valid UTF-8: rename it"
    if problem:
        on_skip(Skip(_printable(path), problem))
        return None
    return ImageFile(path, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def looks_like_image(path: str | Path) -> bool:
    """Whether the suffix, or else the first bytes, are those of an image. An unreadable file counts by its suffix."""
    if os.path.splitext(path)[1].lower() in SUFFIXES:
        return True
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return (
        head.startswith(_SIGNATURES)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or head[4:12] in AVIF
        or (head[:2] == b"BM" and head[6:10] == bytes(4))  # "BM" alone begins ordinary words
    )


def content_digest(path: str | Path) -> bytes:
    """16-byte digest of a file's content: equal for copies and after a rename.

    Raises:
        ImageError: the file cannot be read.
    """
    with image_errors(), open(path, "rb") as file:
        digest = blake2b(digest_size=16)
        while block := file.read(2**20):
            digest.update(block)
        return digest.digest()


@contextmanager
def image_errors() -> Iterator[None]:
    """Turn whatever reading one image raises into an ImageError with its reason."""
    try:
        yield
    except ImageError:
        raise
    except PermissionError:
        raise ImageError("no permission to read it") from None
    except FileNotFoundError:
        raise ImageError("file not found") from None
    except IsADirectoryError:
        raise ImageError("a folder, not an image") from None
    except UnidentifiedImageError:
        raise ImageError("not an image, or of a kind that cannot be read") from None
    except Image.DecompressionBombError:
        raise ImageError("its size is over the limit: cut it into tiles or shrink it") from None
    except Exception as error:  # decoders meet hostile bytes with nearly every type there is, MemoryError included
        reason = " ".join(str(error).split())[:120]
        raise ImageError(f"corrupt or cut short ({type(error).__name__}: {reason})") from None


def _is_utf8(path: str) -> bool:
    """Python keeps foreign bytes of a name as lone surrogates, which no JSON, Parquet or HTML can hold."""
    return path.isascii() or not any("\ud800" <= character <= "\udfff" for character in path)


def _printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a forbidden place
        return False


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino

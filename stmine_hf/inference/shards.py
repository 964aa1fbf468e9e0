"""Tensors and a table of their items, in numbered pairs of files that a manifest lists with checksums.

    FOLDER/
      shards/000000.safetensors   tensors of n items
      shards/000000.parquet       n rows, one for each item

No file is ever changed in place. A shard counts once a manifest names it, which is written after the shard; so a
reader always finds whole data, and a kill costs at most the items since the last shard. From format 2 on the manifest
holds the SHA-256 of every file it names, and one of itself, so that a changed byte is reported.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..checkpoints import CheckpointError, require_bounded_header
from ..errors import StmineError
from ..outputs import OutputError, Outputs, sha256_of

SUFFIXES = ("parquet", "safetensors")
NUMBERED = ("vectors", "metadata", "lists")  # files beside the shards that are numbered like them
_CHECKSUM = b',\n "checksum": "'  # the last entry of a manifest, over all the bytes before it
FORMAT_VERSION = 2  # 1 had no checksums


class MissingFileError(StmineError, FileNotFoundError):
    """A file that a manifest names is missing; another run may have been replacing it during the read."""


class ShardFolder(NamedTuple):
    """A folder with shards.

    Attributes:
        folder: its path.
        what: its content, for messages.
        remedy: what to do when it is damaged or of an unknown format.
    """

    folder: Path
    what: str
    remedy: str

    def damaged(self, found: object) -> StmineError:
        """The error to raise for damage."""
        kind = MissingFileError if isinstance(found, FileNotFoundError) else StmineError
        return kind(f"the {self.what} in {self.folder} are damaged ({found}): {self.remedy}")

    def read_manifest(self, name: str) -> dict[str, Any] | None:
        """The content of a manifest; None if there is none.

        Raises:
            StmineError: it is damaged or of an unknown format version.
        """
        try:
            raw = (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise StmineError(f"{self.folder}: expected a folder with {self.what}, found a file") from None
        try:
            content = json.loads(raw)
            version = content["format_version"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self.damaged(f"{name}: {error!r}") from None
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise StmineError(
                f"{self.folder} has {self.what} of format {version}, this stmine-hf reads format 1 to "
                f"{FORMAT_VERSION} (or {name} is damaged): {self.remedy}, or use the stmine-hf version that made them"
            )
        if (version > 1) != ("checksum" in content) or not _is_intact(raw, content):
            raise self.damaged(f"{name}: its content has changed since it was written")
        return content

    def verify(self, file: str, checksums: Mapping[str, str]) -> None:
        """Check a file against its checksum; one of a format without checksums passes.

        Raises:
            StmineError: its content has changed.
        """
        with self.reading(file):
            if file in checksums and sha256_of(self.folder / file) != checksums[file]:
                raise self.damaged(f"{file}: its content has changed since it was written")

    def read_table(self, name: str, checksums: Mapping[str, str]) -> pa.Table:
        """The rows of a shard, checked."""
        file = shard_file(name, "parquet")
        self.verify(file, checksums)
        with self.reading(file):
            return pq.ParquetFile(self.folder / file).read()  # read_table imports pandas

    @contextmanager
    def reading(self, file: str) -> Iterator[None]:
        """Report any error while `file` is read as damage."""
        try:
            if file.endswith(".safetensors"):
                require_bounded_header(self.folder / file)
            yield
        except CheckpointError as error:
            raise self.damaged(error) from error
        except StmineError:
            raise
        except FileNotFoundError as error:
            raise self.damaged(error) from error
        except Exception as error:  # Arrow and safetensors each have error types of their own
            raise self.damaged(f"{file}: {error}") from error


def shard_file(name: str, suffix: str) -> str:
    """Path of a shard's file, relative to the folder."""
    return f"shards/{name}.{suffix}"


def next_name(folder: Path) -> str:
    """A number that no shard or other numbered file has, including those left by a killed run."""
    files = (*folder.glob("shards/*"), *(file for kind in NUMBERED for file in folder.glob(f"{kind}-*")))
    used = [int(number) for file in files if (number := file.stem.rpartition("-")[2]).isdecimal()]
    return f"{max(used, default=-1) + 1:06d}"


def write_shard(outputs: Outputs, name: str, table: pa.Table, tensors: Mapping[str, Any]) -> dict[str, str]:
    """Write n rows and the tensors of their items (numpy arrays, or torch tensors).

    Returns:
        The checksum of each file.
    """
    from_torch = hasattr(next(iter(tensors.values())), "numpy")
    library = import_module("safetensors.torch" if from_torch else "safetensors.numpy")
    writers = {
        shard_file(name, "parquet"): lambda path: pq.write_table(table, path),
        shard_file(name, "safetensors"): lambda path: library.save_file(dict(tensors), path),
    }
    return {file: sha256_of(outputs.write(file, write)) for file, write in writers.items()}


def checksums_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The checksum of each file of these shards, for format 1, which has none."""
    files = [shard_file(name, suffix) for name in names for suffix in SUFFIXES]
    return {file: sha256_of(folder / file) for file in files}


def remove_unnamed(outputs: Outputs, named: Container[str]) -> None:
    """Remove the shards and other numbered files that this package wrote and no manifest names any longer.

    One that was changed since is no longer ours, and stays.
    """
    for file in outputs.written():
        if file.startswith(("shards/", *(f"{kind}-" for kind in NUMBERED))) and file not in named:
            with suppress(OutputError):
                outputs.remove(file)


def write_manifest(outputs: Outputs, name: str, content: Mapping[str, Any]) -> None:
    """Write a manifest in the newest format, with its own checksum at the end."""
    content = {**content, "format_version": FORMAT_VERSION}
    content.pop("checksum", None)
    body = json.dumps(content, indent=1).encode().removesuffix(b"\n}")
    outputs.write(name, lambda path: path.write_bytes(body + _CHECKSUM + sha256(body).hexdigest().encode() + b'"\n}'))


def _is_intact(raw: bytes, content: Mapping[str, Any]) -> bool:
    if "checksum" not in content:
        return True
    body, mark, end = raw.rpartition(_CHECKSUM)
    return bool(mark) and end == sha256(body).hexdigest().encode() + b'"\n}'

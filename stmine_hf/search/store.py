"""An index on disk: which files there are, and how they stay whole when a run is killed or two runs meet.

    INDEX/
      index.json                  the finished index: model, images' folder, its shards and its FAISS file
      unfinished.json             the same for a build under way or broken off; the next run goes on from it
      shards/000000.safetensors   "embeddings": (n, D) float32, unit rows
      shards/000000.parquet       path, size, mtime_ns, digest of the same n images
      vectors-000000.faiss        IndexFlatIP over all shards in their order
      skipped.json                [path, reason] of the images the last run left out
      .lock                       held by the run that writes

No file is ever changed in place. A build writes new files under new names, then makes them count by replacing one of
the two manifests, and deletes what no manifest names only after that. So a reader always finds a whole index,
and a kill costs at most the images since the last shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save_file

from ..errors import StmineError
from ..files import write_atomically, write_json

FORMAT_VERSION = 1
FINISHED, UNFINISHED, SKIPPED = "index.json", "unfinished.json", "skipped.json"

_ROWS = pa.schema([("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("digest", pa.binary(16))])


class Row(NamedTuple):
    """One indexed image. `path` is relative to the images' folder ("/" between parts), absolute outside of it."""

    path: str
    size: int
    mtime_ns: int
    digest: bytes


@dataclass
class Manifest:
    """The content of index.json and unfinished.json."""

    images: str  # absolute path of the images' folder
    images_from_index: str  # the same, seen from the index: finds them after both have moved together
    model: dict[str, Any]  # see Embedder.identity; its `dimension` is that of the embeddings
    shards: list[str] = field(default_factory=list)
    count: int = 0
    faiss: str = ""
    created: str = ""
    updated: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


# Names of fields in format 1, which every index has.
_ON_DISK = {"images": "pictures", "images_from_index": "pictures_from_index"}


def read_manifest(path: Path) -> Manifest | None:
    """None if there is no such file.

    Raises:
        StmineError: the file is damaged or of another format version.
    """
    try:
        content = json.loads(path.read_bytes())
        version = content["format_version"]
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise StmineError(f"{path.parent} is a file; an index is a folder") from None
    except (ValueError, KeyError, TypeError) as error:
        raise StmineError(damaged(path.parent, error)) from None
    if version != FORMAT_VERSION:
        raise StmineError(
            f"{path.parent} has index format {version}, this stmine-hf reads format {FORMAT_VERSION}: index the "
            "images again with --out to a new folder, or use the stmine-hf version that made it "
            f"({content.get('versions', {}).get('stmine-hf', 'unknown')})"
        )
    names = {_ON_DISK.get(field.name, field.name): field.name for field in fields(Manifest)}
    try:
        return Manifest(**{names[key]: value for key, value in content.items() if key in names})
    except TypeError as error:
        raise StmineError(damaged(path.parent, error)) from None


def write_manifest(path: Path, manifest: Manifest) -> None:
    write_json(path, {_ON_DISK.get(key, key): value for key, value in asdict(manifest).items()})


def write_shard(folder: Path, name: str, rows: list[Row] | pa.Table, embeddings: np.ndarray) -> None:
    """Write n rows with their (n, D) float32 embeddings; the shard counts once a manifest names it."""
    table = rows if isinstance(rows, pa.Table) else pa.table(list(zip(*rows, strict=True)), schema=_ROWS)
    write_atomically(_shard(folder, name, "parquet"), lambda temporary: pq.write_table(table, temporary))
    tensors = {"embeddings": np.ascontiguousarray(embeddings, dtype=np.float32)}
    write_atomically(_shard(folder, name, "safetensors"), lambda temporary: save_file(tensors, temporary))


def read_rows(folder: Path, names: list[str]) -> pa.Table:
    """The rows of these shards, one after the other."""
    with _damage_is_told(folder):
        tables = [pq.read_table(_shard(folder, name, "parquet"), schema=_ROWS) for name in names]
    return pa.concat_tables([_ROWS.empty_table(), *tables])


def read_embeddings(folder: Path, name: str, rows: slice = slice(None)) -> np.ndarray:
    """(n, D) float32; only the wanted rows are read."""
    with _damage_is_told(folder), safe_open(_shard(folder, name, "safetensors"), framework="np") as file:
        return file.get_slice("embeddings")[rows]


def new_name(folder: Path) -> str:
    """A number no shard and no FAISS file of this index has, whether it counts or was left by a killed run."""
    used = [int(path.stem.removeprefix("vectors-")) for path in _numbered_files(folder)]
    return f"{max(used, default=-1) + 1:06d}"


def delete_unnamed(folder: Path, manifest: Manifest) -> None:
    """Delete the shards and FAISS files that `manifest` does not name, and what killed runs left half written."""
    for path in _numbered_files(folder):
        if path.stem not in manifest.shards and path.name != manifest.faiss:
            path.unlink()
    for pattern in (".new-*", "shards/.new-*"):
        for path in folder.glob(pattern):
            path.unlink()


def damaged(folder: Path, found: object) -> str:
    return f"the index {folder} is damaged ({found}): delete it and index the images again"


def _shard(folder: Path, name: str, suffix: str) -> Path:
    return folder / "shards" / f"{name}.{suffix}"


def _numbered_files(folder: Path) -> list[Path]:
    return [
        path
        for pattern in ("shards/[0-9]*.parquet", "shards/[0-9]*.safetensors", "vectors-[0-9]*.faiss")
        for path in folder.glob(pattern)
    ]


@contextmanager
def _damage_is_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise  # a reader may have met a writer that was replacing the file: it tries again
    except Exception as error:  # Arrow and safetensors each have error types of their own
        raise StmineError(damaged(folder, error)) from error

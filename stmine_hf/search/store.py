"""An index on disk: its files, and how they stay consistent when a run is killed or two runs overlap.

    INDEX/
      index.json                  the finished index: model, images' folder, its shards and FAISS file, checksums
      unfinished.json             the same for a build under way or interrupted; the next run resumes it
      shards/000000.safetensors   "embeddings": (n, D) float32, unit rows
      shards/000000.parquet       path, size, mtime_ns, digest, ctime_ns, window, place, time of the same n images or
                                  tiles
      metadata-000000.parquet     path, place, time and columns of a user's table of the images, if there is one
      vectors-000000.faiss        IndexFlatIP over all shards in their order
      lists-000000.safetensors    of a large index: what approximate search needs, made from the vectors
      skipped.json                [path, reason] of the images the last run skipped
      .lock                       held by the run that writes
      .stmine-outputs.jsonl       the files that were written here; no others are ever replaced or removed

No file is ever changed in place. A build writes new files under new names, then makes them count by replacing one of
the two manifests, and deletes what no manifest names only after that. So a reader always finds a whole index,
and a kill costs at most the images since the last shard.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import safe_open

from ..errors import StmineError
from ..images import ImageFile
from ..inference import shards as shard_files
from ..inference.shards import ShardFolder, shard_file
from ..outputs import Outputs, sha256_of
from .approximate import ApproximateLists, is_large
from .filters import Cells, PlacesAndTimes
from .vectors import open_flat, write_flat

if TYPE_CHECKING:
    from ..images import Window

FINISHED, UNFINISHED, SKIPPED = "index.json", "unfinished.json", "skipped.json"
VERIFIED = 2**30  # bytes: indexes up to this size are verified whole whenever they are opened

PLACE, TIME = pa.list_(pa.float64()), pa.timestamp("ms", tz="UTC")
_ROWS = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("digest", pa.binary(16)),
        ("ctime_ns", pa.int64()),
        ("window", pa.list_(pa.int32())),  # of four; pyarrow before 26 keeps no null in lists of a fixed size
        ("place", PLACE),
        ("time", TIME),
    ]
)
_REMEDY_OF_LISTS = "run `stmine index` with the same folders again, which makes them again without embedding an image"
_LATER = ("ctime_ns", "window", "place", "time")  # not in the shards of earlier versions


class IndexedImage(NamedTuple):
    """One indexed image, or a tile of one.

    Attributes:
        path: relative to the images' folder ("/" between parts), absolute outside of it.
        size: of the file, in bytes.
        mtime_ns: of the file.
        digest: of the file's content, and of the window.
        ctime_ns: see `ImageFile`; 0: not known.
        window: left, top, width and height of a tile, in pixels; None: the whole image.
        place: longitude and latitude of one point, or of four corners one after the other; None: not known.
        time: when it was taken, in UTC; None: not known.
    """

    path: str
    size: int
    mtime_ns: int
    digest: bytes
    ctime_ns: int = 0
    window: tuple[int, int, int, int] | None = None
    place: list[float] | None = None
    time: datetime | None = None


def indexed(
    file: ImageFile, digest: bytes, window: Window | None, place: list[float] | None, time: datetime | None
) -> IndexedImage:
    """The row of a file, or of a tile of it."""
    return IndexedImage(file.path, file.size, file.mtime_ns, digest, file.ctime_ns, window, place, time)


@dataclass
class Manifest:
    """The content of index.json and unfinished.json."""

    images: str  # absolute path of the images' folder
    images_from_index: str  # the same, relative to the index: finds them after both were moved together
    model: dict[str, Any]  # see Embedder.identity; its `dimension` is that of the embeddings
    shards: list[str] = field(default_factory=list)
    count: int = 0
    faiss: str = ""
    created: str = ""
    updated: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)  # SHA-256 of every file; none in format 1
    pixel_options: dict[str, Any] | None = None  # see images.PixelOptions; None: the default
    tiles: dict[str, Any] | None = None  # see tiles.Tiles; None: whole images
    engines: list[str] = field(default_factory=list)  # that embedded the images; of earlier versions none is stored
    metadata: str = ""  # the file with a user's table of the images; "": none
    lists: str = ""  # the file with the lists of approximate search; "": none
    format_version: int = shard_files.FORMAT_VERSION


# Names of fields in the files of both formats.
_ON_DISK = {"images": "pictures", "images_from_index": "pictures_from_index"}


def read_manifest(path: Path) -> Manifest | None:
    """None if there is no such file.

    Raises:
        StmineError: the file is damaged or of an unknown format version.
    """
    content = _folder(path.parent).read_manifest(path.name)
    if content is None:
        return None
    with _folder(path.parent).reading(path.name):
        return manifest_of(content)


def manifest_of(content: dict[str, Any]) -> Manifest:
    """The manifest that `content_of` gave.

    Raises:
        KeyError, TypeError, ValueError: it gave something else.
    """
    names = {_ON_DISK.get(field.name, field.name): field.name for field in fields(Manifest)}
    manifest = Manifest(**{names[key]: value for key, value in content.items() if key in names})
    _require_types(manifest)
    return manifest


def content_of(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON has it."""
    return {_ON_DISK.get(key, key): value for key, value in asdict(manifest).items()}


def _require_types(manifest: Manifest) -> None:
    """
    Raises:
        TypeError: a value is of another type than the one it was written as.
    """
    for one in fields(Manifest):
        value = getattr(manifest, one.name)
        expected = next(kind for kind in (str, dict, list, int) if str(one.type).startswith(kind.__name__))
        if not isinstance(value, expected) and not (value is None and str(one.type).endswith("None")):
            raise TypeError(f"{one.name}: expected {expected.__name__}, found {type(value).__name__}")
    model = manifest.model
    probes = [bytes.fromhex(probe) for probe in dict(model["probe"]).values()]
    texts = [*manifest.shards, *manifest.checksums.values(), model["source"] or "", model["weights"]]
    if not all(isinstance(text, str) for text in texts) or any(
        len(probe) != 2 * model["dimension"] for probe in probes
    ):
        raise TypeError("a name, a checksum or the model is not as it was written")


def state(folder: Path) -> tuple[int, int, int] | None:
    """What differs after a run has updated a finished index; None if there is none."""
    try:
        found = (folder / FINISHED).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def write_manifest(outputs: Outputs, name: str, manifest: Manifest) -> None:
    """Write index.json or unfinished.json."""
    shard_files.write_manifest(outputs, name, content_of(manifest))


def no_rows() -> pa.Table:
    """A table of no images."""
    return _ROWS.empty_table()


def rows_table(rows: Sequence[IndexedImage]) -> pa.Table:
    """The rows of images, at least one, as the files have them."""
    return pa.table(list(zip(*rows, strict=True)), schema=_ROWS)


def write_shard(
    outputs: Outputs, manifest: Manifest, rows: list[IndexedImage] | pa.Table, embeddings: np.ndarray
) -> str:
    """Write n rows with their (n, D) float32 embeddings; the shard counts once a manifest that names it is written.

    Returns:
        Its name; its checksums are entered into `manifest`.
    """
    name = shard_files.next_name(outputs.folder)
    table = rows if isinstance(rows, pa.Table) else rows_table(rows)
    tensors = {"embeddings": np.ascontiguousarray(embeddings, dtype=np.float32)}
    manifest.checksums |= shard_files.write_shard(outputs, name, table, tensors)
    return name


def read_rows(folder: Path, names: list[str], checksums: dict[str, str] | None = None) -> pa.Table:
    """The rows of these shards, one after the other."""
    tables = [_folder(folder).read_table(name, checksums or {}) for name in names]
    with _folder(folder).reading("shards"):
        return pa.concat_tables([_ROWS.empty_table(), *(_complete(table) for table in tables)])


def _complete(table: pa.Table) -> pa.Table:
    """The columns of today: a value that an earlier version did not store is unknown."""
    for name in _LATER:
        if name not in table.column_names:
            kind = _ROWS.field(name).type
            unknown = (
                pa.array(np.zeros(len(table), dtype=np.int64)) if name == "ctime_ns" else pa.nulls(len(table), kind)
            )
            table = table.append_column(name, unknown)
    table = table.select(_ROWS.names).cast(_ROWS)
    if pc.any(pc.not_equal(pc.list_value_length(table.column("window")), 4)).as_py():
        raise ValueError("a window is not of four numbers")
    return table


def write_metadata(outputs: Outputs, manifest: Manifest, table: pa.Table | None) -> None:
    """Write a user's table of the images; None: there is none. It counts once the manifest is written."""
    manifest.metadata = ""
    if table is not None:
        manifest.metadata = f"metadata-{shard_files.next_name(outputs.folder)}.parquet"
        file = outputs.write(manifest.metadata, lambda path: pq.write_table(table, path))
        manifest.checksums[manifest.metadata] = sha256_of(file)


def read_metadata(folder: Path, manifest: Manifest) -> pa.Table | None:
    """The table that `write_metadata` wrote."""
    if not manifest.metadata:
        return None
    _folder(folder).verify(manifest.metadata, manifest.checksums)
    with _folder(folder).reading(manifest.metadata):
        return pq.ParquetFile(folder / manifest.metadata).read()


def with_metadata(rows: pa.Table, metadata: pa.Table | None) -> pa.Table:
    """The rows with the places and times of the user's table where it has them: it takes precedence over the files."""
    if metadata is None:
        return rows
    known = pc.index_in(rows.column("path"), value_set=metadata.column("path"))
    for name in ("place", "time"):
        merged = pc.coalesce(metadata.column(name).take(known), rows.column(name))
        rows = rows.set_column(rows.column_names.index(name), name, merged)
    return rows


def facts_of(rows: pa.Table, metadata: pa.Table | None) -> PlacesAndTimes:
    """What rows can be filtered by.

    Args:
        rows: of `with_metadata`.
        metadata: the user's table.
    """
    columns: dict[str, Cells] = {}
    if metadata is not None:
        known = pc.index_in(rows.column("path"), value_set=metadata.column("path"))
        names = [name for name in metadata.column_names if name not in ("path", "place", "time")]
        columns = {name: Cells(metadata.column(name).take(known)) for name in names}
    return PlacesAndTimes(rows.column("place"), rows.column("time"), columns)


def read_embeddings(folder: Path, name: str, rows: slice = slice(None)) -> np.ndarray:
    """(n, D) float32; only the wanted rows are read."""
    file = shard_file(name, "safetensors")
    with _folder(folder).reading(file), safe_open(folder / file, framework="np") as tensors:
        return tensors.get_slice("embeddings")[rows]


def verify(folder: Path, manifest: Manifest) -> None:
    """Check every file of an index against its checksum, but for the lists, which are made from the others.

    Raises:
        StmineError: the content of one has changed.
    """
    for file in manifest.checksums:
        if file != manifest.lists:
            _folder(folder).verify(file, manifest.checksums)


def write_vectors(outputs: Outputs, manifest: Manifest) -> None:
    """Write the FAISS file of the shards of a manifest, and enter it there with the number of rows."""
    folder = outputs.folder
    with _folder(folder).reading("shards"):
        files = [folder / shard_file(name, "parquet") for name in manifest.shards]
        manifest.count = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    dimension = int(manifest.model["dimension"])
    embeddings = (read_embeddings(folder, name) for name in manifest.shards)
    manifest.faiss = f"vectors-{shard_files.next_name(folder)}.faiss"
    file = outputs.write(manifest.faiss, lambda path: write_flat(path, embeddings, manifest.count, dimension))
    manifest.checksums[manifest.faiss] = sha256_of(file)


def open_vectors(folder: Path, manifest: Manifest) -> Any:
    """The FAISS index of all vectors; those of a large index stay in their file.

    Raises:
        StmineError: the file is damaged, or something else.
    """
    with _folder(folder).reading(manifest.faiss):
        path, dimension = folder / Path(manifest.faiss).name, int(manifest.model["dimension"])
        return open_flat(path, manifest.count, dimension, mapped=is_large(manifest.count))


def write_lists(outputs: Outputs, manifest: Manifest, lists: ApproximateLists | None) -> None:
    """Write the lists of approximate search; None: there are none. They count once the manifest is written."""
    manifest.lists = ""
    if lists is not None:
        manifest.lists = f"lists-{shard_files.next_name(outputs.folder)}.safetensors"
        manifest.checksums[manifest.lists] = sha256_of(outputs.write(manifest.lists, lists.write))


def read_lists(folder: Path, manifest: Manifest, *, verified: bool = True) -> ApproximateLists | None:
    """The lists that `write_lists` wrote.

    Args:
        verified: check the file against its checksum. What is in it is checked in any case.

    Raises:
        StmineError: they are damaged, or of another version.
    """
    if not manifest.lists:
        return None
    files = ShardFolder(folder, "lists of approximate search", _REMEDY_OF_LISTS)
    if verified:
        files.verify(manifest.lists, manifest.checksums)
    with files.reading(manifest.lists):
        path = folder / Path(manifest.lists).name
        return ApproximateLists.read(path, manifest.count, int(manifest.model["dimension"]))


def images_folder(manifest: Manifest, folder: Path) -> Path:
    """The folder of the images; if it no longer exists, its place if it was moved together with the index."""
    absolute, beside = Path(manifest.images), Path(os.path.normpath(folder / manifest.images_from_index))
    return beside if beside.is_dir() and not absolute.is_dir() else absolute


def size(folder: Path, manifest: Manifest) -> int:
    """Bytes of the files that have a checksum."""
    return sum((folder / file).stat().st_size for file in manifest.checksums if (folder / file).exists())


def adopt(outputs: Outputs, manifest: Manifest) -> None:
    """List the files of an index that was moved here, or that version 0.1 wrote, as written by this package."""
    outputs.adopt([*filter(None, named(manifest)), FINISHED, UNFINISHED, SKIPPED])


def add_checksums(folder: Path, manifest: Manifest) -> None:
    """Add the checksums of files that were written without; drop those of files not named."""
    old = [name for name in manifest.shards if shard_file(name, "parquet") not in manifest.checksums]
    manifest.checksums |= shard_files.checksums_of(folder, old)
    manifest.checksums = {file: value for file, value in manifest.checksums.items() if file in named(manifest)}


def named(manifest: Manifest) -> set[str]:
    """The shards' files, the FAISS file, the lists and the table of metadata of an index."""
    files = {shard_file(name, suffix) for name in manifest.shards for suffix in shard_files.SUFFIXES}
    return files | {manifest.faiss, *filter(None, (manifest.lists, manifest.metadata))}


def damaged(folder: Path, found: object) -> StmineError:
    """The error to raise for damage."""
    return _folder(folder).damaged(found)


def _folder(folder: Path) -> ShardFolder:
    return ShardFolder(folder, "index files", "delete it and index the images again")

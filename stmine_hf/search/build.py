"""Update an index from the images: embed new ones, remove those that no longer exist."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from ..data.findings import Findings
from ..errors import StmineError
from ..images import ImageFile, PixelOptions, Skip, Window
from ..inference.batching import batched
from ..inference.cluster import map_blocks
from ..inference.engines import TORCH
from ..inference.progress import ProgressBar
from ..inference.shards import remove_unnamed
from ..inference.skips import first_reasons
from ..outputs import Outputs, sha256_of
from . import store
from .approximate import ApproximateLists, is_large
from .embedder import Embedder
from .metadata import Metadata
from .reading import EmbedBlock, Embedded, Reader, Wanted
from .store import IndexedImage, Manifest
from .tiles import Tiles

T = TypeVar("T")
# Yields the images, the same each time, and calls its argument for each one that it skips.
Lister = Callable[[Callable[[Skip], None]], Iterator[ImageFile]]
_BLOCK = 64  # images that a worker of a cluster gets at a time, or the next number that makes whole batches


@dataclass
class BuildReport:
    """Report of one run. Counts are images, or tiles of an index of tiles."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    embedded: int = 0  # went through the model: the added and changed ones, but for copies and renamed files
    empty: int = 0  # tiles without data, which are not in the index
    skipped: list[Skip] = field(default_factory=list)  # files, also of an index of tiles
    findings: Findings = field(default_factory=lambda: Findings("row"))  # of the table given as metadata
    engines: list[str] = field(default_factory=list)  # that embedded them; see `stmine_hf.inference.engines`
    engine: str = ""  # the one that was chosen, and how fast it is; "": PyTorch
    seconds: float = 0.0  # of the whole run, without loading the model
    peak_memory_mb: float | None = None  # of the process since its start; None where unknown

    @property
    def images_per_second(self) -> float:
        """Embedded images per second of the whole run."""
        return self.embedded / self.seconds if self.seconds else 0.0


class IndexBuilder:
    """One run that creates or updates an index.

    Args:
        outputs: the folder of the index.
        root: the images' folder; row paths below it are relative to it.
        save_every: number of images between two saves.
        pixels: see `ImageIndex.build`.
        tiles: see `ImageIndex.build`.
        metadata: of the images; None: what the index has of them already.
        ray: see `ImageIndex.build`.

    Raises:
        StmineError: the index belongs to another model, other images or an unknown format version, or is damaged.
    """

    def __init__(
        self,
        outputs: Outputs,
        root: Path,
        embedder: Embedder,
        *,
        batch_size: int,
        save_every: int = 1024,
        pixels: PixelOptions | None = None,
        tiles: Tiles | None = None,
        metadata: Metadata | None = None,
        ray: str | None = None,
    ):
        folder = outputs.folder
        self._outputs, self._folder, self._root, self.embedder = outputs, folder, root, embedder
        self._batch_size, self._save_every, self._ray = batch_size, save_every, ray
        self._shown = 0, 0  # images done and embedded, as far as the progress bar knows
        finished, unfinished = self._read_manifests()
        self._finished = finished
        self._published = finished if unfinished is None else None  # what is on disk, if that is all there is
        earlier = unfinished or finished
        self._pixels = pixels or PixelOptions()
        self._tiles, self._metadata = tiles, metadata
        if earlier:  # what needs no model first: loading one takes long
            self._pixels = PixelOptions.from_document(earlier.pixel_options)
            if pixels not in (None, self._pixels):
                raise StmineError(
                    f"{self.name} was made with {self._pixels}, and now {pixels} is requested: omit stretch and "
                    "bands, or make another index"
                )
            self._tiles = Tiles.from_document(earlier.tiles)
            if tiles not in (None, self._tiles):
                made = "whole images" if self._tiles is None else str(self._tiles)
                raise StmineError(
                    f"{self.name} was made of {made}, and now {tiles} are requested: omit the tiles, or make "
                    "another index"
                )
            embedder.require(earlier.model, self.name)
            identity = earlier.model | {"source": embedder.source or earlier.model["source"]}
        else:
            identity = embedder.identity
        self._manifest = Manifest(
            images=str(root),
            images_from_index=Path(os.path.relpath(root, folder)).as_posix(),
            model=identity,
            shards=list(earlier.shards) if earlier else [],
            created=earlier.created if earlier else now(),
            checksums=dict(earlier.checksums) if earlier else {},
            pixel_options=None if self._pixels == PixelOptions() else self._pixels.document(),
            tiles=None if self._tiles is None else self._tiles.document(),
            metadata=earlier.metadata if earlier else "",
            engines=engines_of(earlier),
        )

        # Killed after it had published, a run leaves an unfinished index whose rows are not those of the finished one.
        self._continues = finished is not None and self._manifest.shards[: len(finished.shards)] == finished.shards
        rows, self._published_rows = self._read_rows()
        # A window can have two rows, if a run embedded the changed image again and was killed: the later one counts.
        self._rows_of: dict[str, dict[Window | None, int]] = {}
        windows = map(_window, rows.column("window").to_pylist())
        for row, (path, window) in enumerate(zip(rows.column("path").to_pylist(), windows, strict=True)):
            self._rows_of.setdefault(path, {})[window] = row
        noted = ("size", "mtime_ns", "ctime_ns")
        self._sizes, self._mtimes, self._ctimes = (rows.column(name).to_numpy() for name in noted)
        self._digests = rows.column("digest")
        # Copies and renamed images need no model. They are sought among published rows only: a resumed run must not
        # find more of them than one that was never stopped, or its batches, hence the last bits, would differ.
        published = self._digests[: self._published_rows]
        self._row_with = {digest: row for row, digest in enumerate(published.to_pylist())}

        self._live = np.zeros(len(rows), dtype=bool)  # rows that stay in the index
        self._settled = np.zeros(len(rows), dtype=bool)  # rows that this run has already decided on
        self._reread: set[str] = set()  # scenes whose tiles are looked for again: those not found are removed
        self._buffer: list[tuple[IndexedImage, np.ndarray]] = []
        self._report = BuildReport()

    @property
    def name(self) -> object:
        """The index, for messages."""
        return self._folder

    def _read_manifests(self) -> tuple[Manifest | None, Manifest | None]:
        """Those of the finished and of the unfinished index, whose files are whole."""
        found = [store.read_manifest(self._folder / name) for name in (store.FINISHED, store.UNFINISHED)]
        for manifest in filter(None, found):
            store.verify(self._folder, manifest)
            store.adopt(self._outputs, manifest)
        return found[0], found[1]

    def _read_rows(self) -> tuple[pa.Table, int]:
        """All rows, and how many of them, the first ones, are those of the finished index."""
        tables = [store.read_rows(self._folder, [name]) for name in self._manifest.shards]
        self._rows_in = [len(table) for table in tables]  # of each shard
        return pa.concat_tables([store.no_rows(), *tables]), self._finished.count if self._finished else 0

    def known_outside(self) -> list[str]:
        """The indexed paths that lie outside the images' folder."""
        return [path for path in self._rows_of if os.path.isabs(path)]

    def leave_out(self, path: str) -> None:
        """Have the next `run` remove an image of the index."""
        self._settle(path, live=False)

    def run(self, images: Lister, *, remove_missing: bool, progress: bool) -> BuildReport:
        """Embed new images, saving regularly, and publish the result.

        Args:
            remove_missing: `images` yields all images, so the others are removed from the index.

        Raises:
            StmineError: not one image could be read; the index is left as it was.
        """
        started, report = time.monotonic(), self._report
        total = sum(self._count(file) for file in images(lambda skip: None))
        self.embedder.expect(max(0, total - len(self._live)))
        with ProgressBar("Embedding", total, shown=progress) as bar, warnings.catch_warnings():
            # Pillow warns of unusual metadata, and of images above half the limit of size here: no action needed.
            warnings.filterwarnings("ignore", module="PIL")
            try:
                self._embed(images, bar)
            finally:  # also when stopped by Ctrl-C
                self._save()
        report.engines, report.engine = self._engines, self.embedder.remark
        self._settle_missing(remove_missing)
        self._publish(progress)
        self._write_skipped()
        report.seconds = time.monotonic() - started
        report.peak_memory_mb = _peak_memory_mb()
        return report

    def _write_skipped(self) -> None:
        skipped = json.dumps(self._report.skipped, indent=1)
        self._outputs.write(store.SKIPPED, lambda path: path.write_text(skipped, encoding="utf-8"))

    def _embed(self, images: Lister, bar: ProgressBar) -> None:
        reader = Reader(self._root, self.embedder, self._pixels, self._tiles, self._row_with.keys())
        if self._ray is None:
            with closing(reader.read(self._wanted(images), self._batch_size)) as loaded:
                for batch in batched(self._to_embed(loaded), self._batch_size):
                    vectors = self.embedder.features([pixels for _, pixels in batch])
                    self._report.embedded += len(batch)
                    self._keep([(row, vector) for (row, _), vector in zip(batch, vectors, strict=True)])
                    self._advance(bar)
            return
        reader.embedder, reader.digests = self.embedder.portable(), frozenset(self._row_with)
        work = EmbedBlock(reader, self._batch_size)
        # Whole batches, so that they are those of one process; of scenes, which can be of any size, one.
        size = 1 if self._tiles is not None else -(-_BLOCK // self._batch_size) * self._batch_size
        with closing(map_blocks(self._ray, work, batched(self._wanted(images), size))) as done:
            for block in done:
                self._take(block)
                self._advance(bar)

    @property
    def _engines(self) -> list[str]:
        """The engines that have embedded images in this run."""
        if self._ray is None:
            return self.embedder.engines
        return [self.embedder.engine_of_workers] if self._report.embedded else []

    def _take(self, block: list[Embedded]) -> None:
        """Keep what a worker has made of a block."""
        kept = list(self._to_embed(block))
        self._report.embedded += len(kept)
        self._keep(kept)

    def _advance(self, bar: ProgressBar) -> None:
        report, (shown, embedded) = self._report, self._shown
        done = report.added + report.changed + report.unchanged + report.empty + len(report.skipped)
        bar.advance(done - shown, worked=report.embedded - embedded)
        self._shown = done, report.embedded

    def _wanted(self, images: Lister) -> Iterator[Wanted]:
        """The images that the index lacks, or has not as they are now."""
        if self._tiles is None:
            yield from map(Wanted, self._new(images))
        else:
            yield from self._new_scenes(images)

    def _new(self, images: Lister) -> Iterator[ImageFile]:
        """The images without a row of this size and these times in the index."""

        for file in images(self._on_skip):
            rows = self._rows_of.get(file.path, {})
            if None in rows and self._is_of(file, rows[None]):
                self._settle(file.path, live=True)
            else:
                yield file

    def _new_scenes(self, images: Lister) -> Iterator[Wanted]:
        """The scenes of which the index lacks tiles."""
        for file in images(self._on_skip):
            rows = self._rows_of.get(file.path, {})
            of_file = {window: row for window, row in rows.items() if self._is_of(file, row)}
            for row in of_file.values():
                self._settle_row(row, live=True)
            # An unfinished index may lack some tiles of a scene.
            if not of_file or len(of_file) < len(rows) or max(of_file.values()) >= self._published_rows:
                self._reread.add(file.path)
                yield Wanted(file, frozenset(of_file))

    def _count(self, file: ImageFile) -> int:
        return 1 if self._tiles is None else self._tiles.count(self._root / file.path)

    def _is_of(self, file: ImageFile, row: int) -> bool:
        return file.is_as(self._sizes[row], self._mtimes[row], self._ctimes[row])

    def _on_skip(self, skip: Skip) -> None:
        self._report.skipped.append(skip)
        # What cannot be read now may be readable later: its rows, or those of the whole folder, stay.
        self._settle(skip.path, live=True)
        if skip.path.endswith("/"):
            for path in self._rows_of:
                if path.startswith(skip.path):
                    self._settle(path, live=True)

    def _to_embed(
        self, loaded: Iterable[tuple[IndexedImage | Skip, T | None] | None]
    ) -> Iterator[tuple[IndexedImage, T]]:
        """The images with pixels, or from a worker with their embeddings; the others are entered as what they are."""
        for found in loaded:
            if found is None:
                self._report.empty += 1
                continue
            row, pixels = found
            if isinstance(row, Skip):
                self._report.skipped.append(row)
                self._settle(row.path, live=False)
            elif pixels is None:
                self._keep([(row, self._vector(self._row_with[row.digest]))])
            else:
                yield row, pixels

    def _keep(self, embedded: list[tuple[IndexedImage, np.ndarray]]) -> None:
        """Keep whole batches, so that a resumed run has the same batches as one never stopped."""
        for row, _ in embedded:
            known = self._rows_of.get(row.path, {}).get(_window(row.window))
            if known is None:
                self._report.added += 1
            elif self._digests[known].as_py() == row.digest:  # the file was only touched
                self._report.unchanged += 1
            else:
                self._report.changed += 1
            if known is not None:
                self._settled[known] = True
        self._buffer += embedded
        self._manifest.engines = list(dict.fromkeys([*self._manifest.engines, *self._engines]))
        if len(self._buffer) >= self._save_every:
            self._save()

    def _save(self) -> None:
        """Save the work so far, so that it survives a kill."""
        if not self._buffer:
            return
        rows, vectors = zip(*self._buffer, strict=True)
        self._manifest.shards.append(store.write_shard(self._outputs, self._manifest, list(rows), np.stack(vectors)))
        self._rows_in.append(len(rows))
        store.write_manifest(self._outputs, store.UNFINISHED, self._manifest)
        self._published = None
        self._buffer = []

    def _settle(self, path: str, *, live: bool) -> None:
        """Decide whether a known image stays or is removed."""
        for row in self._rows_of.get(path, {}).values():
            self._settle_row(row, live=live)

    def _settle_row(self, row: int, *, live: bool) -> None:
        if self._settled[row]:
            return
        self._settled[row] = True
        self._live[row] = live
        self._report.unchanged += live
        self._report.removed += not live

    def _settle_missing(self, remove: bool) -> None:
        for path in self._rows_of:
            self._settle(path, live=not remove and path not in self._reread)

    def _publish(self, progress: bool) -> None:
        """Drop dead rows, write the FAISS file and the lists, and make the result the index that is searched."""
        if self._published and self._live.all():
            self._enter_metadata(self._published.shards)
            names = ("images", "images_from_index", "model", "metadata")
            places = {name: getattr(self._manifest, name) for name in names}
            if self._manifest.metadata:
                own = self._manifest.metadata
                places["checksums"] = self._published.checksums | {own: self._manifest.checksums[own]}
            moved = replace(self._published, **places)
            if self._lacks_lists(moved):
                moved.checksums = dict(moved.checksums)
                self._enter_lists(moved, progress)
            if moved != self._published:
                store.add_checksums(self._folder, moved)
                if moved.faiss not in moved.checksums:  # of format 1
                    moved.checksums[moved.faiss] = sha256_of(self._folder / moved.faiss)
                store.write_manifest(self._outputs, store.FINISHED, moved)
            # a run killed at the very end may have left some
            remove_unnamed(self._outputs, store.named(moved))
            return
        shards = self._compact()
        if not shards and self._report.empty and not self._report.skipped:
            raise StmineError(f"no tile of {self._root} has data in it ({self._report.empty} have none)")
        if not shards:
            raise StmineError(
                f"not one image of {self._root} could be read ({first_reasons(self._report.skipped)}): nothing was "
                "changed"
            )
        self._enter_metadata(shards)
        manifest = self._manifest
        manifest.shards = shards
        store.write_vectors(self._outputs, manifest)
        self._enter_lists(manifest, progress)
        manifest.updated, manifest.versions = now(), versions("faiss-cpu")
        store.add_checksums(self._folder, manifest)
        store.write_manifest(self._outputs, store.FINISHED, manifest)
        self._outputs.remove(store.UNFINISHED)
        remove_unnamed(self._outputs, store.named(manifest))

    def _lacks_lists(self, manifest: Manifest) -> bool:
        """Whether a published index needs lists and has none, or damaged ones."""
        try:
            return is_large(manifest.count) and store.read_lists(self._folder, manifest) is None
        except StmineError:
            return True

    def _enter_lists(self, manifest: Manifest, progress: bool) -> None:
        """Write the lists of approximate search, from those of the published index where it has them."""
        if not is_large(manifest.count):
            store.write_lists(self._outputs, manifest, None)
            return
        vectors, lists, earlier = store.open_vectors(self._folder, manifest), None, self._finished
        if earlier is not None and self._continues:
            with suppress(StmineError):  # damaged ones are made again
                lists = store.read_lists(self._folder, earlier)
        if lists is None or lists.is_outgrown(manifest.count):
            lists = ApproximateLists.of(vectors, progress=progress)
        else:
            lists = lists.kept(self._live[: len(lists)]).extended(vectors, progress=progress)
        store.write_lists(self._outputs, manifest, lists)

    def _enter_metadata(self, shards: list[str]) -> None:
        """Write the metadata of the images of these shards from the user's table."""
        if self._metadata is None:
            return
        paths = store.read_rows(self._folder, shards).column("path").to_pylist()
        table, self._report.findings = self._metadata.rows(list(dict.fromkeys(paths)), self._root)
        store.write_metadata(self._outputs, self._manifest, table)

    def _compact(self) -> list[str]:
        """The shards without their dead rows; neighbours that are small, or have become so, are joined."""
        live = np.concatenate([self._live, np.ones(sum(self._rows_in) - len(self._live), dtype=bool)])
        compact: list[str] = []
        group: list[tuple[str, np.ndarray]] = []  # shards to be joined, with the rows to take

        def close_group() -> None:
            if len(group) == 1 and group[0][1].all():
                compact.append(group[0][0])
            elif group:
                rows = [store.read_rows(self._folder, [name]).filter(pa.array(mask)) for name, mask in group]
                vectors = [store.read_embeddings(self._folder, name)[mask] for name, mask in group]
                table, embeddings = pa.concat_tables(rows), np.concatenate(vectors)
                compact.append(store.write_shard(self._outputs, self._manifest, table, embeddings))
            group.clear()

        starts = np.cumsum([0, *self._rows_in])
        for name, start, end in zip(self._manifest.shards, starts, starts[1:], strict=False):
            mask = live[start:end]
            if sum(int(m.sum()) for _, m in group) + mask.sum() > self._save_every:
                close_group()
            if mask.any():
                group.append((name, mask))
        close_group()
        return compact

    def _vector(self, row: int) -> np.ndarray:
        """(D,) of a known row."""
        starts = np.cumsum([0, *self._rows_in])
        shard = int(np.searchsorted(starts, row, side="right")) - 1
        first = row - int(starts[shard])
        return store.read_embeddings(self._folder, self._manifest.shards[shard], slice(first, first + 1))[0]


def engines_of(earlier: Manifest | None) -> list[str]:
    """The engines that embedded an index: PyTorch, if an earlier version did."""
    if earlier is None:
        return []
    return list(earlier.engines) or [TORCH] * bool(earlier.shards)


def now() -> str:
    """The time in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def versions(engine: str) -> dict[str, str]:
    """The versions of Python and of the packages that an index depends on."""
    packages = ("stmine-hf", "torch", "transformers", "pillow", engine)
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # faiss has other package names, too
            found[package] = "unknown"
    return found


def _peak_memory_mb() -> float | None:
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KB elsewhere


def _window(window: Sequence[int] | None) -> Window | None:
    return None if window is None else Window(*window)

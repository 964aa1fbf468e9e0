"""Merge indexes that were made apart, such as by several machines, into a new one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..errors import StmineError
from ..inference.progress import ProgressBar
from ..inference.shards import remove_unnamed
from ..outputs import Outputs, require_readable_name
from . import store
from .approximate import ApproximateLists, is_large
from .build import engines_of, now, versions
from .embedder import difference
from .store import Manifest


def merge_indexes(sources: Sequence[Path], out: Path, *, progress: bool = True) -> None:
    """Write an index with the images of all of them; no image is read or embedded. The sources stay as they are.

    An image that several have is taken from the first that has it. The folder of the images is that of the first;
    images outside of it are named by their absolute paths.

    Args:
        sources: finished indexes, at least two.
        out: folder of the new index; created if missing.

    Raises:
        StmineError: one of them is no finished index or is damaged; they were made with different models, tiles or
            ways to read pixels; or there is something in `out` already, also an unfinished index.
    """
    manifests = [_manifest_of(source) for source in sources]
    if len(manifests) < 2:
        raise StmineError(f"expected at least two indexes to merge, found {len(manifests)}")
    for source, manifest in zip(sources[1:], manifests[1:], strict=True):
        _require_alike(manifests[0], manifest, source, sources[0])
    if (out / store.FINISHED).exists():
        raise StmineError(f"{out} is a finished index: choose a new folder for the merged one")
    if (out / store.UNFINISHED).exists():
        raise StmineError(
            f"{out} is an index that was never finished: finish it with `stmine index IMAGES --out {out}`, or choose "
            "another --out for the merged one"
        )

    roots = [store.images_folder(manifest, source) for source, manifest in zip(sources, manifests, strict=True)]
    first = manifests[0]
    require_readable_name(out)
    with Outputs(out, inputs=sources) as outputs:
        merged = Manifest(
            images=str(roots[0]),
            images_from_index=Path(os.path.relpath(roots[0], out)).as_posix(),
            model=first.model,
            pixel_options=first.pixel_options,
            tiles=first.tiles,
            engines=list(dict.fromkeys(engine for manifest in manifests for engine in engines_of(manifest))),
            created=now(),
        )
        tables = _write_shards(outputs, merged, sources, manifests, roots, progress)
        if tables:
            # A column that only some have is empty for the images of the others.
            store.write_metadata(outputs, merged, pa.concat_tables(tables, promote_options="default"))
        store.write_vectors(outputs, merged)
        if is_large(merged.count):
            lists = ApproximateLists.of(store.open_vectors(out, merged), progress=progress)
            store.write_lists(outputs, merged, lists)
        merged.updated, merged.versions = now(), versions("faiss-cpu")
        store.write_manifest(outputs, store.FINISHED, merged)
        remove_unnamed(outputs, store.named(merged))  # a killed run may have left some


def _write_shards(
    outputs: Outputs,
    merged: Manifest,
    sources: Sequence[Path],
    manifests: Sequence[Manifest],
    roots: Sequence[Path],
    progress: bool,
) -> list[pa.Table]:
    """Write the rows of all sources under their new paths.

    Returns:
        The users' tables of the images, under these paths, too.
    """
    taken: set[str] = set()
    tables = []
    with ProgressBar("Merging", sum(manifest.count for manifest in manifests), shown=progress) as bar:
        for source, manifest, root in zip(sources, manifests, roots, strict=True):
            own: set[str] = set()
            for name in manifest.shards:
                rows = store.read_rows(source, [name])
                paths = _paths_below(roots[0], root, rows.column("path"))
                kept = np.array([path not in taken for path in paths], dtype=bool)
                own.update(path for path in paths if path not in taken)
                rows = rows.set_column(0, "path", pa.array(paths, pa.string())).filter(pa.array(kept))
                if len(rows):
                    merged.shards.append(
                        store.write_shard(outputs, merged, rows, store.read_embeddings(source, name)[kept])
                    )
                bar.advance(len(kept))
            taken |= own
            if (table := store.read_metadata(source, manifest)) is not None:
                paths = _paths_below(roots[0], root, table.column("path"))
                known = pa.array([path in own for path in paths], pa.bool_())
                place = table.column_names.index("path")
                tables.append(table.set_column(place, "path", pa.array(paths, pa.string())).filter(known))
    return tables


def _paths_below(first: Path, root: Path, paths: pa.ChunkedArray) -> list[str]:
    """Paths of an index with the images' folder `root`, as one with the images' folder `first` names them."""
    if root == first:
        return paths.to_pylist()
    absolute = [os.path.normpath(root / path) for path in paths.to_pylist()]
    inside = f"{first}{os.sep}"
    return [Path(os.path.relpath(path, first)).as_posix() if path.startswith(inside) else path for path in absolute]


def _manifest_of(source: Path) -> Manifest:
    manifest = store.read_manifest(source / store.FINISHED)
    if manifest is None:
        raise StmineError(f"no finished index in {source}: make one with `stmine index IMAGES --out {source}`")
    store.verify(source, manifest)
    return manifest


def _require_alike(one: Manifest, other: Manifest, other_folder: Path, folder: Path) -> None:
    differences = {
        "another model": difference(one.model, other.model) is not None,
        "other --stretch or --bands": one.pixel_options != other.pixel_options,
        "other --tile or --overlap": one.tiles != other.tiles,
    }
    differ = [what for what, is_so in differences.items() if is_so]
    if differ:
        raise StmineError(
            f"{other_folder} was made with {' and '.join(differ)} than {folder}: indexes to be merged need the same, "
            "so that their scores compare"
        )

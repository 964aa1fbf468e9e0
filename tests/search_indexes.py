"""Indexes with given vectors, without images or a model."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from stmine_hf.outputs import Outputs
from stmine_hf.search import store
from stmine_hf.search.approximate import ApproximateLists, is_large


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def like_embeddings(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    """(N, D) unit vectors around 40 middles, which are the same for every seed."""
    middles = np.random.default_rng(99).standard_normal((40, dimension))
    chance = np.random.default_rng(seed)
    return unit(middles[chance.integers(40, size=count)] + 0.5 * chance.standard_normal((count, dimension)))


def write_index(
    folder: Path,
    vectors: np.ndarray,
    *,
    paths: list[str] | None = None,
    places: list[list[float] | None] | None = None,
    times: list[datetime | None] | None = None,
    columns: dict[str, list[str | None]] | None = None,
    shard: int = 1024,
    images: str = "/nowhere",
    weights: str = "w",
) -> None:
    """Write a finished index as a build does; images that do not exist."""
    count, dimension = vectors.shape
    paths = paths or [f"{number:06d}.png" for number in range(count)]
    with Outputs(folder) as outputs:
        model = {"source": None, "class": "X", "weights": weights, "dimension": dimension, "probe": {}}
        manifest = store.Manifest(images=images, images_from_index="../nowhere", model=model)
        for start in range(0, count, shard):
            rows = [
                store.IndexedImage(
                    paths[row],
                    1,
                    1,
                    row.to_bytes(16, "big"),
                    place=places[row] if places else None,
                    time=times[row] if times else None,
                )
                for row in range(start, min(start + shard, count))
            ]
            manifest.shards.append(store.write_shard(outputs, manifest, rows, vectors[start : start + shard]))
        if columns:
            nothing = {"place": pa.nulls(count, store.PLACE), "time": pa.nulls(count, store.TIME)}
            store.write_metadata(outputs, manifest, pa.table({"path": paths, **nothing, **columns}))
        store.write_vectors(outputs, manifest)
        if is_large(count):
            lists = ApproximateLists.of(store.open_vectors(folder, manifest))
            store.write_lists(outputs, manifest, lists)
        store.write_manifest(outputs, store.FINISHED, manifest)

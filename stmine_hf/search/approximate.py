"""Approximate search of large indexes: FAISS's inverted lists over compressed vectors.

The lists only propose rows, which the caller compares exactly: a score never depends on them. They are derived from
the vectors and can be made again at any time. Their file holds arrays of stated shapes, which are checked when it is
opened: FAISS reads files of its own formats without limits.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from ..inference.progress import ProgressBar
from .vectors import MAPPABLE, faiss_module

__all__ = ["EXACT_UP_TO", "ApproximateLists", "list_count"]

EXACT_UP_TO = 50_000
"""Rows that are compared one by one; of more, lists choose those to compare. See examples/guides/scale.md."""

_VERSION = "1"  # of the file
_PROBED = 128  # lists that a query looks into
_PART = 4  # components of a vector for each byte of its code
_TRAINED_ON = 40  # rows for each list
_ROUNDS = 8  # of k-means
_CODEBOOK_OF = 8192  # rows
_AT_A_TIME = 16_384  # rows
_COMPARED, _LEAST_COMPARED = 4, 200  # rows compared exactly: this times the wanted ones, and no fewer
_LOOKED_AT = 8  # rows whose codes are compared, for each one that is compared exactly


@dataclass(frozen=True)
class ApproximateLists:
    """Rows in lists of similar ones, with a short code of each. Arrays that are read stay in their file.

    Attributes:
        centroids: (L, D) float32 unit vectors, the middle of each list.
        codebook: (P, 256, D / P) float32, the values of the P bytes of a code, relative to the centroid.
        sizes: (L,) int64 rows of each list.
        rows: (N,) int64 numbers of the rows, list by list; each of 0 to N - 1 once.
        codes: (N, P) uint8 codes of these rows.
        trained: number of rows of the index when the centroids were made.
    """

    centroids: np.ndarray
    codebook: np.ndarray
    sizes: np.ndarray
    rows: np.ndarray
    codes: np.ndarray
    trained: int

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, vectors: Any, *, progress: bool = False) -> ApproximateLists:
        """Lists of all vectors of a FAISS index that holds them as they are; the same ones give the same lists."""
        count = vectors.ntotal
        lists = list_count(count)
        generator = np.random.default_rng(0)
        sample = np.sort(generator.choice(count, min(count, _TRAINED_ON * lists), replace=False))
        with ProgressBar("Grouping similar images", _ROUNDS + 1, shown=progress) as bar:
            centroids, codebook = _train(vectors.reconstruct_batch(sample), lists, bar)
        empty = (np.zeros(lists, np.int64), np.zeros(0, np.int64), np.zeros((0, len(codebook)), np.uint8))
        return cls(centroids, codebook, *empty, count).extended(vectors, progress=progress)

    def extended(self, vectors: Any, *, progress: bool = False) -> ApproximateLists:
        """These lists with the rows of a FAISS index that follow on their own."""
        index, numbers, codes = self.faiss_index, [self._numbers()], [self.codes]
        width = index.coarse_code_size()
        with ProgressBar("Entering images into the groups", vectors.ntotal - len(self), shown=progress) as bar:
            for start in range(len(self), vectors.ntotal, _AT_A_TIME):
                some = index.sa_encode(vectors.reconstruct_n(start, min(_AT_A_TIME, vectors.ntotal - start)))
                numbers.append(some[:, :width].astype(np.int64) @ (1 << 8 * np.arange(width)))
                codes.append(some[:, width:])
                bar.advance(len(some))
        rows = np.concatenate([self.rows, np.arange(len(self), vectors.ntotal)])
        return self._with(np.concatenate(numbers), rows, np.concatenate(codes))

    def is_outgrown(self, count: int) -> bool:
        """Whether an index of so many rows needs centroids of its own."""
        return count > 2 * self.trained

    def kept(self, mask: np.ndarray) -> ApproximateLists:
        """These lists without the rows of which an (N,) mask is false; the others are numbered anew, in order."""
        kept = mask[self.rows]
        renumbered = np.cumsum(mask) - 1
        return self._with(self._numbers()[kept], renumbered[self.rows[kept]], self.codes[kept])

    def search(self, query: np.ndarray, wanted: int, allowed: np.ndarray | None = None) -> np.ndarray | None:
        """Numbers of the rows that are worth an exact comparison, for the best `wanted`.

        Args:
            query: (1, D).
            allowed: numbers of the rows to choose from; None: all.

        Returns:
            None if comparing all is as little work.
        """
        faiss = faiss_module()
        count = len(self) if allowed is None else len(allowed)
        compared = max(_LEAST_COMPARED, _COMPARED * wanted)
        looked_at = max(_PROBED * len(self) / len(self.sizes), _LOOKED_AT * compared)
        if looked_at > count / 4:
            return None
        options = faiss.IVFSearchParameters(nprobe=int(np.ceil(looked_at / len(self) * len(self.sizes))))
        if allowed is not None:
            mask = np.zeros(len(self), dtype=bool)
            mask[allowed] = True
            # Of the lists that hold rows to choose from, the most similar ones: as many of these rows are looked at as
            # of all without a filter, also if none of them is near the query.
            inside = np.bincount(self._list_of[allowed], minlength=len(self.sizes))
            lists = np.argsort(-(self.centroids @ query[0]))
            lists = lists[inside[lists] > 0]
            probed = lists[: max(_PROBED, int(np.searchsorted(np.cumsum(inside[lists]), looked_at)) + 1)]
            options = faiss.IVFSearchParameters(
                nprobe=len(probed),
                sel=faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little")),
                quantizer_params=faiss.SearchParameters(sel=faiss.IDSelectorArray(probed)),
            )
        found = self.faiss_index.search(query, compared, params=options)[1][0]
        return found[found >= 0]

    def write(self, path: Path) -> None:
        """Write the file that `read` opens."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        save_file(arrays, path, {"version": _VERSION, "trained": str(self.trained)})

    @classmethod
    def read(cls, path: Path, count: int, dimension: int) -> ApproximateLists:
        """The lists of `count` rows of `dimension` numbers.

        Raises:
            ValueError: something else is in the file.
            OSError: there is none; safetensors has errors of its own, too.
        """
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            if facts.get("version") != _VERSION or set(file.keys()) != set(_ARRAYS):
                raise ValueError(f"expected lists of version {_VERSION}, found {facts.get('version')}")
            kinds = {name: _DTYPES[file.get_slice(name).get_dtype()] for name in _ARRAYS}
        with open(path, "rb") as raw:
            start = 8 + int.from_bytes(raw.read(8), "little")
            places = json.loads(raw.read(start - 8))
        arrays: dict[str, np.ndarray] = {
            name: np.memmap(
                path, kinds[name], "r", start + places[name]["data_offsets"][0], tuple(places[name]["shape"])
            )
            for name in _ARRAYS
        }
        if not MAPPABLE:
            arrays = {name: np.array(array) for name, array in arrays.items()}
        lists = cls(**arrays, trained=int(facts["trained"]))
        lists._require(count, dimension)
        return lists

    def _require(self, count: int, dimension: int) -> None:
        """
        Raises:
            ValueError: the arrays do not fit together.
        """
        lists, parts = len(self.sizes), len(self.codebook)
        shapes = {
            "centroids": ("float32", (lists, dimension)),
            "codebook": ("float32", (parts, 256, dimension // max(parts, 1))),
            "sizes": ("int64", (lists,)),
            "rows": ("int64", (count,)),
            "codes": ("uint8", (count, parts)),
        }
        for name, expected in shapes.items():
            array = getattr(self, name)
            if (str(array.dtype), array.shape) != expected:
                raise ValueError(f"{name}: expected {expected}, found {array.dtype} {array.shape}")
        if not lists or not parts or dimension % parts or self.sizes.min() < 0 or self.sizes.sum() != count:
            raise ValueError("the sizes of the lists are not those of the rows")
        if not count or self.rows.min() < 0 or self.rows.max() >= count or len(np.unique(self.rows)) != count:
            raise ValueError("not every row is in one list")
        if not (np.isfinite(self.centroids).all() and np.isfinite(self.codebook).all()):
            raise ValueError("some numbers are not finite")

    def _numbers(self) -> np.ndarray:
        """(N,) number of the list of each row, in the order of `rows`."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def _with(self, numbers: np.ndarray, rows: np.ndarray, codes: np.ndarray) -> ApproximateLists:
        """The same centroids over other rows."""
        order = np.lexsort((rows, numbers))
        sizes = np.bincount(numbers, minlength=len(self.sizes)).astype(np.int64)
        return ApproximateLists(self.centroids, self.codebook, sizes, rows[order], codes[order], self.trained)

    @cached_property
    def _list_of(self) -> np.ndarray:
        """(N,) number of the list of each row."""
        numbers = np.empty(len(self), dtype=np.int64)
        numbers[self.rows] = self._numbers()
        return numbers

    @cached_property
    def faiss_index(self) -> Any:
        """FAISS's index of these arrays."""
        faiss = faiss_module()
        index = _empty(self.centroids, len(self.codebook))
        faiss.copy_array_to_vector(np.ascontiguousarray(self.codebook).ravel(), index.pq.centroids)
        index.is_trained = True
        starts = np.cumsum([0, *self.sizes.tolist()])
        rows, codes = np.ascontiguousarray(self.rows), np.ascontiguousarray(self.codes)
        for number in np.flatnonzero(self.sizes).tolist():
            part = slice(starts[number], starts[number + 1])
            size = int(self.sizes[number])
            index.invlists.add_entries(number, size, faiss.swig_ptr(rows[part]), faiss.swig_ptr(codes[part]))
        index.ntotal = len(rows)
        return index


_ARRAYS = ("centroids", "codebook", "sizes", "rows", "codes")
_DTYPES = {"F32": "<f4", "I64": "<i8", "U8": "u1"}  # names of safetensors and numpy


def is_large(count: int) -> bool:
    """Whether so many rows are searched by lists."""
    return count > EXACT_UP_TO


def list_count(rows: int) -> int:
    """Lists of an index: the power of two next to four times the square root of its rows."""
    return int(2 ** np.round(np.log2(4 * np.sqrt(rows))))


def _train(sample: np.ndarray, lists: int, bar: ProgressBar) -> tuple[np.ndarray, np.ndarray]:
    """(L, D) centroids and (P, 256, D / P) codebook of a sample (N, D)."""
    faiss = faiss_module()
    centroids = None
    for round in range(_ROUNDS):  # one by one: for the bar, and so that Ctrl-C stops it
        options = {"spherical": True, "max_points_per_centroid": len(sample), "min_points_per_centroid": 1}
        means = faiss.Kmeans(sample.shape[1], lists, niter=1, seed=round, **options)
        means.train(sample, init_centroids=centroids)
        centroids = means.centroids
        bar.advance()
    assert centroids is not None
    index = _empty(centroids, sample.shape[1] // math.gcd(sample.shape[1], _PART))
    index.pq.cp.min_points_per_centroid, index.pq.cp.niter = 1, _ROUNDS
    some = sample[:: max(1, len(sample) // _CODEBOOK_OF)]
    index.train(np.resize(some, (max(len(some), 256), some.shape[1])))  # FAISS refuses fewer rows than values
    bar.advance()
    return centroids, faiss.vector_to_array(index.pq.centroids).reshape(index.pq.M, 256, index.pq.dsub)


def _empty(centroids: np.ndarray, parts: int) -> Any:
    """An index of FAISS with these lists and without rows, not yet trained."""
    faiss = faiss_module()
    quantizer = faiss.IndexFlatIP(centroids.shape[1])
    quantizer.add(np.ascontiguousarray(centroids))
    index = faiss.IndexIVFPQ(quantizer, centroids.shape[1], len(centroids), parts, 8, faiss.METRIC_INNER_PRODUCT)
    index.own_fields = True
    quantizer.this.disown()
    return index

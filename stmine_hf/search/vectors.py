"""The vectors of an index in one file of FAISS, an `IndexFlatIP`, and exact search in it."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StmineError

__all__ = ["nearest", "open_flat", "write_flat"]

MAPPABLE = sys.platform != "win32"  # which cannot remove a mapped file, as the next update does

# magic, D, N, two numbers that FAISS writes and does not read, trained, inner product, numbers that follow
_HEADER = struct.Struct("<4siqqqBiQ")


def faiss_module() -> Any:
    """
    Raises:
        StmineError: FAISS is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise StmineError("searching needs FAISS: pip install 'stmine-hf[search]'") from None
    return faiss


def write_flat(path: Path, vectors: Iterable[np.ndarray], count: int, dimension: int) -> None:
    """Write N vectors that come in arrays of (n, D), one array after the other, with the memory of one array."""
    written = 0
    with open(path, "wb") as file:
        file.write(_HEADER.pack(b"IxFI", dimension, count, 2**20, 2**20, 1, 0, count * dimension))
        for some in vectors:
            file.write(np.ascontiguousarray(some, dtype="<f4").data)
            written += some.size
    if written != count * dimension:
        raise ValueError(f"expected {count:,} vectors of {dimension} numbers, found {written:,} numbers")


def open_flat(path: Path, count: int, dimension: int, *, mapped: bool = False) -> Any:
    """Open a file of `write_flat`, or one that FAISS wrote, after a check of its header and its size.

    FAISS has many other kinds of indexes, and reads what their files state without limits.

    Args:
        mapped: leave the vectors in the file, and have the system read those that are needed, where FAISS and the
            system can. The file must not be cut while it is open.

    Raises:
        ValueError: it is something else.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        header = file.read(_HEADER.size)
    size = _HEADER.size + 4 * count * dimension
    if not header.startswith(b"IxFI" + struct.pack("<iq", dimension, count)) or path.stat().st_size != size:
        raise ValueError(f"expected {count:,} vectors of {dimension} numbers, found something else")
    faiss = faiss_module()
    if mapped and MAPPABLE and hasattr(faiss, "IO_FLAG_MMAP_IFC"):  # FAISS before 1.11 cannot
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    return faiss.read_index(str(path))


def nearest(vectors: Any, query: np.ndarray, k: int, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k vectors with the largest inner products with a query (1, D), among all or some rows.

    Returns:
        (k,) inner products, falling, and (k,) rows. A product does not depend on the rows it is compared with.
    """
    faiss = faiss_module()
    options = None
    if rows is not None:
        options = faiss.SearchParameters(sel=faiss.IDSelectorArray(np.ascontiguousarray(rows, dtype=np.int64)))
    scores, found = vectors.search(query, k, params=options)
    return scores[0], found[0]

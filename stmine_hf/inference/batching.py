"""Pass many items through a model: in batches, and read ahead in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice, repeat
from typing import TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of `size`, the last one shorter. (itertools.batched needs Python 3.12.)"""
    if size < 1:
        raise ValueError(f"a batch needs at least one item, got batch_size={size}")
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def in_batches_by_length(
    embed: Callable[[list[str]], np.ndarray], texts: Sequence[str], size: int = 128
) -> np.ndarray:
    """Rows of texts. Each distinct text is embedded once, among others of its length so that little padding is spent.

    Args:
        embed: B texts -> (B, D) array.
        texts: at least one.
        size: B at most.

    Returns:
        (N, D) array, rows in the order of `texts`.
    """
    distinct = sorted(dict.fromkeys(texts), key=len)
    rows = np.concatenate([embed(batch) for batch in batched(distinct, size)])
    row_of = {text: row for row, text in enumerate(distinct)}
    return rows[[row_of[text] for text in texts]]


def read_ahead(
    function: Callable[[T], R], items: Iterable[T], *, workers: int, ahead: int
) -> Generator[R, None, None]:
    """`map(function, items)` in threads, in order, with at most `ahead` results waiting to be taken.

    Pillow and torch release the interpreter lock while they work, so reading runs beside the model.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read-ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def generated_ahead(items: Iterable[T], *, ahead: int) -> Generator[T, None, None]:
    """`items` as they are, made in a thread of their own, with at most `ahead` of them waiting to be taken."""
    iterator, end = iter(items), object()
    with closing(read_ahead(lambda _: next(iterator, end), repeat(None), workers=1, ahead=ahead)) as made:
        for item in made:
            if item is end:
                return
            yield item  # type: ignore[misc]

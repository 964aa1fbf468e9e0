"""Recall of image-text retrieval in both directions, as the FISVL release measures it (`itm_eval`).

R@k is the share of queries (in percent) with a right answer among the first k. An image with five captions is found
when one of the five is; mR is the mean over k = 1, 5, 10 and both directions.

**Ties.** Answers are ranked by descending score; of equal scores the one with the *greater* index comes first. That is
`np.argsort(scores, kind="stable")[::-1]`: the release's `np.argsort(scores)[::-1]` with a sort that is the same on
every machine. Without ties the two agree exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "RetrievalRanks", "recall_curve", "recall_of_ranks", "retrieval_ranks", "retrieval_recall", "same_text_answers",
]  # fmt: skip

KS = (1, 5, 10)
CACHED = 1 << 18  # scores compared at once: they and the results of comparing them fit a core's cache
_MOST_ROWS = 255  # of them, and lanes added at once: what an 8-bit sum holds


class RetrievalRanks(NamedTuple):
    """Rank of the best right answer to each query, 0 = first."""

    image_to_text: np.ndarray  # (n_images,) int64
    text_to_image: np.ndarray  # (n_texts,) int64


def retrieval_recall(
    scores: ArrayLike | Tensor,
    image_to_texts: Sequence[Sequence[int]] | None = None,
    text_to_image: Sequence[int] | Sequence[Sequence[int]] | None = None,
    *,
    texts_per_image: int | None = None,
    ks: Sequence[int] = KS,
) -> dict[str, float]:
    """R@k in both directions and their mean, in percent and unrounded; the keys are the release's.

    Args:
        scores: (n_images, n_texts) array or tensor, higher = more alike. Any float type; no NaN.
        image_to_texts: the right texts of each image, one or more.
        text_to_image: the right image of each text, or several. Either mapping follows from the other.
        texts_per_image: replaces both, if image i has the texts `i * texts_per_image ...` in order.
        ks: cut-offs.

    Returns:
        `{"txt_r1", "txt_r5", "txt_r10", "img_r1", "img_r5", "img_r10", "r_mean"}` (for the default `ks`): `txt_*` = an
        image is the query and texts are found, `img_*` = the reverse.

    Raises:
        ValueError: a shape, an index or a NaN that contradicts the above; a query without a right answer.

    Example:
        >>> scores = np.array([[0.9, 0.1, 0.5, 0.8], [0.2, 0.3, 0.4, 0.1]])
        >>> recall = retrieval_recall(scores, texts_per_image=2, ks=(1, 2))
        >>> recall["txt_r1"], recall["img_r1"], recall["img_r2"]
        (100.0, 25.0, 100.0)
    """
    return recall_of_ranks(retrieval_ranks(scores, image_to_texts, text_to_image, texts_per_image=texts_per_image), ks)


def recall_of_ranks(ranks: RetrievalRanks, ks: Sequence[int] = KS) -> dict[str, float]:
    """`retrieval_recall` from ranks that are already computed."""
    sides = {"txt": ranks.image_to_text, "img": ranks.text_to_image}
    recall = {f"{side}_r{k}": 100.0 * int((found < k).sum()) / len(found) for side, found in sides.items() for k in ks}
    return recall | {"r_mean": sum(recall.values()) / len(recall)}


def recall_curve(ranks: RetrievalRanks, ks: Iterable[int] = range(1, 101)) -> dict[str, list]:
    """R@k over many k, for a plot: the `ks`, and for both directions the percent at each.

    Example:
        >>> recall_curve(RetrievalRanks(np.array([0, 2]), np.array([1, 0, 4, 0])), ks=(1, 2, 3))
        {'k': [1, 2, 3], 'txt': [50.0, 50.0, 100.0], 'img': [50.0, 75.0, 75.0]}
    """
    ks = list(ks)
    recall = recall_of_ranks(ranks, ks)
    return {"k": ks} | {side: [recall[f"{side}_r{k}"] for k in ks] for side in ("txt", "img")}


def retrieval_ranks(
    scores: ArrayLike | Tensor,
    image_to_texts: Sequence[Sequence[int]] | None = None,
    text_to_image: Sequence[int] | Sequence[Sequence[int]] | None = None,
    *,
    texts_per_image: int | None = None,
) -> RetrievalRanks:
    """The rank of the best right answer to every image and to every text; arguments as in `retrieval_recall`."""
    matrix = _as_matrix(scores)
    n_images, n_texts = matrix.shape
    by_image, by_text = _right_pairs(n_images, n_texts, image_to_texts, text_to_image, texts_per_image)
    texts = _best_right(matrix[by_image], by_image, n_images, "image")
    images = _best_right(matrix[by_text[::-1]], by_text, n_texts, "text")
    return RetrievalRanks(*_count_ahead(matrix, texts, images))


def same_text_answers(captions: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[int]]]:
    """Right answers where captions of the same text count: any caption equal to one of an image's own is right for it.

    Data sets repeat captions ("many planes are parked near a terminal ."). The paper's protocol counts the very same
    sentence as wrong when it was written for another image, in both directions.

    Args:
        captions: the captions of each image; text j of the score matrix is caption j of all of them in order.

    Returns:
        `image_to_texts, text_to_image` for `retrieval_recall`.

    Example:
        >>> same_text_answers([["a beach", "some sand"], ["a beach"]])
        ([[0, 1, 2], [0, 2]], [[0, 1], [0], [0, 1]])
    """
    texts = [text for own in captions for text in own]
    images_with: dict[str, dict[int, None]] = {}
    places_of: dict[str, list[int]] = {}
    for image, own in enumerate(captions):
        for text in own:
            images_with.setdefault(text, {})[image] = None
    for place, text in enumerate(texts):
        places_of.setdefault(text, []).append(place)
    image_to_texts = [sorted({place for text in own for place in places_of[text]}) for own in captions]
    return image_to_texts, [list(images_with[text]) for text in texts]


Pairs = tuple[np.ndarray, np.ndarray]  # query of each right pair (ascending), its answer


def _as_matrix(scores: ArrayLike | Tensor) -> np.ndarray:
    if hasattr(scores, "detach"):  # a torch tensor: numpy has no bfloat16
        scores = scores.detach().cpu()
        scores = (scores.float() if scores.dtype.itemsize < 4 else scores).numpy()
    matrix = np.asarray(scores)
    if matrix.ndim != 2 or not all(matrix.shape):
        raise ValueError(f"scores: expected (n_images, n_texts), both at least 1, found shape {matrix.shape}")
    return matrix


def _right_pairs(n_images, n_texts, image_to_texts, text_to_image, texts_per_image) -> tuple[Pairs, Pairs]:
    if texts_per_image is not None:
        if image_to_texts is not None or text_to_image is not None:
            raise ValueError("give texts_per_image or the mappings, not both")
        if n_images * texts_per_image != n_texts:
            raise ValueError(f"{n_images} images x texts_per_image={texts_per_image}, but scores have {n_texts} texts")
        text_to_image = np.arange(n_texts) // texts_per_image
    if image_to_texts is None and text_to_image is None:
        raise ValueError("no right answers given: pass image_to_texts, text_to_image or texts_per_image")
    by_image = None if image_to_texts is None else _flatten(image_to_texts, n_images, n_texts, "image_to_texts")
    by_text = None if text_to_image is None else _flatten(text_to_image, n_texts, n_images, "text_to_image")
    return by_image or _turn(by_text), by_text or _turn(by_image)


def _flatten(
    answers: Sequence[int] | Sequence[Sequence[int]] | np.ndarray, n_queries: int, n_answers: int, name: str
) -> Pairs:
    if len(answers) != n_queries:
        raise ValueError(f"{name}: expected {n_queries} entries, as in scores, found {len(answers)}")
    if isinstance(answers, np.ndarray) and answers.dtype.kind in "iu":  # without a Python object for each
        queries, flat = (
            np.repeat(np.arange(n_queries), answers.size // n_queries),
            answers.reshape(-1).astype(np.int64),
        )
    else:
        lists = [np.atleast_1d(np.asarray(own, dtype=np.int64)) for own in answers]
        queries = np.repeat(np.arange(n_queries), [len(own) for own in lists])
        flat = np.concatenate(lists)
    if len(flat) and not 0 <= flat.min() <= flat.max() < n_answers:
        raise ValueError(f"{name}: indices reach from {flat.min()} to {flat.max()}, allowed are 0 to {n_answers - 1}")
    return queries, flat


def _turn(pairs: Pairs | None) -> Pairs:
    assert pairs is not None
    queries, answers = pairs
    order = np.argsort(answers, kind="stable")
    return answers[order], queries[order]


class _Best(NamedTuple):
    """Each query's best-placed right answer: of the highest score, and among equals of the greatest index."""

    score: np.ndarray  # (n_queries,)
    place: np.ndarray  # (n_queries,) int64 index of the answer


def _best_right(scores: np.ndarray, pairs: Pairs, n_queries: int, kind: str) -> _Best:
    """The best right answer to every query.

    Args:
        scores: of each pair.
        kind: of the queries, for the message.
    """
    queries, answers = pairs
    counts = np.bincount(queries, minlength=n_queries)
    if not counts.all():
        without = np.flatnonzero(counts == 0)
        raise ValueError(f"{len(without)} queries have no right answer, the first is {kind} {without[0]}")
    starts = np.cumsum(counts) - counts
    best = np.maximum.reduceat(scores, starts)
    if len(unknown := np.flatnonzero(best != best)):
        raise ValueError(f"scores hold NaN (of a right answer to {kind} {unknown[0]})")
    places = np.where(scores == np.repeat(best, counts), answers, -1)
    return _Best(best, np.maximum.reduceat(places, starts))


def _count_ahead(matrix: np.ndarray, of_row: _Best, of_column: _Best) -> tuple[np.ndarray, np.ndarray]:
    """(n_rows,), (n_columns,) int64 answers ahead of the best right one, of rows and of columns as queries.

    Ahead are greater scores, and equal scores of a greater index than that of the right answer. So scores before it
    are compared by `>`, and scores after it by `>=`. Each block of rows is read from memory once and compared once in
    each direction, but for the columns in which right answers of the block lie: equal scores there are looked for.
    """
    n_rows, n_columns = matrix.shape
    step = max(1, min(_MOST_ROWS, CACHED // n_columns))
    starts = np.arange(0, n_rows, step)
    ends = np.append(starts[1:], n_rows)
    # Of each block: the columns in which places of its rows lie; those that have places in the block, and how many do.
    row_first, row_last = np.minimum.reduceat(of_row.place, starts), np.maximum.reduceat(of_row.place, starts) + 1
    first = np.searchsorted(np.maximum.accumulate(of_column.place), starts)
    last = np.searchsorted(np.minimum.accumulate(of_column.place[::-1])[::-1], ends)
    own = np.add.reduceat(np.bincount(of_column.place, minlength=n_rows), starts)
    bands = zip(starts.tolist(), ends.tolist(), row_first.tolist(), row_last.tolist(), first, last, own, strict=True)

    by_row, by_column = np.empty(n_rows, np.int64), np.zeros(n_columns, np.int64)
    waiting, rows_waiting = np.zeros(n_columns, np.uint8), 0  # of `by_column`: 8-bit sums take a fraction of the time
    lanes = np.zeros((step, -(-n_columns // 8)), np.uint64)  # eight results of comparing in each
    found = lanes.view(bool)[:, :n_columns]
    splits = np.arange(0, lanes.shape[1], _MOST_ROWS)
    for start, end, row_first, row_last, first, last, own in bands:
        block, ahead = np.ascontiguousarray(matrix[start:end]), found[: end - start]
        if block.dtype == np.float16:  # exact, and many times as fast
            block = block.astype(np.float32)
        if _has_nan(block):
            raise ValueError(f"scores hold NaN (the scores of images {start} to {end - 1})")

        best = of_row.score[start:end, None]
        np.greater(block[:, :row_last], best, out=ahead[:, :row_last])
        np.greater_equal(block[:, row_last:], best, out=ahead[:, row_last:])
        equal = block[:, row_first:row_last] == best
        if np.count_nonzero(equal) > end - start:  # others than the right answers themselves
            ahead[:, row_first:row_last] |= equal & (np.arange(row_first, row_last) > of_row.place[start:end, None])
        by_row[start:end] = np.add.reduceat(lanes[: end - start], splits, axis=1).view(np.uint8).sum(axis=1)

        np.greater_equal(block[:, :first], of_column.score[:first], out=ahead[:, :first])
        np.greater(block[:, first:], of_column.score[first:], out=ahead[:, first:])
        equal = block[:, first:last] == of_column.score[first:last]
        if np.count_nonzero(equal) > own:
            ahead[:, first:last] |= equal & (np.arange(start, end)[:, None] > of_column.place[first:last])
        if rows_waiting + end - start > _MOST_ROWS:
            by_column += waiting
            waiting[:], rows_waiting = 0, 0
        waiting += np.add.reduce(ahead.view(np.uint8), axis=0, dtype=np.uint8)
        rows_waiting += end - start
    return by_row, by_column + waiting


def _has_nan(block: np.ndarray) -> bool:
    """By the sum of the squares, in which no infinities of two signs meet."""
    if block.dtype.kind != "f":
        return False
    values = block.reshape(-1)
    with np.errstate(over="ignore"):
        return bool(np.isnan(np.dot(values, values)))

"""Recall of image-text retrieval in both directions, as the FISVL release measures it (`itm_eval`).

R@k is the share of queries (in percent) with a right answer among the first k. An image with five captions is found
when one of the five is; mR is the mean over k = 1, 5, 10 and both directions.

**Ties.** Answers are ranked by descending score; of equal scores the one with the *greater* index comes first. That is
`np.argsort(scores, kind="stable")[::-1]`: the release's `np.argsort(scores)[::-1]` with a sort that is the same on
every machine. Without ties the two agree exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
_MOST_ROWS = 255  # of them: what an 8-bit sum holds


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
    text_score, text_place = _best_right(matrix[by_image], by_image, n_images, "image")
    image_score, image_place = _best_right(matrix[by_text[::-1]], by_text, n_texts, "text")
    by_row, by_column = _count_ahead(matrix, text_score, image_score)
    return RetrievalRanks(
        image_to_text=by_row.ranks(text_score, text_place, lambda image: matrix[image]),
        text_to_image=by_column.ranks(image_score, image_place, lambda text: matrix[:, text]),
    )


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


def _best_right(scores: np.ndarray, pairs: Pairs, n_queries: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(n_queries,) score and index of each query's best-placed right answer.

    Of a query's right answers that is the one with the highest score, and among equals the greatest index.

    Args:
        scores: of each pair.
        kind: of the queries, for the message.
    """
    queries, answers = pairs
    without = np.flatnonzero(np.bincount(queries, minlength=n_queries) == 0)
    if len(without):
        raise ValueError(f"{len(without)} queries have no right answer, the first is {kind} {without[0]}")
    order = np.lexsort((answers, scores, queries))  # by query, then score, then index
    last = order[np.append(np.diff(queries[order]) > 0, True)]  # each query's last = its best-placed right answer
    return scores[last], answers[last]


class _Ahead:
    """How many answers score above, and at least as high as, the best right answer of each query."""

    def __init__(self, queries: int):
        self.above, self.level = np.zeros(queries, np.int64), np.zeros(queries, np.int64)

    def ranks(self, best: np.ndarray, place: np.ndarray, scores_of: Callable[[int], np.ndarray]) -> np.ndarray:
        """The ranks; `scores_of(query)` gives the scores of a query, which has other answers of the same score."""
        ranks = self.above.copy()
        for query in np.flatnonzero(self.level - self.above > 1).tolist():
            ranks[query] += np.count_nonzero(scores_of(query)[place[query] + 1 :] == best[query])
        return ranks


def _count_ahead(matrix: np.ndarray, best_of_row: np.ndarray, best_of_column: np.ndarray) -> tuple[_Ahead, _Ahead]:
    """Of rows and of columns as queries. Each block of the matrix is read once, and stays in the processor's cache."""
    by_row, by_column = _Ahead(len(matrix)), _Ahead(matrix.shape[1])
    step = max(1, min(_MOST_ROWS, CACHED // matrix.shape[1]))
    found = np.empty((step, matrix.shape[1]), dtype=bool)
    for start in range(0, len(matrix), step):
        block = np.ascontiguousarray(matrix[start : start + step])
        if block.dtype == np.float16:  # exact, and many times as fast
            block = block.astype(np.float32)
        if np.isnan(block.max()):
            raise ValueError(f"scores hold NaN (the scores of images {start} to {start + len(block) - 1})")
        own, where = best_of_row[start : start + step, None], found[: len(block)]
        for compare, rows, columns in (
            (np.greater, by_row.above, by_column.above),
            (np.greater_equal, by_row.level, by_column.level),
        ):
            compare(block, own, out=where)
            rows[start : start + step] = [np.count_nonzero(row) for row in where]
            compare(block, best_of_column, out=where)
            columns += np.add.reduce(where.view(np.uint8), axis=0, dtype=np.uint8)
    return by_row, by_column

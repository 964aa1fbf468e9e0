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

KS = (1, 5, 10)
CHUNK = 1 << 22  # scores processed at once: bounds the memory beside the matrix itself to about 60 MB


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
    return RetrievalRanks(
        image_to_text=_best_ranks(lambda rows: matrix[rows], by_image, n_images, n_texts, "image"),
        text_to_image=_best_ranks(lambda rows: matrix[:, rows].T, by_text, n_texts, n_images, "text"),
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


def _best_ranks(rows: Callable[[slice], np.ndarray], pairs: Pairs, n_queries: int, n_answers: int, kind: str):
    """(n_queries,) rank of the best-placed right answer; `rows(slice)` gives the scores of those queries.

    Of a query's right answers the best-placed one has the highest score, and among equals the greatest index. Answers
    before it have a higher score, or the same score and a greater index.
    """
    queries, answers = pairs
    without = np.flatnonzero(np.bincount(queries, minlength=n_queries) == 0)
    if len(without):
        raise ValueError(f"{len(without)} queries have no right answer, the first is {kind} {without[0]}")
    ranks = np.empty(n_queries, dtype=np.int64)
    index = np.arange(n_answers)
    step = max(1, CHUNK // n_answers)
    for start in range(0, n_queries, step):
        chunk = slice(start, min(start + step, n_queries))
        scores = np.ascontiguousarray(rows(chunk))  # (rows, n_answers)
        if np.isnan(scores).any():
            raise ValueError(f"scores hold NaN (the scores of {kind}s {start} to {chunk.stop - 1})")
        pair = slice(*np.searchsorted(queries, [chunk.start, chunk.stop]))
        row, column = queries[pair] - start, answers[pair]
        order = np.lexsort((column, scores[row, column], row))  # by row, then score, then index
        last = order[np.append(np.diff(row[order]) > 0, True)]  # each row's last = its best-placed right answer
        best, place = scores[row[last], column[last], None], column[last, None]  # (rows, 1)
        ahead = (scores > best) | ((scores == best) & (index > place))
        ranks[chunk] = np.count_nonzero(ahead, axis=1)
    return ranks

"""Scores of a classifier: accuracy; precision, recall and F1 of each class; the calibration of its probabilities.

All shares lie in [0, 1]. What is undefined counts as 0, as with scikit-learn's `zero_division=0`: the precision of a
class that is never predicted, the recall of one that never occurs, the F1 where both are 0. Macro F1 is the mean over
*all* classes of the model, those included that do not occur (scikit-learn with `labels=range(num_labels)`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["classification_scores"]

BINS = 15  # of the calibration error


class ClassScores(NamedTuple):
    """Scores of each class, all (L,)."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray  # how often the class occurs


@dataclass(frozen=True)
class ReliabilityBins:
    """Rows by the probability of their prediction in bins of equal width, all (bins,); empty bins: NaN and count 0."""

    confidence: np.ndarray  # mean probability of the predictions in the bin
    accuracy: np.ndarray  # share of them that are correct
    count: np.ndarray


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, num_labels: int) -> np.ndarray:
    """How often each class was predicted as each class.

    Args:
        truth: (N,) class indices.
        predicted: (N,) class indices.
        num_labels: L.

    Returns:
        (L, L) int64; row: the true class, column: the predicted class.

    Raises:
        ValueError: no rows, lengths that differ, or an index out of range.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], num_labels=2).tolist()
        [[1, 1], [0, 1]]
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(
            f"expected truth and predicted of one length, at least 1, found {truth.shape}, {predicted.shape}"
        )
    for name, values in {"truth": truth, "predicted": predicted}.items():
        if values.min() < 0 or values.max() >= num_labels:
            raise ValueError(
                f"{name}: indices reach from {values.min()} to {values.max()}, allowed: 0 to {num_labels - 1}"
            )
    pairs = truth.astype(np.int64) * num_labels + predicted
    return np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)


def accuracy(matrix: np.ndarray) -> float:
    """Share of correct predictions.

    Args:
        matrix: from `confusion_matrix`.
    """
    return float(np.trace(matrix) / matrix.sum())


def class_scores(matrix: np.ndarray) -> ClassScores:
    """Precision, recall, F1 and support of each class.

    Args:
        matrix: from `confusion_matrix`.

    Example:
        >>> class_scores(np.array([[1, 1], [0, 2]])).precision.round(2).tolist()
        [1.0, 0.67]
    """
    right, predicted, support = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return ClassScores(
        precision=_share(right, predicted),
        recall=_share(right, support),
        f1=_share(2 * right, predicted + support),  # = 2PR / (P + R), and 0 where nothing is right
        support=support,
    )


def reliability_bins(probabilities: ArrayLike, truth: ArrayLike, bins: int = BINS) -> ReliabilityBins:
    """Sort rows into bins by the confidence of their prediction.

    Args:
        probabilities: (N, L), rows that add up to 1.
        truth: (N,) class indices.
        bins: how many of equal width, over (0, 1]. A probability on the border of two belongs to the lower one.

    Raises:
        ValueError: shapes that do not fit, no bins, or values that are not probabilities.
    """
    probabilities, truth = _checked(probabilities, truth)
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, found {bins}")
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in empty bins
        return ReliabilityBins(
            confidence=np.bincount(place, weights=confidence, minlength=bins) / count,
            accuracy=np.bincount(place, weights=right, minlength=bins) / count,
            count=count,
        )


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """Mean distance between confidence and accuracy over all rows (ECE).

    0: of the predictions made with 80 % probability, 80 % are right (Guo et al., ICML 2017, equation 3). More and thus
    narrower bins give a slightly greater value, so compare only what was measured with as many.

    Args:
        bins: from `reliability_bins`.

    Example:
        >>> expected_calibration_error(reliability_bins([[0.9, 0.1], [0.9, 0.1]], [0, 1]))  # confidence 90 %, accuracy
        50 % 0.4
    """
    filled = bins.count > 0
    distance = np.abs(bins.confidence[filled] - bins.accuracy[filled])
    return float((distance * bins.count[filled]).sum() / bins.count.sum())


def brier_score(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Mean squared distance of the probabilities from the truth (1 for the right class, 0 for the others), in [0, 2].

    Args:
        probabilities: (N, L), rows that add up to 1.
        truth: (N,) class indices.
    """
    probabilities, truth = _checked(probabilities, truth)
    return float(((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1).mean())


def cross_entropy(logits: ArrayLike, truth: ArrayLike) -> float:
    """Mean negative log-likelihood of the right class, in nats: the loss that the classifier is trained on.

    Args:
        logits: (N, L).
        truth: (N,) class indices.
    """
    logits, truth = np.asarray(logits, dtype=np.float64), np.asarray(truth)
    return float((_log_sum_exp(logits) - logits[np.arange(len(truth)), truth]).mean())


def softmax(logits: ArrayLike) -> np.ndarray:
    """(N, L) float64 probabilities of (N, L) logits."""
    logits = np.asarray(logits, dtype=np.float64)
    return np.exp(logits - _log_sum_exp(logits)[:, None])


def classification_scores(
    logits: ArrayLike, truth: ArrayLike, labels: Sequence[str], *, bins: int = BINS
) -> dict[str, float]:
    """All scores of a classifier under the names that logs, tables and cards use.

    Args:
        logits: (N, L).
        truth: (N,) class indices.
        labels: names of the L classes.
        bins: of the calibration error.

    Returns:
        `accuracy`, `macro_f1`, then `precision_<label>`, `recall_<label>` and `f1_<label>` for each label (blanks in
        names become "_"), then `ece`, `brier` and `loss` (cross-entropy).
    """
    probabilities, truth = _checked(softmax(logits), truth)
    matrix = confusion_matrix(truth, probabilities.argmax(axis=1), len(labels))
    each = class_scores(matrix)
    scores = {"accuracy": accuracy(matrix), "macro_f1": float(each.f1.mean())}
    for index, label in enumerate(labels):
        for name in ("precision", "recall", "f1"):
            scores[f"{name}_{'_'.join(label.split())}"] = float(getattr(each, name)[index])
    return scores | {
        "ece": expected_calibration_error(reliability_bins(probabilities, truth, bins)),
        "brier": brier_score(probabilities, truth),
        "loss": cross_entropy(logits, truth),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    highest = logits.max(axis=1)
    return highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))


def _checked(probabilities: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    probabilities, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(truth)
    if probabilities.ndim != 2 or truth.shape != probabilities.shape[:1] or not len(truth):
        raise ValueError(
            f"expected probabilities (N, L) and truth (N,) with N >= 1, found {probabilities.shape} and {truth.shape}"
        )
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-4) or probabilities.min() < 0:  # NaN fails here, too
        raise ValueError("expected rows of probabilities that add up to 1")
    if truth.min() < 0 or truth.max() >= probabilities.shape[1]:
        raise ValueError(
            f"truth: expected indices from 0 to {probabilities.shape[1] - 1}, found {truth.min()} to {truth.max()}"
        )
    return probabilities, truth

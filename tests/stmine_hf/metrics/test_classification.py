"""Scores of classifiers: equal to scikit-learn's, and to loops written from the definitions."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from stmine_hf.metrics.classification import (
    accuracy,
    brier_score,
    class_scores,
    classification_scores,
    confusion_matrix,
    cross_entropy,
    expected_calibration_error,
    reliability_bins,
    softmax,
)


def rows(seed: int, count: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return 2 * random.normal(size=(count, labels)), random.integers(0, labels, size=count)


@pytest.mark.parametrize(("seed", "count", "labels"), [(0, 50, 2), (1, 200, 6), (2, 1, 3), (3, 7, 6)])
def test_scores_equal_those_of_scikit_learn(seed, count, labels):
    sk = pytest.importorskip("sklearn.metrics")
    logits, truth = rows(seed, count, labels)
    predicted = logits.argmax(axis=1)
    matrix = confusion_matrix(truth, predicted, labels)
    names = list(range(labels))
    assert np.array_equal(matrix, sk.confusion_matrix(truth, predicted, labels=names))
    assert accuracy(matrix) == pytest.approx(sk.accuracy_score(truth, predicted))
    expected = sk.precision_recall_fscore_support(truth, predicted, labels=names, zero_division=0)
    for ours, theirs in zip(class_scores(matrix), expected, strict=True):
        assert ours == pytest.approx(theirs)
    found = classification_scores(logits, truth, [f"kind {n}" for n in names])
    assert found["macro_f1"] == pytest.approx(
        sk.f1_score(truth, predicted, labels=names, average="macro", zero_division=0)
    )
    assert found["loss"] == pytest.approx(sk.log_loss(truth, softmax(logits), labels=names))
    assert found["f1_kind_0"] == pytest.approx(expected[2][0])
    assert all(type(value) is float for value in found.values())


def test_two_class_brier_score_is_twice_that_of_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    logits, truth = rows(4, 40, 2)
    probabilities = softmax(logits)  # scikit-learn squares the one probability, we add up both classes
    assert brier_score(probabilities, truth) == pytest.approx(2 * sk.brier_score_loss(truth, probabilities[:, 1]))


def test_classes_never_predicted_or_never_there_count_as_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = class_scores(confusion_matrix([0, 0, 1], [0, 2, 0], num_labels=4))
    assert scores.precision.tolist() == [0.5, 0, 0, 0]  # 1 is never predicted, 3 neither
    assert scores.recall.tolist() == [0.5, 0, 0, 0]  # 2 and 3 never occur
    assert scores.f1.tolist() == [0.5, 0, 0, 0] and scores.support.tolist() == [2, 1, 0, 0]


def loop_calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int) -> float:
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [
            (max(row), int(row.argmax() == right))
            for row, right in zip(probabilities, truth, strict=True)
            if low < max(row) <= high
        ]
        if inside:
            sure, right = (sum(values) / len(inside) for values in zip(*inside, strict=True))
            total += len(inside) / len(truth) * abs(sure - right)
    return total


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_calibration_error_equals_its_definition(bins):
    logits, truth = rows(5, 300, 3)
    found = reliability_bins(softmax(logits), truth, bins)
    assert expected_calibration_error(found) == pytest.approx(loop_calibration_error(softmax(logits), truth, bins))
    assert found.count.sum() == 300 and found.count.shape == (bins,)


def test_calibration_of_extremes():
    sure = [[1.0, 0.0], [0.0, 1.0]]
    assert expected_calibration_error(reliability_bins(sure, [0, 1])) == 0
    assert expected_calibration_error(reliability_bins(sure, [1, 0])) == 1
    border = reliability_bins([[0.5, 0.5], [0.75, 0.25]], [0, 0], bins=4)  # a border belongs to the lower bin
    assert border.count.tolist() == [0, 1, 1, 0] and border.confidence[1:3].tolist() == [0.5, 0.75]
    assert np.isnan(border.accuracy[0])


def test_probabilities_and_loss_of_huge_logits():
    logits = [[1000.0, 0.0], [-1000.0, 1000.0]]
    assert softmax(logits).tolist() == [[1, 0], [0, 1]]
    assert cross_entropy(logits, [0, 0]) == pytest.approx(1000)
    assert cross_entropy([[0.0, 0.0]], [1]) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confusion_matrix([], [], 2), "at least 1"),
        (lambda: confusion_matrix([0, 1], [0], 2), "of one length"),
        (lambda: confusion_matrix([0, 2], [0, 1], 2), "truth: indices reach from 0 to 2, allowed: 0 to 1"),
        (lambda: confusion_matrix([0, 1], [0, -1], 2), "predicted: indices reach from -1"),
        (lambda: reliability_bins([[0.5, 0.5]], [0], bins=0), "at least 1"),
        (lambda: reliability_bins([[2.0, 1.0]], [0]), "add up to 1"),
        (lambda: reliability_bins([[math.nan, 1.0]], [0]), "add up to 1"),
        (lambda: brier_score([[0.5, 0.5]], [0, 1]), r"found \(1, 2\) and \(2,\)"),
        (lambda: brier_score([[0.5, 0.5]], [2]), "from 0 to 1, found 2 to 2"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

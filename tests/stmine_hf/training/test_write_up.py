"""The results of a training run name its best evaluation."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from stmine_hf.training.write_up import best_evaluation, scores_table, start_evaluation

HISTORY = [
    {"step": 0, "eval_loss": 0.1, "eval_accuracy": 0.9},
    {"step": 1, "loss": 0.2},
    {"step": 1, "eval_loss": 0.9, "eval_accuracy": 0.5},
    {"step": 2, "eval_loss": 0.4, "eval_accuracy": 0.6},
    {"step": 3, "eval_loss": 0.4, "eval_accuracy": 0.6},
    {"step": 4, "eval_loss": 0.7, "eval_accuracy": 0.4},
]


@pytest.mark.parametrize(("metric", "greater_is_better"), [("accuracy", True), ("loss", False)])
def test_the_best_evaluation_is_the_first_of_the_best_values(metric, greater_is_better):
    best = best_evaluation(HISTORY, metric, greater_is_better)
    assert best is not None and best["step"] == 2


def test_the_start_is_no_candidate_for_the_best_and_is_found_by_itself():
    start = start_evaluation(HISTORY, "accuracy")
    assert start is not None and start["eval_accuracy"] == 0.9
    assert start_evaluation(HISTORY[1:], "accuracy") is None and best_evaluation(HISTORY[:1], "accuracy") is None


def test_there_is_no_best_evaluation_without_the_metric():
    assert best_evaluation(HISTORY, "macro_f1") is None


def test_scores_before_and_after_stand_below_each_other():
    rows = {"before training": {"eval_ap": 0.0}, "best": {"eval_ap": 0.25, "eval_recall": 41.0}, "scaled": None}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(scores_table(rows, {"ap": "AP", "recall": "recall"}))
    lines = [line.replace("│", " ").split() for line in console.export_text().splitlines()]
    assert ["before", "training", "0.0000", "-"] in lines and ["best", "0.2500", "41.00"] in lines
    assert not any("scaled" in line for line in lines)

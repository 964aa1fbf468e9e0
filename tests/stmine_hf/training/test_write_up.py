"""The results of a training run name its best evaluation."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from stmine_hf.detect.classes import THRESHOLD, better_threshold, threshold_hints
from stmine_hf.methods import METHODS
from stmine_hf.training.write_up import (
    best_evaluation,
    class_hints,
    class_rows,
    class_table,
    scores_table,
    start_evaluation,
)


def lines_of(table) -> list[list[str]]:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    return [line.replace("│", " ").split() for line in console.export_text().splitlines()]


def scored(name: str, boxes: int, ap: float | None, highest: float | None) -> dict:
    return {"name": name, "boxes": boxes, "ap": ap, "ap50": ap, "ar100": ap, "highest_score": highest}


START = [scored("crane", 3, 0.0, None), scored("ship", 4, 0.1, 0.3), scored("oar", 0, None, 0.2)]
BEST = [
    scored("crane", 3, 0.2, 0.12),
    scored("ship", 4, 0.5, 0.9),
    scored("oar", 0, None, 0.9),
    scored("gull, white", 2, 0.1, 0.39),
    scored("swan", 1, 0.0, None),
    scored("duck", 0, None, None),
]
COUNTS = {"crane": 5, "ship": 40, "oar": 1, "gull, white": 6, "swan": 2, "duck": 0}
TITLES = {"ap": "AP", "ap50": "AP50"}


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
    lines = lines_of(scores_table(rows, {"ap": "AP", "recall": "recall"}))
    assert ["before", "training", "0.0000", "-"] in lines and ["best", "0.2500", "41.00"] in lines
    assert not any("scaled" in line for line in lines)


def test_classes_stand_with_their_rows_and_their_scores_before_and_after():
    rows = class_rows(START, BEST, COUNTS, "boxes", TITLES)
    assert [row["name"] for row in rows] == ["crane", "ship", "oar", "gull, white", "swan"]  # no duck is anywhere
    crane = {"name": "crane", "train": 5, "held_out": 3, "before": {"ap": 0.0, "ap50": 0.0}}
    assert rows[0] == {**crane, "after": {"ap": 0.2, "ap50": 0.2}, "highest_score": 0.12}
    lines = lines_of(class_table(rows, "boxes", TITLES))
    assert ["class", "boxes:", "train", "held", "out", "AP:", "before", "after", "AP50"] in [
        line for line in ([word for word in line if word != "┃"] for line in lines)
    ]
    assert ["crane", "5", "3", "0.000", "0.200", "0.200"] in lines
    assert ["oar", "1", "0", "-", "-", "-"] in lines  # nothing to measure
    assert ["gull,", "white", "6", "2", "-", "0.100", "0.100"] in lines  # not measured before
    unknown = class_rows([], BEST[:2], {}, "boxes", TITLES)
    assert [row["train"] for row in unknown] == [None, None] and unknown[0]["before"] is None
    assert ["ship", "-", "4", "-", "0.500", "0.500"] in lines_of(class_table(unknown, "boxes", TITLES))


def test_of_many_classes_the_best_and_the_worst_stand_there():
    rows = class_rows([], [scored(f"c{n}", 1, n / 100, 0.9) for n in range(50)], {}, "boxes", TITLES)
    names = [line[0] for line in lines_of(class_table(rows, "boxes", TITLES)) if line and line[0][0] in "c."]
    assert names == [*(f"c{n}" for n in range(49, 39, -1)), "...", *(f"c{n}" for n in range(9, -1, -1))]


def with_thresholds(row: dict, found: float, threshold: float | None = None, lower: float | None = None) -> dict:
    return {**row, "found": found, "threshold": threshold, "found_lower": lower}


def test_classes_of_which_the_threshold_hides_much_get_a_line():
    titles = METHODS["sat"].class_metrics
    best = [
        with_thresholds(scored("crane", 12, 0.3, 0.6), 1 / 12, 0.15, 0.75),  # AP50 is good, and nearly all are hidden
        with_thresholds(scored("ship", 4, 0.5, 0.9), 1.0),
        with_thresholds(scored("oar", 0, None, 0.9), None),
        with_thresholds(scored("swan", 1, 0.0, None), 0.0),
    ]
    rows = class_rows([], best, COUNTS, "boxes", titles)
    assert "found at 0.4" in titles.values() and THRESHOLD == 0.4
    assert ["crane", "5", "12", "-", "0.300", "0.300", "0.083", "0.150"] in lines_of(
        class_table(rows, "boxes", titles)
    )
    crane, swan, oar = class_hints(rows, "boxes")
    assert crane.startswith("The threshold 0.4 finds 1 of 12 'crane' (9 at 0.15). ")
    assert "Detect with --threshold 0.4,crane=0.15 (best F1 on these images), or train longer" in crane
    assert swan == "No threshold from 0.05 up finds any 'swan': train longer, or on more images."
    assert oar == "Not measured, as the held-out rows have no boxes of it: oar."
    assert threshold_hints(best) == [crane, swan]  # the same of an evaluation
    assert class_hints(rows[1:2], "boxes") == []
    odd = threshold_hints([with_thresholds(scored("gull, white", 2, 0.1, 0.39), 0.0, 0.35, 0.5)])
    assert "lower ones (--threshold)" in odd[0]  # a comma would split it
    many = [with_thresholds(scored(f"c{n}", 10, 0.2, 0.3), 0.0, 0.2, n / 10) for n in range(1, 10)]
    (line,) = threshold_hints(many)
    assert "'c9' (9 at 0.2)" in line and "'c4'" not in line and line.endswith("The same holds for 4 more classes.")
    posts = [{"name": "fake", "posts": 3, "precision": 0.0, "recall": 0.0, "f1": 0.0}]
    assert class_hints(class_rows([], posts, {"fake": 4}, "posts", {"f1": "F1"}), "posts") == []
    assert class_hints(class_rows(START, BEST, COUNTS, "boxes", titles)[:2], "boxes") == []  # of an earlier version


@pytest.mark.parametrize(
    ("found", "best", "lower", "expected"),
    [
        (0.0, 0.35, 0.02, 0.35),
        (0.1, 0.35, 0.15, None),
        (0.1, 0.35, 0.2, 0.35),
        (0.9, 0.3, 0.901, None),
        (0.9, 0.4, 0.9, None),
        (0.0, None, None, None),
        (None, 0.1, None, None),
    ],
)
def test_a_threshold_is_suggested_where_it_finds_much_more(found, best, lower, expected):
    assert better_threshold(found, best, {best: lower}.get) == expected

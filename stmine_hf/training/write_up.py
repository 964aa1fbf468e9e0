"""The results of a training run: its best scores as JSON, its curves as an image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..detect.classes import threshold_hints
from ..files import write_atomically

BY_CLASS = "by_class"  # scores of single classes, in an evaluation of the log history and in results
_MOST_CLASSES = 20  # rows of the table of classes
_MOST_HINTS = 5


def evaluations(history: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """The evaluations of trained weights in a Trainer's log history, in order, without that of the initial weights.

    Args:
        history: `trainer.state.log_history`.
        metric: its name without the prefix `eval_`.
    """
    return [entry for entry in history if f"eval_{metric}" in entry and entry["step"] > 0]


def start_evaluation(history: list[dict[str, Any]], metric: str) -> dict[str, Any] | None:
    """The evaluation before the first step, None if there was none; arguments as in `evaluations`."""
    return next((entry for entry in history if f"eval_{metric}" in entry and entry["step"] == 0), None)


def best_evaluation(
    history: list[dict[str, Any]], metric: str, greater_is_better: bool = True
) -> dict[str, Any] | None:
    """The evaluation with the best `metric` (the earliest of equals), None without any; see `evaluations`.

    Args:
        history, metric: as in `evaluations`.
        greater_is_better: false for a loss.
    """
    pick = max if greater_is_better else min
    return pick(evaluations(history, metric), key=lambda entry: entry[f"eval_{metric}"], default=None)


def write_results(
    path: str | Path, history: list[dict[str, Any]], best: dict[str, Any] | None, **facts: Any
) -> dict[str, Any]:
    """Write the best evaluation, the last training summary and further facts as JSON; returns the document."""
    summary: dict[str, Any] = next((entry for entry in reversed(history) if "train_runtime" in entry), {})
    results = {"best": best, "training": summary, **facts}
    for name in ("start", "best"):  # their scores of single classes are put together in the facts
        if results.get(name):
            results[name] = {key: value for key, value in results[name].items() if key != BY_CLASS}
    text = json.dumps(results, indent=2) + "\n"
    write_atomically(Path(path), lambda file: file.write_text(text, encoding="utf-8"))
    return results


def scores_table(rows: Mapping[str, Mapping[str, Any] | None], titles: Mapping[str, str]) -> Table:
    """A table of evaluations, one per row.

    Args:
        rows: title of the row -> an evaluation of the log history, or scores by name; None is omitted.
        titles: name of a score -> title of its column.
    """
    table = Table(title="Scores on validation")
    table.add_column("")
    for title in titles.values():
        table.add_column(title, justify="right")
    for name, row in rows.items():
        if row is not None:
            values = [row.get(f"eval_{score}", row.get(score)) for score in titles]
            table.add_row(name, *("-" if value is None else f"{value:.{2 if value > 1 else 4}f}" for value in values))
    return table


def class_rows(
    start: Sequence[Mapping[str, Any]],
    best: Sequence[Mapping[str, Any]],
    counts: Mapping[str, int],
    unit: str,
    metrics: Iterable[str],
) -> list[dict[str, Any]]:
    """The scores of each class before and after the training.

    Args:
        start, best: `by_class` of the reports; `start` may be empty.
        counts: how often the training samples have each class; may be empty.
        unit: what is counted, a key of the reports' rows: boxes or posts.
        metrics: keys of the reports' rows.

    Returns:
        Rows with `name`, `train` (None: unknown), `held_out`, `before` (None: not measured) and `after`; where the
            reports have them, `highest_score` and `found_lower`, too. Classes that neither rows to train on nor
            held-out ones have are left out.
    """
    metrics, before = list(metrics), {row["name"]: row for row in start}
    rows = []
    for row in best:
        name, train = row["name"], counts.get(row["name"], 0) if counts else None
        if not (train or row[unit]):
            continue
        first = before.get(name)
        rows.append(
            {
                "name": name,
                "train": train,
                "held_out": row[unit],
                "before": None if first is None else {metric: first.get(metric) for metric in metrics},
                "after": {metric: row.get(metric) for metric in metrics},
                **{key: row[key] for key in ("highest_score", "found_lower") if key in row},
            }
        )
    return rows


def class_table(rows: Sequence[Mapping[str, Any]], unit: str, titles: Mapping[str, str]) -> Table:
    """A table of `class_rows`: the first score before and after, the others after; if many, the best and the worst.

    Args:
        rows: of `class_rows`.
        unit: what is counted: boxes or posts.
        titles: name of a score -> title of its column.
    """
    first, *others = titles
    half, many = _MOST_CLASSES // 2, len(rows) > _MOST_CLASSES
    if many:
        rows = sorted(rows, key=lambda row: -1 if row["after"][first] is None else row["after"][first], reverse=True)
    table = Table(title="By class, on validation")
    table.add_column("class", overflow="fold")
    for title in (f"{unit}: train", "held out", f"{titles[first]}: before", "after"):
        table.add_column(title, justify="right")
    for other in others:
        table.add_column(titles[other], justify="right")
    for number, row in enumerate(rows):
        if many and number == half:
            table.add_row(f"... {len(rows) - 2 * half} more", *[""] * (4 + len(others)))
        if many and half <= number < len(rows) - half:
            continue
        train = "-" if row["train"] is None else str(row["train"])
        scores = [None if row["before"] is None else row["before"][first], *row["after"].values()]
        shown = ["-" if score is None or not row["held_out"] else f"{score:.3f}" for score in scores]
        table.add_row(row["name"], train, str(row["held_out"]), *shown)
    return table


def class_hints(rows: Sequence[Mapping[str, Any]], unit: str) -> list[str]:
    """Lines on the classes that were not measured, and on those of which the usual threshold hides much.

    Args:
        rows: of `class_rows`.
        unit: what is counted: boxes or posts.
    """
    hints = threshold_hints({**row, "boxes": row["held_out"], **row["after"]} for row in rows)
    if unmeasured := [str(row["name"]) for row in rows if not row["held_out"]]:
        names = ", ".join(unmeasured[:_MOST_HINTS]) + (", ..." if len(unmeasured) > _MOST_HINTS else "")
        hints.append(f"Not measured, as the held-out rows have no {unit} of it: {names}.")
    return hints


def plot_curves(
    path: str | Path,
    history: list[dict[str, Any]],
    metrics: Sequence[str],
    label: str,
    best: dict[str, Any] | None = None,
) -> None:
    """Draw the loss and its terms, and below them the validation scores, over the training steps.

    Args:
        path: The image to write (PNG, SVG or PDF by its suffix).
        history: `trainer.state.log_history`.
        metrics: Scores to draw, without the prefix `eval_`; the first selects the best model.
        label: Of the axis of the scores, with their unit.
        best: The evaluation to mark.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    losses, scores = figure.subplots(2, 1, sharex=True)
    for name in sorted({key for entry in history for key in entry if key == "loss" or key.startswith("loss_")}):
        points = [(entry["step"], entry[name]) for entry in history if name in entry]
        losses.plot(
            *zip(*points, strict=True),
            label=name.removeprefix("loss_"),
            linewidth=2 if name == "loss" else 1,
            marker="." if len(points) < 20 else None,  # a line through one point would be invisible
        )
    losses.set_ylabel("training loss")
    for name in metrics:
        points = [(entry["step"], entry[f"eval_{name}"]) for entry in history if f"eval_{name}" in entry]
        if points:
            scores.plot(*zip(*points, strict=True), marker=".", label=name, linewidth=2 if name == metrics[0] else 1)
    if best:
        scores.axvline(best["step"], color="grey", linestyle=":")
        scores.set_title(
            f"best {metrics[0]} {best[f'eval_{metrics[0]}']:.4g} at step {best['step']}", fontsize="medium"
        )
    scores.set_ylabel(label)
    scores.set_xlabel("step")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small", ncols=2)
    write_atomically(Path(path), lambda file: figure.savefig(file, dpi=120))

"""The results of a training run: its best scores as JSON, its curves as an image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..files import write_atomically


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

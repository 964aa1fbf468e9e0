"""What a training run leaves to read: its best scores as JSON, its curves as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def best_evaluation(history: list[dict[str, Any]], metric: str = "eval_r_mean") -> dict[str, Any] | None:
    """The entry of a Trainer's log history with the highest `metric` (the earliest of equals), None without any."""
    evaluations = [entry for entry in history if metric in entry]
    return max(evaluations, key=lambda entry: entry[metric], default=None)


def write_results(path: str | Path, history: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    """Write the best evaluation, the last training summary and further facts as JSON; returns what was written."""
    summary: dict[str, Any] = next((entry for entry in reversed(history) if "train_runtime" in entry), {})
    results = {"best": best_evaluation(history), "training": summary, **facts}
    Path(path).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return results


def plot_curves(path: str | Path, history: list[dict[str, Any]]) -> None:
    """Draw the loss and its terms, and below them the validation scores, over the training steps.

    Args:
        path: The picture to write (PNG, SVG or PDF by its suffix).
        history: `trainer.state.log_history`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    losses, scores = figure.subplots(2, 1, sharex=True)
    for name in sorted({key for entry in history for key in entry if key == "loss" or key.startswith("loss_")}):
        points = [(entry["step"], entry[name]) for entry in history if name in entry]
        losses.plot(*zip(*points, strict=True), label=name.removeprefix("loss_"), linewidth=2 if name == "loss" else 1)
    losses.set_ylabel("training loss")
    for name in ("r_mean", "txt_r1", "txt_r10", "img_r1", "img_r10"):
        points = [(entry["step"], entry[f"eval_{name}"]) for entry in history if f"eval_{name}" in entry]
        if points:
            scores.plot(*zip(*points, strict=True), marker=".", label=name, linewidth=2 if name == "r_mean" else 1)
    best = best_evaluation(history)
    if best:
        scores.axvline(best["step"], color="grey", linestyle=":")
        scores.set_title(f"best mean recall {best['eval_r_mean']:.2f} % at step {best['step']}", fontsize="medium")
    scores.set_ylabel("validation recall, %")
    scores.set_xlabel("step")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=120)

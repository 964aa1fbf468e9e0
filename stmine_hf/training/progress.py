"""Progress of a training: one bar with the loss and the remaining time on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ..inference.progress import ProgressBar
from .trainer import ZooTrainer


def show_progress(trainer: ZooTrainer) -> None:
    """Replace transformers' bar and dictionaries by a `TrainingBar`."""
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    trainer.args.disable_tqdm = True  # of the evaluations within
    trainer.add_callback(TrainingBar(trainer.scores))


class TrainingBar(TrainerCallback):
    """A bar over the steps with the loss, and a line for each evaluation.

    Args:
        scores: metrics to print -> their titles.
    """

    def __init__(self, scores: Mapping[str, str]):
        self.scores = dict(list(scores.items())[:3])
        self._bar: ProgressBar | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._bar = ProgressBar("Training", state.max_steps)
            self._bar.__enter__()
            self._bar.advance(state.global_step, worked=0)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar is not None:
            self._bar.advance()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **kwargs: Any,
    ) -> None:
        if self._bar is None or "loss" not in (logs or {}):
            return
        loss = f"loss {float(logs['loss']):.4g}"
        if sys.stderr.isatty():
            self._bar.advance(0, doing=f"Training, {loss}")
        else:
            print(f"step {state.global_step} of {state.max_steps}: {loss}", flush=True)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and metrics:
            found = (f"{title} {metrics[f'eval_{name}']:.4g}" for name, title in self.scores.items())
            when = f"step {state.global_step} of {state.max_steps}" if state.global_step else "before training"
            print(f"{when}: {', '.join(found)} on the held-out rows", flush=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

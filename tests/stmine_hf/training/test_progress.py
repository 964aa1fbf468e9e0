"""What a training prints: the loss, and the scores on held-out rows with when they were measured."""

from __future__ import annotations

from types import SimpleNamespace

from stmine_hf.training.progress import TrainingBar

SCORES = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ar1": "AR1"}


def test_lines_where_there_is_no_terminal(capsys):
    bar, state = TrainingBar(SCORES), SimpleNamespace(is_world_process_zero=True, global_step=0, max_steps=8)
    metrics = {"eval_ap": 0.125, "eval_ap50": 0.5, "eval_ap75": 0.0, "eval_ar1": 0.9}
    bar.on_train_begin(None, state, None)
    bar.on_evaluate(None, state, None, metrics=metrics)
    state.global_step = 2
    bar.on_step_end(None, state, None)
    bar.on_log(None, state, None, logs={"loss": "1.25", "epoch": 1})
    bar.on_log(None, state, None, logs={"eval_ap": 0.5})
    bar.on_evaluate(None, state, None, metrics=metrics)
    bar.on_train_end(None, state, None)
    assert capsys.readouterr().out.splitlines() == [
        "before training: AP 0.125, AP50 0.5, AP75 0 on the held-out rows",
        "step 2 of 8: loss 1.25",
        "step 2 of 8: AP 0.125, AP50 0.5, AP75 0 on the held-out rows",
    ]


def test_other_processes_print_nothing(capsys):
    bar, state = TrainingBar(SCORES), SimpleNamespace(is_world_process_zero=False, global_step=0, max_steps=8)
    bar.on_train_begin(None, state, None)
    bar.on_step_end(None, state, None)
    bar.on_log(None, state, None, logs={"loss": 1.0})
    bar.on_evaluate(None, state, None, metrics={"eval_ap": 0.1, "eval_ap50": 0.1, "eval_ap75": 0.1})
    bar.on_train_end(None, state, None)
    assert capsys.readouterr().out == ""

"""SIGTERM and Ctrl-C: the step is finished, everything saved, and the resumed run ends as one that was let be."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from trainers import ROOT, TRAINERS, accelerate_launch, assert_equal, environment, weights

from stmine_hf.training import interruption
from stmine_hf.training.checkpoints import last_checkpoint
from stmine_hf.training.interruption import Interrupted, StopSignals, leaving_signals_to_parent


@pytest.fixture(autouse=True)
def usual_handlers():
    """Those of a program in the foreground, whatever pytest was started by."""
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "method, number, step, strategy",
    [
        ("fisvl", signal.SIGTERM, 2, "epoch"),  # within an epoch
        ("fisvl", signal.SIGINT, 3, "steps"),
        ("mttv", signal.SIGTERM, 4, "epoch"),  # at the end of one, where it is evaluated
        ("sat", signal.SIGTERM, 5, "no"),
    ],
)
def test_an_interrupted_run_saves_leaves_and_ends_as_the_uninterrupted_one(tmp_path, method, number, step, strategy):
    fields = {"eval_strategy": strategy, "save_strategy": strategy, "eval_steps": 2, "save_steps": 2}
    fields |= {"ema_decay": 0.9, "gradient_accumulation_steps": 1}
    whole = TRAINERS[method](tmp_path / "whole", **fields)
    whole.train()
    run = TRAINERS[method](tmp_path / "run", **fields)
    train = run.training_step

    def interrupted(*args):
        if run.state.global_step == step - 1:
            signal.raise_signal(number)
        return train(*args)

    run.training_step = interrupted
    with pytest.raises(Interrupted) as stop:
        run.train()
    assert stop.value.exit_code == 128 + number and run.state.global_step == step
    assert f"after step {step} of 8; its last checkpoint is {tmp_path}/run/checkpoint-{step}." in str(stop.value)
    assert "--resume_from_checkpoint auto" in str(stop.value)
    resumed = TRAINERS[method](tmp_path / "run", **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))
    assert_equal(weights(whole), weights(resumed))
    scores = [
        [(entry["step"], entry[name]) for entry in of.state.log_history for name in entry if name == score]
        for of in (whole, resumed)
        for score in [f"eval_{of.args.metric_for_best_model}"]
    ]
    assert scores[0] == scores[1] and (strategy == "no") == (not scores[0])


def test_a_signal_is_noted_and_a_later_one_has_its_usual_effect(monkeypatch, capfd):
    with StopSignals("Stopping.") as stop:
        assert stop.received is None
        for _ in range(2):  # the second comes at once: a launcher sent the first one on
            signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
    assert capfd.readouterr().err == "\nStopping.\n"
    monkeypatch.setattr(interruption, "ASKED_AGAIN", 0.01)
    with pytest.raises(KeyboardInterrupt), StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_reads_data_leaves_signals_to_its_parent(monkeypatch):
    with StopSignals() as stop:
        monkeypatch.setattr(stop, "_process", os.getpid() + 1)  # as in a forked worker
        signal.raise_signal(signal.SIGTERM)
        assert stop.received is None
        workers = []
        leaving_signals_to_parent(workers.append)(3)
        assert workers == [3] and signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        leaving_signals_to_parent(None)(3)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received is None


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["cpu", "cpu_two_processes"])
def test_a_launched_script_that_is_told_to_go_saves_once_and_leaves(tmp_path, processes):
    """The signal goes to the launcher, which is all that a cluster or a shell knows."""
    options = {
        "config": ROOT / "examples" / "configs" / "sat_toy.yaml",
        "output_dir": tmp_path / "run",
        "dataset_options": '{"count": 40, "size": 64}',
        "num_train_epochs": 500,
        "per_device_train_batch_size": 4,
        "save_strategy": "steps",
        "save_steps": 2,
        "eval_strategy": "no",
        "disable_tqdm": "true",
    }
    command = [*accelerate_launch(ROOT / "examples" / "accelerate" / f"{processes}.yaml")]
    command += [str(ROOT / "examples" / "train_sat.py")]
    command += [str(part) for key, value in options.items() for part in (f"--{key}", value)]
    with subprocess.Popen(
        command, env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as launcher:
        for _ in range(6000):
            if launcher.poll() is not None or last_checkpoint(tmp_path / "run"):
                break
            time.sleep(0.05)
        launcher.terminate()
        said = launcher.stdout.read()  # until the last of its processes has gone
    assert launcher.returncode, said[-3000:]
    checkpoint = last_checkpoint(tmp_path / "run")
    assert checkpoint, said[-3000:]
    step = json.loads((Path(checkpoint) / "trainer_state.json").read_text())["global_step"]
    assert said.count(f"stopped by SIGTERM after step {step} of ") == 1, said[-3000:]
    assert said.count("Stopping after this step, with a checkpoint.") == 1
    assert not (tmp_path / "run" / "unfinished").exists()

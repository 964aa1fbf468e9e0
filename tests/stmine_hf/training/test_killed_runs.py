"""kill -9 at any moment: what is resumed ends, bit for bit, with the weights of the run that nobody killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trainers import ROOT, TRAINERS, assert_equal, environment, weights
from transformers import TrainerState

from stmine_hf.training import trainer as trainer_module
from stmine_hf.training.checkpoints import UNFINISHED, last_checkpoint

FIELDS = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "ema_decay": 0.9}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_fork(function) -> int:
    """Exit code of a process of its own, negative for the signal that ended it."""
    if (pid := os.fork()) == 0:
        try:
            torch.set_num_threads(1)
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_step(run, monkeypatch, step):
    """In the middle of a step, its gradients computed."""
    train = run.training_step
    run.training_step = lambda *args: (train(*args), die() if run.state.global_step == step else None)[0]


def in_the_optimizer(run, monkeypatch, step):
    """Half of the optimizer's file is written."""
    save = torch.save

    def half(document, file, *args, **kwargs):
        save(document, file, *args, **kwargs)
        if run.state.global_step == step and Path(file).name == "optimizer.pt":
            os.truncate(file, os.path.getsize(file) // 2)
            die()

    monkeypatch.setattr(torch, "save", half)


def in_the_weights(run, monkeypatch, step):
    """Half of the weights' file is written, nothing else of the checkpoint."""
    save = run._save

    def half(output_dir=None, state_dict=None):
        save(output_dir, state_dict)
        if run.state.global_step == step:
            file = Path(output_dir) / "model.safetensors"
            os.truncate(file, os.path.getsize(file) // 2)
            die()

    run._save = half


def in_the_state(run, monkeypatch, step):
    """Half of the file that makes a checkpoint a checkpoint is written."""
    save = TrainerState.save_to_json

    def half(self, path):
        save(self, path)
        if run.state.global_step == step:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    monkeypatch.setattr(TrainerState, "save_to_json", half)


def between_old_and_new_best(run, monkeypatch, step):
    """The old best model has been moved away, the new one not yet to its place."""
    run._is_best = lambda metrics: True
    put = trainer_module.put_in_place

    def half(output_dir, name):
        if run.state.global_step == step and name == "best":
            (output_dir / name).rename(output_dir / UNFINISHED / f"old-{name}")
            die()
        put(output_dir, name)

    monkeypatch.setattr(trainer_module, "put_in_place", half)


@pytest.mark.parametrize(
    "method, moment, step",
    [
        ("fisvl", at_step, None),
        ("fisvl", in_the_optimizer, 6),
        ("fisvl", between_old_and_new_best, 4),
        ("mttv", in_the_state, 4),
        ("mttv", in_the_weights, 6),
        ("sat", at_step, None),
        ("sat", in_the_optimizer, 4),
    ],
)
def test_a_killed_run_resumes_and_ends_as_if_nothing_had_been(tmp_path, monkeypatch, method, moment, step):
    step = random.Random().randrange(8) if step is None else step
    whole = TRAINERS[method](tmp_path / "whole", **FIELDS)
    whole.train()

    def killed():
        run = TRAINERS[method](tmp_path / "run", **FIELDS)
        moment(run, monkeypatch, step)
        run.train()

    assert in_a_fork(killed) == -signal.SIGKILL, f"at step {step}"
    found = last_checkpoint(tmp_path / "run")
    expected = (step - 1) // 2 * 2 if moment is not at_step else step // 2 * 2
    assert found == (str(tmp_path / "run" / f"checkpoint-{expected}") if expected else None), f"at step {step}"
    resumed = TRAINERS[method](tmp_path / "run", **FIELDS)
    resumed.train(resume_from_checkpoint=found)
    assert_equal(weights(whole), weights(resumed))
    assert_equal(whole.ema.mean, resumed.ema.mean)
    best = [load_file(tmp_path / folder / "best" / "model.safetensors") for folder in ("whole", "run")]
    if moment is not between_old_and_new_best:
        assert_equal(*best)
    assert not (tmp_path / "run" / UNFINISHED).exists()


@pytest.mark.parametrize("method, step", [("fisvl", 4), ("mttv", 4), ("sat", 8)])
def test_an_evaluation_that_was_killed_after_its_epochs_checkpoint_is_made_up_for(tmp_path, method, step):
    fields = {**FIELDS, "eval_strategy": "epoch"}
    whole = TRAINERS[method](tmp_path / "whole", **fields)
    whole.train()

    def killed():
        run = TRAINERS[method](tmp_path / "run", **fields)
        run.evaluate = lambda: die() if run.state.global_step == step else type(run).evaluate(run)
        run._evaluate = lambda *args: run.evaluate()
        run.train()

    assert in_a_fork(killed) == -signal.SIGKILL
    found = last_checkpoint(tmp_path / "run")
    assert found == str(tmp_path / "run" / f"checkpoint-{step}")
    resumed = TRAINERS[method](tmp_path / "run", **fields)
    resumed.train(resume_from_checkpoint=found)
    assert_equal(weights(whole), weights(resumed))
    name = f"eval_{whole.args.metric_for_best_model}"
    scores = [
        [(entry["step"], entry[name]) for entry in run.state.log_history if name in entry] for run in (whole, resumed)
    ]
    assert scores[0] == scores[1] and [at for at, _ in scores[0]] == [4, 8]
    assert whole.state.best_metric == resumed.state.best_metric
    assert_equal(*(load_file(tmp_path / folder / "best" / "model.safetensors") for folder in ("whole", "run")))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fisvl", "mttv", "sat"])
def test_a_script_killed_at_random_ends_with_the_same_weights(tmp_path, method):
    """As in life: from outside, with no regard for what it is doing, again and again."""
    options = {
        "dataset_options": '{"count": 64, "size": 64}',
        "per_device_train_batch_size": 8,
        "num_train_epochs": 6,
        "save_strategy": "steps",
        "save_steps": 3,
        "disable_tqdm": "true",
        "resume_from_checkpoint": "auto",
    }
    command = [sys.executable, str(ROOT / "examples" / f"train_{method}.py")]
    command += ["--config", str(ROOT / "examples" / "configs" / f"{method}_toy.yaml")]
    command += [str(part) for key, value in options.items() for part in (f"--{key}", value)]

    def start(out: Path) -> subprocess.Popen:
        with open(f"{out}.log", "a") as log:
            return subprocess.Popen([*command, "--output_dir", str(out)], env=environment(), stdout=log, stderr=log)

    assert start(tmp_path / "whole").wait(600) == 0, (tmp_path / "whole.log").read_text()[-3000:]
    generator, kills, before = random.Random(), 0, None
    while kills < 3:
        process = start(tmp_path / "run")
        while process.poll() is None and last_checkpoint(tmp_path / "run") == before:
            time.sleep(0.01)  # until there is something new to lose
        time.sleep(generator.uniform(0, 0.5))
        process.kill()
        if process.wait() == 0:
            break
        kills, before = kills + 1, last_checkpoint(tmp_path / "run")
    assert kills, "over before it could be killed"
    assert start(tmp_path / "run").wait(600) == 0, (tmp_path / "run.log").read_text()[-3000:]
    ends = [Path(last_checkpoint(tmp_path / folder)) for folder in ("whole", "run")]
    assert ends[0].name == ends[1].name
    for file in ("model.safetensors", "ema.safetensors"):
        assert_equal(load_file(ends[0] / file), load_file(ends[1] / file))
    scores = [json.loads((tmp_path / folder / "results.json").read_text())["best"] for folder in ("whole", "run")]
    assert scores[0]["step"] == scores[1]["step"]

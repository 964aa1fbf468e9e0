"""A run resumes from its own checkpoints, is never overwritten, and is finished once."""

import json
import logging
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from trainers import ROOT, TRAINERS, assert_equal, environment, weights

from stmine_hf.errors import StmineError
from stmine_hf.files import only_writer
from stmine_hf.training.checkpoints import last_checkpoint
from stmine_hf.training.identity import RunIdentity, choose_start, remove_run

SETTINGS = {"dataset": "mine.csv", "seed": 0}


def identity(**fields) -> RunIdentity:
    return replace(RunIdentity.new(SETTINGS, SETTINGS), **fields)


def checkpoint(folder: Path, step: int, run: RunIdentity | None = None) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "trainer_state.json").write_text("{}")
    if run:
        run.write(path)
    return path


def start(folder, resume="auto", overwrite=False, settings=SETTINGS):
    return choose_start(folder, resume, overwrite, settings, settings)


def test_a_new_run_never_replaces_another_one(tmp_path):
    assert start(tmp_path, None).checkpoint is None
    identity().write(tmp_path)  # a run that was ended before it had a result
    assert start(tmp_path, None).checkpoint is None
    for name, make in (
        ("checkpoint-3", lambda path: checkpoint(tmp_path, 3)),
        ("best", Path.mkdir),
        ("results.json", Path.touch),
    ):
        make(tmp_path / name)
        with pytest.raises(StmineError, match=rf"holds another run \(.*{name}") as refused:
            start(tmp_path, None)
        for option in ("--resume_from_checkpoint auto", "another --output_dir", "--overwrite_output_dir true"):
            assert option in str(refused.value)


def test_a_folder_of_somebody_elses_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("mine: 1")
    with pytest.raises(StmineError, match=r"holds another run \(config.yaml\)"):
        start(tmp_path, None)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "diary.txt").write_text("mine")
    for overwrite, words in (
        (False, "holds another run"),
        (True, "best is not a model of a run, so it is not removed"),
    ):
        with pytest.raises(StmineError, match=words):
            start(tmp_path, None, overwrite)
    assert (tmp_path / "best" / "diary.txt").read_text() == "mine"


def test_overwriting_removes_what_a_run_made_and_nothing_else(tmp_path):
    identity().write(tmp_path)
    checkpoint(tmp_path, 2)
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "config.json").write_text("{}")
    (tmp_path / "results.json").write_text('{"best": null, "training": {}}')
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoint-7").mkdir()  # no checkpoint: nothing in it
    remove_run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-7", "notes.txt"]
    with pytest.raises(StmineError, match="set one of them"):
        start(tmp_path, "auto", overwrite=True)
    (tmp_path / "results.json").write_text('["mine"]')
    with pytest.raises(StmineError, match="is not from a run"):
        start(tmp_path, None, overwrite=True)


def test_auto_resumes_only_from_checkpoints_of_this_run(tmp_path, caplog):
    old, new = identity(), identity()
    checkpoint(tmp_path, 200, old)
    checkpoint(tmp_path, 300)
    new.write(tmp_path)
    with caplog.at_level(logging.INFO):
        begun = start(tmp_path)
    assert begun == type(begun)(new, None) and "No checkpoint of this run" in caplog.text
    checkpoint(tmp_path, 40, new)
    assert start(tmp_path).checkpoint == str(tmp_path / "checkpoint-40")
    with pytest.raises(StmineError, match=r"dataset is 'mine.csv' there and 'other.csv' now.*config.yaml"):
        start(tmp_path, settings={**SETTINGS, "dataset": "other.csv"})


def test_checkpoints_of_version_0_1_resume_where_there_are_no_others(tmp_path):
    for step in (9, 10):
        checkpoint(tmp_path, step)
    begun = start(tmp_path)
    assert begun.checkpoint == str(tmp_path / "checkpoint-10")
    begun.identity.write(tmp_path)  # killed before it wrote a checkpoint of its own
    assert start(tmp_path).checkpoint == begun.checkpoint
    checkpoint(tmp_path, 12, begun.identity)
    assert start(tmp_path).checkpoint == str(tmp_path / "checkpoint-12")
    assert start(tmp_path).identity.id == begun.identity.id


def test_a_lost_run_file_is_that_of_the_checkpoints_unless_they_are_of_several_runs(tmp_path):
    run = identity()
    checkpoint(tmp_path, 4, run)
    assert start(tmp_path).identity == run
    checkpoint(tmp_path, 8, identity())
    with pytest.raises(StmineError, match=r"checkpoints of several runs.*--resume_from_checkpoint FOLDER"):
        start(tmp_path)


def test_a_named_checkpoint_begins_another_run_unless_it_is_the_last_of_this_one(tmp_path):
    run, out = identity(), tmp_path / "out"
    out.mkdir()
    run.write(out)
    first, last = checkpoint(out, 4, run), checkpoint(out, 8, run)
    assert start(out, str(last)).identity == run
    branch = start(out, str(first))
    assert branch.identity.id != run.id and branch.identity.resumed_from == "checkpoint-4"
    branch.identity.write(out)
    assert start(out).checkpoint == str(first)  # not checkpoint-8, which this run never reached
    with pytest.raises(StmineError, match="holds another run"):
        start(out, str(checkpoint(tmp_path, 1)))
    with pytest.raises(StmineError, match=r"expected the folder of a checkpoint, with trainer_state.json"):
        start(out, str(out))


def test_a_damaged_run_file_is_named(tmp_path):
    (tmp_path / "run.json").write_text('{"id": 1}')
    with pytest.raises(StmineError, match=r"run.json cannot be read as that of a training run"):
        start(tmp_path)


@pytest.mark.parametrize("method", TRAINERS)
def test_a_finished_run_trains_no_further_step(tmp_path, method):
    """`max_steps` ends inside an epoch of four."""
    fields = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "ema_decay": 0.9, "eval_strategy": "epoch"}
    run = TRAINERS[method](tmp_path, **fields)
    run.train()
    again = TRAINERS[method](tmp_path, **fields)
    again.training_step = None  # would raise
    found = last_checkpoint(tmp_path)
    again.train(resume_from_checkpoint=found)
    assert again.was_finished and again.state.global_step == 6 and last_checkpoint(tmp_path) == found
    assert_equal(weights(run), weights(again))
    assert_equal(run.ema.mean, again.ema.mean)
    longer = TRAINERS[method](tmp_path, **{**fields, "max_steps": 7})
    longer.train(resume_from_checkpoint=found)
    assert not longer.was_finished and longer.state.global_step == 7


def test_a_run_that_was_stopped_early_trains_no_further_step(tmp_path):
    fields = {"num_train_epochs": 8, "save_strategy": "epoch", "eval_strategy": "epoch", "early_stopping_patience": 1}
    run = TRAINERS["fisvl"](tmp_path, learning_rate=0.0, **fields)
    run.train()
    assert run.state.global_step == 8 < run.state.max_steps
    again = TRAINERS["fisvl"](tmp_path, learning_rate=0.0, **fields)
    again.train(resume_from_checkpoint=last_checkpoint(tmp_path))
    assert again.was_finished and again.state.global_step == 8


def test_a_forked_worker_does_not_hold_the_folder(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from stmine_hf.files import only_writer\n"
        "with only_writer(Path(sys.argv[1])):\n"
        "    if os.fork() == 0: time.sleep(30)\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment(), check=False)
    for _ in range(50):  # the worker lets go of the lock once it runs, which takes a moment on a busy machine
        with suppress(StmineError), only_writer(tmp_path):
            break
        time.sleep(0.1)
    with only_writer(tmp_path), pytest.raises(StmineError, match="another run is writing"), only_writer(tmp_path):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAINERS)
def test_scripts_say_that_a_run_is_there_or_finished_or_being_written(tmp_path, method):
    out = tmp_path / "run"
    options = {
        "config": ROOT / "examples" / "configs" / f"{method}_toy.yaml",
        "output_dir": out,
        "dataset_options": '{"count": 40, "size": 64}',
        "per_device_train_batch_size": 4,
        "max_steps": 3,  # inside the first epoch
        "save_strategy": "steps",
        "save_steps": 2,
        "disable_tqdm": "true",
    }

    def script(*more, check=True):
        command = [sys.executable, str(ROOT / "examples" / f"train_{method}.py"), *more]
        command += [str(part) for key, value in options.items() for part in (f"--{key}", value)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert (done.returncode == 0) == check, done.stderr[-3000:]
        return done

    script()
    content = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "config.yaml"}
    name = json.loads((out / "run.json").read_text())
    assert name["data"]["rows"] > 0
    assert json.loads((out / "checkpoint-3" / "run.json").read_text())["id"] == name["id"]
    refused = script(check=False)
    assert refused.stderr.splitlines()[-1].startswith(f"error: {out} holds another run (best, results.json, ")
    finished = script("--resume_from_checkpoint", "auto")
    assert f"The run in {out} is finished: step 3 of 3." in finished.stdout
    assert content == {path: path.read_bytes() for path in content}
    with only_writer(out):
        busy = script("--overwrite_output_dir", "true", check=False)
    assert busy.stderr.splitlines()[-1] == f"error: another run is writing {out}: wait until it has ended, or stop it"
    script("--overwrite_output_dir", "true")
    assert json.loads((out / "run.json").read_text())["id"] != name["id"]
    assert len(load_file(out / "best" / "model.safetensors"))

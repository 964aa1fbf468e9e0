"""What is there is whole: moves cut in two, disks that are full, weights that are no numbers."""

import errno
import logging
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from trainers import ROOT, weights
from trainers import fisvl_trainer as trainer

from stmine_hf.errors import StmineError
from stmine_hf.outputs import Outputs
from stmine_hf.training.arguments import save_arguments
from stmine_hf.training.batch_rows import report_batch
from stmine_hf.training.checkpoints import (
    UNFINISHED,
    is_checkpoint,
    last_checkpoint,
    put_in_place,
    recover_interrupted_save,
    remove_oldest,
)
from stmine_hf.training.identity import RunIdentity, choose_start
from stmine_hf.training.sat.arguments import SatTrainingArguments
from stmine_hf.training.script import run_script
from stmine_hf.training.write_up import write_results


def write(folder, text):
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(text)


def test_auto_resumes_from_the_last_complete_checkpoint(tmp_path):
    assert last_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint-11").mkdir()
    for step in (9, 10):
        write(tmp_path / f"checkpoint-{step}", "{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    start = choose_start(tmp_path, "auto", False, {}, {})
    assert start.checkpoint == str(tmp_path / "checkpoint-10")


@pytest.mark.parametrize("cut", [None, "written", "old moved", "new moved"])
def test_a_move_cut_anywhere_leaves_one_of_the_two(tmp_path, cut):
    write(tmp_path / "best", "old")
    workshop = tmp_path / UNFINISHED
    write(workshop / "best", "new")
    if cut is None:
        put_in_place(tmp_path, "best")
    elif cut != "written":
        (tmp_path / "best").rename(workshop / "old-best")
        if cut == "new moved":
            (workshop / "best").rename(tmp_path / "best")
    recover_interrupted_save(tmp_path)
    assert (tmp_path / "best" / "trainer_state.json").read_text() == ("old" if cut == "written" else "new")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("what", ["a folder of the user", "a link", "a file"])
def test_a_folder_of_the_user_is_not_taken_for_an_unfinished_checkpoint(tmp_path, what):
    place, elsewhere = tmp_path / "run" / UNFINISHED, tmp_path / "elsewhere"
    (tmp_path / "run").mkdir()
    write(elsewhere / "novel", "chapter one")
    if what == "a link":
        place.symlink_to(elsewhere)
    elif what == "a file":
        place.write_text("mine")
    else:
        elsewhere.rename(place)
    with pytest.raises(StmineError, match="choose another output_dir"):
        recover_interrupted_save(tmp_path / "run")
    assert place.read_text() == "mine" if what == "a file" else (place / "novel" / "trainer_state.json").exists()


@pytest.mark.parametrize("cut", [False, True])
def test_files_of_the_user_beside_the_best_model_stay(tmp_path, cut):
    for name in ("notes.txt", "figures", "model.safetensors"):
        write(tmp_path / "best" / name, "old")
    write(tmp_path / UNFINISHED / "best" / "model.safetensors", "new")
    if cut:  # after both moves
        (tmp_path / "best").rename(tmp_path / UNFINISHED / "old-best")
        (tmp_path / UNFINISHED / "best").rename(tmp_path / "best")
        recover_interrupted_save(tmp_path)
    else:
        put_in_place(tmp_path, "best")
    found = sorted(path.name for path in (tmp_path / "best").iterdir() if not path.name.startswith("."))
    assert found == ["figures", "model.safetensors", "notes.txt"]
    assert (tmp_path / "best" / "notes.txt" / "trainer_state.json").read_text() == "old"
    assert (tmp_path / "best" / "model.safetensors" / "trainer_state.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_what_the_user_added_to_an_old_checkpoint_stays(tmp_path, caplog):
    for step in (1, 2):
        write(tmp_path / f"checkpoint-{step}", "{}")
    for method in ("fisvl", "mttv", "sat"):  # the code of a model is saved with it
        for code in (ROOT / "modeling" / method).glob("[a-z]*.py"):
            (tmp_path / "checkpoint-1" / code.name).write_text("")
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "config.json", "my notes.txt"):
        (tmp_path / "checkpoint-1" / name).write_text("")
    remove_oldest(tmp_path, 1)
    assert [path.name for path in (tmp_path / "checkpoint-1").iterdir()] == ["my notes.txt"]
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2") and "my notes.txt" in caplog.text


def test_what_the_user_put_beside_a_model_stays_whatever_its_name(tmp_path):
    """Names such as those that a run writes too; what other commands of this package have written there goes."""
    for round_, content in enumerate(("first", "second")):
        write(tmp_path / UNFINISHED / "best" / "model.safetensors", content)
        put_in_place(tmp_path, "best")
        if not round_:
            for name in ("labels.json", "sheet.png", "rows.jsonl", "backup.pt"):
                (tmp_path / "best" / name).write_text("mine")
            with Outputs(tmp_path / "best") as outputs:
                outputs.write("results.json", lambda path: path.write_text("of the first"))
    found = sorted(path.name for path in (tmp_path / "best").iterdir() if not path.name.startswith("."))
    assert found == ["backup.pt", "labels.json", "model.safetensors", "rows.jsonl", "sheet.png"]
    assert (tmp_path / "best" / "model.safetensors" / "trainer_state.json").read_text() == "second"
    for step in (1, 2):
        write(tmp_path / UNFINISHED / f"checkpoint-{step}", "{}")
        put_in_place(tmp_path, f"checkpoint-{step}")
        (tmp_path / f"checkpoint-{step}" / "mine.json").write_text("mine")
    remove_oldest(tmp_path, 1)
    left = {path.name for path in (tmp_path / "checkpoint-1").iterdir() if not path.name.startswith(".")}
    assert left == {"mine.json"}


def test_a_linked_checkpoint_is_unlinked_and_nothing_behind_it_removed(tmp_path):
    write(tmp_path / "elsewhere", "{}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint-1").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "run" / "checkpoint-2", "{}")
    os.utime(tmp_path / "elsewhere" / "trainer_state.json", (1, 1))
    remove_oldest(tmp_path / "run", 1)
    assert not os.path.lexists(tmp_path / "run" / "checkpoint-1")
    assert (tmp_path / "elsewhere" / "trainer_state.json").read_text() == "{}"


def test_results_replace_links_and_do_not_follow_them(tmp_path):
    mine, run = tmp_path / "mine.txt", tmp_path / "run"
    run.mkdir()
    mine.write_text("mine")
    for name in ("results.json", ".new-results.json", "config.yaml", ".new-run.json", "failed_batch.json"):
        (run / name).symlink_to(mine)
    write_results(run / "results.json", [], None)
    RunIdentity.new({}, {}).write(run)
    report_batch(run / "failed_batch.json", {}, {}, [0], [{"filename": "a.png"}])
    save_arguments(run / "config.yaml", SatTrainingArguments(output_dir=str(run)))
    assert mine.read_text() == "mine"
    assert not any(path.is_symlink() for path in run.iterdir())


def test_the_oldest_written_goes_first(tmp_path):
    for age, step in enumerate((8, 12, 4)):  # gone on from 4 after 12
        write(tmp_path / f"checkpoint-{step}", "{}")
        os.utime(tmp_path / f"checkpoint-{step}" / "trainer_state.json", (age, age))
    remove_oldest(tmp_path, None)
    assert len(list(tmp_path.iterdir())) == 3
    remove_oldest(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-12", "checkpoint-4"]


@contextmanager
def files_of_at_most(size):
    """As a full disk: a file cannot grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [100_000, 600_000])  # no room for the weights; room for them but not the optimizer
def test_a_checkpoint_that_cannot_be_written_is_left_out(tmp_path, caplog, size):
    run = trainer(tmp_path, save_strategy="steps", save_steps=2)
    save, at_most = run._save_checkpoint, {2: None, 4: size, 6: size, 8: None}

    def save_with_little_room(*args):
        if (limit := at_most[run.state.global_step]) is None:
            return save(*args)
        with files_of_at_most(limit):
            return save(*args)

    run._save_checkpoint = save_with_little_room
    with caplog.at_level(logging.WARNING):
        run.train()
    warnings = [record.getMessage() for record in caplog.records if "Cannot write checkpoint-" in record.getMessage()]
    assert len(warnings) == 2 and "MiB free" in warnings[0] and warnings[0].endswith(f"{tmp_path}/checkpoint-2.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-8"]
    resumed = trainer(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert all(
        torch.equal(left, right) for left, right in zip(weights(run).values(), weights(resumed).values(), strict=True)
    )


def test_a_best_model_that_cannot_be_written_stops_the_run_and_leaves_the_one_before(tmp_path):
    run = trainer(tmp_path, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1)
    run._is_best = lambda metrics: True
    keep, kept = run._keep_best, []

    def keep_with_less_and_less_room(report):
        if kept:
            with files_of_at_most(1000):
                keep(report)
        keep(report)
        kept.append((tmp_path / "best" / "model.safetensors").read_bytes())

    run._keep_best = keep_with_less_and_less_room
    with pytest.raises(StmineError, match=r"Cannot write the best model to .* MiB free.*auto, from .*checkpoint-1\.$"):
        run.train()
    assert (tmp_path / "best" / "model.safetensors").read_bytes() == kept[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "checkpoint-1"]


def test_weights_that_are_no_numbers_never_reach_a_checkpoint(tmp_path):
    run = trainer(tmp_path, save_strategy="steps", save_steps=2)
    step = run.training_step

    def spoil(*args):
        loss = step(*args)
        if run.state.global_step == 3:  # the loss of step 4 is still a number, its weights are not
            run.network.text_proj.bias.grad.fill_(float("inf"))
            run.args.max_grad_norm = 0.0
        return loss

    run.training_step = spoil
    with pytest.raises(StmineError, match="no longer finite after step 4: this checkpoint is skipped"):
        run.train()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_a_disk_that_is_full_at_the_end_of_a_script_is_one_line(tmp_path):
    def main():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "results.json"))

    with pytest.raises(
        SystemExit,
        match=r"cannot write .*results.json: No space left on device. Free some space, and run the command again.$",
    ):
        run_script(main)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_write_to_a_full_disk_is_one_line():
    with pytest.raises(
        SystemExit,
        match=r"error: cannot write a file: No space left on device. Free some space, and run the command again.$",
    ):
        run_script(lambda: Path("/dev/full").write_text("x" * 100_000) and None)


def test_a_name_that_no_file_can_have_is_no_checkpoint(tmp_path):
    assert not is_checkpoint(tmp_path / ("x" * 300)) and not is_checkpoint("a\0b")


def test_a_disk_that_fills_before_the_list_is_written_costs_no_checkpoint(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "unfinished" / "best").mkdir(parents=True)
    (tmp_path / "unfinished" / "best" / "model.safetensors").write_bytes(b"new")
    monkeypatch.setattr("stmine_hf.training.checkpoints.write_json", full)
    put_in_place(tmp_path, "best")
    assert (tmp_path / "best" / "model.safetensors").read_bytes() == b"new"

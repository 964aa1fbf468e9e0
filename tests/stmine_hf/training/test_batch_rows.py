"""A loss that is no number names its rows: on all three trainers, with the images that bring it about."""

import json

import pytest
import torch
from boxed_rows import boxed_rows
from post_rows import post_rows
from toy_rows import toy_rows
from trainers import TRAINERS

from stmine_hf.errors import StmineError
from stmine_hf.training.batch_rows import ROWS, WithRows, report_batch
from stmine_hf.training.checkpoints import last_checkpoint

TABLE = [{"filename": f"{i}.jpg", "post_id": str(i)} for i in range(20)]


def test_a_report_names_the_first_rows_and_holds_all(tmp_path):
    inputs = {"pixel_values": torch.zeros(5, 3, 2, 2), "labels": torch.zeros(5, dtype=torch.int64), "k": [1]}
    told = report_batch(tmp_path / "batch.json", {"step": 7}, inputs, [4, 1, 9, 2, 3], TABLE)
    assert told == (
        f"The batch: training rows 4 (4.jpg), 1 (1.jpg), 9 (9.jpg) and 2 more; all of the batch is in {tmp_path}/"
        "batch.json."
    )
    document = json.loads((tmp_path / "batch.json").read_text())
    assert document["step"] == 7 and [row["row"] for row in document["rows"]] == [4, 1, 9, 2, 3]
    inputs["pixel_values"][3, 0, 0, 0] = float("inf")
    told = report_batch(tmp_path / "nowhere" / "batch.json", {}, inputs, [4, 1, 9, 2, 3], TABLE)
    assert told.startswith("Inputs are not finite already in training rows 2 (2.jpg); all")


def test_batches_hold_the_rows_of_items_that_have_them():
    collator = WithRows(lambda items: {"n": torch.tensor([item["n"] for item in items])})
    assert collator([{"n": 1, "row": 8}, {"n": 2, "row": 3}])[ROWS].tolist() == [8, 3]
    assert collator([{"n": 1}]).keys() == {"n"}


@pytest.mark.parametrize("method", TRAINERS)
def test_an_image_that_breaks_the_loss_is_named(tmp_path, method):
    run = TRAINERS[method](tmp_path, save_strategy="steps", save_steps=1, seed=1)
    collate, wanted = run.data_collator, 6

    def spoil(items):
        batch = collate(items)
        for at, item in enumerate(items):
            if item["row"] == wanted:
                batch["pixel_values"][at] = float("nan")
        return batch

    run.data_collator = spoil
    with pytest.raises(StmineError, match="The loss is nan at step") as stop:
        run.train()
    assert "Inputs are not finite already in training rows 6 (" in str(stop.value)
    document = json.loads((tmp_path / "failed_batch.json").read_text())
    assert len(document["rows"]) == 4 and document["step"] == run.state.global_step
    assert [row["row"] for row in document["rows"] if not row["finite"]] == [6]
    step = document["step"]
    assert last_checkpoint(tmp_path) == (str(tmp_path / f"checkpoint-{step}") if step else None)


@pytest.mark.parametrize("method", TRAINERS)
def test_an_image_that_cannot_be_read_is_counted_and_training_goes_on(tmp_path, method):
    rows = {"fisvl": toy_rows, "sat": boxed_rows, "mttv": post_rows}[method](16, broken=(9,))
    run = TRAINERS[method](tmp_path, rows=rows, dataloader_num_workers=1)
    run.train()
    assert run.state.global_step == 8 and run.samples.unreadable == 1

"""The trainer on a tiny model: it learns, resumes exactly, keeps the best, and stops on a loss that is no number."""

import json

import pytest
import torch
from safetensors.torch import load_file
from toy_rows import toy_rows
from trainers import assert_equal, weights
from trainers import fisvl_trainer as trainer
from transformers import AutoModel, AutoProcessor

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.retrieval import evaluate_retrieval


@pytest.mark.parametrize("captions_per_step", ["all", "2"])
def test_the_loss_falls_and_its_terms_are_logged(tmp_path, captions_per_step):
    run = trainer(tmp_path, captions_per_step, "none", num_train_epochs=6, learning_rate=3e-3, warmup_steps=0.1)
    run.train()
    logged = [entry for entry in run.state.log_history if "loss" in entry]
    first, last = logged[0], logged[-1]
    assert last["loss_contrastive"] < 0.8 * first["loss_contrastive"]
    # Epochs 0 to 9: the loss is the sum of the three terms.
    terms = sum(last[f"loss_{name}"] for name in ("contrastive", "affiliation", "scene"))
    assert last["loss"] == pytest.approx(terms, rel=1e-3)


def test_the_model_is_told_the_epoch(tmp_path):
    run = trainer(tmp_path, num_train_epochs=3)
    epochs = []
    forward = run.network.forward
    run.network.forward = lambda *args, epoch=None, **kwargs: (
        epochs.append(epoch),
        forward(*args, epoch=epoch, **kwargs),
    )[1]
    run.train()
    assert epochs == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("at", [2, 4])  # within an epoch, and between two
def test_a_resumed_run_ends_as_the_uninterrupted_one(tmp_path, at):
    fields = {
        "save_strategy": "steps",
        "save_steps": at,
        "save_total_limit": None,
        "ema_decay": 0.9,
        "warmup_steps": 3,
    }
    whole = trainer(tmp_path, **fields)
    whole.train()
    resumed = trainer(tmp_path, **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{at}"))
    assert_equal(weights(whole), weights(resumed))
    assert_equal(whole.ema.mean, resumed.ema.mean)
    assert whole.ema.updates == resumed.ema.updates == 8
    assert resumed.lr_scheduler.get_last_lr() == whole.lr_scheduler.get_last_lr()


def test_a_checkpoint_without_the_mean_starts_it_anew(tmp_path, caplog):
    trainer(tmp_path, save_strategy="epoch").train()
    run = trainer(tmp_path, save_strategy="epoch", num_train_epochs=3, ema_decay=0.9)
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert run.ema.updates == 4 and "no ema.safetensors" in caplog.text


def test_best_holds_the_mean_weights_of_the_best_evaluation(tmp_path):
    run = trainer(tmp_path, eval_strategy="epoch", num_train_epochs=3, ema_decay=0.5)
    kept = []
    keep = run._keep_best
    run._keep_best = lambda report: (keep(report), kept.append((report.metrics["r_mean"], dict(run.ema.mean))))
    run.train()
    evaluated = [entry["eval_r_mean"] for entry in run.state.log_history if "eval_r_mean" in entry]
    assert len(evaluated) == 3 and kept[-1][0] == max(evaluated) == run.state.best_metric
    assert json.loads((tmp_path / "best" / "results.json").read_text())["metrics"]["r_mean"] == max(evaluated)
    assert (
        json.loads((tmp_path / "best" / "results.json").read_text())["model"] == tmp_path.name
    )  # not that of the start
    # While it was kept, the model held the mean and the mean's place the live weights.
    best = load_file(tmp_path / "best" / "model.safetensors")
    assert not torch.equal(best["temperature"], kept[-1][1]["temperature"])
    model = AutoModel.from_pretrained(tmp_path / "best")
    processor = AutoProcessor.from_pretrained(tmp_path / "best")
    again = evaluate_retrieval(model, processor, toy_rows(8), progress=False)
    assert again.metrics["r_mean"] == pytest.approx(max(evaluated))
    assert (tmp_path / "best" / "modeling_fisvl.py").is_file()


def test_evaluation_leaves_the_training_as_it_was(tmp_path):
    with_evaluation = trainer(tmp_path / "a", eval_strategy="steps", eval_steps=1, ema_decay=0.9)
    with_evaluation.train()
    without = trainer(tmp_path / "b", ema_decay=0.9)
    without.train()
    assert_equal(weights(with_evaluation), weights(without))


def test_a_loss_that_is_no_number_stops_with_the_term(tmp_path):
    run = trainer(tmp_path)
    with torch.no_grad():
        run.network.center_temperature.fill_(float("nan"))
    with pytest.raises(StmineError, match=r"step 0 \(epoch 0\) because of affiliation; .*Lower learning_rate"):
        run.train()
    run = trainer(tmp_path)
    with torch.no_grad():
        run.network.text_proj.bias.fill_(float("nan"))
    with pytest.raises(StmineError, match="text_embeds are not finite already"):
        run.train()


def test_frozen_parts_stay_and_released_batch_norms_count_on(tmp_path):
    run = trainer(tmp_path / "a", freeze_conv=True)
    before = weights(run)
    run.train()
    after = weights(run)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not {name for name, _ in run.network.conv_encoder.named_parameters(prefix="conv_encoder")} & moved
    assert any(name.startswith("conv_encoder") and "running_mean" in name for name in moved)
    assert "vision_proj.weight" in moved
    run = trainer(tmp_path / "b", freeze_batchnorm=True)
    before = weights(run)
    run.train()
    after = weights(run)
    moved = {name for name in before if "running" in name and not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith("sensing.") for name in moved)  # new: its statistics are yet to be found


def test_the_released_schedule_counts_the_dropped_batch(tmp_path):
    def last_rate(**fields) -> float:
        run = trainer(tmp_path, per_device_train_batch_size=5, num_train_epochs=1, **fields)  # 16 samples: 3 batches
        run.train()
        return run.lr_scheduler.get_last_lr()[0]

    assert last_rate() == 0
    assert last_rate(released_schedule_length=True) == pytest.approx(1e-3 / 4)  # 3 of ceil(16 / 5) = 4 steps done


def test_bfloat16_trains_on_a_cpu(tmp_path):
    run = trainer(tmp_path, bf16=True, num_train_epochs=1)
    run.train()
    assert all(torch.isfinite(tensor).all() for tensor in run.network.parameters())
    assert run.network.dtype == torch.float32

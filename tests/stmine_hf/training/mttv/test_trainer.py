"""The trainer on a tiny model: it learns from both modalities, resumes exactly, follows the released optimizer."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from post_rows import post_rows
from trainers import assert_equal, weights
from trainers import mttv_trainer as trainer
from transformers import AutoModelForSequenceClassification, AutoProcessor

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.classification import evaluate_posts
from stmine_hf.training.mttv.bert_adam import BertAdam, released_optimizer, released_total_steps
from stmine_hf.training.mttv.trainer import MttvTrainer, plateau_factor

ROOT = Path(__file__).parents[4]
PLATEAU = json.loads((ROOT / "tests" / "fixtures" / "mttv" / "training.json").read_text())["plateau"]
WEIGHTED = {"ema_decay": 0.9, "class_balance": 0.5, "group_balance": 0.5}
RELEASED = {"train_sampling_strategy": "group_by_length", "released_optimizer": True, "max_grad_norm": 0.0}


@pytest.mark.parametrize("at, fields", [(2, WEIGHTED), (2, RELEASED), (4, RELEASED)])  # 4 steps are an epoch
def test_a_resumed_run_ends_as_the_uninterrupted_one(tmp_path, at, fields):
    fields = {**fields, "save_strategy": "steps", "save_steps": at, "save_total_limit": None, "warmup_steps": 3}
    fields |= {"eval_strategy": "steps", "eval_steps": 2, "plateau_patience": 0}
    whole = trainer(tmp_path, **fields)
    whole.train()
    resumed = trainer(tmp_path, **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{at}"))
    assert_equal(weights(whole), weights(resumed))
    assert resumed.lr_scheduler.get_last_lr() == whole.lr_scheduler.get_last_lr()
    keys = ("step", "eval_macro_f1", "eval_loss")
    history = [[{key: entry.get(key) for key in keys} for entry in run.state.log_history] for run in (whole, resumed)]
    assert history[0] == history[1]


def test_best_holds_the_model_of_the_best_evaluation(tmp_path):
    run = trainer(tmp_path, eval_strategy="epoch", num_train_epochs=3, ema_decay=0.5, metric_for_best_model="accuracy")
    run.train()
    evaluated = [entry["eval_accuracy"] for entry in run.state.log_history if "eval_accuracy" in entry]
    assert len(evaluated) == 3 and run.state.best_metric == max(evaluated)
    assert json.loads((tmp_path / "best" / "results.json").read_text())["metrics"]["accuracy"] == max(evaluated)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "best")
    processor = AutoProcessor.from_pretrained(tmp_path / "best")
    again = evaluate_posts(model, processor, post_rows(12), progress=False)
    assert again.metrics["accuracy"] == pytest.approx(max(evaluated))
    assert (tmp_path / "best" / "modeling_mttv.py").is_file()


def test_evaluation_leaves_the_training_as_it_was(tmp_path):
    with_evaluation = trainer(tmp_path / "a", eval_strategy="steps", eval_steps=1, ema_decay=0.9)
    with_evaluation.train()
    without = trainer(tmp_path / "b", ema_decay=0.9)
    without.train()
    assert_equal(weights(with_evaluation), weights(without))


def test_a_loss_that_is_no_number_stops(tmp_path):
    run = trainer(tmp_path)
    with torch.no_grad():
        run.network.classifier.weight.fill_(float("nan"))
    with pytest.raises(StmineError, match=r"loss is nan at step 0 .*logits.* not finite already.*Lower learning_rate"):
        run.train()


def test_frozen_parts_stay(tmp_path):
    run = trainer(tmp_path, freeze=[r"embeddings\.word"], freeze_batchnorm=True)
    before = weights(run)
    run.train()
    moved = {name for name, tensor in weights(run).items() if not torch.equal(tensor, before[name])}
    assert not [name for name in moved if "embeddings.word" in name or "running" in name or "normalization" in name]
    assert "classifier.weight" in moved and any("vision_encoder" in name for name in moved)
    still = trainer(tmp_path, model_fields={"train_vision": False})
    before = weights(still)
    still.train()
    moved = {name for name, tensor in weights(still).items() if not torch.equal(tensor, before[name])}
    assert "classifier.weight" in moved and not any("vision_encoder" in name for name in moved)


def rates(run: MttvTrainer) -> dict[str, float]:
    names = {parameter: name for name, parameter in run.network.named_parameters()}
    return {names[p]: group["lr"] for group in run.create_optimizer().param_groups for p in group["params"]}


def test_each_part_and_layer_has_its_rate(tmp_path):
    fields = {"text_lr_mult": 0.5, "vision_lr_mult": 0.1, "head_lr_mult": 2.0, "layer_lr_decay": 0.8}
    for released in ({}, {"released_optimizer": True, "max_grad_norm": 0.0}):
        of = rates(trainer(tmp_path, **fields, **released))
        layer = "mttv.encoder.encoder.layer.{}.output.dense.weight"
        expected = {
            "classifier.weight": 2.0,
            "mttv.global_proj.bias": 2.0,
            "mttv.vision_encoder.encoder.encoder.stages.1.layers.0.layer.0.convolution.weight": 0.1,
            "mttv.vision_encoder.encoder.embedder.embedder.convolution.weight": 0.1 * 0.8**2,
            "mttv.encoder.pooler.dense.weight": 0.5,
            layer.format(1): 0.5,
            layer.format(0): 0.5 * 0.8,
            "mttv.encoder.embeddings.word_embeddings.weight": 0.5 * 0.8**2,
        }
        assert {name: of[name] / 1e-3 for name in expected} == pytest.approx(expected)


def test_the_released_optimizer_is_the_one_proved_equal(tmp_path):
    """Eight epochs of two steps each, against `released_optimizer`, which reproduces the authors' trajectory."""
    fields = {"released_optimizer": True, "max_grad_norm": 0.0, "per_device_train_batch_size": 10, "warmup_steps": 0.1}
    run = trainer(tmp_path, "none", model_fields={"train_vision": False, "dropout": 0.0}, num_train_epochs=8, **fields)
    run.data_collator.token_dropping = run.samples.image_dropping = 0.0
    model = trainer(tmp_path, model_fields={"train_vision": False, "dropout": 0.0}).network
    total = released_total_steps(16, 10, 8)
    optimizer, schedule = released_optimizer(model, 1e-3, total, warmup=0.1, weight_decay=0.01)
    run.args.weight_decay = 0.01
    step = MttvTrainer.training_step

    def both(self, network, inputs, *args):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
        schedule.step()
        return step(self, network, inputs, *args)

    run.training_step = both.__get__(run)
    run.train()
    assert isinstance(run.optimizer.optimizer if hasattr(run.optimizer, "optimizer") else run.optimizer, BertAdam)
    assert total == 12.8 and run.state.global_step == 16  # the last updates have rate 0
    assert run.lr_scheduler.get_last_lr()[0] == schedule.get_last_lr()[0] == 0
    for (name, ours), theirs in zip(run.network.named_parameters(), model.parameters(), strict=True):
        if not name.endswith("key.bias"):  # their gradients are rounding errors, which Adam blows up
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5, msg=name)


def test_plateau_parity(parity):
    scores = []
    for epoch in PLATEAU["simulation"]:
        scores.append(epoch["test_acc"])
        parity("learning rate on a plateau", abs(1e-4 * plateau_factor(scores, 2) - epoch["base_lr_after"]), 1e-12)


def test_a_plateau_lowers_the_rate_and_then_stops_the_run(tmp_path, caplog, monkeypatch):
    """Scores 0.5, 0.6, then worse: halved after more than one worse evaluation, stopped after the fourth."""
    run = trainer(
        tmp_path, num_train_epochs=9, eval_strategy="epoch", plateau_patience=1, early_stopping_patience=4,
        lr_scheduler_type="constant",
    )  # fmt: skip
    scores = iter([0.5, 0.6, 0.6, 0.6, 0.5, 0.5, 0.5])

    @dataclass
    class Scored:
        metrics: dict[str, float]
        model: str = ""
        seconds: float = 0.0

        def save(self, folder):
            pass

    def measure(rows):
        return Scored({"macro_f1": next(scores)})

    monkeypatch.setattr(run, "measure", measure)
    with caplog.at_level(logging.INFO):
        run.train()
    used = {entry["step"]: entry["learning_rate"] for entry in run.state.log_history if "learning_rate" in entry}
    assert [used[4 * epoch] / 1e-3 for epoch in range(1, 7)] == [1, 1, 1, 1, 0.5, 0.5]
    assert run.state.global_step == 24 and "No better macro_f1 in 4 evaluations: stopping" in caplog.text


def test_label_smoothing_is_that_of_cross_entropy(tmp_path):
    run = trainer(tmp_path, label_smoothing_factor=0.2)
    inputs = run.data_collator([run.samples[i] for i in range(8)])
    run.network.eval()
    loss, outputs = run.compute_loss(run.network, inputs, return_outputs=True)
    expected = torch.nn.functional.cross_entropy(outputs.logits, inputs["labels"], label_smoothing=0.2)
    assert loss == expected and loss != outputs.loss


def test_scaling_factors_are_fitted_on_validation_and_kept_if_they_help(tmp_path, monkeypatch):
    run = trainer(tmp_path, eval_strategy="epoch", num_train_epochs=1, model_fields={"scaling_mode": "shift"})
    run.train()
    recalls = run.measure(run.eval_dataset).recalls
    scaled = run.fit_scaling_factors(1.0)
    kept = AutoModelForSequenceClassification.from_pretrained(tmp_path / "best")
    if scaled is None:
        assert kept.scaling_factors.tolist() == [1.0, 1.0]
    else:
        factors = [1 / max(recall, 0.01) for recall in recalls]
        assert kept.scaling_factors.tolist() == pytest.approx(factors)
        assert json.loads((tmp_path / "best" / "results.json").read_text())["metrics"] == scaled

    monkeypatch.setattr(
        run.network, "fit_scaling_factors", lambda *_: run.network.scaling_factors.copy_(torch.tensor([1e-6, 1e6]))
    )  # everything is real
    before = (tmp_path / "best" / "model.safetensors").read_bytes()
    monkeypatch.setitem(run.args.__dict__, "metric_for_best_model", "recall_fake")
    if run.measure(run.eval_dataset).recalls[0] > 0:  # of the best model, with factors if they were kept
        assert run.fit_scaling_factors(1.0) is None
        assert (tmp_path / "best" / "model.safetensors").read_bytes() == before
        assert run.network.scaling_factors.tolist() == [1.0, 1.0]


def test_bfloat16_trains_on_a_cpu(tmp_path):
    run = trainer(tmp_path, bf16=True, num_train_epochs=1)
    run.train()
    assert all(torch.isfinite(tensor).all() for tensor in run.network.parameters())
    assert run.network.dtype == torch.float32


def test_features_train_a_model_that_never_sees_an_image(tmp_path):
    generator = torch.Generator().manual_seed(0)
    store = {
        str(i): {
            "global_features": torch.rand(32, 4, 4, generator=generator),
            "region_features": torch.rand(2, 32, generator=generator),
        }
        for i in range(16)
    }
    run = trainer(tmp_path, "none", store, model_fields={"vision_config": None}, eval_strategy="epoch")
    run.train()
    assert run.state.global_step == 8 and run.samples.unreadable == 0

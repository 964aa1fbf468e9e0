"""The trainer on a tiny detector: it learns, resumes exactly, follows the released schedule, keeps the best."""

import json

import pytest
import torch
from boxed_rows import NAMES, boxed_rows
from helpers_sat import tiny_sat
from trainers import assert_equal, weights
from trainers import sat_trainer as trainer
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.detection import evaluate_detection
from stmine_hf.training.sat.collator import SatCollator
from stmine_hf.training.sat.samples import BoxedImages
from stmine_hf.training.sat.toy_model import build_toy_sat
from stmine_hf.training.sat.trainer import multistep_factor
from stmine_hf.training.sat.transforms import SatTransform, build_augmentation
from stmine_hf.training.sat.warm_start import first_batches


def test_the_loss_falls_and_its_terms_are_logged(tmp_path):
    run = trainer(tmp_path, "none", num_train_epochs=6, learning_rate=1e-2)
    run.train()
    logged = [entry for entry in run.state.log_history if "loss" in entry]
    first, last = logged[0], logged[-1]
    assert last["loss"] < 0.8 * first["loss"]
    for entry in (first, last):
        sum_ = entry["loss_quality_focal"] + 2 * entry["loss_giou"] + 0.25 * entry["loss_distribution_focal"]
        assert entry["loss"] == pytest.approx(sum_, rel=1e-3)


def test_images_without_boxes_and_batches_of_them_train(tmp_path):
    rows = boxed_rows(12, empty=(0, 1, 2, 3, 4, 5, 6, 7))
    for skip in (False, True):  # as made for teaching nothing, and as released: no gradient at all
        run = trainer(tmp_path, rows=rows, per_device_train_batch_size=2, num_train_epochs=2)
        run.network.config.skip_batches_without_boxes = skip
        run.train()
        logged = [entry for entry in run.state.log_history if "loss" in entry]
        assert len(logged) == 12
        assert any(entry["loss"] == 0 for entry in logged) == skip
        assert all(tensor.isfinite().all() for tensor in run.network.state_dict().values())


@pytest.mark.parametrize("at", [3, 4])  # within an epoch, and between two
def test_a_resumed_run_ends_as_the_uninterrupted_one(tmp_path, at):
    fields = {
        "save_strategy": "steps",
        "save_steps": at,
        "save_total_limit": None,
        "ema_decay": 0.9,
        "warmup_steps": 3,
        "lr_milestones": [1.5],
        "optim": "sgd",
        "optim_args": "momentum=0.9",
    }
    whole = trainer(tmp_path, "nanodet_m", **fields)
    whole.train()
    resumed = trainer(tmp_path, "nanodet_m", **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{at}"))
    assert_equal(weights(whole), weights(resumed))
    assert_equal(whole.ema.mean, resumed.ema.mean)
    assert resumed.lr_scheduler.get_last_lr() == whole.lr_scheduler.get_last_lr() == [pytest.approx(3e-4)]


def test_the_released_schedule_and_decay(tmp_path):
    run = trainer(
        tmp_path,
        num_train_epochs=4,
        learning_rate=0.1,
        lr_milestones=[2, 3],
        warmup_steps=4,
        weight_decay=0.01,
        decay_everything=True,
        backbone_lr_mult=0.5,
        optim="sgd",
        optim_args="momentum=0.9",
        max_grad_norm=1,
    )
    run.train()
    rates = [entry["learning_rate"] for entry in run.state.log_history if "learning_rate" in entry]
    factors = [0.1, 0.325, 0.55, 0.775, *[1.0] * 4, *[0.1] * 4, *[0.01] * 4]
    assert rates == pytest.approx([0.05 * factor for factor in factors])  # of the first group, the backbone
    groups = run.optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {0.01} and {group["momentum"] for group in groups} == {0.9}
    by_rate = {group["initial_lr"]: 0 for group in groups}
    for group in groups:
        by_rate[group["initial_lr"]] += sum(parameter.numel() for parameter in group["params"])
    assert by_rate[0.05] == sum(parameter.numel() for parameter in run.network.sat.backbone.parameters())
    assert sum(by_rate.values()) == run.network.num_parameters()


def test_without_warm_up_the_schedule_starts_whole():
    factor = multistep_factor([5.5], warmup=0, gamma=0.5)
    assert [factor(step) for step in (0, 5, 6)] == [1, 1, 0.5]


def test_frozen_parts_stay_and_kept_statistics_leave_scales_to_learn(tmp_path):
    run = trainer(tmp_path / "a", freeze_backbone_stages=2)
    before = weights(run)
    run.train()
    moved = {name for name, tensor in weights(run).items() if not torch.equal(tensor, before[name])}
    assert not [name for name in moved if name.startswith(("sat.backbone.stem.", "sat.backbone.stages.0."))]
    assert [name for name in moved if name.startswith("sat.backbone.stages.1.") and "running_mean" in name]
    run = trainer(tmp_path / "b", freeze_batchnorm=True)
    before = weights(run)
    run.train()
    moved = {name for name, tensor in weights(run).items() if not torch.equal(tensor, before[name])}
    assert not [name for name in moved if "running_" in name or "num_batches" in name]
    assert "sat.backbone.stem.normalization.bias" in moved
    with pytest.raises(StmineError, match="the backbone has 4 parts, stem included"):
        trainer(tmp_path, freeze_backbone_stages=5)


def test_best_holds_the_mean_weights_of_the_best_evaluation(tmp_path):
    run = trainer(
        tmp_path, "none", eval_strategy="steps", eval_steps=8, num_train_epochs=8, learning_rate=1e-2, ema_decay=0.5
    )
    run.train()
    evaluated = [entry["eval_ap"] for entry in run.state.log_history if "eval_ap" in entry]
    assert len(evaluated) == 4 and max(evaluated) == run.state.best_metric > 0
    saved = json.loads((tmp_path / "best" / "results.json").read_text())
    assert saved["metrics"]["ap"] == max(evaluated) and set(saved["by_source"]) == {"A", "B"}
    model = AutoModelForObjectDetection.from_pretrained(tmp_path / "best")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "best")
    again = evaluate_detection(model, processor, boxed_rows(8), progress=False)
    assert again.metrics["ap"] == pytest.approx(max(evaluated), abs=1e-6)
    assert (tmp_path / "best" / "modeling_sat.py").is_file()


def test_scores_of_classes_before_the_training_outlast_an_interruption(tmp_path):
    fields = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 4}
    run = trainer(tmp_path, eval_on_start=True, **fields)
    run.train()
    with_classes = [entry for entry in run.state.log_history if "by_class" in entry]
    assert [entry["step"] for entry in with_classes] == [0]
    assert [row["name"] for row in with_classes[0]["by_class"]] == list(NAMES)
    objects = [row["objects"] for row in boxed_rows(16)]
    labels = [
        label for one in objects for label, crowd in zip(one["category"], one["iscrowd"], strict=True) if not crowd
    ]
    assert run.class_counts() == {name: labels.count(label) for label, name in enumerate(NAMES)}
    resumed = trainer(tmp_path, eval_on_start=True, **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state.log_history[0]["by_class"] == with_classes[0]["by_class"]


def test_a_class_without_a_box_in_validation_is_left_out_of_the_mean(tmp_path):
    rows = boxed_rows(8).filter(lambda row: 1 not in row["objects"]["category"])
    run = trainer(tmp_path, eval_rows=rows, num_train_epochs=1)
    run.train()
    metrics = run.evaluate()
    assert 0 <= metrics["eval_ap"] <= 1


def test_evaluation_leaves_the_training_as_it_was(tmp_path):
    with_evaluation = trainer(tmp_path / "a", eval_strategy="steps", eval_steps=1, ema_decay=0.9, num_train_epochs=1)
    with_evaluation.train()
    without = trainer(tmp_path / "b", ema_decay=0.9, num_train_epochs=1)
    without.train()
    assert_equal(weights(with_evaluation), weights(without))


def test_a_loss_that_is_no_number_stops_with_the_term(tmp_path):
    run = trainer(tmp_path)
    with torch.no_grad():
        run.network.head[0].predictor.bias.fill_(float("nan"))
    with pytest.raises(StmineError, match=r"because of quality_focal.*logits.*not finite already"):
        run.train()


def test_the_first_batches_are_the_same_every_time():
    model, processor = tiny_sat()
    samples = BoxedImages(boxed_rows(6), NAMES, model.config.label2id)
    collator = SatCollator(SatTransform(build_augmentation("mild"), processor))
    first, again = (torch.cat(list(first_batches(samples, collator, 2, 2))) for _ in range(2))
    assert first.shape == (4, 3, 64, 64) and torch.equal(first, again)
    assert len(list(first_batches(samples, collator, 99, 2))) == 3


def test_the_toy_model_is_small_and_for_the_given_classes():
    model = build_toy_sat(["thing"], attention="eca")
    assert model.training and model.config.id2label == {0: "thing"} and model.config.attention == "eca"
    assert model.num_parameters() < 60_000

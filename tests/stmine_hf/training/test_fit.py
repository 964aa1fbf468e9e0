"""Settings made for large sets train a small one."""

import logging

import pytest
from trainers import TRAINERS, mttv_trainer

from stmine_hf.errors import StmineError
from stmine_hf.methods import METHODS
from stmine_hf.training.arguments import _valid_names
from stmine_hf.training.fisvl.arguments import FisvlTrainingArguments
from stmine_hf.training.fit import OwnSets, fit_to_set, total_steps


def arguments(folder, **fields):
    return FisvlTrainingArguments(output_dir=str(folder), use_cpu=True, **fields)


def test_a_large_batch_warm_up_and_intervals_fit_a_small_set(tmp_path, caplog):
    fields = {"per_device_train_batch_size": 128, "num_train_epochs": 2, "warmup_steps": 1000, "logging_steps": 50}
    args = arguments(tmp_path, **fields, eval_strategy="steps", eval_steps=500, gradient_accumulation_steps=2)
    with caplog.at_level(logging.WARNING):
        fit_to_set(args, 54)
    assert args.per_device_train_batch_size == 13 and args.gradient_accumulation_steps == 1
    assert total_steps(args, 54) == 8 == args.eval_steps
    assert args.warmup_steps == 0.1 and args.logging_steps == 1
    lines = [record.getMessage() for record in caplog.records]
    assert "per_device_train_batch_size: 13 instead of 128, since the training set has 54 samples." in lines
    assert "eval_steps: 8 instead of 500, since the run has 8 steps." in lines and len(lines) == 5


def test_one_step_is_no_plural(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        fit_to_set(arguments(tmp_path, max_steps=1, eval_strategy="steps", eval_steps=500), 54)
    assert "eval_steps: 1 instead of 500, since the run has 1 step." in [one.getMessage() for one in caplog.records]


def test_what_fits_stays(tmp_path, caplog):
    args = arguments(tmp_path, per_device_train_batch_size=8, num_train_epochs=20, warmup_steps=10, logging_steps=10)
    before = args.to_dict()
    with caplog.at_level(logging.WARNING):
        fit_to_set(args, 54)
    assert args.to_dict() == before and not caplog.records


@pytest.mark.parametrize("method", TRAINERS)
def test_a_set_smaller_than_a_batch_trains(tmp_path, method):
    run = TRAINERS[method](tmp_path, per_device_train_batch_size=64, num_train_epochs=1, eval_strategy="epoch")
    run.train()
    assert run.state.global_step >= 1 and (tmp_path / "best").is_dir()
    assert any("loss" in entry for entry in run.state.log_history)


def test_too_few_samples_are_an_error_that_says_how_many(tmp_path):
    with pytest.raises(StmineError, match=r"has 1 sample; at least 2 are needed"):
        fit_to_set(arguments(tmp_path, per_device_train_batch_size=4), 1)


def test_a_kept_last_batch_needs_no_smaller_batch(tmp_path):
    run = mttv_trainer(tmp_path, per_device_train_batch_size=64, num_train_epochs=1)
    assert run.args.per_device_train_batch_size == 64


def test_settings_for_a_set_of_ones_own_follow_its_size():
    own = OwnSets(16, 900, {"seed": 1}, {"learning_rate": 1e-3}, {"learning_rate": 5e-3}, 500, {"freeze": ["a"]})
    small, large = own.for_size(60), own.for_size(5000)
    assert small["peft"] == "lora" and small["learning_rate"] == 5e-3 and small["num_train_epochs"] == 15
    assert "peft" not in large and large["learning_rate"] == 1e-3 and large["freeze"] == ["a"]
    assert large["num_train_epochs"] == 3 and own.for_size(10)["num_train_epochs"] == 30
    assert own.for_size(60, adapter=False)["learning_rate"] == 1e-3 and own.for_size(5000, adapter=True)["peft"]
    assert "freeze" not in own.for_size(5000, shipped=False) and "freeze" not in small
    batches = [own.for_size(count, processes=processes)["per_device_train_batch_size"] for count, processes in
               ((5, 1), (20, 1), (400, 1), (400, 2), (400, 64))]  # fmt: skip
    assert batches == [2, 10, 16, 8, 1]


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_each_method_names_settings_that_exist(method):
    training = method.training
    valid = _valid_names(training.arguments)
    for adapter in (True, False):
        assert set(training.own_sets.for_size(60, adapter=adapter)) <= valid

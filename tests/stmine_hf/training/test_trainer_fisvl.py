"""The trainer on a tiny model: it learns, resumes exactly, keeps the best, and stops on a loss that is no number."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import tiny_fisvl
from safetensors import safe_open
from safetensors.torch import load_file
from toy_rows import toy_rows
from transformers import AutoModel, AutoProcessor

from stmine_hf.errors import StmineError
from stmine_hf.training.arguments_fisvl import FisvlTrainingArguments
from stmine_hf.training.collator_fisvl import CaptionedPictures, FisvlCollator
from stmine_hf.training.evaluation_fisvl import evaluate_retrieval
from stmine_hf.training.trainer import last_checkpoint
from stmine_hf.training.trainer_fisvl import FisvlTrainer
from stmine_hf.training.transforms_fisvl import build_transform

ROOT = Path(__file__).parents[3]


def trainer(folder: Path, captions_per_step: str = "one", augmentation: str = "lite", **fields) -> FisvlTrainer:
    model, processor = tiny_fisvl()
    settings = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
        **fields,
    }
    return FisvlTrainer(
        model=model.train(),
        args=FisvlTrainingArguments(output_dir=str(folder), **settings),
        train_dataset=CaptionedPictures(toy_rows(16), captions_per_step, seed=0),
        eval_dataset=toy_rows(8),
        data_collator=FisvlCollator(processor, build_transform(augmentation, processor.image_processor), 0.05),
        processing_class=processor,
    )


def weights(of: FisvlTrainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in of.network.state_dict().items()}


def assert_equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    unequal = [name for name in left if not torch.equal(left[name], right[name])]
    assert not unequal


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


def test_auto_resumes_from_the_last_complete_checkpoint(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for step in (9, 10, 11):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")  # a kill cut 11 short


def test_best_holds_the_mean_weights_of_the_best_evaluation(tmp_path):
    run = trainer(tmp_path, eval_strategy="epoch", num_train_epochs=3, ema_decay=0.5)
    kept = []
    keep = run._keep_best
    run._keep_best = lambda report: (keep(report), kept.append((report.metrics["r_mean"], dict(run.ema.mean))))
    run.train()
    evaluated = [entry["eval_r_mean"] for entry in run.state.log_history if "eval_r_mean" in entry]
    assert len(evaluated) == 3 and kept[-1][0] == max(evaluated) == run.state.best_metric
    assert json.loads((tmp_path / "best" / "results.json").read_text())["metrics"]["r_mean"] == max(evaluated)
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


def still_trainer(folder: Path, **fields) -> FisvlTrainer:
    """Nothing random, nothing that sees only its own rows, and SGD: AdamW blows the rounding of small gradients up."""
    run = trainer(
        folder,
        augmentation="none",
        eval_strategy="epoch",
        optim="sgd",
        learning_rate=0.01,
        freeze_batchnorm=True,
        **fields,
    )
    for module in run.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    run.network.sensing.attention.dropout = 0.0
    norms = [module for module in run.network.sensing.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    run._frozen_norms += norms
    return run


WORKER = """
import sys
from pathlib import Path
from safetensors.torch import save_file
sys.path.append({here!r})
from test_trainer_fisvl import still_trainer
out = Path({out!r})
run = still_trainer(out, per_device_train_batch_size=4, ddp_backend="gloo")
run.train()
metrics = {{name: str(value) for name, value in run.evaluate().items()}}
weights = {{name: tensor.clone() for name, tensor in run.network.state_dict().items()}}
save_file(weights, out / f"rank{{run.args.process_index}}.safetensors", metrics)
"""


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one(tmp_path):
    """The same joint batches: two processes of 4 pictures, one of 8."""
    (tmp_path / "worker.py").write_text(WORKER.format(here=str(Path(__file__).parent), out=str(tmp_path)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [*launch, str(tmp_path / "worker.py")],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]

    one = still_trainer(tmp_path / "one", per_device_train_batch_size=8)
    one.train()
    expected = one.evaluate()
    for rank in range(2):
        with safe_open(tmp_path / f"rank{rank}.safetensors", framework="pt") as saved:
            metrics = {name: float(value) for name, value in saved.metadata().items()}
            for name, tensor in one.network.state_dict().items():
                torch.testing.assert_close(saved.get_tensor(name), tensor, atol=1e-5, rtol=1e-4, msg=name)
        assert metrics["eval_r_mean"] == pytest.approx(expected["eval_r_mean"])

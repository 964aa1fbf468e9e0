"""Options of the Trainer mean for all three methods what they mean elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from helpers_adapters import adapter_trainer, save_base
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainers import STILL_TRAINERS, TRAINERS, weights
from transformers import AutoModel

from stmine_hf import SatConfig, SatForObjectDetection
from stmine_hf.errors import StmineError
from stmine_hf.training.gradient_checkpointing import prepare_gradient_checkpointing
from stmine_hf.training.sat.arguments import SatTrainingArguments
from stmine_hf.training.sat.trainer import SatTrainer


@pytest.fixture(params=TRAINERS)
def method(request) -> str:
    return request.param


def assert_close(left, right):
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, atol=1e-6, rtol=1e-4, msg=name)


# ---- gradient checkpointing ----


def test_recomputed_activations_change_nothing(tmp_path, method):
    """Batch norms included, which measure twice and count once."""
    ends = []
    for fields in ({}, {"gradient_checkpointing": True}):
        run = TRAINERS[method](tmp_path, **fields)
        run.train()
        ends.append(weights(run))
    assert_close(*ends)
    counts = {name: int(end) for name, end in ends[0].items() if name.endswith("num_batches_tracked")}
    assert counts and all(int(ends[1][name]) == count for name, count in counts.items())


def test_recomputed_activations_and_an_adapter(tmp_path, method):
    base, ends = save_base(method, tmp_path / "model"), []
    for fields in ({}, {"gradient_checkpointing": True}):
        run = adapter_trainer(method, base, tmp_path / "run", **fields)
        run.train()
        ends.append(weights(run))
    assert_close(*ends)


def test_recomputing_holds_fewer_activations():
    model = SatForObjectDetection(SatConfig.preset("sat")).train()
    prepare_gradient_checkpointing(model, SatTrainer.checkpointed_blocks(SimpleNamespace(network=model)))
    weights = {parameter.data_ptr() for parameter in model.parameters()}

    def held() -> int:
        sizes = dict[int, int]()

        def note(tensor):
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            outputs = model(torch.randn(4, 3, 128, 128))
        assert outputs.logits.grad_fn is not None
        return sum(size for place, size in sizes.items() if place not in weights)

    before = held()
    model.gradient_checkpointing_enable()
    assert held() < 0.4 * before


# ---- accumulation, compilation, precision ----


def test_two_half_batches_are_one(tmp_path):
    """Where the loss is a mean over samples. FISVL's loss is of the pairs of a batch, SAT's of the boxes in it."""
    ends = []
    for fields in ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}, {}):
        run = STILL_TRAINERS["mttv"](tmp_path, **{"per_device_train_batch_size": 8, **fields})
        run.train()
        ends.append(weights(run))
        assert run.state.global_step == 4
    assert_close(*ends)


@pytest.mark.parametrize("method", ["fisvl", "sat"])
def test_accumulated_gradients_are_means(tmp_path, method):
    """A batch twice is the batch once: neither sums nor sizes of gradients depend on the number of parts."""
    ends = []
    for parts in (1, 2):
        run = STILL_TRAINERS[method](tmp_path, eval_strategy="no", gradient_accumulation_steps=parts, max_steps=1)
        batch = run.data_collator([run.samples[i] for i in range(4)])
        run.data_collator = lambda items, batch=batch: dict(batch)
        run.train()
        ends.append(weights(run))
    assert_close(*ends)


@pytest.mark.slow
def test_a_compiled_model_trains_to_the_same_weights_and_keeps_its_names(tmp_path, method):
    """The graph is taken and run by PyTorch itself: no compiler of the machine has a part in it."""
    ends = []
    for fields in ({}, {"torch_compile": True, "torch_compile_backend": "aot_eager"}):
        run = STILL_TRAINERS[method](tmp_path, num_train_epochs=1, save_strategy="epoch", **fields)
        run.train()
        ends.append(weights(run))
    assert_close(*ends)
    for kept in ("best", "checkpoint-4"):
        AutoModel.from_pretrained(tmp_path / kept)  # by the names of a model that is not compiled
        assert not [name for name in load_file(tmp_path / kept / "model.safetensors") if "_orig_mod" in name]


def test_bfloat16_trains_a_detector(tmp_path):
    run = TRAINERS["sat"](tmp_path, bf16=True, num_train_epochs=1)
    run.train()
    assert all(torch.isfinite(tensor).all() for tensor in run.network.parameters())
    assert run.network.dtype == torch.float32


def test_float16_needs_a_gpu(tmp_path):
    with pytest.raises(StmineError, match="fp16 needs a GPU, this run is on the CPU: use bf16, or neither"):
        SatTrainingArguments(output_dir=str(tmp_path), use_cpu=True, fp16=True)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [({"save_strategy": "96"}, "96 is not a valid SaveStrategy"), ({"logging_steps": float("inf")}, "infinity")],
)
def test_a_setting_that_transformers_refuses_is_an_error_of_one_line(tmp_path, setting, problem):
    with pytest.raises(StmineError, match=f"setting of the run cannot be used: .*{problem}"):
        SatTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **setting)


# ---- loggers ----


def test_tensorboard_gets_losses_and_scores(tmp_path, method):
    run = TRAINERS[method](tmp_path, report_to="tensorboard", num_train_epochs=1, eval_strategy="epoch")
    run.train()
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    told = EventAccumulator(str(events.parent)).Reload()
    names = set(told.Tags()["scalars"])
    assert {"train/loss", "train/learning_rate", f"eval/{run.args.metric_for_best_model}"} <= names
    assert [event.step for event in told.Scalars("train/loss")] == [1, 2, 3, 4]

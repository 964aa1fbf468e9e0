"""The cached gradient is the direct one: for every objective, with accumulation, with dropout, on two processes."""

import pytest
import torch
from trainers import fisvl_trainer, still_fisvl_trainer, train_in_two_processes, weights

from stmine_hf.errors import StmineError
from stmine_hf.training.fisvl.gradient_cache import RandomState, cached_step, split_batch


def one_step(run, count: int = 8) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of the first `count` samples."""
    run.current_gradient_accumulation_steps = 1
    run.network.zero_grad()
    inputs = run.data_collator([run.samples[i] for i in range(count)])
    loss = run.training_step(run.network, inputs)
    return loss, {name: p.grad.clone() for name, p in run.network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "objective, epoch", [("value_guided", 0), ("value_guided", 12), ("contrastive", 0), ("triplet", 0)]
)
@pytest.mark.parametrize("captions, chunk", [("one", 3), ("2", 3), ("all", 8), ("one", 99)])
def test_the_cached_step_has_the_loss_and_gradients_of_the_direct_one(tmp_path, objective, epoch, captions, chunk):
    found = []
    for fields in ({}, {"gradient_cache_chunk": chunk}):
        run = still_fisvl_trainer(tmp_path, captions_per_step=captions, **fields)
        run.network.config.objective = objective
        run.state.epoch = float(epoch)
        found.append((*one_step(run), dict(run._terms)))
    (loss, gradients, terms), (cached_loss, cached_gradients, cached_terms) = found
    torch.testing.assert_close(cached_loss, loss, atol=1e-5, rtol=1e-5)
    assert cached_terms.keys() == terms.keys()
    assert cached_gradients.keys() == gradients.keys()
    assert ("temperature" in gradients) == (objective != "triplet")
    for name, gradient in gradients.items():
        torch.testing.assert_close(cached_gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_both_passes_have_the_same_dropout_and_batch_norms_count_once(tmp_path):
    run = fisvl_trainer(tmp_path, gradient_cache_chunk=2)
    assert run.network.config.dropout > 0
    seen = []
    forward = run.network.forward
    run.network.forward = lambda **inputs: (seen.append(forward(**inputs)), seen[-1])[1]
    one_step(run)
    assert len(seen) == 8  # four chunks, twice
    for first, second in zip(seen[:4], seen[4:], strict=True):
        torch.testing.assert_close(second.image_embeds, first.image_embeds, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(second.text_embeds, first.text_embeds, atol=1e-6, rtol=1e-5)
    counts = {int(b) for name, b in run.network.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {4}


@pytest.mark.parametrize("fields", [{}, {"gradient_accumulation_steps": 2}])
def test_a_run_ends_with_the_weights_of_a_direct_one(tmp_path, fields):
    ends = []
    for more in ({}, {"gradient_cache_chunk": 2}):
        run = still_fisvl_trainer(tmp_path, **{**fields, **more, "eval_strategy": "no"})
        run.train()
        ends.append(weights(run))
        assert run.state.global_step == (8 if not fields else 4)
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_mixed_precision_reaches_every_weight(tmp_path):
    """Autocast keeps its copies of weights as long as a block lasts: those without gradient must not be used again."""
    run = still_fisvl_trainer(tmp_path)
    inputs = run.data_collator([run.samples[i] for i in range(6)])
    labels = [inputs[name] for name in ("image_ids", "scene_labels", "caption_weights")]

    def half(**chunk):
        with torch.autocast("cpu", torch.bfloat16):
            return run.network(**chunk)

    def loss_of(images, texts):
        return run.network.loss_on_embeds(images, texts, *labels)

    _, gradients = one_step(run, 6)
    run.network.zero_grad()
    cached_step(half, run.network, list(split_batch(inputs, 2)), loss_of, torch.Tensor.backward)
    found = {name: p.grad for name, p in run.network.named_parameters() if p.grad is not None}
    assert found.keys() == gradients.keys() and all(gradient.abs().sum() > 0 for gradient in found.values())
    direct, cached = (torch.cat([grads[name].flatten() for name in gradients]) for grads in (gradients, found))
    assert torch.cosine_similarity(direct, cached, dim=0) > 0.9


def test_chunks_hold_an_image_and_all_its_captions():
    inputs = {"pixel_values": torch.arange(5), "input_ids": torch.arange(10), "attention_mask": None, "image_ids": 1}
    chunks = [{name: part.tolist() for name, part in chunk.items()} for chunk in split_batch(inputs, 2)]
    assert chunks == [
        {"pixel_values": [0, 1], "input_ids": [0, 1, 2, 3]},
        {"pixel_values": [2, 3], "input_ids": [4, 5, 6, 7]},
        {"pixel_values": [4], "input_ids": [8, 9]},
    ]


def test_random_numbers_come_again():
    state = RandomState.now(torch.device("cpu"))
    first = torch.rand(3)
    state.restore()
    assert torch.equal(torch.rand(3), first)


def test_mistakes_are_told(tmp_path):
    with pytest.raises(StmineError, match="must not be negative"):
        fisvl_trainer(tmp_path, gradient_cache_chunk=-1)


@pytest.mark.slow
def test_two_processes_cache_the_gradient_of_the_joint_batch(tmp_path):
    fields = {"gradient_cache_chunk": 2, "eval_strategy": "no"}
    two = train_in_two_processes("fisvl", tmp_path / "two", per_device_train_batch_size=4, **fields)
    one = still_fisvl_trainer(tmp_path / "one", per_device_train_batch_size=8, eval_strategy="no")
    one.train()
    for found, _ in two:
        for name, tensor in one.network.state_dict().items():
            torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-4, msg=name)

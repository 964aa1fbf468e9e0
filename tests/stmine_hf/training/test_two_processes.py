"""Two gloo processes, started by `accelerate launch`, are one process on the joint batch; the first alone writes."""

import json

import pytest
import torch
from trainers import STILL_TRAINERS, train_in_two_processes

# Fields, and what both must find in the validation set: 8 images, 12 posts, 8 images are no multiples of 2 x 3.
METHODS = {
    "fisvl": ({}, ("eval_r_mean", "eval_txt_r1", "eval_img_r5")),
    "mttv": (
        {"save_strategy": "epoch", "early_stopping_patience": 1},
        ("eval_macro_f1", "eval_accuracy", "eval_loss"),
    ),
    "sat": ({}, ("eval_ap", "eval_ap50", "eval_ar100")),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_and_evaluate_as_one(tmp_path, method):
    """The same joint batches: two processes of 4, one of 8."""
    fields, metrics = METHODS[method]
    fields = {**fields, "per_device_eval_batch_size": 3}
    two = train_in_two_processes(method, tmp_path / "two", per_device_train_batch_size=4, **fields)
    one = STILL_TRAINERS[method](tmp_path / "one", per_device_train_batch_size=8, **fields)
    untrained = one.evaluate()
    one.train()
    expected = one.evaluate()
    for rank, (weights, facts) in enumerate(two):
        assert facts["world_size"] == "2"
        same = json.loads(facts["untrained"])  # of the same weights to the last bit, so the scores are, too
        assert {name: same[name] for name in metrics} == {name: untrained[name] for name in metrics}
        for name, tensor in one.network.state_dict().items():
            torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=1e-4, msg=name)
        for name in metrics:
            assert float(facts[name]) == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name
        assert bool(json.loads(facts["written"])) == (rank == 0)
    assert sorted(path.name for path in (tmp_path / "two").iterdir() if path.suffix != ".safetensors") == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )

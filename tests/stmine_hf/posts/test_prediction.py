"""Batches of posts: every post once, like lengths together, features stacked with zeros for what is missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stmine_hf.posts.post import Post
from stmine_hf.posts.prediction import WINDOW, by_length, stack_features


@pytest.mark.parametrize(("count", "batch_size"), [(0, 4), (5, 8), (2 * WINDOW + 7, 8), (WINDOW + 100, WINDOW + 50)])
def test_every_post_is_in_one_batch(count, batch_size):
    lengths = np.random.default_rng(0).integers(0, 100, size=count)
    posts = (Post(n, "x" * length, [lambda: None] * (n % 3 == 0)) for n, length in enumerate(lengths))
    batches = list(by_length(posts, batch_size))
    assert sorted(number for batch in batches for number, _ in batch) == list(range(count))
    assert all(number == post.id and len(batch) <= batch_size for batch in batches for number, post in batch)
    spread = [max(len(p.text) for _, p in batch) - min(len(p.text) for _, p in batch) for batch in batches]
    mixed = [len({bool(post.images) for _, post in batch}) == 2 for batch in batches]
    if count > WINDOW and batch_size == 8:
        assert np.mean(spread) < 10 and sum(mixed) <= 3  # one where the images begin, in each of three windows


def test_posts_are_taken_a_window_at_a_time():
    taken = 0

    def posts():
        nonlocal taken
        for number in range(10 * WINDOW):
            taken += 1
            yield Post(number, "")

    next(by_length(posts(), 4))
    assert taken == WINDOW


def test_features_are_stacked_with_zeros_for_what_is_missing():
    some = [
        {"global_features": torch.ones(3, 2, 2), "region_features": torch.ones(2, 3)},
        None,
        {"global_features": torch.ones(3, 2, 2, dtype=torch.float16), "region_features": torch.zeros(0, 3)},
    ]
    found = stack_features(some)
    assert found["global_features"].shape == (3, 3, 2, 2) and found["region_features"].shape == (3, 2, 3)
    assert found["global_features"].sum(dim=(1, 2, 3)).tolist() == [12, 0, 12]
    assert found["region_features"].sum(dim=(1, 2)).tolist() == [6, 0, 0]
    assert found["global_features"].dtype == torch.float32
    assert stack_features([None, None]) == {}

"""Seed all randomness of a sample with one number, so that neither workers nor an interruption change a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block on torch's CPU generator seeded by `seed`, and restore the generator's state afterwards."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def sample_seed(*numbers: int) -> int:
    """A seed computed from several numbers, such as the seed of the run, the epoch and the index of the sample."""
    return hash(numbers) % 2**63

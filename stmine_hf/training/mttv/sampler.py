"""The order of an epoch of posts: shuffled or drawn by weight, optionally in batches of similar text length."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .samples import Posts


def sample_weights(labels: Tensor, groups: Tensor, class_balance: float, group_balance: float) -> Tensor | None:
    """How often each sample is drawn, relative to the others; None for each once an epoch.

    Args:
        labels: class of each sample.
        groups: group of each sample; each sample of group -1 is a group of its own.
        class_balance: b in [0, 1]: a sample of a class of n samples has weight n ** -b. At 1 all classes
            are drawn equally often.
        group_balance: the same for groups. The class balance uses the resulting weights, so that
            classes of few large groups are not drawn less often.

    Example:
        >>> sample_weights(torch.tensor([0, 0, 1]), torch.tensor([-1, -1, -1]), class_balance=1.0, group_balance=0.0)
        tensor([0.5000, 0.5000, 1.0000], dtype=torch.float64)
    """
    if not class_balance and not group_balance:
        return None
    _, member, sizes = groups.unique(return_inverse=True, return_counts=True)
    weights = torch.where(groups < 0, 1, sizes[member]).double() ** -float(group_balance)
    return weights * labels.bincount(weights)[labels] ** -float(class_balance)


class PostSampler(torch.utils.data.Sampler[int]):
    """The order of an epoch: shuffled, or drawn with replacement by weight; batches of similar text length if wanted.

    The order depends on the seed and the samples' epoch alone: a resumed run continues it, and every process of a
    distributed run has the same.

    Args:
        samples: the training posts.
        seed: seed of the run.
        weights: see `sample_weights`; None shuffles.
        batch_size: posts of all processes in a step, to make batches of posts with texts of similar length; None
            does not sort by length.
    """

    def __init__(self, samples: Posts, seed: int = 0, weights: Tensor | None = None, batch_size: int | None = None):
        self.samples, self.seed, self.weights, self.batch_size = samples, seed, weights, batch_size
        self.lengths = samples.lengths

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(hash((self.seed, self.samples.epoch)) % 2**63)
        if self.weights is None:
            order = torch.randperm(len(self), generator=generator)
        else:
            order = torch.multinomial(self.weights, len(self), replacement=True, generator=generator)
        if self.batch_size is not None:
            order = by_length(order, self.lengths, self.batch_size, generator)
        return iter(order.tolist())


def by_length(order: Tensor, lengths: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Sort within chunks of 50 batches, then shuffle the batches; a last, smaller batch stays last.

    This reduces padding, and the batches still differ from epoch to epoch.
    """
    whole = len(order) // batch_size * batch_size
    batches: list[Tensor] = []
    for stretch in order[:whole].split(50 * batch_size):
        batches += stretch[lengths[stretch].argsort(stable=True)].split(batch_size)
    shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    return torch.cat([*shuffled, order[whole:]])

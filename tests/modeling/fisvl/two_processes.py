"""The worker of the two-process tests: `python two_processes.py RANK WORLD_SIZE INIT_FILE OUT_FILE`.

Trains nothing: it takes one gradient of every loss through a small model behind DistributedDataParallel, on this
rank's part of twelve fixed rows. With a world of one (`run_all(0, 1)`) it is the plain model on all rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from stmine_hf.modeling.fisvl.losses_fisvl import (
    affiliation_loss,
    contrastive_loss,
    gather_rows,
    gather_with_grad,
    scene_adaptive_loss,
    triplet_loss,
)

IMAGE_IDS = [0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9]  # the ids, scenes and weights of the reference batch
SCENES = [0, 0, 0, 1, 1, 1, 2, 2, 3, 0, 4, 2]
WEIGHTS = [1.0, 0.95, 0.7, 0.55, 0.8, 0.9, 0.62, 1.0, 0.75, 0.51, 0.99, 0.85]
MENDED = {"mask_positives": True, "integer_weights": False, "drop_below_margin": True}
SPLITS = {"even": [6, 6], "uneven": [8, 4]}

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "contrastive": lambda v, t, temp, ids, scenes, weights: contrastive_loss(v, t, temp, ids),
    "contrastive weighted": lambda v, t, temp, ids, scenes, weights: contrastive_loss(v, t, temp, ids, weights),
    "affiliation": lambda v, t, temp, ids, scenes, weights: affiliation_loss(v, t, temp, scenes),
    "affiliation, one centre per scene": lambda v, t, temp, ids, scenes, weights: affiliation_loss(
        v, t, temp, scenes, one_centre_per_scene=True
    ),
    "scene": lambda v, t, temp, ids, scenes, weights: scene_adaptive_loss(
        v, t, temp, ids, scenes, 5, beta1=-0.002, beta2=0.02, margin=0.95
    ),
    "scene mended": lambda v, t, temp, ids, scenes, weights: scene_adaptive_loss(
        v, t, temp, ids, scenes, 5, beta1=-0.002, beta2=0.02, margin=0.95, **MENDED
    ),
    "triplet": lambda v, t, temp, ids, scenes, weights: triplet_loss(v, t, margin=0.6) / temp,
}


class TwoLinears(nn.Module):
    """The least model with what matters here: two encoders, a temperature, gathering before the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(8, 6), nn.Linear(8, 6)
        self.temp = nn.Parameter(torch.tensor(0.3))

    def forward(self, pixels: Tensor, words: Tensor, labels: list[Tensor], loss: Loss) -> Tensor:
        image_embeds = gather_with_grad(F.normalize(self.image(pixels), dim=1))
        text_embeds = gather_with_grad(F.normalize(self.text(words), dim=1))
        return loss(image_embeds, text_embeds, self.temp, *(gather_rows(label) for label in labels))


def run_all(rank: int, world_size: int) -> dict[str, Tensor]:
    """Value and parameter gradients of every loss and split, keyed `split/loss/value` and `split/loss/parameter`."""
    torch.manual_seed(0)
    pixels, words = torch.randn(12, 8, dtype=torch.float64), torch.randn(12, 8, dtype=torch.float64)
    words = words + pixels
    labels = [torch.tensor(IMAGE_IDS), torch.tensor(SCENES), torch.tensor(WEIGHTS, dtype=torch.float64)]
    model = TwoLinears().double()
    wrapped = nn.parallel.DistributedDataParallel(model) if world_size > 1 else model
    results = {}
    for split, sizes in SPLITS.items():
        start = sum(sizes[:rank])
        own = slice(start, start + sizes[rank]) if world_size > 1 else slice(None)
        for name, loss in LOSSES.items():
            model.zero_grad()
            value = wrapped(pixels[own], words[own], [label[own] for label in labels], loss)
            value.backward()
            results[f"{split}/{name}/value"] = value.detach()
            for parameter, tensor in model.named_parameters():
                grad = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
                results[f"{split}/{name}/{parameter}"] = grad.clone()
    return results


def gather_facts(rank: int) -> dict[str, Tensor]:
    """Gathering by itself: order, lengths (2 rows on rank 0, 3 on rank 1), types."""
    rows = torch.arange(2 + rank) + 10 * rank
    half = torch.full((2 + rank, 2), rank + 0.5, dtype=torch.bfloat16, requires_grad=True)
    gathered = gather_with_grad(half)
    (gathered * torch.arange(5.0)[:, None]).sum().backward()
    assert half.grad is not None
    none = gather_rows(None)
    return {
        "rows": gather_rows(rows),
        "bfloat16": gathered.detach(),
        "bfloat16 grad": half.grad,
        "none stays none": torch.tensor(none is None),
    }


if __name__ == "__main__":
    rank, world_size, init_file, out_file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{init_file}", rank=rank, world_size=world_size)
    torch.save(run_all(rank, world_size) | gather_facts(rank), out_file)
    dist.destroy_process_group()

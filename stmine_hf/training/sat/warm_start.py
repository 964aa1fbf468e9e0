"""Start a SAT model from weights of another one, or weights whose batch norms were folded into the convolutions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.utils import cached_file

from ...checkpoints import read_config, require_bounded_header
from ...errors import StmineError
from ..streamed import Streamed


@dataclass
class MatchingWeights:
    """Which tensors of a model were loaded from another one.

    Attributes:
        whole: names of those loaded.
        parts: name -> classes whose rows were loaded (of the last convolutions, where classes differ).
        new: names of those without a match; they keep their initial values.
        unused: the source's tensors that the model does not have.
    """

    whole: list[str] = field(default_factory=list)
    parts: dict[str, list[str]] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line for the log."""
        total = len(self.whole) + len(self.parts) + len(self.new)
        text = f"{len(self.whole)} of {total} tensors loaded"
        if self.parts:
            classes = next(iter(self.parts.values()))
            named = f" and for {', '.join(classes)}" if classes else ""
            text += f", and {len(self.parts)} more in part (their outputs for boxes{named})"
        if self.new:
            text += f"; new: {_by_module(self.new)}"
        if self.unused:
            text += f"; unused: {_by_module(self.unused)}"
        return text


def load_matching_weights(model: nn.Module, source: str) -> MatchingWeights:
    """Load every tensor of another SAT model that has the same name and shape in this one.

    The outputs (rows) of the last convolutions are classes and box sides. If such a tensor does not fit, its rows of
    the boxes and of classes of the same name are loaded: a model for new classes starts with trained boxes. A fused
    model's batch norms are restored as placeholders; `recalibrate_batchnorm` makes them usable for training.

    Args:
        model: Changed in place.
        source: Folder or Hub id with `config.json` and `model.safetensors`. The latter may be incomplete.

    Raises:
        StmineError: Nothing there, not a SAT model, or no tensor that fits.
    """
    config, tensors = _read(source)
    if config.get("model_type") != "sat":
        raise StmineError(f"{source}: expected a SAT model, found one of type {config.get('model_type')!r}.")
    own: Any = model.config
    if config.get("fused") and not own.fused:
        tensors = unfused_tensors(tensors, own.batch_norm_eps)
    theirs = {name: int(number) for number, name in config["id2label"].items()}
    same_classes = {own.id2label[i]: i for i in range(own.num_labels)} == theirs
    matching = MatchingWeights(unused=sorted(set(tensors) - set(model.state_dict())))
    with torch.no_grad():
        for name, place in model.state_dict().items():
            found, last = tensors.get(name), ".predictor." in name
            if found is not None and found.shape == place.shape and (same_classes or not last):
                place.copy_(found)
                matching.whole.append(name)
            elif found is not None and last and found.shape[1:] == place.shape[1:] and _box_rows(own, found, theirs):
                found = found.to(place.dtype)  # published weights are halved; unlike copy_, indexing converts nothing
                shared = [label for label in own.label2id if label in theirs]
                place[own.num_labels :] = found[len(theirs) :]
                place[[own.label2id[label] for label in shared]] = found[[theirs[label] for label in shared]]
                matching.parts[name] = shared
            else:
                matching.new.append(name)
    if not matching.whole:
        raise StmineError(f"{source}: none of its {len(tensors)} tensors fits this model.")
    return matching


def unfused_tensors(tensors: Mapping[str, Tensor], eps: float) -> dict[str, Tensor]:
    """The state dict of a fused model (`SatForObjectDetection.fuse`) with batch norms again, which only add a bias.

    Args:
        tensors: Of the fused model.
        eps: `SatConfig.batch_norm_eps`.
    """
    unfused = dict(tensors)
    for name in tensors:
        if name.endswith(".convolution.bias"):
            norm, bias = name.removesuffix("convolution.bias") + "normalization.", unfused.pop(name)
            unfused |= {
                norm + "weight": torch.full_like(bias, (1 + eps) ** 0.5),
                norm + "bias": bias,
                norm + "running_mean": torch.zeros_like(bias),
                norm + "running_var": torch.ones_like(bias),
                norm + "num_batches_tracked": torch.tensor(0),
            }
    return unfused


@torch.no_grad()
def recalibrate_batchnorm(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Measure the statistics of every batch norm, without changing the model's function in evaluation mode.

    Weights that come from a runtime have their batch norms folded into the convolutions: their running mean is 0 and
    their variance 1, whatever the data. In training mode such a network would compute something else. Here the mean m
    and the variance v of each norm's input are measured, and with the old ones m0, v0 and
    r = sqrt((v + eps) / (v0 + eps))::

        weight' = weight r,    bias' = bias + weight (m - m0) / sqrt(v0 + eps)

    Args:
        model: Changed in place; its mode (train, eval) is restored.
        batches: `pixel_values`; a few hundred images as training shows them.

    Returns:
        The number of batch norms changed.

    Raises:
        StmineError: No batch.
    """
    norms: list[Any] = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    sums: dict[nn.Module, list[Tensor]] = {norm: [torch.zeros(1), torch.zeros(1)] for norm in norms}

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # As training does: the mean over batches of each batch's mean and unbiased variance.
        variance, mean = torch.var_mean(inputs[0].double(), dim=(0, 2, 3))
        sums[norm] = [total + value for total, value in zip(sums[norm], (mean, variance), strict=True)]

    count, was_training = 0, model.training
    model.eval()
    with ExitStack() as stack:
        for norm in norms:
            stack.callback(norm.register_forward_pre_hook(measure).remove)
        for pixel_values in batches:
            model(pixel_values)
            count += 1
    model.train(was_training)
    if not count:
        raise StmineError("No batch to measure the statistics of batch norms on.")
    for norm in norms:
        mean, variance = (total / count for total in sums[norm])
        spread = (norm.running_var.double() + norm.eps).sqrt()
        weight = norm.weight.double()
        norm.bias.copy_(norm.bias.double() + weight * (mean - norm.running_mean.double()) / spread)
        norm.weight.copy_(weight * (variance + norm.eps).sqrt() / spread)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    return len(norms)


def first_batches(
    samples: torch.utils.data.Dataset,
    collator: Callable[[list[Any]], dict[str, Any]],
    count: int,
    batch_size: int,
    seed: int = 0,
) -> Iterator[Tensor]:
    """`pixel_values` of `count` batches at most, each image once, the same in every process."""
    loader = torch.utils.data.DataLoader(
        samples,
        batch_size=batch_size,
        shuffle=None if isinstance(samples, Streamed) else True,
        generator=torch.Generator().manual_seed(seed),
        collate_fn=collator,
    )
    for batch in itertools.islice(loader, count):
        yield batch["pixel_values"]


def _read(source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config, weights = read_config(source), Path(cached_file(source, "model.safetensors"))
        require_bounded_header(weights)
        return config, load_file(weights)
    except (OSError, ValueError, SafetensorError, StmineError) as error:
        raise StmineError(
            f"{source}: no weights to start from. Expected a folder or a Hub id with config.json and "
            f"model.safetensors ({str(error).strip().splitlines()[0]})."
        ) from error


def _box_rows(config: Any, found: Tensor, classes: dict[str, int]) -> bool:
    """Whether the rows of a last convolution after its classes are as many as this configuration has for boxes."""
    return len(found) - len(classes) == 4 * (config.reg_max + 1)


def _by_module(names: list[str]) -> str:
    """`sat.neck.attention (18), head.0.tower (6)`: tensors counted by the first three parts of their names."""
    counted = Counter(".".join(name.split(".")[:3]) for name in names)
    shown = [f"{module} ({number})" for module, number in counted.items()]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")

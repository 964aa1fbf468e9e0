"""Cut a trained SAT model down to a smaller configuration so that it keeps most of its accuracy before any training.

What is cut: the stem's filters, the channels inside the backbone's blocks and those of the head's layers
(`SatConfig.stem_channels`, `middle_channels`, `head_channels`). In the end 1x1 convolutions alone read them, which
is why little accuracy is lost: those that stay replace a removed channel as well as a linear map can. A block
may also become wider inside, to a width that runs faster: its new channels have random weights, and their outputs are
initially ignored.

For a 1x1 convolution with inputs x (1 appended, for the bias) and outputs y, everything needed is in two matrices of
second moments over real images, `G = E[x xᵀ]` and `C = E[x yᵀ]`:

* *which channels go*: one by one the channel i with the least `|w_i|² / [G⁻¹]_ii`, the squared error that its removal
  adds when the others are refitted (optimal brain surgeon, Hassibi and Stork, 1993), w being `G⁻¹ C`;
* *what the others become*: `G⁻¹ C` over those that stay. Here x comes from the model being cut and y from the parent,
  layer after layer in the order of execution, so that each layer also compensates for earlier losses.

No labels are needed and a few dozen images are enough. Then comes distillation (`distillation_sat`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...errors import StmineError
from ...modeling.sat.configuration_sat import SatConfig
from ...modeling.sat.modeling_sat import SatBackbone, SatConvLayer, SatForObjectDetection, SatShuffleBlock
from .warm_start import unfused_tensors

RIDGE = 1e-3  # of the mean power of the inputs: regularises what the images do not determine
# Fields in which the two configurations may differ.
TRIMMED = ("stem_channels", "middle_channels", "head_channels")
_BATCH = 16


def trim(parent: SatForObjectDetection, config: SatConfig, pixel_values: Tensor) -> SatForObjectDetection:
    """A model of `config` that computes nearly what `parent` does.

    Args:
        parent: fused and in evaluation mode (`parent.eval().fuse()`).
        config: `fused`, and like the parent's in all but `stem_channels`, `middle_channels` and `head_channels`.
        pixel_values (`Tensor` of shape `(n, 3, H, W)`): images as the model sees them; 48 of 256 x 256 are enough.

    Returns:
        The trimmed model, fused, in evaluation mode.

    Raises:
        StmineError: a model with batch norms of its own, or a configuration that differs in more.
    """
    _check(parent.config, config)
    trimmed = SatForObjectDetection(config).eval().to(memory_format=torch.channels_last)
    whole, small = parent.sat.backbone, trimmed.sat.backbone
    pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
    cut = _Cut(parent, trimmed, pixel_values)

    first = whole.stages[0][0]
    seen = [cut.moments(reader.convolution) for reader in (first.branch[0], first.shortcut[1])]
    stem = eliminate(seen, config.stem_channels)
    _take(whole.stem, small.stem, outputs=stem)
    for old, new in zip(_blocks(whole), _blocks(small), strict=True):
        inputs = stem if old is first else None
        if old.shortcut is not None:
            _take(old.shortcut[0], new.shortcut[0], outputs=inputs)
            _take(old.shortcut[1], new.shortcut[1], inputs=inputs)
            cut.refit(old.shortcut[1].convolution, new.shortcut[1].convolution)
        kept = cut.best_inputs(old.branch[2].convolution, new.branch[2].convolution.in_channels)
        _take(old.branch[0], new.branch[0], outputs=kept, inputs=inputs)
        _take(old.branch[1], new.branch[1], outputs=kept)
        _take(old.branch[2], new.branch[2], inputs=kept)
        cut.refit(old.branch[0].convolution, new.branch[0].convolution, outputs=kept)
        cut.refit(old.branch[2].convolution, new.branch[2].convolution)
    trimmed.sat.neck.load_state_dict(parent.sat.neck.state_dict())
    for old, new in zip(parent.sat.neck.laterals, trimmed.sat.neck.laterals, strict=True):
        cut.refit(old, new)
    for old_level, new_level in zip(parent.head, trimmed.head, strict=True):
        inputs = None
        for number in range(0, len(old_level.tower), 2):  # depthwise, then 1x1
            depthwise, pointwise = number, number + 1
            last = pointwise + 1 == len(old_level.tower)
            reader = old_level.predictor if last else old_level.tower[pointwise + 2].convolution
            kept = cut.best_inputs(reader, new_level.tower[pointwise].convolution.out_channels)
            _take(old_level.tower[depthwise], new_level.tower[depthwise], outputs=inputs)
            _take(old_level.tower[pointwise], new_level.tower[pointwise], outputs=kept, inputs=inputs)
            old_layer, new_layer = (x.tower[pointwise].convolution for x in (old_level, new_level))
            cut.refit(old_layer, new_layer, outputs=kept)
            inputs = kept
        new_level.predictor.load_state_dict(
            {"weight": old_level.predictor.weight[:, inputs], "bias": old_level.predictor.bias}
        )
        cut.refit(old_level.predictor, new_level.predictor)
    return trimmed


@torch.no_grad()
def unfuse(model: SatForObjectDetection) -> SatForObjectDetection:
    """A copy of a fused model that has batch norms again, and computes the same.

    The biases go back into the norms. Their running statistics are 0 and 1, which no image gives: let
    `warm_start.recalibrate_batchnorm` measure them before training in training mode.

    Args:
        model: fused.
    """
    config = copy.deepcopy(model.config)
    config.fused = False
    whole = SatForObjectDetection(config).eval()
    whole.load_state_dict(unfused_tensors(model.state_dict(), config.batch_norm_eps))
    return whole


def second_moments(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The two matrices from which a 1x1 convolution is refitted.

    Args:
        inputs (`Tensor` of shape `(B, C, H, W)`).
        outputs (`Tensor` of shape `(B, O, H, W)`).

    Returns:
        gram (C + 1, C + 1) of the inputs with 1 appended, and cross (C + 1, O), means over positions, float64.
    """
    x, y = (maps.transpose(0, 1).flatten(1).double() for maps in (inputs, outputs))
    x = torch.cat([x, x.new_ones(1, x.shape[1])])
    return x @ x.T / x.shape[1], x @ y.T / x.shape[1]


def least_squares(
    gram: Tensor, cross: Tensor, kept: Sequence[int], prior: Tensor | None = None, ridge: float = RIDGE
) -> tuple[Tensor, Tensor]:
    """Weight and bias that give the outputs from the kept inputs with the least squared error.

    Args:
        gram: see [`second_moments`]; `cross` likewise.
        kept: numbers of the kept inputs.
        prior (`Tensor` of shape `(O, len(kept))`): weights to stay near where the images do not determine them;
            None: zero.
        ridge: how strongly, as a share of the inputs' mean power.

    Returns:
        weight (O, len(kept)), bias (O,): float64.
    """
    system, rows, strength = _system(gram, kept, ridge)
    wanted = cross[rows].clone()
    if prior is not None:
        wanted[:-1] += strength * prior.T.to(wanted)
    solution = torch.linalg.solve(system, wanted)
    return solution[:-1].T, solution[-1]


def eliminate(moments: Sequence[tuple[Tensor, Tensor]], keep: int, ridge: float = RIDGE) -> list[int]:
    """The inputs that are best kept, found by repeatedly removing the most replaceable one.

    Args:
        moments: gram and cross (see [`second_moments`]) of each layer that reads these inputs. What a removal adds to
            a layer's error counts as a share of the layer's output power.
        keep: how many stay.

    Returns:
        Their numbers, ascending.
    """
    alive = list(range(len(moments[0][0]) - 1))
    powers = [_explained(gram, cross, alive, ridge) for gram, cross in moments]
    while len(alive) > keep:
        added = torch.zeros(len(alive), dtype=moments[0][0].dtype)
        for (gram, cross), power in zip(moments, powers, strict=True):
            system, rows, _ = _system(gram, alive, ridge)
            inverse = torch.linalg.inv(system)
            weights = inverse @ cross[rows]
            added += (weights.pow(2).sum(dim=1) / inverse.diagonal())[:-1] / power
        alive.pop(int(added.argmin()))
    return alive


class _Reached(Exception):
    """The wanted layer has run; the layers after it need not."""


class _Cut:
    """The two models and the images on which their layers are compared."""

    def __init__(self, parent: SatForObjectDetection, trimmed: SatForObjectDetection, pixel_values: Tensor):
        self.parent, self.trimmed, self.pixel_values = parent, trimmed, pixel_values

    def best_inputs(self, layer: nn.Conv2d, count: int) -> list[int]:
        """Numbers of the parent's `layer`'s inputs to keep; all, if there are no more than `count`."""
        return eliminate([self.moments(layer)], count)

    def moments(self, layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
        """Of a layer of the parent."""
        return second_moments(*self._observe(self.parent, layer))

    @torch.no_grad()
    def refit(self, old: nn.Conv2d, new: nn.Conv2d, outputs: Sequence[int] | None = None) -> None:
        """Refit `new` to give, on its present inputs, the outputs that `old` gives on its own inputs."""
        _, wanted = self._observe(self.parent, old)
        found, _ = self._observe(self.trimmed, new)
        gram, cross = second_moments(found, wanted if outputs is None else wanted[:, list(outputs)])
        count = cross.shape[1]  # a widened layer has more outputs than the parent gives examples of
        prior = new.weight[:count].flatten(1)
        weight, bias = least_squares(gram, cross, range(new.in_channels), prior=prior)
        new.weight[:count] = weight.reshape(new.weight[:count].shape).to(new.weight)
        _bias(new)[:count] = bias.to(new.weight)

    @torch.no_grad()
    def _observe(self, model: SatForObjectDetection, layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
        """The inputs and outputs of a layer, for all images."""
        inputs, outputs = [], []

        def keep(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
            inputs.append(given[0].clone())
            outputs.append(result.clone())  # the activation after it works in place
            raise _Reached

        handle: RemovableHandle = layer.register_forward_hook(keep)
        try:
            for batch in self.pixel_values.split(_BATCH):
                with suppress(_Reached):
                    model(batch)
        finally:
            handle.remove()
        return torch.cat(inputs), torch.cat(outputs)


def _check(parent: SatConfig, config: SatConfig) -> None:
    if not (parent.fused and config.fused):
        raise StmineError("trim: both configurations have to be fused; call parent.eval().fuse() first.")
    names = [name for name in parent.to_dict() if name not in TRIMMED and hasattr(config, name)]
    if other := [name for name in names if getattr(parent, name) != getattr(config, name)]:
        raise StmineError(f"trim: only {', '.join(TRIMMED)} can be cut; {', '.join(other)} differ too.")
    old, new = ([c.stem_channels, *c.head_widths] for c in (parent, config))
    if any(after > before for before, after in zip(old, new, strict=True)):
        raise StmineError(f"trim: expected at most {old} channels (stem, then the head's layers), found {new}.")


def _blocks(backbone: SatBackbone) -> Iterator[SatShuffleBlock]:
    stage: Any
    for stage in backbone.stages:
        yield from stage


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None  # fused layers have one
    return layer.bias


@torch.no_grad()
def _take(
    old: SatConvLayer, new: SatConvLayer, outputs: Sequence[int] | None = None, inputs: Sequence[int] | None = None
) -> None:
    """Copy the weights of the given outputs and inputs; of all, where none are given. Others stay unchanged."""
    weight, bias = old.convolution.weight, _bias(old.convolution)
    if outputs is not None:
        weight, bias = weight[list(outputs)], bias[list(outputs)]
    if inputs is not None:
        weight = weight[:, list(inputs)]
    count, heard = weight.shape[:2]
    new.convolution.weight[:count, :heard] = weight
    new.convolution.weight[:count, heard:] = 0.0
    _bias(new.convolution)[:count] = bias


def _system(gram: Tensor, kept: Sequence[int], ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """The rows and columns of the kept inputs and of the 1, the ridge added; which rows; the ridge."""
    rows = torch.tensor([*kept, len(gram) - 1])
    system = gram[rows][:, rows].clone()
    strength = ridge * system.diagonal()[:-1].mean()
    system.diagonal()[:-1] += strength
    return system, rows, strength


def _explained(gram: Tensor, cross: Tensor, kept: Sequence[int], ridge: float) -> Tensor:
    """Power of the outputs, without their means, that the kept inputs explain."""
    system, rows, _ = _system(gram, kept, ridge)
    return (torch.linalg.solve(system, cross[rows]) * cross[rows]).sum() - cross[-1].pow(2).sum()

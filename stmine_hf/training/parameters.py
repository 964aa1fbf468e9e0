"""Which parameters train, at which rate and with which decay: plain functions over parameter names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import StmineError

# A transformer's layer, or a stage and a block in it, as transformers, timm and SAT name them.
_LAYER = re.compile(
    r"(?:\w+\.)*?(?:layers|layer|stages|blocks)\.\d+(?P<block>\.(?:(?:layers|layer|blocks)\.)?\d+)?(?=\.)"
)


def freeze_by_name(model: nn.Module, patterns: Iterable[str]) -> int:
    """Freeze every parameter whose name contains a match of one of the regular expressions.

    Returns:
        The number of tensors frozen.

    Raises:
        StmineError: A pattern matches no name, which usually is a misspelling.
    """
    frozen = set()
    for pattern in patterns:
        found = [name for name, _ in model.named_parameters() if re.search(pattern, name)]
        if not found:
            names = [name for name, _ in model.named_parameters()]
            raise StmineError(f"freeze: no parameter's name contains {pattern!r}; names look like {names[0]!r}.")
        frozen.update(found)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return len(frozen)


def freeze_batchnorm(model: nn.Module) -> list[nn.Module]:
    """Freeze the scales and shifts of batch norms; the caller keeps the returned modules in eval mode."""
    norms: list[nn.Module] = [
        module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    for norm in norms:
        norm.requires_grad_(False)
    return norms


def train_only(model: nn.Module, parts: Mapping[str, Sequence[str]], wanted: Iterable[str]) -> list[nn.Module]:
    """Freeze everything outside the wanted parts.

    Args:
        parts: Name of a part to the prefixes of its parameters; "head" stands for all other parameters.
        wanted: Names of parts.

    Returns:
        The batch norms outside the wanted parts; the caller keeps them in eval mode, so that their statistics do not
        change.

    Raises:
        StmineError: There is no such part, or no parameter in the wanted parts can be trained.
    """
    known, wanted = [*parts, "head"], list(wanted)
    if unknown := [name for name in wanted if name not in known]:
        raise StmineError(f"train_only: this model has no part {unknown[0]!r}; its parts are {', '.join(known)}.")

    def part_of(name: str) -> str:
        return next((part for part, prefixes in parts.items() if name.startswith(tuple(prefixes))), "head")

    for name, parameter in model.named_parameters():
        if part_of(name) not in wanted:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise StmineError(f"train_only: nothing in {', '.join(wanted)} can be trained; other settings freeze it, too.")
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and part_of(name) not in wanted
    ]


def layer_multipliers(model: nn.Module, part: str, decay: float, top: float = 1.0) -> dict[str, float]:
    """Learning rates that fall from an encoder's last layer to its first, as multipliers for `parameter_groups`.

    A layer is a block of a stage where there are stages (Swin, ResNet, ShuffleNet), else a layer of the transformer.
    Parameters before the first layer (embeddings, a stem) count as a layer below it; those after the last layer have
    its rate; those between two blocks have the rate of the preceding block.

    Args:
        part: Prefix of the encoder's parameters; if no parameter has it, the result is empty.
        decay: Ratio of the rate of a layer to that of the layer above it.
        top: Multiplier of the last layer.

    Returns:
        Mapping of parameter names to multipliers.

    Example: of two layers with a decay of 0.5 the upper has 1 and the lower 0.5, the embeddings below them 0.25.
    """
    names = [name for name, _ in model.named_parameters() if name.startswith(part)]
    matches = [_LAYER.match(name, len(part)) for name in names]
    staged = any(match and match["block"] for match in matches)
    level, levels, layers = 0, {}, dict[str, int]()
    for name, match in zip(names, matches, strict=True):
        if match and (match["block"] or not staged):
            level = layers.setdefault(match[0], len(layers) + 1)
        levels[name] = level
    return {name: top * decay ** (len(layers) - level) for name, level in levels.items()}


def undecayed_names(model: nn.Module) -> set[str]:
    """Parameters without weight decay: "bias" in the name, or the scale of a layer norm.

    The released rule, which matches names (`bias`, `LayerNorm.weight`, `norm{,1,2}.weight`), expressed in terms
    of modules. As in that rule, Swin's relative position bias tables are not decayed; temperatures and the scales of
    batch norms are.
    """
    names = {name for name, _ in model.named_parameters() if "bias" in name}
    for prefix, module in model.named_modules():
        if isinstance(module, nn.LayerNorm):
            names.add(f"{prefix}.weight")
    return names


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, multipliers: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Optimizer groups over the trained parameters: decayed and not, for each learning rate.

    Args:
        learning_rate: Rate of a parameter whose multiplier is 1.
        weight_decay: Decay of the decayed parameters.
        multipliers: Mapping of name prefixes to multipliers; "" stands for all other parameters.

    Returns:
        Groups with `params`, `names`, `lr` and `weight_decay`; parameters of equal rate and decay share a group.
    """
    undecayed = undecayed_names(model)
    prefixes = sorted(multipliers, key=len, reverse=True)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = learning_rate * next(multipliers[prefix] for prefix in prefixes if name.startswith(prefix))
        decay = 0.0 if name in undecayed else weight_decay
        group = groups.setdefault((rate, decay), {"params": [], "names": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())

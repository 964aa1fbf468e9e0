"""Which parameters train, at which rate and with which decay: plain functions over parameter names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from ..errors import StmineError


def freeze_by_name(model: nn.Module, patterns: Iterable[str]) -> int:
    """Stop training every parameter in whose name one of the regular expressions is found.

    Returns:
        The number of tensors frozen.

    Raises:
        StmineError: A pattern that finds nothing, so that a misspelt one does not pass unnoticed.
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
    """Stop training batch norms' scales and shifts; the caller keeps the returned modules in eval mode."""
    norms: list[nn.Module] = [
        module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    for norm in norms:
        norm.requires_grad_(False)
    return norms


def undecayed_names(model: nn.Module) -> set[str]:
    """Parameters without weight decay: "bias" in the name, or the scale of a layer norm.

    The released rule, which matches names (`bias`, `LayerNorm.weight`, `norm{,1,2}.weight`), said in terms of the
    modules. As there, Swin's relative position bias tables are not decayed; temperatures and batch norms' scales are.
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
        multipliers: Name prefix to multiplier; "" is the rest.

    Returns:
        Groups with `params`, `names`, `lr` and `weight_decay`; those of equal rate and decay are one.
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

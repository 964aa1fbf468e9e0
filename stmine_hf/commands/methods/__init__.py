"""Commands of a method: one file each, named as the method."""

from __future__ import annotations

from importlib import import_module

from ...methods import METHODS

# `evaluate` and `convert` with the method's own options, and `EVALUATE_EXAMPLES` and `CONVERT_EXAMPLES` for their help
COMMANDS = {name: import_module(f"{__name__}.{name}") for name in METHODS}

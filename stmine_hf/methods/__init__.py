"""The methods: one record each, with all that the rest of the library knows about it.

All other modules look methods up here, so a new method is a folder in `modeling/`, a file here, and its training
parts. Importing the records is cheap: what they name is imported at first use.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import StmineError
from .fisvl import FISVL
from .mttv import MTTV
from .record import AdapterTargets, Method, load_named
from .sat import SAT

METHODS: dict[str, Method] = {method.name: method for method in (FISVL, MTTV, SAT)}

__all__ = ["FISVL", "METHODS", "MTTV", "SAT", "AdapterTargets", "Method", "by_auto_class", "get", "load_named"]


def get(name: str) -> Method:
    """The method with a name, which is the `model_type` of its models.

    Raises:
        StmineError: no such method.
    """
    if name not in METHODS:
        raise StmineError(f"{name!r}: no such method; expected one of {', '.join(METHODS)}.")
    return METHODS[name]


def by_auto_class(auto_class: str) -> Iterator[Method]:
    """The methods whose models an Auto class opens, such as "AutoModelForObjectDetection"."""
    return (method for method in METHODS.values() if auto_class in method.auto_models)

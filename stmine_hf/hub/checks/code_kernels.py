"""Settings by which transformers fetches kernels, which are programs, from the Hub."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

_NAMES = re.compile(
    r"\w*(attn|experts)_implementation(_internal)?|_compatible_flash_implementations|allow_all_kernels|use_kernels"
    r"|kernel_config"
)
HARMLESS = (None, False, "eager", "sdpa")  # every other value may be a kernel's name


def asks_for_kernels(name: object) -> bool:
    """Whether transformers reads the name of a kernel from a setting of this name.

    Example:
        >>> asks_for_kernels("_attn_implementation"), asks_for_kernels("kernel_size")
        (True, False)
    """
    return isinstance(name, str) and bool(_NAMES.fullmatch(name))


def kernel_faults(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines and faults of what gives such a setting another value than a harmless one that is written out.

    To read one, also by `getattr`, is no fault.
    """
    allowed = set[int]()  # names that stand where nothing but a harmless value is assigned, or where one is read
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_harmless(node.value):
            allowed.update(map(id, node.targets))
        elif isinstance(node, ast.AnnAssign) and (node.value is None or _is_harmless(node.value)):
            allowed.add(id(node.target))
        elif isinstance(node, ast.Expr):
            allowed.add(id(node.value))  # a docstring
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            allowed.update(map(id, node.args[1:2]))
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            places = [*node.posonlyargs, *node.args]
            given = [*zip(places[len(places) - len(node.defaults) :], node.defaults, strict=True)]
            for argument, default in [*given, *zip(node.kwonlyargs, node.kw_defaults, strict=True)]:
                if asks_for_kernels(argument.arg) and default is not None and not _is_harmless(default):
                    yield argument.lineno, _sets(argument.arg, ast.unparse(default))
        else:
            yield from ((getattr(node, "lineno", 0), fault) for fault in _faults(node, allowed))


def _is_harmless(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and (value.value is None or value.value in HARMLESS[1:])


def _faults(node: ast.AST, allowed: set[int]) -> Iterator[str]:
    if isinstance(node, ast.keyword):
        if asks_for_kernels(node.arg) and not _is_harmless(node.value):
            yield _sets(str(node.arg), ast.unparse(node.value))
    elif isinstance(node, ast.Constant):
        if asks_for_kernels(node.value) and id(node) not in allowed:
            yield f"has the string {node.value!r}, a setting by which kernels of the Hub are fetched"
    elif isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if asks_for_kernels(name) and not isinstance(node.ctx, ast.Load) and id(node) not in allowed:
            yield _sets(name, "a value that is not written out")
    else:  # functions, classes, imports, patterns and caught errors bind names as well
        for field in ("name", "asname", "rest"):
            if asks_for_kernels(bound := getattr(node, field, None)):
                yield _sets(str(bound), "what is defined or bound by this name")


def _sets(name: str, value: str) -> str:
    return f"sets {name} to {value[:60]}, which may be a kernel of the Hub; expected None, 'eager' or 'sdpa'"

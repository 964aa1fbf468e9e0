"""Settings by which transformers fetches kernels, which are programs, from the Hub."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .code_texts import Texts

_NAMES = re.compile(
    r"\w*(attn|experts)_implementation(_internal)?|_compatible_flash_implementations|allow_all_kernels|use_kernels"
    r"|kernel_config"
)
_SETTINGS = (
    *("_attn_implementation", "attn_implementation", "_experts_implementation", "experts_implementation"),
    *("_attn_implementation_internal", "_experts_implementation_internal", "_compatible_flash_implementations"),
    *("allow_all_kernels", "use_kernels", "kernel_config"),
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
    yield from _built_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            places = [*node.posonlyargs, *node.args]
            given = [*zip(places[len(places) - len(node.defaults) :], node.defaults, strict=True)]
            for argument, default in [*given, *zip(node.kwonlyargs, node.kw_defaults, strict=True)]:
                if asks_for_kernels(argument.arg) and default is not None and not _is_harmless(default):
                    yield argument.lineno, _sets(argument.arg, ast.unparse(default))
        else:
            yield from ((getattr(node, "lineno", 0), fault) for fault in _faults(node, allowed))


def _built_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names of such settings that are put together of pieces, and options of calls whose names nobody can tell."""
    texts = Texts(tree)
    unpacked = {
        one.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for one in node.keywords
        if one.arg is None and isinstance(one.value, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.JoinedStr | ast.Call | ast.Subscript):
            for text in sorted(filter(asks_for_kernels, texts.of(node))):
                yield node.lineno, f"builds the string {text!r}, a setting by which kernels of the Hub are fetched"
        keys: list[ast.expr | None] = []
        if isinstance(node, ast.keyword) and node.arg is None and isinstance(node.value, ast.Dict):
            keys = [*node.value.keys]
        elif isinstance(node, ast.keyword) and node.arg is None and isinstance(node.value, ast.DictComp):
            keys = [node.value.key]
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _names_one(node.value, unpacked):
            keys = [node.slice]
        elif isinstance(node, ast.Assign) and any(_names_one(target, unpacked) for target in node.targets):
            keys = [*node.value.keys] if isinstance(node.value, ast.Dict) else []
        for key in keys:
            if key is not None and _is_built(key) and not texts.of(key):
                yield (
                    key.lineno,
                    f"passes an option named {ast.unparse(key)[:60]}, which may fetch kernels of the Hub; expected a "
                    "name that is written out",
                )


def _is_built(key: ast.expr) -> bool:
    """Whether a key is computed, and what is written out of it leaves open that it is such a setting."""
    if isinstance(key, ast.JoinedStr):
        ends = [part.value if isinstance(part, ast.Constant) else "" for part in (key.values[0], key.values[-1])]
        return any(name.startswith(str(ends[0])) and name.endswith(str(ends[1])) for name in _SETTINGS)
    return isinstance(key, ast.BinOp | ast.Call | ast.Subscript)


def _names_one(node: ast.expr, names: set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


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

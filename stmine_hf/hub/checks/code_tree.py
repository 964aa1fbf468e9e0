"""A code file as a syntax tree, and the names in it."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

_REGISTERS = {"register_buffer", "register_parameter", "add_module", "register_module"}
_LARGEST = 1_000_000  # bytes of a code file


def parsed(file: Path) -> ast.Module | str:
    """The tree of a file, or why it has none."""
    data = file.read_bytes()
    if len(data) > _LARGEST:
        return f"has more than {_LARGEST:,} bytes"
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        if encoding not in ("utf-8", "utf-8-sig"):  # another decoder may read other code
            return f"is no Python in UTF-8 but declares {encoding}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings
            return ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"is no Python ({error})"


def absolute_imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Modules imported by name, at the top and inside functions, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module, node.lineno


def class_names(file: Path) -> set[str]:
    """Classes that a file defines at its top; none where there is no such file."""
    tree = parsed(file) if file.is_file() else ""
    parts = tree.body if isinstance(tree, ast.Module) else []
    return {node.name for node in parts if isinstance(node, ast.ClassDef)}


def defined_names(file: Path) -> set[str]:
    """Names that a file defines at its top, not those that it imports."""
    tree = parsed(file)
    names: set[str] = set()
    for node in tree.body if isinstance(tree, ast.Module) else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def own_names(tree: ast.Module) -> set[str]:
    """Names of attributes that a file itself gives to its objects: methods, fields, `self.name = ...`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                names.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _REGISTERS:
            first = node.args[0] if node.args else None
            names |= {first.value} if isinstance(first, ast.Constant) and isinstance(first.value, str) else set()
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", None)]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("__")}


def bound_names(tree: ast.Module) -> set[str]:
    """Names that a file binds, except by imports of other packages."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
        elif isinstance(node, ast.ImportFrom) and node.level:
            names |= {alias.asname or alias.name for alias in node.names}
    return names

"""Annotations are code: `typing.get_type_hints`, which transformers calls, evaluates the texts that they come to."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from .code_tree import parsed


def annotations_in(tree: ast.Module) -> Iterator[ast.expr]:
    """The annotations of variables, arguments and results."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if isinstance(one := getattr(node, name, None), ast.expr):
                yield one


def annotation_faults(tree: ast.Module, folder: Path) -> Iterator[tuple[int, str]]:
    """Annotations that are more than names of types, with their lines.

    Args:
        tree: of a code file.
        folder: of the file.
    """
    aliases, unsure = _aliases(tree), _unsure_names(tree, folder, {})
    for one in annotations_in(tree):
        if (part := _no_type(one, aliases, unsure)) is not None:
            yield one.lineno, f"has an annotation that is more than a type: {ast.unparse(part)[:60]}"


def _no_type(node: ast.expr, aliases: Mapping[str, set[str]], unsure: Set[str]) -> ast.expr | None:
    """The first part of an expression that does not name a type, None if there is none."""
    if isinstance(node, ast.Name):
        return node if node.id in unsure else None
    if isinstance(node, ast.Attribute):
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            base = base.value
        return None if isinstance(base, ast.Name) and base.id in aliases and base.id not in unsure else node
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, str):
            return None
        try:
            inner = ast.parse(node.value.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None  # a word for people
        return None if isinstance(inner, ast.Constant) else _no_type(inner, aliases, unsure)
    if isinstance(node, ast.Subscript):
        parts = [node.value] if _is_literal(node.value, aliases) else [node.value, node.slice]
    elif isinstance(node, ast.Tuple | ast.List):
        parts = node.elts
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        return None
    elif isinstance(node, ast.Starred):
        parts = [node.value]
    else:
        return node
    return next((found for part in parts if (found := _no_type(part, aliases, unsure)) is not None), None)


def _is_literal(node: ast.expr, aliases: Mapping[str, set[str]]) -> bool:
    """Whether an expression is `typing.Literal`, of whose values none is evaluated."""
    base, name = (node.value, f".{node.attr}") if isinstance(node, ast.Attribute) else (node, "")
    known = aliases.get(base.id, set()) if isinstance(base, ast.Name) else set()
    return {f"{path}{name}" for path in known} == {"typing.Literal"}


def _aliases(tree: ast.Module) -> dict[str, set[str]]:
    """What a file's imports of other packages bind, with the dotted names that these stand for."""
    aliases: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                aliases.setdefault(one.asname or one.name.partition(".")[0], set()).add(one.name)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for one in node.names:
                aliases.setdefault(one.asname or one.name, set()).add(f"{node.module}.{one.name}")
    return aliases


def _unsure_names(tree: ast.Module, folder: Path, known: dict[Path, set[str]]) -> set[str]:
    """Names of a file that may stand for a text: all that it binds, but for imports, classes, functions and types.

    Args:
        known: the answers for files beside it, to which these are added.
    """
    aliases = _aliases(tree)
    unsure, values = set[str](), dict[str, list[ast.expr]]()
    plain = set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    values.setdefault(target.id, []).append(node.value)
                    plain.add(id(target))
        elif isinstance(node, ast.AnnAssign):
            plain.add(id(node.target))
        elif isinstance(node, ast.arg):
            unsure.add(node.arg)
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            unsure.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            unsure.add(node.rest)
        elif isinstance(node, ast.ImportFrom) and node.level:
            sibling = folder / f"{node.module}.py"
            if sibling not in known:
                known[sibling] = set()  # of files that import each other
                beside = parsed(sibling) if sibling.is_file() else ""
                if isinstance(beside, ast.Module):
                    known[sibling] = _unsure_names(beside, folder, known)
            unsure |= {one.asname or one.name for one in node.names if one.name in known[sibling]}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) and id(node) not in plain:
            unsure.add(node.id)
    while True:  # a name may stand for another
        found = {
            name
            for name, ones in values.items()
            if name not in unsure and not all(_type_alias(one, aliases, unsure) for one in ones)
        }
        if not found:
            return unsure
        unsure |= found


def _type_alias(value: ast.expr, aliases: Mapping[str, set[str]], unsure: Set[str]) -> bool:
    """Whether a value is a type, or a variable for one."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name | ast.Attribute):
        return ast.unparse(value.func).rpartition(".")[2] in ("TypeVar", "ParamSpec", "NewType")
    return _no_type(value, aliases, unsure) is None

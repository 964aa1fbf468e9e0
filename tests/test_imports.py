"""How the package is built: imports run down or sideways, files form no circle, only records branch by method."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from documents import ROOT

import stmine_hf
from stmine_hf.methods import METHODS

PACKAGE = "stmine_hf"
# From the bottom up. A file or folder of the package imports from its own floor and from those before it.
FLOORS = (
    (
        "errors",
        "lazy",
        "fonts",
        "files",
        "documents",
        "geojson",
        "images",
        "outputs",
        "printing",
        "checkpoints",
        "modeling",
    ),
    ("model_identity",),
    ("methods",),
    ("loading",),
    ("conversion", "data"),
    ("metrics",),
    ("inference",),
    ("search",),
    ("explain",),
    ("posts", "detect"),
    ("evaluation",),
    ("export",),
    ("cards",),
    ("training",),
    ("hub",),
    ("serve", "demo"),
    ("commands",),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# What is left of imports that run up, and of circles between files: shorten these lists, add nothing to them.
UPWARD_LEFT: set[tuple[str, str]] = set()
CIRCLES_LEFT: set[frozenset[str]] = set()
NAMED_LEFT: set[str] = set()


@dataclass(frozen=True)
class Import:
    """One import of a file of the package by another."""

    by: str
    of: str
    line: int
    for_types: bool


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "modeling":
        parts.insert(0, PACKAGE)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources() -> dict[str, Path]:
    files = [*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "modeling").rglob("*.py")]
    return {module_name(path): path for path in files}


def is_for_types(node: ast.If) -> bool:
    return "TYPE_CHECKING" in ast.unparse(node.test)


def import_nodes(tree: ast.AST, for_types: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, for_types
        elif isinstance(node, ast.If) and is_for_types(node):
            for part in node.body:
                yield from import_nodes(ast.Module([part], []), True)
            for part in node.orelse:
                yield from import_nodes(ast.Module([part], []), for_types)
        else:
            yield from import_nodes(node, for_types)


def public_home(name: str) -> str | None:
    """The module that a name of the package itself comes from."""
    homes = {own: path for method in METHODS.values() for own, path in method.public_names()} | stmine_hf._TASKS
    return f"{PACKAGE}.{homes[name].partition(':')[0]}" if name in homes else None


def imported(node: ast.stmt, module: str) -> Iterator[str]:
    """The files of the package that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in sources())
        return
    assert isinstance(node, ast.ImportFrom)
    start = node.module or ""
    if node.level:
        package = module if sources()[module].name == "__init__.py" else module.rpartition(".")[0]
        base = package.split(".")[: len(package.split(".")) - node.level + 1]
        start = ".".join([*base, *([node.module] if node.module else [])])
    for alias in node.names:
        if f"{start}.{alias.name}" in sources():
            yield f"{start}.{alias.name}"
        elif start == PACKAGE:
            if home := public_home(alias.name):
                yield home
        elif start in sources():
            yield start


@cache
def imports() -> list[Import]:
    found = []
    for module, path in sources().items():
        for node, for_types in import_nodes(ast.parse(path.read_text(encoding="utf-8"))):
            found += [Import(module, other, node.lineno, for_types) for other in imported(node, module)]
    return [item for item in found if item.by != item.of]


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def upward() -> list[Import]:
    """Imports of a higher floor. The package's own `__init__` is its front door, and may name everything."""
    return [
        item
        for item in imports()
        if room(item.by) and room(item.of) and FLOOR_OF[room(item.of)] > FLOOR_OF[room(item.by)]
    ]


def circles() -> list[frozenset[str]]:
    """Sets of files that import each other, by Tarjan's algorithm; imports for type checkers alone do not count."""
    graph: dict[str, set[str]] = {module: set() for module in sources()}
    for item in imports():
        if not item.for_types:
            graph[item.by].add(item.of)
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], index[other])
        if lowest[module] == index[module]:
            members = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(members) > 1:
                found.append(frozenset(members))

    for module in graph:
        if module not in index:
            visit(module)
    return found


def is_own(path: Path, method: str) -> bool:
    """Whether a file is about one method: in a folder of its name, or with its name as a part of the file's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] == "methods" or method in parts or method in parts[-1].split("_")


def named_methods(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that branch by a method's name, or look something up by several, where only records may."""
    names = {name for name in METHODS if not is_own(path, name)}

    def texts(node: ast.AST | None) -> set[str]:
        constants = [node] if isinstance(node, ast.Constant) else getattr(node, "elts", [])
        return {item.value for item in constants if isinstance(item, ast.Constant)} & names  # type: ignore[misc]

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found: set[str] = set()
        if isinstance(node, ast.Compare):
            found = set().union(*(texts(part) for part in (node.left, *node.comparators)))
        elif isinstance(node, ast.MatchValue):
            found = texts(node.value)
        elif isinstance(node, ast.Dict):
            keys = set().union(*(texts(key) for key in node.keys))
            found = keys if len(keys) > 1 else set()
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            found = texts(node) if len(texts(node)) > 1 else set()
        if found:
            yield node.lineno, ", ".join(sorted(found))


def test_every_room_has_a_floor():
    assert {room(module) for module in sources()} - {""} <= FLOOR_OF.keys()


def test_imports_run_down_or_sideways():
    found = {(item.by, item.of) for item in upward()}
    new = [f"{item.by}:{item.line} imports {item.of}" for item in upward() if (item.by, item.of) not in UPWARD_LEFT]
    assert not new, "\n".join(new)
    assert found >= UPWARD_LEFT, f"gone, take it off the list: {UPWARD_LEFT - found}"


def test_files_form_no_circle():
    found = set(circles())
    assert not found - CIRCLES_LEFT, [sorted(circle) for circle in found - CIRCLES_LEFT]
    assert found >= CIRCLES_LEFT, f"gone, take it off the list: {CIRCLES_LEFT - found}"


def test_only_records_and_a_methods_own_files_branch_by_its_name():
    found = {module: list(named_methods(path)) for module, path in sources().items()}
    found = {module: lines for module, lines in found.items() if lines}
    assert not found.keys() - NAMED_LEFT, {module: found[module] for module in found.keys() - NAMED_LEFT}
    assert found.keys() >= NAMED_LEFT, f"gone, take it off the list: {NAMED_LEFT - found.keys()}"


@pytest.mark.parametrize(
    "code, expected",
    [
        ('if method == "sat":\n    pass', True),
        ('if method in ("sat", "x"):\n    pass', True),
        ('x = {"sat": 1, "mttv": 2}', True),
        ('x = ["sat", "mttv"]', True),
        ('match method:\n    case "sat":\n        pass', True),
        ('x = {"sat": 1}', False),
        ('run("sat")', False),
    ],
)
def test_a_branch_by_name_is_seen(code, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("test_imports.ROOT" if __name__ == "test_imports" else f"{__name__}.ROOT", tmp_path)
    path = tmp_path / PACKAGE / "search" / "index.py"
    path.parent.mkdir(parents=True)
    path.write_text(code)
    assert bool(list(named_methods(path))) == expected

"""Code: it imports what a published model may need and nothing else, and does nothing that needs trust beyond that."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ...cards.files import files_in
from ...documents import read_json
from .findings import Finding, judged

ALLOWED = {"torch", "torchvision", "transformers", "timm", "PIL", "numpy", "safetensors"}
# Of the standard library: what talks to the network, starts programs, or loads and runs what it is given.
_REFUSED = {
    "asyncio", "cffi", "code", "codeop", "ctypes", "dbm", "ftplib", "http", "imaplib", "importlib", "marshal",
    "multiprocessing", "pickle", "poplib", "pty", "runpy", "shelve", "smtplib", "socket", "socketserver", "ssl",
    "subprocess", "telnetlib", "urllib", "webbrowser", "xmlrpc",
}  # fmt: skip
_REFUSED_CALLS = {"exec", "eval", "compile", "__import__"}
_REFUSED_METHODS = {"os.system", "os.popen", "os.execv", "os.remove", "shutil.rmtree", "torch.load", "torch.hub.load"}


def check_model_code(folder: Path) -> Finding:
    """The code files of a model: imports, calls, and that all the configs name is there."""
    files = [name for name in files_in(folder) if name.endswith(".py")]
    faults = [f"{name}: only flat files reach `trust_remote_code`" for name in files if "/" in name]
    for name in files:
        faults += [f"{name}: {fault}" for fault in _faults(folder / name)]
    configs = [read_json(file) for file in sorted(folder.glob("*config.json"))]
    for entry, target in sorted({pair for config in configs for pair in _named_classes(config)}):
        repo, _, path = target.rpartition("--")
        module, _, cls = path.partition(".")
        if repo:
            faults.append(f"{entry} points to another repository's code ({repo}), which breaks forks and offline use")
        elif cls not in _classes(folder / f"{module}.py"):
            faults.append(f"{entry}: no class {cls} in {module}.py")
    size = sum((folder / name).stat().st_size for name in files)
    return judged("code", faults, f"{len(files)} files, {size:,} bytes; imports {', '.join(_imported(folder, files))}")


def check_app_code(folder: Path, requirements: set[str]) -> Finding:
    """The code of a Space or metric: it parses, and what it imports is installed there.

    Args:
        folder: the Space.
        requirements: names of the packages that its requirements name.
    """
    files = [name for name in files_in(folder) if name.endswith(".py")]
    own = {Path(name).parts[0].removesuffix(".py") for name in files}
    packages = {name for name in own if (folder / name / "__init__.py").is_file()}  # parts of them may stay unused
    faults = []
    for name in files:
        tree = _parsed(folder / name)
        if isinstance(tree, str):
            faults.append(f"{name}: {tree}")
            continue
        for module, place in _absolute(tree) if Path(name).parts[0] not in packages else ():
            root = module.partition(".")[0]
            if root not in own | {*sys.stdlib_module_names} and not _distributions(root) & requirements:
                faults.append(f"{name}, line {place}: {root} is not in requirements.txt")
    return judged("code", faults, f"{len(files)} files, whose imports requirements.txt covers")


def _named_classes(config: Any) -> Iterator[tuple[str, str]]:
    """What a config names in code files, such as ("AutoModel", "modeling_x.XModel"), at any depth."""
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if key == "auto_map":
            for entry, targets in value.items():
                many = targets.values() if isinstance(targets, dict) else targets
                yield from ((entry, str(one)) for one in ([many] if isinstance(many, str) else many) if one)
        elif key == "custom_pipelines":
            yield from ((f"pipeline {task}", entry["impl"]) for task, entry in value.items())
        else:
            yield from _named_classes(value)


def _faults(file: Path) -> Iterator[str]:
    tree = _parsed(file)
    if isinstance(tree, str):
        yield tree
        return
    for module, place in _absolute(tree):
        root = module.partition(".")[0]
        if root in _REFUSED or root not in ALLOWED | {*sys.stdlib_module_names}:
            yield f"line {place} imports {root}, which a published model has no need of"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level > 1 or not node.module or not (file.parent / f"{node.module}.py").is_file():
                yield f"line {node.lineno}: only `from .sibling import name` of a file beside it reaches the Hub"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in _REFUSED_CALLS | _REFUSED_METHODS:
                yield f"line {node.lineno} calls {called}()"


def _parsed(file: Path) -> ast.Module | str:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        return f"is no Python ({error})"


def _absolute(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Modules imported by name, at the top and inside functions, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module, node.lineno


def _imported(folder: Path, files: list[str]) -> list[str]:
    trees = (_parsed(folder / name) for name in files)
    roots = {module.partition(".")[0] for tree in trees if not isinstance(tree, str) for module, _ in _absolute(tree)}
    return sorted(roots & ALLOWED) or ["nothing"]


def _classes(file: Path) -> set[str]:
    tree = _parsed(file) if file.is_file() else ""
    parts = tree.body if isinstance(tree, ast.Module) else []
    return {node.name for node in parts if isinstance(node, ast.ClassDef)}


def _distributions(module: str) -> set[str]:
    """Names of the packages that an import may come from."""
    return {normalised(name) for name in (*_installed().get(module, ()), module)}


@cache
def _installed() -> Mapping[str, list[str]]:
    from importlib.metadata import packages_distributions

    return packages_distributions()


def normalised(package: str) -> str:
    """One spelling of a package's name, as pip compares them."""
    return re.sub(r"[-_.]+", "-", package).lower()

"""Code: it imports what a published model may need and nothing else, and does nothing else that would need trust."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ...cards.files import files_in
from ...documents import parse_json, read_json, read_text
from .allowed import PACKAGES
from .code_faults import code_faults
from .code_tree import absolute_imports, class_names, parsed
from .files import UNBOUNDED
from .findings import Finding, finding_of


def check_model_code(folder: Path) -> Finding:
    """The code files of a model: what they import, name and call, and that all the configs name is there."""
    files = [name for name in files_in(folder) if name.endswith(".py")]
    faults = [f"{name}: only flat files reach `trust_remote_code`" for name in files if "/" in name]
    own = _library_code(folder)
    for name in files:
        if (folder / name).read_bytes() != own.get(name):
            faults += [f"{name}: {fault}" for fault in code_faults(folder / name)]
    files_of_json = [file for file in sorted(folder.glob("*.json")) if file.name not in UNBOUNDED]
    configs = [parse_json(read_text(file), file.name) for file in files_of_json]
    for entry, target in sorted({pair for config in configs for pair in _named_classes(config)}):
        repo, _, path = target.rpartition("--")
        module, _, cls = path.partition(".")
        if repo:
            faults.append(f"{entry} points to another repository's code ({repo}), which breaks forks and offline use")
        elif not module.isidentifier() or cls not in class_names(folder / f"{module}.py"):
            faults.append(f"{entry}: no class {cls} in {module}.py")
    size = sum((folder / name).stat().st_size for name in files)
    return finding_of(
        "code", faults, f"{len(files)} files, {size:,} bytes; imports {', '.join(_imported(folder, files))}"
    )


def check_own_code(folder: Path) -> Finding | None:
    """A warning about code files that are not this package's, None if there are none.

    What is on no list is refused; yet Python has more ways to a call than lists can name, so a person has to read it.
    """
    known = _library_code(folder)
    files = [name for name in files_in(folder) if name.endswith(".py")]
    files = [name for name in files if (folder / name).read_bytes() != known.get(name)]
    if not files:
        return None
    return Finding("own code", "warning", f"not this package's: {', '.join(files)}. Read it before you publish it")


def _library_code(folder: Path) -> dict[str, bytes]:
    """This package's own code files for the model in a folder: equal files need no further check."""
    from ...methods import METHODS
    from ..model_files import code_files

    method = read_json(folder / "config.json").get("model_type")
    return {name: file.read_bytes() for name, file in code_files(method).items()} if method in METHODS else {}


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
        tree = parsed(folder / name)
        if isinstance(tree, str):
            faults.append(f"{name}: {tree}")
            continue
        for module, place in absolute_imports(tree) if Path(name).parts[0] not in packages else ():
            root = module.partition(".")[0]
            if root not in own | {*sys.stdlib_module_names} and not _distributions(root) & requirements:
                faults.append(f"{name}, line {place}: {root} is not in requirements.txt")
    return finding_of("code", faults, f"{len(files)} files, whose imports requirements.txt covers")


def _named_classes(config: Any) -> Iterator[tuple[str, str]]:
    """What a config names in code files, such as ("AutoModel", "modeling_x.XModel"), at any depth."""
    if isinstance(config, list):
        for value in config:
            yield from _named_classes(value)
    if not isinstance(config, dict):
        return
    for key, value in config.items():
        if key in ("auto_map", "custom_pipelines"):
            yield from ((f"{key} {entry}".removeprefix("auto_map "), target) for entry, target in _targets(value))
        else:
            yield from _named_classes(value)


def _targets(value: Any, entry: str = "") -> Iterator[tuple[str, str]]:
    """The strings in a mapping of class names, with the key that each stands under; of pipelines those of "impl"."""
    if isinstance(value, str):
        yield entry, value
    elif isinstance(value, list):
        for one in value:
            yield from _targets(one, entry)
    elif isinstance(value, dict):
        for key, one in value.items():
            if "impl" in value and key != "impl":  # "pt", "tf": names of Auto classes; "type", "default": words
                continue
            yield from _targets(one, entry if key == "impl" else key)


def _imported(folder: Path, files: list[str]) -> list[str]:
    trees = (parsed(folder / name) for name in files)
    roots = {
        module.partition(".")[0] for tree in trees if not isinstance(tree, str) for module, _ in absolute_imports(tree)
    }
    return sorted(roots & {*PACKAGES}) or ["nothing"]


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

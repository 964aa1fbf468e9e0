"""A Space of this project, a demo or a metric, that is self-contained: this package is beside its app."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

from ..cards.files import CARD, MANIFEST, files_in
from .model_files import write_license
from .repository import write_manifest

_DISTRIBUTION = "stmine-hf"
_PACKAGE = __package__.partition(".")[0]


def is_space(folder: Path) -> bool:
    from .repo_type import repo_type_of

    return (folder / CARD).is_file() and repo_type_of(folder) == "space"


def build_space(source: Path, folder: Path) -> None:
    """Copy a Space, and this package beside its app if the requirements name it, since no package index need have it.

    Args:
        source: the Space; its `requirements.txt` says for instance `stmine-hf[demo]`.
        folder: where to; its requirements name what the package needs in the place of the package.
    """
    from packaging.requirements import Requirement

    for name in files_in(source):
        if name != MANIFEST:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    needed = folder / "requirements.txt"
    lines: dict[str, str] = {}
    for line in needed.read_text(encoding="utf-8").split("\n") if needed.is_file() else ():
        if line and (requirement := Requirement(line)).name == _DISTRIBUTION:
            copy_package(folder)
            write_license(folder)
            for need in needs(requirement.extras):
                lines.setdefault(need.name, f"{need.name}{need.specifier}")
        elif line:
            lines[requirement.name] = line
    needed.write_text("".join(f"{line}\n" for line in lines.values()), encoding="utf-8")
    write_manifest(folder)


def copy_package(folder: Path) -> None:
    """Copy this package as a wheel would hold it: `modeling/` of a checkout inside of it."""
    for module in (_PACKAGE, f"{_PACKAGE}.modeling"):
        (place,) = import_module(module).__path__
        shutil.copytree(
            place,
            folder / module.replace(".", "/"),
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )


def needs(extras: set[str]) -> Iterator:
    """What this package needs with some of its extras, and what these name in turn."""
    from packaging.requirements import Requirement

    for line in metadata.requires(_DISTRIBUTION) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            if requirement.name == _DISTRIBUTION:
                yield from needs(requirement.extras)
            else:
                yield requirement

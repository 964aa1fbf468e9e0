"""The parts of a method's training as one record, so that no other code branches by the method's name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..printing import from_here
from .fit import OwnSets

if TYPE_CHECKING:
    from .run import Run
    from .trainer import ZooTrainer


@dataclass(frozen=True)
class Training:
    """The training of a method.

    Attributes:
        arguments: dataclasses of the settings of model, data and training.
        build: makes the trainer of a run: its data, model, samples and measure.
        own_sets: settings for a user's own data set, by its size.
        examples: commands that use the model of a run on one of its held-out rows, as words without `stmine`: of the
            row, with its image still encoded, and the folder of the model; empty for a row that has no file.
    """

    arguments: tuple[type[Any], type[Any], type[Any]]
    build: Callable[[Run], ZooTrainer]
    own_sets: OwnSets
    examples: Callable[[Mapping[str, Any], Path], list[list[str]]]


def image_file(row: Mapping[str, Any]) -> Path | None:
    """The file of a row's image, from the current folder; None where it is not a file of its own."""
    path = (row.get("image") or {}).get("path")
    return from_here(Path(path)) if path and Path(path).is_file() else None


def free_path(path: Path) -> Path:
    """The path, or with -2, -3 ... after it the first that does not exist."""
    paths = itertools.chain([path], (path.with_name(f"{path.name}-{number}") for number in itertools.count(2)))
    return next(one for one in paths if not one.exists())

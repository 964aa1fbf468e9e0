"""The parts of a method's training as one record, so that no other code branches by the method's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    """

    arguments: tuple[type[Any], type[Any], type[Any]]
    build: Callable[[Run], ZooTrainer]
    own_sets: OwnSets

"""Exported models: called as `SatForObjectDetection` is, each in its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import StmineError
from ..inference.exported import require
from ..modeling.sat.configuration_sat import SatConfig

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection, SatObjectDetectionOutput

__all__ = ["CONFIDENT", "LIMIT", "Differences", "ExportFormat", "Exported", "ExportedSat", "require"]

CONFIDENT = 0.3  # class probabilities above it are displayed
LIMIT = 1e-4  # largest difference of a class probability to PyTorch of a format that keeps floats


class Differences(NamedTuple):
    """Differences of an export from PyTorch.

    Attributes:
        scores: largest absolute difference of a class probability.
        confident: mean absolute difference of the class probabilities above `CONFIDENT` in either model; 0: there are
            none.
        boxes: largest absolute difference of a box's side, in pixels of the input, where a class has a probability
            above 0.05; 0: there is no such point.
    """

    scores: float
    confident: float
    boxes: float


class Exported(nn.Module):
    """A model in another runtime, on the CPU.

    Args:
        folder: of the export.
        config: of the model.
        weights: the files with the weights.
        threads: of the runtime.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, folder: str | Path, config: Any, weights: Sequence[str], threads: int | None = None):
        super().__init__()
        self.name_or_path = str(folder)
        self.config = config
        self.threads = threads or torch.get_num_threads()
        # The files themselves stand for the weights wherever models are distinguished by their tensors.
        for number, file in enumerate(weights):
            content = torch.from_numpy(np.fromfile(Path(folder) / file, dtype=np.uint8))
            self.register_buffer(f"file{number or ''}", content)
        self.eval()

    def __deepcopy__(self, memo: dict) -> Exported:
        return self  # it holds a session and nothing that changes

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """The model itself: its runtime stays on the CPU."""
        return self

    def can_generate(self) -> bool:
        """Asked by the pipelines of transformers."""
        return False


class ExportedSat(Exported):
    """A detector in another runtime, on the CPU.

    Args:
        folder: holds `weights_file` and the config.
        threads: of the runtime.
    """

    weights_file: ClassVar[str]

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__(folder, SatConfig.from_pretrained(folder), [self.weights_file], threads)

    def fuse(self) -> ExportedSat:
        """The model itself: its norms were fused before the export."""
        return self

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> SatObjectDetectionOutput:
        """Run the model as `SatForObjectDetection.forward` does, without labels."""
        raise NotImplementedError


def require_confident(name: str, differences: Differences, limit: float, advice: str) -> None:
    """Check a format that is a compromise by its mean difference of the probabilities above CONFIDENT.

    Raises:
        StmineError: it is too far from PyTorch.
    """
    if not differences.confident <= limit:  # NaN is too far
        raise StmineError(
            f"the {name} model's class probabilities above {CONFIDENT:g} differ from PyTorch's by "
            f"{differences.confident:.2g} on average, where at most {limit:g} is allowed; it was not written. {advice}"
        )


class ExportFormat(ABC):
    """A format: how it is written, how it is opened, and how far from PyTorch it may be."""

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]]  # of the weights
    runtime: ClassVar[type[ExportedSat]]

    @abstractmethod
    def write(
        self,
        model: SatForObjectDetection,
        folder: Path,
        inputs: list[Tensor],
        size: tuple[int, int],
        most: int | None = None,
    ) -> None:
        """Write `files`.

        Args:
            model: in evaluation mode; it is not changed.
            folder: an existing folder.
            inputs: prepared images, (1, 3, H, W) each; may be empty unless `needs_images`.
            size: height and width, for a format that has one.
            most: boxes of one class and image that the suppression in the network gives, at most; None: the network
                has none.
        """

    needs_images: ClassVar[bool] = False
    takes_nms: ClassVar[bool] = True  # whether the suppression can be in the network
    any_size: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]]  # needed to run it, the runtime first; its README needs these and NumPy

    def describe(self, folder: Path, settings: dict[str, Any]) -> None:  # noqa: B027  most formats have no place
        """Put the settings into the weights' file, where the format has a place for them."""

    def comparable(self, inputs: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """The inputs that the exported model can be compared on."""
        return inputs

    def require_near(self, differences: Differences) -> None:
        """
        Raises:
            StmineError: the export's answers are too far from PyTorch's.
        """
        if not differences.scores <= LIMIT:  # NaN is too far
            raise StmineError(
                f"the {self.name} model differs from PyTorch by {differences.scores:.2g} in a class probability, "
                f"where at most {LIMIT:g} is allowed; it was not written. Try another version of the runtime."
            )

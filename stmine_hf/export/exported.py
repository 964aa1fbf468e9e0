"""Exported models: called as `SatForObjectDetection` is, each in its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import StmineError
from ..inference.onnx_graph import import_onnxruntime
from ..modeling.sat.configuration_sat import SatConfig

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection, SatObjectDetectionOutput

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


class ExportedSat(nn.Module):
    """A detector in another runtime, on the CPU.

    Args:
        folder: holds `weights_file` and the config.
        threads: of the runtime.
    """

    weights_file: ClassVar[str]
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__()
        self.name_or_path = str(folder)
        self.config = SatConfig.from_pretrained(folder)
        self.threads = threads or torch.get_num_threads()
        # The file itself stands for the weights wherever models are distinguished by their tensors.
        self.register_buffer("file", torch.from_numpy(np.fromfile(Path(folder) / self.weights_file, dtype=np.uint8)))
        self.eval()

    def fuse(self) -> ExportedSat:
        """The model itself: its norms were fused before the export."""
        return self

    def __deepcopy__(self, memo: dict) -> ExportedSat:
        return self  # it holds a session and nothing that changes

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> SatObjectDetectionOutput:
        """Run the model as `SatForObjectDetection.forward` does, without labels."""
        raise NotImplementedError


class ExportFormat(ABC):
    """A format: how it is written, how it is opened, and how far from PyTorch it may be."""

    name: ClassVar[str]
    files: ClassVar[tuple[str, ...]]  # of the weights
    runtime: ClassVar[type[ExportedSat]]

    @abstractmethod
    def write(self, model: SatForObjectDetection, folder: Path, inputs: list[Tensor], size: tuple[int, int]) -> None:
        """Write `files`.

        Args:
            model: in evaluation mode; it is not changed.
            folder: an existing folder.
            inputs: prepared images, (1, 3, H, W) each; may be empty unless `needs_images`.
            size: height and width, for a format that has one.
        """

    needs_images: ClassVar[bool] = False
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


def require(package: str, extra: str = "export") -> Any:
    """Import an optional package.

    Raises:
        StmineError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_onnxruntime() if package == "onnxruntime" else import_module(package)
    except ImportError:
        raise StmineError(f"This needs the package {package}: pip install 'stmine-hf[{extra}]'") from None

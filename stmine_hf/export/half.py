"""SAT as ONNX with 16-bit floats, in ONNX Runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from .exported import Differences, require_confident
from .formats import write_half
from .onnx import FILE, OnnxFormat, write_onnx
from .suppression import add_suppression

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection

LIMIT = 0.02  # mean difference of the probabilities above CONFIDENT


class HalfFormat(OnnxFormat):
    """As `OnnxFormat`, with 16-bit floats up to the boxes: half the size, for processors that compute in them."""

    name = "fp16"

    def write(
        self,
        model: SatForObjectDetection,
        folder: Path,
        inputs: list[Tensor],
        size: tuple[int, int],
        most: int | None = None,
    ) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / FILE
            write_onnx(model, plain)
            # The nodes of the graph itself decode boxes, whose places need more than 16 bits: "/Concat", not
            # "/backbone/stem/convolution/Conv".
            write_half(plain, folder / FILE, keep=lambda node: node.count("/") < 2)
        if most is not None:
            add_suppression(folder / FILE, most)

    def require_near(self, differences: Differences) -> None:
        advice = "Use --format onnx, which keeps 32-bit floats."
        require_confident(self.name, differences, LIMIT, advice)

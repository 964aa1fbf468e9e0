"""SAT for OpenVINO, Intel's runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..inference.onnx_graph import OpenvinoNetwork, quiet
from ..modeling.sat.modeling_sat import SatObjectDetectionOutput
from .exported import ExportedSat, ExportFormat, require
from .onnx import write_onnx
from .suppression import IOU, LEAST, add_suppression

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection

FILES = ("model.xml", "model.bin")


class OpenvinoSat(ExportedSat):
    """`model.xml` and `.bin` in OpenVINO on the CPU: any batch, any height and width that 32 divides."""

    weights_file = FILES[1]

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__(folder, threads)
        require("openvino", "openvino")
        self.network = OpenvinoNetwork(Path(folder) / FILES[0], self.threads)

    def arrays(self, pixel_values: Tensor, least: float = 0.99, iou: float = 0.5) -> dict[str, Any]:
        """All outputs by name. The numbers are those of the suppression, if it is in the network."""
        values = {"pixel_values": pixel_values.numpy()}
        for name, value in ((LEAST, least), (IOU, iou)):
            if name in self.network.inputs:
                values[name] = np.array([value], np.float32)
        return dict(zip(self.network.outputs, self.network(values), strict=True))

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> SatObjectDetectionOutput:
        # All boxes, also where the network suppresses some: the caller's thresholds hold.
        found = self.arrays(pixel_values)
        logits, pred_boxes = (torch.from_numpy(found[name]) for name in ("logits", "pred_boxes"))
        size = torch.tensor(pixel_values.shape[-2:]).expand(len(pixel_values), 2)
        return SatObjectDetectionOutput(logits=logits, pred_boxes=pred_boxes, input_sizes=size)


class OpenvinoFormat(ExportFormat):
    """Any batch, any height and width that 32 divides, in floats."""

    name = "openvino"
    files = FILES
    runtime = OpenvinoSat
    packages = ("openvino",)

    def write(
        self,
        model: SatForObjectDetection,
        folder: Path,
        inputs: list[Tensor],
        size: tuple[int, int],
        most: int | None = None,
    ) -> None:
        openvino = require("openvino", "openvino")
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / "model.onnx"
            write_onnx(model, plain)
            if most is not None:
                add_suppression(plain, most)
            with quiet():
                openvino.save_model(openvino.convert_model(str(plain)), str(folder / FILES[0]), compress_to_fp16=False)

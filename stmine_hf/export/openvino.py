"""SAT for OpenVINO, Intel's runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..inference.onnx_graph import quiet
from ..modeling.sat.modeling_sat import SatObjectDetectionOutput
from .exported import ExportedSat, ExportFormat, require
from .onnx import write_onnx

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection

FILES = ("model.xml", "model.bin")


class OpenvinoSat(ExportedSat):
    """`model.xml` and `.bin` in OpenVINO on the CPU: any batch, any height and width that 32 divides."""

    weights_file = FILES[1]

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__(folder, threads)
        openvino = require("openvino", "openvino")
        # By default OpenVINO uses 16-bit floats where the processor has them, which changes the scores.
        options = {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": "f32"}
        self.network = openvino.compile_model(str(Path(folder) / FILES[0]), "CPU", options)

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> SatObjectDetectionOutput:
        logits, pred_boxes = (
            torch.from_numpy(values.copy()) for values in self.network(pixel_values.numpy()).values()
        )
        size = torch.tensor(pixel_values.shape[-2:]).expand(len(pixel_values), 2)
        return SatObjectDetectionOutput(logits=logits, pred_boxes=pred_boxes, input_sizes=size)


class OpenvinoFormat(ExportFormat):
    """Any batch, any height and width that 32 divides, in floats."""

    name = "openvino"
    files = FILES
    runtime = OpenvinoSat
    packages = ("openvino",)

    def write(self, model: SatForObjectDetection, folder: Path, inputs: list[Tensor], size: tuple[int, int]) -> None:
        openvino = require("openvino", "openvino")
        with tempfile.TemporaryDirectory() as scratch:
            write_onnx(model, Path(scratch) / "model.onnx")
            with quiet():
                network = openvino.convert_model(str(Path(scratch) / "model.onnx"))
                openvino.save_model(network, str(folder / FILES[0]), compress_to_fp16=False)

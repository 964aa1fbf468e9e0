"""SAT as ONNX, in ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..detect.graphs import AXES, OUTPUTS, BoxesGraph
from ..inference.onnx_graph import write_graph
from ..modeling.sat.modeling_sat import SatObjectDetectionOutput
from .exported import ExportedSat, ExportFormat, require
from .suppression import IOU, LEAST, add_suppression

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection

FILE = "model.onnx"


class OnnxSat(ExportedSat):
    """`model.onnx`, float or 8-bit, in ONNX Runtime on the CPU: any batch, heights and widths in multiples of 32."""

    weights_file = FILE

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__(folder, threads)
        onnxruntime = require("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = onnxruntime.InferenceSession(
            str(Path(folder) / FILE), options, providers=["CPUExecutionProvider"]
        )

    def arrays(self, pixel_values: Tensor, least: float = 0.99, iou: float = 0.5) -> dict[str, Any]:
        """All outputs by name. The numbers are those of the suppression, if it is in the network."""
        values = {"pixel_values": pixel_values.numpy()}
        for name, value in ((LEAST, least), (IOU, iou)):
            if any(one.name == name for one in self.session.get_inputs()):
                values[name] = np.array([value], np.float32)
        names = [one.name for one in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, values), strict=True))

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> SatObjectDetectionOutput:
        # All boxes, also where the network suppresses some: the caller's thresholds hold.
        found = self.arrays(pixel_values)
        logits, pred_boxes = found["logits"], found["pred_boxes"]
        size = torch.tensor(pixel_values.shape[-2:]).expand(len(pixel_values), 2)
        return SatObjectDetectionOutput(
            logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(pred_boxes), input_sizes=size
        )


class OnnxFormat(ExportFormat):
    """Any batch, heights and widths in multiples of 32, in floats."""

    name = "onnx"
    files = (FILE,)
    runtime = OnnxSat
    packages = ("onnxruntime",)

    def describe(self, folder: Path, settings: dict[str, Any]) -> None:
        add_metadata(folder / FILE, settings)

    def write(
        self,
        model: SatForObjectDetection,
        folder: Path,
        inputs: list[Tensor],
        size: tuple[int, int],
        most: int | None = None,
    ) -> None:
        write_onnx(model, folder / FILE)
        if most is not None:
            add_suppression(folder / FILE, most)


def add_metadata(path: Path, settings: dict[str, Any]) -> None:
    """Put settings into the `metadata_props` of an ONNX file, each value as JSON."""
    onnx = require("onnx")
    model = onnx.load(path)
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in settings.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, path)


def write_onnx(model: SatForObjectDetection, path: Path) -> None:
    """Write the network up to boxes, before non-maximum suppression (NMS)."""
    require("onnx")
    # The exporter by tracing: it takes a second and gives any batch, height and width; torch's newer one takes most of
    # a minute for this network and needs one more package.
    example = {"pixel_values": torch.zeros(2, 3, 96, 64)}
    write_graph(BoxesGraph(model), example, OUTPUTS, path, axes=AXES)

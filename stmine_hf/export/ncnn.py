"""SAT for ncnn, the runtime of phones and small boards."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..detect.graphs import MapsGraph, decode
from ..errors import StmineError
from ..inference.onnx_graph import quiet
from ..modeling.sat.modeling_sat import SatObjectDetectionOutput
from .exported import ExportedSat, ExportFormat, require

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection

__all__ = ["NcnnFormat", "NcnnSat"]

FILES = ("model.ncnn.param", "model.ncnn.bin")


class NcnnSat(ExportedSat):
    """`model.ncnn.param` and `.bin` in ncnn, image by image at the one size of the export.

    Smaller inputs are padded right and bottom with zeros to that size, as in training.
    """

    weights_file = FILES[1]

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__(folder, threads)
        self.size: tuple[int, int] = tuple(self.config.export_size)
        self.ncnn = require("ncnn")
        self.net = self.ncnn.Net()
        self.net.opt.num_threads = self.threads
        for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(self.net.opt, f"use_{half}", False)
        for load, name in zip((self.net.load_param, self.net.load_model), FILES, strict=True):
            if load(str(Path(folder) / name)):
                raise StmineError(f"{Path(folder) / name}: ncnn cannot read it. Export the model again.")

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> SatObjectDetectionOutput:
        height, width = self.size
        missing = height - pixel_values.shape[-2], width - pixel_values.shape[-1]
        if min(missing) < 0:
            raise StmineError(
                f"this ncnn model takes inputs of {height} x {width} pixels, found {tuple(pixel_values.shape[-2:])}: "
                "export it with a larger --size, or process images with a smaller `size`."
            )
        padded = nn.functional.pad(pixel_values, (0, missing[1], 0, missing[0]))
        maps = [self.maps(image) for image in padded]
        levels = tuple(torch.stack(level) for level in zip(*maps, strict=True))
        logits, pred_boxes, distance_logits = decode(levels, self.config)
        size = torch.tensor([height, width]).expand(len(pixel_values), 2)
        return SatObjectDetectionOutput(
            logits=logits, pred_boxes=pred_boxes, distance_logits=distance_logits, input_sizes=size
        )

    def maps(self, image: Tensor) -> list[Tensor]:
        """The network alone: a prepared image (3, H, W) of the export's size -> the head's raw maps (C, h, w)."""
        extractor = self.net.create_extractor()
        extractor.input(self.net.input_names()[0], self.ncnn.Mat(image.numpy()))
        return [torch.from_numpy(np.array(extractor.extract(name)[1])) for name in self.net.output_names()]


class NcnnFormat(ExportFormat):
    """One image at one size, in floats."""

    name = "ncnn"
    files = FILES
    runtime = NcnnSat
    packages = ("ncnn",)
    takes_nms = False
    any_size = False

    def write(
        self,
        model: SatForObjectDetection,
        folder: Path,
        inputs: list[Tensor],
        size: tuple[int, int],
        most: int | None = None,
    ) -> None:
        require("ncnn")
        pnnx = require("pnnx")
        graph = MapsGraph(model).eval()
        with tempfile.TemporaryDirectory() as scratch, quiet(), torch.no_grad():
            pnnx.export(graph, str(Path(scratch) / "sat.pt"), (torch.zeros(1, 3, *size),), fp16=False)
            for name in FILES:
                made = Path(scratch) / name.replace("model", "sat")
                if not made.is_file():
                    raise StmineError(f"pnnx wrote no {name}: is its version older than ncnn's?")
                shutil.copyfile(made, folder / name)

    def comparable(self, inputs: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        return [pixel_values for pixel_values in inputs if pixel_values.shape[-2:] == size]

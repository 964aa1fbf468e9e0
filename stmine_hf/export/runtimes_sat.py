"""Exported SAT models at work: objects that are called as `SatForObjectDetection` is, and answer alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import StmineError
from ..modeling.sat.configuration_sat import SatConfig
from ..modeling.sat.image_processing_sat import SatImageProcessor
from ..modeling.sat.modeling_sat import SatObjectDetectionOutput
from .graphs_sat import decode

ONNX_FILE = "model.onnx"
NCNN_FILES = ("model.ncnn.param", "model.ncnn.bin")


class ExportedSat(nn.Module):
    """What both runtimes share.

    Args:
        folder: written by `export_sat`.
        threads: of the runtime.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__()
        self.name_or_path = str(folder)
        self.config = SatConfig.from_pretrained(folder)
        self.threads = threads or torch.get_num_threads()
        # The file itself stands for the weights wherever a model is told from another by its tensors.
        self.register_buffer("file", torch.from_numpy(np.fromfile(Path(folder) / self.weights_file, dtype=np.uint8)))
        self.eval()

    weights_file = ""

    def fuse(self) -> ExportedSat:
        """Itself: the norms went into the convolutions before the export."""
        return self

    def __deepcopy__(self, memo: dict) -> ExportedSat:
        return self  # it holds a session and nothing that changes

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> SatObjectDetectionOutput:
        raise NotImplementedError


class OnnxSat(ExportedSat):
    """`model.onnx`, float or 8-bit, in ONNX Runtime on the CPU: any batch, any height and width that 32 divides."""

    weights_file = ONNX_FILE

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__(folder, threads)
        onnxruntime = require("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = onnxruntime.InferenceSession(
            str(Path(folder) / ONNX_FILE), options, providers=["CPUExecutionProvider"]
        )

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> SatObjectDetectionOutput:
        logits, pred_boxes = self.session.run(None, {"pixel_values": pixel_values.numpy()})
        size = torch.tensor(pixel_values.shape[-2:]).expand(len(pixel_values), 2)
        return SatObjectDetectionOutput(
            logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(pred_boxes), input_sizes=size
        )


class NcnnSat(ExportedSat):
    """`model.ncnn.param` and `.bin` in ncnn, image by image at the one size of the export.

    Smaller inputs are padded right and bottom with zeros to that size, as the training does it.
    """

    weights_file = NCNN_FILES[1]

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__(folder, threads)
        self.size: tuple[int, int] = tuple(self.config.export_size)
        self.ncnn = require("ncnn")
        self.net = self.ncnn.Net()
        self.net.opt.num_threads = self.threads
        for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(self.net.opt, f"use_{half}", False)
        for load, name in zip((self.net.load_param, self.net.load_model), NCNN_FILES, strict=True):
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


def open_exported(folder: str | Path, threads: int | None = None) -> tuple[ExportedSat, SatImageProcessor]:
    """Opens a folder that `export_sat` wrote.

    Raises:
        StmineError: there is no exported model in it, or its runtime is not installed.
    """
    folder = Path(folder)
    for kind in (OnnxSat, NcnnSat):
        if (folder / kind.weights_file).is_file():
            return kind(folder, threads), SatImageProcessor.from_pretrained(folder)
    raise StmineError(
        f"{folder}: expected an exported detector ({ONNX_FILE} or {' and '.join(NCNN_FILES)}), found none. Make one: "
        "stmine export sat --out FOLDER"
    )


def is_exported(folder: str | Path) -> bool:
    """Whether `open_exported` is the door to this folder."""
    return any((Path(folder) / kind.weights_file).is_file() for kind in (OnnxSat, NcnnSat))


def require(package: str) -> Any:
    """An optional package.

    Raises:
        StmineError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError:
        raise StmineError(f"This needs the package {package}: pip install 'stmine-hf[export]'") from None

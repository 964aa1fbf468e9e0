"""SAT to ONNX, ncnn or 8-bit integers, with the difference to PyTorch measured before anything is called done."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import StmineError
from .equalize_sat import equalize
from .graphs_sat import BoxesGraph, MapsGraph
from .runtimes_sat import NCNN_FILES, ONNX_FILE, open_exported, require

if TYPE_CHECKING:
    from ..modeling.sat.image_processing_sat import SatImageProcessor
    from ..modeling.sat.modeling_sat import SatForObjectDetection

FORMATS = ("onnx", "ncnn", "int8")
LIMITS = {"onnx": 1e-4, "ncnn": 1e-4}  # largest difference of a class probability
# Integers are a compromise: the mean difference of the probabilities above _CONFIDENT. The shipped models have 0.013.
INT8_LIMIT = 0.1
_CONFIDENT = 0.3
# What stays in floats for int8: fine detail, so small objects, is lost there first. 4 % of the weights.
_EARLY = ("model.sat.backbone.stem.", "model.sat.backbone.stages.0.")
OPSET = 17


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far it is from PyTorch on the checked inputs.

    Attributes:
        folder: has the file(s), the config and the image processor.
        format: "onnx", "ncnn" or "int8".
        file_bytes: of the weights' file(s).
        score_difference: largest absolute difference of a class probability.
        confident_difference: mean absolute difference of the class probabilities above 0.3 (in PyTorch or in the
            export), which are what gets shown; 0 where there are none.
        box_difference: largest absolute difference of a box's side, in pixels of the input, where a class has a
            probability above 0.05; 0 where there is no such place.
        inputs: how many inputs were compared.
    """

    folder: Path
    format: str
    file_bytes: int
    score_difference: float
    confident_difference: float
    box_difference: float
    inputs: int


def export_sat(
    model: SatForObjectDetection,
    processor: SatImageProcessor,
    folder: str | Path,
    *,
    format: str = "onnx",
    size: int | tuple[int, int] = 320,
    images: Iterable[Image.Image] = (),
) -> ExportReport:
    """Writes a model for another runtime and compares the two.

    Args:
        model: in evaluation mode; it stays as it is.
        processor: its image processor, saved beside.
        folder: made if need be.
        format: "onnx" (any batch, height and width), "ncnn" (one image at one size) or "int8" (ONNX with 8-bit
            convolutions).
        size: height and width, multiples of 32, of the ncnn model and of the compared inputs.
        images: to compare on; for "int8" needed, to measure the ranges of the activations.

    Returns:
        [`ExportReport`]

    Raises:
        StmineError: unknown format, a size that 32 does not divide, no images for int8, a package missing, or the
            exported model's answers differ from PyTorch's.
    """
    if format not in FORMATS:
        raise StmineError(f"format: expected one of {', '.join(FORMATS)}, found {format!r}.")
    height, width = (size, size) if isinstance(size, int) else size
    if height < 32 or width < 32 or height % 32 or width % 32:
        raise StmineError(f"size: expected multiples of 32 pixels, found {height} x {width}.")
    inputs = [processor(images=image, return_tensors="pt")["pixel_values"] for image in images]
    if format == "int8" and not inputs:
        raise StmineError("int8 needs images like those in use, to measure the ranges of activations: --images DIR")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (ONNX_FILE, *NCNN_FILES):  # of an earlier export in another format
        (folder / name).unlink(missing_ok=True)
    if format == "ncnn":
        _write_ncnn(model, folder, height, width)
        inputs = [x for x in inputs if x.shape[-2:] == (height, width)]
    elif format == "onnx":
        _write_onnx(model, folder / ONNX_FILE)
    else:
        _write_int8(model, folder / ONNX_FILE, inputs)
    config = model.config.__class__.from_dict({**model.config.to_dict(), "export_size": [height, width]})
    config.save_pretrained(folder)
    processor.save_pretrained(folder)

    random = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    inputs = inputs or [random]
    scores, confident, boxes = _differences(model, open_exported(folder)[0], inputs)
    written = [folder / name for name in (ONNX_FILE, *NCNN_FILES) if (folder / name).is_file()]
    try:
        _require_near(format, scores, confident)
    except StmineError:
        for file in written:
            file.unlink()
        raise
    size_of_files = sum(file.stat().st_size for file in written)
    return ExportReport(folder, format, size_of_files, scores, confident, boxes, len(inputs))


def _require_near(format: str, scores: float, confident: float) -> None:
    """
    Raises:
        StmineError: the export's answers are too far from PyTorch's.
    """
    if format == "int8" and not confident <= INT8_LIMIT:
        raise StmineError(
            f"the int8 model's class probabilities above {_CONFIDENT:g} differ from PyTorch's by {confident:.2g} in "
            f"the mean, where at most {INT8_LIMIT:g} is allowed; it was removed. Take more images, and such as the "
            "model will see, or --format onnx, which keeps floats."
        )
    if format != "int8" and not scores <= LIMITS[format]:
        raise StmineError(
            f"the {format} model differs from PyTorch by {scores:.2g} in a class probability, where at most "
            f"{LIMITS[format]:g} is allowed; it was removed. Try another version of the runtime."
        )


def _write_onnx(model: SatForObjectDetection, path: Path) -> None:
    require("onnx")
    graph = BoxesGraph(model).eval()
    batch = {0: "batch", 1: "points"}
    # The exporter by tracing: it takes a second and gives any batch, height and width; torch's newer one takes most of
    # a minute for this network and needs one more package.
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            graph,
            (torch.zeros(2, 3, 96, 64),),
            str(path),
            input_names=["pixel_values"],
            output_names=["logits", "pred_boxes"],
            dynamic_axes={
                "pixel_values": {0: "batch", 2: "height", 3: "width"},
                "logits": batch,
                "pred_boxes": batch,
            },
            opset_version=OPSET,
            dynamo=False,
        )


def _write_int8(model: SatForObjectDetection, path: Path, inputs: list[Tensor]) -> None:
    onnx = require("onnx")
    require("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest: Iterator[Tensor] = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.rest, None)
            return None if image is None else {"pixel_values": image.numpy()}

    with tempfile.TemporaryDirectory() as scratch:
        plain, ready = Path(scratch) / "plain.onnx", Path(scratch) / "ready.onnx"
        _write_onnx(equalize(model, inputs), plain)
        with _quiet():
            quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            convolutions = [node for node in onnx.load(ready).graph.node if node.op_type == "Conv"]
            quantize_static(
                str(ready),
                str(path),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                # Signed, since only then onnxruntime widens the scale of weights so small that the 32-bit bias would
                # overflow; and it is faster by a third. Of 7 bits, since x86 processors without VNNI add two products
                # of an unsigned and a signed byte in 16 bits: 2 x 255 x 64 fits.
                weight_type=QuantType.QInt8,
                reduce_range=True,
                # Not Concat: channels that pass a block would be rounded anew by each, classes and distances together.
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=[node.name for node in convolutions if node.input[1].startswith(_EARLY)],
            )


def _write_ncnn(model: SatForObjectDetection, folder: Path, height: int, width: int) -> None:
    require("ncnn")
    pnnx = require("pnnx")
    graph = MapsGraph(model).eval()
    with tempfile.TemporaryDirectory() as scratch, _quiet(), torch.no_grad():
        pnnx.export(graph, str(Path(scratch) / "sat.pt"), (torch.zeros(1, 3, height, width),), fp16=False)
        for name in NCNN_FILES:
            made = Path(scratch) / name.replace("model", "sat")
            if not made.is_file():
                raise StmineError(f"pnnx wrote no {name}: is its version older than ncnn's?")
            (folder / name).write_bytes(made.read_bytes())


@torch.inference_mode()
def _differences(model: SatForObjectDetection, exported: Any, inputs: Iterable[Tensor]) -> tuple[float, float, float]:
    """Largest difference of probabilities, mean of the confident ones', and largest in pixels of boxes that count."""
    scores = boxes = 0.0
    confident = []
    for pixel_values in inputs:
        ours, theirs = model(pixel_values.to(model.device)), exported(pixel_values)
        probabilities, others = ours.logits.cpu().sigmoid(), theirs.logits.sigmoid()
        difference = (probabilities - others).abs()
        scores = max(scores, float(difference.max()))
        confident.append(difference[~(torch.maximum(probabilities, others) <= _CONFIDENT)])  # NaN counts
        shown = probabilities.amax(dim=-1) > 0.05
        if shown.any():
            extent = torch.tensor([*pixel_values.shape[:1:-1]] * 2)
            apart = (ours.pred_boxes.cpu() - theirs.pred_boxes)[shown].abs() * extent
            boxes = max(boxes, float(apart.max()))
    together = torch.cat(confident)
    return scores, float(together.mean()) if len(together) else 0.0, boxes


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Converters print what they do, some of it from C++."""
    logging.disable(logging.WARNING)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = os.dup(1), os.dup(2)
        try:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            for number, copy in enumerate(kept, start=1):
                os.dup2(copy, number)
                os.close(copy)
            logging.disable(logging.NOTSET)

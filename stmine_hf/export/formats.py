"""Formats of networks that are written as ONNX first: 16-bit floats, 8-bit integers and OpenVINO."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..inference.onnx_graph import quiet
from .exported import require

Inputs = Mapping[str, np.ndarray]  # name -> values


class PartFormat(ABC):
    """A format of FISVL's and MTTV's networks.

    Attributes:
        name: of `--format`.
        suffixes: of a network's files; that of the file that is opened first.
        packages: needed to run it, the runtime first.
        limit: the largest difference of an output value to PyTorch; None: of the answers, see `answer_limit`.
        answer_limit: the largest difference of the answers to PyTorch's; see `Part.apart`.
        needs_images: whether images like those in use are needed to write it.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    limit: ClassVar[float | None] = None
    answer_limit: ClassVar[float] = 1.0
    needs_images: ClassVar[bool] = False

    @abstractmethod
    def write(self, graph: Path, made: Path, ranges: Sequence[Inputs]) -> None:
        """Write a network.

        Args:
            graph: its ONNX file in 32-bit floats.
            made: the file to write, with the first of `suffixes`.
            ranges: batches of inputs that set the ranges of 8-bit convolutions; none for a network without any.
        """


class OnnxPart(PartFormat):
    """32-bit floats in ONNX Runtime."""

    name = "onnx"
    limit = 1e-4

    def write(self, graph: Path, made: Path, ranges: Sequence[Inputs]) -> None:
        shutil.copyfile(graph, made)


class HalfPart(PartFormat):
    """16-bit floats in ONNX Runtime; inputs and outputs have 32 bits."""

    name = "fp16"
    answer_limit = 1e-3

    def write(self, graph: Path, made: Path, ranges: Sequence[Inputs]) -> None:
        write_half(graph, made)


class IntegerPart(PartFormat):
    """8-bit integers in ONNX Runtime: matrices, embeddings and, by their ranges on images, convolutions.

    Convolutions that would bring the answers beyond the limit stay in floats.
    """

    name = "int8"
    answer_limit = 0.05
    needs_images = True

    def write(self, graph: Path, made: Path, ranges: Sequence[Inputs]) -> None:
        write_integers(graph, made, ranges)


class OpenvinoPart(PartFormat):
    """32-bit floats in OpenVINO."""

    name = "openvino"
    suffixes = (".xml", ".bin")
    packages = ("openvino",)
    limit = 1e-4

    def write(self, graph: Path, made: Path, ranges: Sequence[Inputs]) -> None:
        openvino = require("openvino", "openvino")
        with quiet():
            openvino.save_model(openvino.convert_model(str(graph)), str(made), compress_to_fp16=False)


PART_FORMATS: dict[str, PartFormat] = {
    format.name: format for format in (OnnxPart(), HalfPart(), IntegerPart(), OpenvinoPart())
}


def write_half(graph: Path, made: Path, *, keep: Callable[[str], bool] = lambda node: False) -> None:
    """Write an ONNX file with 16-bit floats inside; inputs and outputs stay as they are.

    Args:
        graph: the file in 32 bits.
        made: the file to write.
        keep: whether a node of this name stays in 32 bits.
    """
    onnx = require("onnx")
    require("onnxruntime")
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(graph)
    kept = [node.name for node in model.graph.node if keep(node.name)]
    with quiet():
        model = convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
        OnnxModel(model).topological_sort()
        onnx.save(model, made)


def write_integers(graph: Path, made: Path, ranges: Sequence[Inputs]) -> None:
    """Write an ONNX file with 8-bit weights; activations of convolutions by `ranges`, those of matrices as they come.

    Args:
        ranges: batches of inputs; none: convolutions stay in floats.
    """
    onnx = require("onnx")
    require("onnxruntime")
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Of 7 bits: x86 processors without VNNI add two products of an unsigned and a signed byte in 16 bits.
    options: dict[str, Any] = {"per_channel": True, "reduce_range": True, "weight_type": QuantType.QInt8}
    with tempfile.TemporaryDirectory() as scratch, quiet():
        ready, convolved = Path(scratch) / "ready.onnx", Path(scratch) / "convolved.onnx"
        quant_pre_process(str(graph), str(ready), skip_symbolic_shape=True)
        if ranges and any(node.op_type == "Conv" for node in onnx.load(ready).graph.node):
            quantize_static(
                str(ready), str(convolved), reader(ranges), quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8, op_types_to_quantize=["Conv"], **options,
            )  # fmt: skip
        else:
            convolved = ready
        # Only products with weights: a product of two activations loses more than it gains.
        quantize_dynamic(
            str(convolved), str(made), op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            extra_options={"MatMulConstBOnly": True}, **options,
        )  # fmt: skip


def reader(batches: Sequence[Inputs]) -> Any:
    """The inputs as ONNX Runtime's calibration reads them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest: Iterator[Inputs] = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.rest, None)
            return None if batch is None else dict(batch)

    return Reader()

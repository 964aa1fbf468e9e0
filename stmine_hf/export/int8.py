"""SAT as ONNX with 8-bit convolutions, in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..inference.onnx_graph import quiet
from .equalize import equalize
from .exported import Differences, ExportFormat, require, require_confident
from .onnx import FILE, OnnxSat, add_metadata, write_onnx
from .suppression import add_suppression

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection

# Integers are a compromise: the mean difference of the probabilities above CONFIDENT. The shipped models have 0.013.
LIMIT = 0.1
# Layers that stay in floats: fine detail, thus small objects, would be lost there first. 4 % of the weights.
_EARLY = ("model.sat.backbone.stem.", "model.sat.backbone.stages.0.")


class Int8Format(ExportFormat):
    """As `OnnxFormat`; images like those in use set the ranges of the activations."""

    name = "int8"
    files = (FILE,)
    runtime = OnnxSat
    packages = ("onnxruntime",)
    needs_images = True

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
        write_int8(model, folder / FILE, inputs)
        if most is not None:
            add_suppression(folder / FILE, most)

    def require_near(self, differences: Differences) -> None:
        advice = "Use more images, like those the model will see, or --format onnx, which keeps floats."
        require_confident(self.name, differences, LIMIT, advice)


def write_int8(model: SatForObjectDetection, path: Path, inputs: list[Tensor]) -> None:
    """Write the network with 8-bit weights and activations in its convolutions, except the first."""
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
        write_onnx(equalize(model, inputs), plain)
        with quiet():
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
                # Not Concat: channels that pass a block would be rounded by each, classes and distances together.
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=[node.name for node in convolutions if node.input[1].startswith(_EARLY)],
            )

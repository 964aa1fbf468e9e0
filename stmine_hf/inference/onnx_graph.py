"""Write a network as an ONNX file, and open the runtimes that compute one: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSET = 17


def write_graph(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: str | Sequence[str],
    path: str | Path,
    *,
    long: tuple[str, ...] = (),
    axes: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Write a network of any number of rows. Dropout and batch statistics are off in its graph.

    Args:
        graph: takes the inputs in their order and returns a tensor, or a tuple of several.
        inputs: name -> an example, from which the trace is made; two rows of it.
        outputs: name of the output, or names of several.
        path: of the file.
        long: names of the inputs whose second axis has any length, too.
        axes: name of an input or output -> its other axes of any length, and their names.
    """
    import torch

    names = [outputs] if isinstance(outputs, str) else list(outputs)
    any_length = {name: {0: "batch", **({1: "length"} if name in long else {})} for name in (*inputs, *names)}
    for name, own in (axes or {}).items():
        any_length[name] |= own
    with quiet(), torch.no_grad():
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=names,
            dynamic_axes=any_length,
            opset_version=OPSET,
            dynamo=False,
        )


def import_onnxruntime() -> Any:
    """Import ONNX Runtime, which without this setting reports its use and writes an id of the machine.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_module("onnxruntime")


def compile_openvino(file: str | Path, options: Mapping[str, Any]) -> Any:
    """Compile a network for the processor with OpenVINO.

    Args:
        file: of OpenVINO (.xml) or ONNX.
        options: properties of OpenVINO's CPU device.

    Returns:
        OpenVINO's `CompiledModel`.

    Raises:
        ImportError: it is not installed.
    """
    return _openvino_core().compile_model(str(file), "CPU", dict(options))


@cache
def _openvino_core() -> Any:
    # One for the whole life of the process. Each core sets the stack on which signals of its thread are handled,
    # and puts the former one back when it goes: two that go in the order in which they came leave a stack that is
    # no longer there, and the next Ctrl-C or child that ends kills the process.
    return import_module("openvino").Core()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence converters, which print from Python and C++."""
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

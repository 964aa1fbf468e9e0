"""Write a network as an ONNX file, and import ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSET = 17


def write_graph(
    graph: nn.Module, inputs: Mapping[str, Tensor], output: str, path: str | Path, *, long: tuple[str, ...] = ()
) -> None:
    """Write a network of any number of rows. Dropout and batch statistics are off in its graph.

    Args:
        graph: takes the inputs in their order and returns one tensor.
        inputs: name -> an example, from which the trace is made; two rows of it.
        output: name of the output.
        path: of the file.
        long: names of the inputs whose second axis has any length, too.
    """
    import torch

    axes = {name: {0: "batch", 1: "length"} if name in long else {0: "batch"} for name in inputs}
    with quiet(), torch.no_grad():
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes={**axes, output: {0: "batch"}},
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

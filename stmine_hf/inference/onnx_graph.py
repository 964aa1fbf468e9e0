"""Write a network as an ONNX file, and open one in the runtimes that compute it: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

__all__ = ["OPSET", "OpenvinoNetwork", "import_onnxruntime", "open_onnx", "quiet", "write_graph"]

OPSET = 17

Network = Callable[[Mapping[str, "np.ndarray"]], "list[np.ndarray]"]
"""The inputs by name -> the outputs in their order. Threads may call it at the same time."""

_quieting = threading.RLock()  # what `quiet` changes is of the whole process
_starting = threading.Lock()  # two threads that find nothing cached would make a core each


def write_graph(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: str | Sequence[str],
    path: str | Path,
    *,
    axes: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Write a network of any number of rows. Dropout and batch statistics are off in its graph.

    Args:
        graph: takes the inputs in their order and returns a tensor, or a tuple of several.
        inputs: name -> an example, from which the trace is made; two rows of it.
        outputs: name of the output, or names of several.
        path: of the file.
        axes: name of an input or output -> its other axes of any length, and their names.
    """
    import torch

    names = [outputs] if isinstance(outputs, str) else list(outputs)
    any_length = {name: {0: "batch", **(axes or {}).get(name, {})} for name in (*inputs, *names)}
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


def open_onnx(file: str | Path, threads: int | None = None, *, quick: bool = False) -> Network:
    """Open a network on the CPU with ONNX Runtime.

    Args:
        file: of ONNX.
        threads: None: as the runtime does by default.
        quick: start sooner instead of running faster.

    Raises:
        ImportError: it is not installed.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other threads read and decode
    if quick:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(inputs))


class OpenvinoNetwork:
    """A network on the CPU in OpenVINO; a [`Network`].

    Args:
        file: of OpenVINO (.xml) or ONNX.
        threads: None: as the runtime does by default.
        precision: of its floats: "f32" or "bf16".
        options: further properties of OpenVINO's CPU device.

    Attributes:
        inputs, outputs: their names.

    Raises:
        ImportError: it is not installed.
    """

    def __init__(self, file: str | Path, threads: int | None = None, *, precision: str = "f32", **options: Any):
        # By default OpenVINO uses 16-bit floats where the processor has them, which changes the outputs.
        options["INFERENCE_PRECISION_HINT"] = precision
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        with _starting:
            core = _openvino_core()
        self._compiled = core.compile_model(str(file), "CPU", options)
        self.inputs = [one.any_name for one in self._compiled.inputs]
        self.outputs = [one.any_name for one in self._compiled.outputs]
        self._lock = threading.Lock()

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with self._lock:  # all calls share one request, whose outputs the next one overwrites
            return [values.copy() for values in self._compiled(dict(inputs)).values()]


@cache
def _openvino_core() -> Any:
    # One for the whole life of the process. Each core sets the stack on which signals of its thread are handled,
    # and puts the former one back when it goes: two that go in the order in which they came leave a stack that is
    # no longer there, and the next Ctrl-C or child that ends kills the process.
    return import_module("openvino").Core()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence converters, which print from Python and C++. One thread at a time."""
    with (
        _quieting,
        _logging_disabled(),
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
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


@contextlib.contextmanager
def _logging_disabled() -> Iterator[None]:
    """No message up to warnings; what the application disabled stays so, now and afterwards."""
    former = logging.root.manager.disable
    logging.disable(max(former, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(former)

"""The runtimes that compute a written network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# A handler of Python runs on the signal stack of its thread, which each core of OpenVINO replaces.
SIGNALLED = """
import gc, os, signal, sys
import numpy as np
from stmine_hf.inference.exported import open_network

signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
opened = [open_network(__import__("pathlib").Path(sys.argv[1]), 1) for _ in range(4)]
while opened:
    assert opened.pop(0)({"x": np.ones((2, 3), np.float32)})[0].sum() == 12
    gc.collect()
    os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_signals_are_handled_after_networks_of_openvino_are_gone(tmp_path):
    """As Ctrl-C and the ends of child processes, which killed the process."""
    pytest.importorskip("openvino", reason="needs openvino")
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    x, y = (helper.make_tensor_value_info(name, floats, ["batch", 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice", [x], [y])
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)

    import openvino

    openvino.save_model(openvino.convert_model(str(file)), str(tmp_path / "model.xml"))
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", SIGNALLED, str(tmp_path / "model.xml")]
    ended = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "handled\n" * 4

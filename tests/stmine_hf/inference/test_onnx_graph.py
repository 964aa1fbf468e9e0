"""The runtimes that compute a written network."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stmine_hf.inference.exported import open_network
from stmine_hf.inference.onnx_graph import quiet

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


def write_product(file: Path, side: int = 256):
    """y = x @ w, of any number of rows; returns w."""
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    weights = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    x, y = (helper.make_tensor_value_info(name, floats, ["batch", side]) for name in "xy")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [x],
        [y],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return weights


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_threads_get_their_own_outputs(tmp_path, suffix):
    weights, file = write_product(tmp_path / "model.onnx"), tmp_path / f"model{suffix}"
    if suffix == ".xml":
        openvino = pytest.importorskip("openvino", reason="needs openvino")
        openvino.save_model(openvino.convert_model(str(file.with_suffix(".onnx"))), str(file), compress_to_fp16=False)
    network, ready = open_network(file, 2), threading.Barrier(4)

    def work(number: int) -> float:
        chance, apart = np.random.default_rng(number), 0.0
        ready.wait()
        for rows in range(1, 41):
            given = chance.standard_normal((rows + number, len(weights)), dtype=np.float32)
            (found,) = network({"x": given})
            apart = max(apart, float(np.abs(found - given @ weights).max()) if len(found) == len(given) else np.inf)
        return apart

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(work, range(4))) < 1e-3


def test_threads_that_are_quiet_at_once_leave_the_outputs_as_they_were():
    stdout, places, kept = sys.stdout, [os.fstat(number)[1:3] for number in (1, 2)], [os.dup(1), os.dup(2)]
    entered, left = threading.Event(), threading.Event()

    def second() -> None:
        with quiet():
            entered.set()
            left.wait(60)

    thread = threading.Thread(target=second)
    try:
        with quiet():
            thread.start()
            entered.wait(0.3)  # it may not enter yet
        left.set()
        thread.join()
        assert sys.stdout is stdout and [os.fstat(number)[1:3] for number in (1, 2)] == places
    finally:
        sys.stdout = stdout
        for number, copy in enumerate(kept, start=1):
            os.dup2(copy, number)
            os.close(copy)


def test_what_the_application_logs_is_as_before():
    try:
        logging.disable(logging.ERROR)
        with quiet():
            assert logging.root.manager.disable == logging.ERROR
        assert logging.root.manager.disable == logging.ERROR
        logging.disable(logging.NOTSET)
        with quiet():
            with quiet():
                pass
            assert logging.root.manager.disable == logging.WARNING
        assert logging.root.manager.disable == logging.NOTSET
    finally:
        logging.disable(logging.NOTSET)

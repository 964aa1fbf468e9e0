"""No small file costs gigabytes: the table of SECURITY.md, measured again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from documents import ROOT


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux counts it")
def test_hostile_files_cost_no_more_than_promised():
    for module in ("rasterio", "tifffile", "av", "openpyxl", "onnxruntime"):
        pytest.importorskip(module)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "memory", "hostile"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

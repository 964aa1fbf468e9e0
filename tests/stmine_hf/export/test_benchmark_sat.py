"""examples/benchmark_sat.py: every runtime takes its turn, and what it writes is what the cards read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_sat import save_tiny_sat

from stmine_hf.export.sat import FORMATS

SCRIPT = Path(__file__).parents[3] / "examples" / "benchmark_sat.py"


@pytest.mark.slow
def test_every_runtime_of_two_models_is_timed(tmp_path):
    models = []
    for name in ("first", "second"):
        save_tiny_sat(tmp_path / name)
        models.append(f"{name}={tmp_path / name}")
    figures = tmp_path / "figures.json"
    options = ["--threads", "1", "--rounds", "3", "--size", "64", "--out", figures]
    done = subprocess.run([sys.executable, SCRIPT, "--models", *models, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads(figures.read_text())
    times = {(row["runtime"], row["model"]): row for row in written["network"]}
    runtimes = ("pytorch", *FORMATS, "ncnn, maps")
    assert times.keys() == {(runtime, name) for runtime in runtimes for name in ("first", "second")}
    assert all(row["median_ms"] > 0 and row["ratio"] > 0 for row in times.values())
    assert all(times[runtime, "first"]["ratio"] == 1 for runtime in runtimes)
    assert written["around_ms"].keys() == {"preprocessing", "suppression"}
    assert all(runtime in done.stdout for runtime in runtimes)

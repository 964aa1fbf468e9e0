"""examples/benchmarks/index_size.py on sizes that take seconds."""

import json
import subprocess
import sys

import pytest
from documents import ROOT


@pytest.mark.slow
def test_every_structure_is_built_and_measured(tmp_path):
    script, out = ROOT / "examples" / "benchmarks" / "index_size.py", tmp_path / "figures.json"
    command = [sys.executable, str(script), "--rows", "3000", "--dims", "16", "--sources", "random", "--queries", "5"]
    kinds = ["exact", "lists", "ivf-sq8", "hnsw", "hnsw-sq8"]
    command += [
        "--kinds",
        *kinds,
        "--work",
        str(tmp_path / "work"),
        "--out",
        str(out),
        "--plot",
        str(tmp_path / "p.png"),
    ]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    runs = json.loads(out.read_text())["runs"]
    assert set(runs) == {f"random 16 3000 {kind}" for kind in kinds} and (tmp_path / "p.png").exists()
    for run in runs.values():
        shares = [one["images"]["recall"] for one in run["settings"].values()]
        assert shares[-1] >= max(0.9, shares[0]), shares
    assert runs["random 16 3000 exact"]["settings"]["0"]["images"]["recall"] == 1

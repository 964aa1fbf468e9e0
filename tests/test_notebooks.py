"""The notebooks: kept without outputs, and each runs from top to bottom with images to see and something learned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import ROOT

nbformat = pytest.importorskip("nbformat")
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
METHODS = ("fisvl", "mttv", "sat")


def read(path: Path):
    return nbformat.read(path, as_version=4)


def test_there_is_one_for_each_method():
    assert [path.stem for path in NOTEBOOKS] == list(METHODS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_clean_and_short(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, "clear all outputs before you commit"
            assert len(cell.source.splitlines()) <= 40
            compile(cell.source, path.name, "exec")
    words = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", words):
        assert (path.parent / link).is_file(), link
    assert "README.zh-CN.md" in words


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readmes_lead_to_them(readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    assert all(f"examples/notebooks/{method}.ipynb" in text for method in METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the other tests show no diagrams, these cells do
    notebook = read(path)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    images = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(images) >= 4
    said = "".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    said = re.sub(r"\x1b\[[\d;]*m", "", said)  # colours
    before, after = (float(number) for number in re.findall(r"([\d.]+)(?: ?%)? -> ([\d.]+)", said)[0])
    assert after > before  # what the training was for

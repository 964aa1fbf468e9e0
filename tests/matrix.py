"""Tests with the lowest and the newest versions that pyproject.toml allows, each in an environment of its own.

    python -m tests.matrix [CELL ...]       make test-matrix CELLS="lowest-hub newest-hub"

A cell is a Python and a choice of versions. Cells of the same torch as here take it from this environment; the others
install one, which is large. The tests of a cell are those of TESTS, or all fast ones with STMINE_MATRIX_TESTS=tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / "outputs" / "matrix"
TESTS = (
    "tests/modeling",
    "tests/stmine_hf/test_loading.py",
    "tests/test_formats_0_1.py",
    "tests/stmine_hf/training/fisvl",
)
# Packages whose versions a cell sets; all others come from this environment, or newest.
GROUPS = {
    "hub": ("huggingface_hub", "transformers"),  # which needs new ones, when it is new itself
    "datasets": ("datasets",),
    "transformers": ("transformers",),
    "peft": ("peft",),
    "pillow": ("pillow",),
    "torch": ("torch", "torchvision"),
}
CELLS = [f"{bound}-{group}" for group in GROUPS for bound in ("lowest", "newest")]
PYTHONS = ("3.10", "3.13")


def lowest() -> dict[str, str]:
    """The lowest version of each package, by pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return {name.lower(): version for name, version in re.findall(r'"([A-Za-z_]+)>=([\d.]+)"', text)}


def requirements(cell: str) -> list[str]:
    """What pip is to install in a cell."""
    bound, _, group = cell.partition("-")
    if bound == "newest":
        return ["--upgrade", *GROUPS[group]]
    versions = {name: lowest()[name] for name in GROUPS[group]}
    return [f"{name}=={version}" for name, version in versions.items()]


def run(cell: str) -> tuple[str, str, float]:
    """Versions, the tests' last line, and seconds of a cell."""
    began, folder = time.monotonic(), ENVIRONMENTS / cell
    shutil.rmtree(folder, ignore_errors=True)
    whole = cell.startswith("python")
    python = shutil.which(f"python{cell.removeprefix('python-')}") if whole else sys.executable
    if python is None:
        return "", "no such Python here", 0.0
    subprocess.run([python, "-m", "venv", folder], check=True)
    inner = folder / "bin" / "python"
    if whole:
        install = ["--editable", ".[dev]"]
    else:  # everything else as it is here
        (site,) = (folder / "lib").glob("python*/site-packages")
        paths = [path for path in sys.path if path.endswith("site-packages")]
        (site / "zz_here.pth").write_text("\n".join(paths))
        install = ["--editable", ".", *requirements(cell)]  # of what else they need only what does not fit
    done = subprocess.run([inner, "-m", "pip", "install", "-q", *install], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return "", f"pip: {done.stderr.strip().splitlines()[-1][:80]}", time.monotonic() - began
    names = [name for group in GROUPS.values() for name in group]
    versions = subprocess.run(
        [inner, "-c", f"from importlib.metadata import version; print(*map(version, {names}))"],
        capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    shown = " ".join(f"{name} {version}" for name, version in zip(names, versions, strict=False))
    tests = os.environ.get("STMINE_MATRIX_TESTS", "").split() or TESTS
    command = [inner, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    (folder / "tests.log").write_text(done.stdout + done.stderr)
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    return shown, f"{'passed' if done.returncode == 0 else 'FAILED'}: {last[:70]}", time.monotonic() - began


def main() -> int:
    cells = sys.argv[1:] or [*CELLS, *(f"python-{version}" for version in PYTHONS)]
    failed = False
    for cell in cells:
        versions, found, seconds = run(cell)
        failed |= not found.startswith("passed")
        print(f"{cell:20} {found:80} {seconds:5.0f} s  {versions}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

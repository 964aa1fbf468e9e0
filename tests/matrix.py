"""Tests with the lowest and the newest versions that pyproject.toml allows, each in an environment of its own.

    python -m tests.matrix [CELL ...]       make test-matrix CELLS="lowest-peft newest"

A cell is a Python and a choice of versions; pip chooses whatever else has to change with them:

* `newest`: all of NAMES as new as pip finds them;
* `lowest`: all of them at their lower bounds at once; `lowest-NAME`: one of them, the others as here;
* `python-3.10`: another Python, and everything as new as pip finds it there.

`lowest` and the other Pythons install a torch of their own, which is large; the rest takes that of here. The
tests of a cell are those of TESTS, or others by STMINE_MATRIX_TESTS=tests. At the end comes the table of what has
passed, also in earlier runs: outputs/matrix/passed.json keeps them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / "outputs" / "matrix"
PASSED = ENVIRONMENTS / "passed.json"
TESTS = (
    "tests/test_formats_0_1.py",
    "tests/modeling/fisvl/test_modeling_fisvl.py",
    "tests/modeling/fisvl/test_remote_code_fisvl.py",
    "tests/modeling/mttv/test_modeling_mttv.py",
    "tests/modeling/mttv/test_pipeline_mttv.py",
    "tests/modeling/mttv/test_remote_code_mttv.py",
    "tests/modeling/sat/test_image_processing_sat.py",
    "tests/modeling/sat/test_modeling_sat.py",
    "tests/modeling/sat/test_remote_code_sat.py",
    "tests/stmine_hf/test_loading.py",
    "tests/stmine_hf/cards/test_dataset.py",
    "tests/stmine_hf/data/test_coco_json.py",
    "tests/stmine_hf/images/test_reading.py",
    "tests/stmine_hf/training/test_adapters.py",
    "tests/stmine_hf/training/fisvl/test_trainer.py",
    "tests/stmine_hf/training/mttv/test_trainer.py",
    "tests/stmine_hf/training/sat/test_trainer.py",
)
NAMES = (
    "torch", "torchvision", "transformers", "huggingface_hub", "datasets", "accelerate", "peft", "numpy", "pillow",
    "safetensors", "tokenizers",
)  # fmt: skip
# One package each, but for the hub library: newer transformers need a newer one.
LOWEST = {name: (name,) for name in ("transformers", "huggingface_hub", "datasets", "accelerate", "peft", "pillow")}
LOWEST["huggingface_hub"] = ("huggingface_hub", "transformers")
PYTHONS = ("3.10", "3.13")
CELLS = ("newest", "lowest", *(f"lowest-{name}" for name in LOWEST), *(f"python-{one}" for one in PYTHONS))
EXTRAS = "train,search,excel"  # those that the tests need; the others' needs would narrow the choice


def bounds() -> dict[str, str]:
    """The lower bound of each package, by pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return dict(re.findall(r'"([A-Za-z_]+)(?:!=[\d.]+,)?>=([\d.]+)"', text))


def requirements(cell: str) -> list[str]:
    """What pip is to install in a cell, beside the package and what it needs."""
    bound, _, name = cell.partition("-")
    if bound == "newest":
        return ["--upgrade", "--upgrade-strategy", "only-if-needed", *(one for one in NAMES if one in bounds())]
    if bound == "lowest":
        return [f"{one}=={bounds()[one]}" for one in (LOWEST[name] if name else NAMES) if one in bounds()]
    return []


def run(cell: str) -> tuple[dict[str, str], str, float]:
    """Versions, the tests' last line, and seconds of a cell.

    Raises:
        ValueError: no such cell.
    """
    if cell not in CELLS and not cell.startswith("python-"):
        raise ValueError(f"{cell}: no such cell; there are {', '.join(CELLS)}")
    began, folder = time.monotonic(), ENVIRONMENTS / cell
    shutil.rmtree(folder, ignore_errors=True)
    other = cell.removeprefix("python-") if cell.startswith("python-") else None
    python = shutil.which(f"python{other}") if other else sys.executable
    if python is None:
        return {}, "no such Python here", 0.0
    # A cell of this Python sees this environment behind its own: pip installs only what has to differ.
    made = subprocess.run([python, "-m", "venv", *([] if other else ["--without-pip"]), folder], capture_output=True)
    if made.returncode:  # by one that is only a name on the path, too
        return {}, f"{python} makes no environment", 0.0
    inner = folder / "bin" / "python"
    if other:
        subprocess.run([inner, "-m", "pip", "install", "-q", "--upgrade", "pip"], check=True)
    else:
        (site,) = (folder / "lib").glob("python*/site-packages")
        paths = [path for path in sys.path if path.endswith("site-packages")]
        (site / "zz_here.pth").write_text("\n".join(paths))
    install = ["install", "-q", "--editable", f".[{'dev' if other else EXTRAS}]", *requirements(cell)]
    done = subprocess.run([inner, "-m", "pip", *install], cwd=ROOT, capture_output=True, text=True)
    (folder / "pip.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        return {}, f"pip: {done.stderr.strip().splitlines()[-1][:90]}", time.monotonic() - began
    program = (
        f"from importlib.metadata import version as v; import json; print(json.dumps({{n: v(n) for n in {NAMES}}}))"
    )
    found = json.loads(subprocess.run([inner, "-c", program], capture_output=True, text=True, check=True).stdout)
    version = subprocess.run([inner, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    tests = os.environ.get("STMINE_MATRIX_TESTS", "").split() or TESTS
    command = [inner, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--durations=20", *tests]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    (folder / "tests.log").write_text(done.stdout + done.stderr)
    last = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    verdict = f"{'passed' if done.returncode == 0 else 'FAILED'}: {last[:70]}"
    return {"python": version, **found}, verdict, time.monotonic() - began


def table(passed: dict[str, dict[str, str]]) -> str:
    """The lowest and the newest version of each package with which the tests have passed, in Markdown."""
    seen = defaultdict(set)
    for versions in passed.values():
        for name, version in versions.items():
            seen[name].add(version)
    lines = ["| package | lowest | newest |", "| --- | --- | --- |"]
    for name, versions in seen.items():
        ordered = sorted(versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version)])
        lines.append(f"| {name} | {ordered[0]} | {ordered[-1]} |")
    return "\n".join(lines)


def main() -> int:
    failed = False
    passed = json.loads(PASSED.read_text()) if PASSED.is_file() else {}
    for cell in sys.argv[1:] or CELLS:
        versions, found, seconds = run(cell)
        passed.pop(cell, None)
        if found.startswith("passed"):
            passed[cell] = versions
        else:
            failed = True
        ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
        PASSED.write_text(json.dumps(passed, indent=1))
        shown = " ".join(f"{name} {version}" for name, version in versions.items())
        print(f"{cell:22} {found:90} {seconds:5.0f} s  {shown}", flush=True)
    print(table(passed))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

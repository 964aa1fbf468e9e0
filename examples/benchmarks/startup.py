"""Cold start, as processes: `stmine search` to its first hit, and `stmine demo` to the page.

python examples/benchmarks/startup.py --quick
python examples/benchmarks/startup.py --before earlier/.venv/bin/python
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from harness import AWAY, Comparison, Options, Timed, run_group

from stmine_hf.errors import StmineError


def comparisons(options: Options) -> Iterator[Comparison]:
    with tempfile.TemporaryDirectory() as scratch:
        yield search(options, Path(scratch))
        yield demo(options)
        yield imports(options)


def search(options: Options, folder: Path) -> Comparison:
    options.images(folder / "images", "rsicd", 24)
    options.command("index", folder / "images", "--out", folder / "index")
    words = ("search", folder / "index", "many planes near a terminal")
    options.command(*words)  # the first search may prepare what later ones use

    return Comparison(
        work="stmine search INDEX SENTENCE, to the first hit",
        count=1,
        unit="search",
        ways=options.commands(lambda python: options.command(*words, python=python)),
        most_seconds=2.5,
        conditions="a new process; index of 24 images, fisvl-lite-rsicd",
        rounds=1 if options.quick else 5,
        warm=False,
    )


def demo(options: Options) -> Comparison:
    """Until the page answers; what the process does after that, in the background, does not count."""

    def run(python: str) -> Timed:
        line = [python, "-m", "stmine_hf.cli", "demo"]
        started = time.perf_counter()
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=options.environment(), cwd=AWAY) as process:
            try:
                assert process.stdout is not None
                told = process.stdout.readline()
                if not told.startswith("Open http"):
                    raise StmineError(f"stmine demo: expected its address, found {told!r}.")
                with urllib.request.urlopen(told.split()[1]) as page:  # noqa: S310 (the address of our own page)
                    page.read()
                return Timed(time.perf_counter() - started, busy_seconds(process.pid), None)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait()

    return Comparison(
        work="stmine demo, to the served page",
        count=1,
        unit="page",
        ways=options.commands(run),
        most_seconds=5,
        conditions="a new process; the models are opened afterwards, in the background",
        rounds=1 if options.quick else 5,
        warm=False,
    )


def busy_seconds(process: int) -> float:
    """Seconds of the processor that a process has used; 0 where it cannot be told."""
    file = Path(f"/proc/{process}/stat")
    if not file.is_file():
        return 0.0
    ticks = file.read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def imports(options: Options) -> Comparison:
    """What no command that loads a model can go below."""

    def run(python: str) -> None:
        code = "import torch, transformers"
        subprocess.run([python, "-c", code], check=True, env=options.environment(), cwd=AWAY)

    return Comparison(
        work="import torch, transformers, for comparison",
        count=1,
        unit="import",
        ways={"ours": lambda: run(sys.executable)},
        conditions="a new process",
        rounds=1 if options.quick else 5,
        warm=False,
    )


if __name__ == "__main__":
    run_group("startup", comparisons, __doc__)

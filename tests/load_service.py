"""Requests a second and seconds of a served search and detector on loopback, beside one request at a time.

    PYTHONPATH=.:tests OMP_NUM_THREADS=1 python -m load_service --seconds 10

The service is a process of its own with the shipped models and an index of 96 drawn scenes. Clients ask one after the
other, each its next question as soon as it has an answer. Ends with 1 if an answer is lost.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from helpers_serve import png

from stmine_hf.cards.street_drawing import draw_street
from stmine_hf.data.toy.toy_scenes import write_scenes
from stmine_hf.errors import StmineError
from stmine_hf.search import ImageIndex
from stmine_hf.serve.client import Client

QUERIES = ("many planes near a terminal", "a bridge over a river", "green trees", "storage tanks", "a harbour")


def ask(address: str, what: str, seconds: float, image: bytes, times: list[float], failed: list[str]) -> None:
    client, number = Client(address), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        try:
            if what == "search":
                client.search(QUERIES[number % len(QUERIES)], k=5)
            else:
                client.detect(image)
        except StmineError as error:
            failed.append(str(error))
        else:
            times.append(time.perf_counter() - began)
        number += 1


def measure(address: str, what: str, clients: int, seconds: float, image: bytes) -> tuple[list[float], list[str]]:
    """Seconds of each answer, and what went wrong."""
    times: list[float] = []
    failed: list[str] = []
    threads = [
        threading.Thread(target=ask, args=(address, what, seconds, image, times, failed)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(times), failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stmine-load-"))
    write_scenes(folder / "scenes", count=96)
    ImageIndex.build(folder / "scenes", folder / "my.index", progress=False)
    image, lost = png(draw_street()), 0
    print(f"{'batches of':>10} {'clients':>8} {'task':>8} {'a second':>9} {'median ms':>10} {'p99 ms':>8}")
    for batch in (1, 8):
        command = [sys.executable, "-m", "stmine_hf.cli", "serve", "--port", "0", "--batch-size", str(batch),
                   "--index", str(folder / "my.index"), "--detect-model", "sat-coco-small"]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            address = next(line for line in process.stdout if line.startswith("Ready at ")).split()[2].rstrip(".")
            for what in ("search", "detect"):
                for clients in options.clients:
                    measure(address, what, clients, 1, image)  # warm
                    times, failed = measure(address, what, clients, options.seconds, image)
                    lost += len(failed)
                    median, slow = (1000 * times[int(share * (len(times) - 1))] for share in (0.5, 0.99))
                    rate = len(times) / options.seconds
                    print(f"{batch:>10} {clients:>8} {what:>8} {rate:>9.1f} {median:>10.1f} {slow:>8.1f}", flush=True)
            process.terminate()
    if lost:
        print(f"{lost} requests got no answer", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How long an image takes: both presets (or any SAT folders) in PyTorch, ONNX Runtime, ncnn and as 8-bit ONNX.

    python examples/benchmark_sat.py --threads 1 --rounds 200
    python examples/benchmark_sat.py --models parent=nanodet-m-coco child=hub_cards/sat-coco-small --threads 2

All of them take turns in one process, in a new random order each round, on one 320 x 320 input; a ratio is the median
of the ratios of the rounds, so that a busy machine slows both sides alike. Times are from a prepared input to boxes
at all points; in ncnn, whose file ends with the head's maps, `ncnn, maps` is the network without what turns maps into
boxes, as ncnn's own benchmarks count. Preprocessing and suppression, the same for every model, are timed apart.
Runtimes that are not installed are skipped.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers.utils import logging as transformers_logging

from stmine_hf import SatConfig, SatForObjectDetection, SatImageProcessor
from stmine_hf.errors import StmineError
from stmine_hf.export.ncnn import NcnnSat
from stmine_hf.export.sat import FORMATS, export_sat, open_exported
from stmine_hf.loading import load_sat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=["nanodet-m", "sat"], help="presets, or name=folder; ratios are to the first"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--size", type=int, default=320, help="height and width of the input")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    with tempfile.TemporaryDirectory() as scratch:
        runs, steps = {}, {}
        for word in args.models:
            name, _, folder = word.rpartition("=")
            name = name or word
            model, processor = load_sat(folder, "cpu") if "=" in word else from_preset(word)
            runs |= {(runtime, name): run for runtime, run in runtimes(model, processor, scratch, name, args).items()}
            steps = steps or surroundings(model, processor)
        times = measure({**runs, **steps}, args.rounds)
    figures = summary(times, runs, args)
    print_tables(figures)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def from_preset(name: str) -> tuple[SatForObjectDetection, SatImageProcessor]:
    """Random weights: the time does not depend on them."""
    torch.manual_seed(0)
    config = SatConfig.preset(name)
    model = SatForObjectDetection(config).eval().to(memory_format=torch.channels_last)
    return model, SatImageProcessor.for_config(config)


def runtimes(model, processor, scratch: str, name: str, args: argparse.Namespace) -> dict:
    """One call each: a prepared input to boxes of all points."""
    image = noise(args.size)
    pixel_values = processor(images=image, return_tensors="pt")["pixel_values"]
    fused = model.fuse().to(memory_format=torch.channels_last)
    found = {"pytorch": lambda: fused(pixel_values)}
    for kind in FORMATS:
        folder = Path(scratch) / f"{name.replace('/', '-')}-{kind}"
        try:
            export_sat(model, processor, folder, format=kind, size=args.size, images=[image])
            exported, _ = open_exported(folder, args.threads)
        except StmineError as error:
            print(f"{kind} skipped: {error}")
            continue
        found[kind] = lambda exported=exported: exported(pixel_values)
        if isinstance(exported, NcnnSat):
            found["ncnn, maps"] = lambda exported=exported: exported.maps(pixel_values[0])
    return found


def surroundings(model, processor) -> dict:
    """What happens before and after the network, for a 640 x 480 photograph."""
    image = Image.fromarray(np.asarray(noise(640))[:480])
    outputs = model(**processor(images=image, return_tensors="pt"))
    return {
        ("any", "preprocessing"): lambda: processor(images=image, return_tensors="pt"),
        ("any", "suppression"): lambda: processor.post_process_object_detection(outputs, 0.4, [(480, 640)]),
    }


def noise(size: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, size=(size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@torch.inference_mode()
def measure(calls: dict, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each call in each round; the first tenth of the rounds only warms up."""
    order = random.Random(0)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    warm_up = max(1, rounds // 10)
    for number in track(range(warm_up + rounds), "Taking turns", console=Console(stderr=True), transient=True):
        for key in order.sample(list(calls), len(calls)):
            start = time.perf_counter()
            calls[key]()
            if number >= warm_up:
                times[key].append(1000 * (time.perf_counter() - start))
    return times


def summary(times: dict, runs: dict, args: argparse.Namespace) -> dict:
    first = next(iter(runs))[1]
    rows = []
    for runtime, name in runs:
        base = times.get((runtime, first))
        ratios = [own / other for own, other in zip(times[runtime, name], base, strict=True)] if base else []
        rows.append(
            {
                "runtime": runtime,
                "model": name,
                "median_ms": round(statistics.median(times[runtime, name]), 3),
                "ratio": round(statistics.median(ratios), 4) if ratios else None,
            }
        )
    around = {name: round(statistics.median(values), 3) for (kind, name), values in times.items() if kind == "any"}
    versions = {"torch": torch.__version__}
    return {
        "threads": args.threads,
        "rounds": args.rounds,
        "size": args.size,
        "versions": versions,
        "network": rows,
        "around_ms": around,
    }


def print_tables(figures: dict) -> None:
    table = Table(title=f"{figures['size']} x {figures['size']}, batch 1, {figures['threads']} thread(s)")
    for column in ("runtime", "model", "median ms", "ratio"):
        table.add_column(column, justify="left" if column in ("runtime", "model") else "right")
    for row in sorted(figures["network"], key=lambda row: ("pytorch", *FORMATS).index(row["runtime"].split(",")[0])):
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
        table.add_row(row["runtime"], row["model"], f"{row['median_ms']:.2f}", ratio)
    Console().print(table)
    for name, value in figures["around_ms"].items():
        print(f"{name}: {value:.2f} ms")


if __name__ == "__main__":
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        main()
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None

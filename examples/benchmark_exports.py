"""CPU time of exported models beside the model in PyTorch, taking turns in one process.

    python examples/benchmark_exports.py fisvl fisvl-onnx fisvl-int8
    python examples/benchmark_exports.py mttv mttv-onnx --model my_model --rounds 30

A ratio is the median over the rounds of PyTorch's CPU time by the export's, so that a busy machine slows both alike;
the numbers in brackets are its quartiles. Inputs are noise: 8 images and 16 sentences for FISVL, 8 posts with images
and 60 tokens for MTTV, one image of 320 x 320 pixels for SAT, all prepared.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stmine_hf.loading import load_model


def calls(method: str, network: Any, processor: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is timed, by name; the networks that an export lacks are left out."""
    chance = torch.Generator().manual_seed(0)
    size = dict(processor.image_processor.size) if hasattr(processor, "image_processor") else {"height": 320}
    pixels = torch.randn(8, 3, size["height"], size.get("width", size["height"]), generator=chance)
    ids = torch.randint(5, 1000, (16, 14), generator=chance)
    has = getattr(getattr(network, "export", None), "parts", ("image", "text"))
    if method == "fisvl":
        if "image" in has:
            yield "8 images", lambda: network.get_image_features(pixel_values=pixels)
        if "text" in has:
            yield "16 sentences", lambda: network.get_text_features(ids, torch.ones_like(ids))
    elif method == "mttv":
        ids = torch.randint(5, 1000, (8, 60), generator=chance)
        posts = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
        yield "8 posts", lambda: network(**posts, image_mask=torch.ones(8, dtype=torch.int64))
    else:
        yield "1 image", lambda: network(pixel_values=pixels[:1])


@torch.inference_mode()
def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=("fisvl", "mttv", "sat"))
    parser.add_argument("exports", nargs="+", help="folders that `stmine export` has written")
    parser.add_argument("--model", help="the model they were made from; default: the shipped one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    timed = {}
    for folder in ("", *args.exports):
        network, processor = load_model(args.method, folder or args.model, device="cpu")
        if not folder and hasattr(network, "fuse"):
            network = network.fuse()
        timed |= {(folder, name): call for name, call in calls(args.method, network, processor)}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in timed}
    for number in track(range(args.rounds + 2), "Measuring"):
        for key in random.sample(list(timed), len(timed)):
            spent = seconds(timed[key])
            if number >= 2:  # the first ones allocate and compile
                times[key].append(spent)

    table = Table(title=f"{args.threads} thread(s), {args.rounds} rounds, CPU time")
    for heading in ("model", "input", "ms, median", "PyTorch / this"):
        table.add_column(heading)
    for (folder, name), own in times.items():
        ratios = np.array(times["", name]) / np.array(own)
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        table.add_row(
            folder or "PyTorch", name, f"{1000 * np.median(own):.1f}", f"{middle:.2f} ({low:.2f} to {high:.2f})"
        )
    Console().print(table)


if __name__ == "__main__":
    main()

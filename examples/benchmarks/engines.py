"""Engines: the networks of the shipped models, and of FISVL in the released size, in every engine that is installed.

python examples/benchmarks/engines.py --quick
python examples/benchmarks/engines.py --data data

All are compared with PyTorch in 32-bit floats. An engine whose outputs are too far from PyTorch's is not used by any
job for that network: a line says so, and it is left out.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from harness import Comparison, Options, run_group
from PIL import Image
from torch import Tensor

from stmine_hf import FisvlConfig, FisvlModel
from stmine_hf.detect import EngineDetector
from stmine_hf.errors import StmineError
from stmine_hf.inference.engines import Runner
from stmine_hf.loading import load_fisvl, load_mttv, load_sat
from stmine_hf.posts import EngineClassifier
from stmine_hf.search import EngineEncoder

NAMES = ("torch", "torch-bf16", "onnx", "openvino")  # torch-compile compiles for a minute
SENTENCE = "many planes are parked next to a long building in an airport"


def comparisons(options: Options) -> Iterator[Comparison]:
    with tempfile.TemporaryDirectory() as scratch:
        yield from networks(options, Path(scratch), 4 if options.quick else 8)


def networks(options: Options, folder: Path, count: int) -> Iterator[Comparison]:
    def images(name: str, size: tuple[int, int]) -> list[Image.Image]:
        return [Image.open(file).convert("RGB") for file in options.images(folder / name, name, count, size)]

    model, processor = load_fisvl(None, "cpu")
    seen = processor(images=images("rsicd", (224, 224)), return_tensors="pt")
    read = processor(text=[f"{SENTENCE} {number}" for number in range(8 * count)], return_tensors="pt")
    words = read["input_ids"], read["attention_mask"]
    yield network("FISVL lite, images", lambda name: EngineEncoder(model, name).image, seen["pixel_values"])
    if not options.quick:
        yield network("FISVL lite, sentences", lambda name: EngineEncoder(model, name).text, *words)
        torch.manual_seed(0)
        large, pixels = FisvlModel(FisvlConfig()).eval(), torch.randn(count, 3, 224, 224)
        yield network("FISVL official size, images", lambda name: EngineEncoder(large, name).image, pixels)
        yield network("FISVL official size, sentences", lambda name: EngineEncoder(large, name).text, *words)
        posts, reader = load_mttv(None, "cpu")
        shown = reader(text=["转发"] * count, images=images("weibo", (320, 240)))["pixel_values"]
        yield network("MTTV lite, images", lambda name: EngineClassifier(posts, name).images, shown)
    objects = images("coco_small", (640, 480))
    for checkpoint in ("sat-coco-small",) if options.quick else ("sat-indiscernible", "sat-coco-small"):
        detector, preparer = load_sat(checkpoint, "cpu")
        inputs = preparer(images=objects, return_tensors="pt")
        fused = detector.fuse()
        yield network(checkpoint, lambda name, fused=fused: EngineDetector(fused, name).runner, inputs["pixel_values"])


def network(work: str, open_in: Callable[[str], Runner | None], *inputs: Tensor) -> Comparison:
    """A network in each engine that can run it; the first batch, which opens the engine, is not timed."""
    runners: dict[str, Runner] = {}
    for name in NAMES:
        try:
            runner = open_in(name)
            assert runner is not None
            runner(*inputs)
        except StmineError as error:
            print(f"{work}: {name} is left out: {error}", file=sys.stderr)
            continue
        runners[runner.label] = runner
    plain = runners["torch"].network
    return Comparison(
        work=f"engines: {work}",
        count=len(inputs[0]),
        unit="rows",
        ways={label: lambda runner=runner: runner(*inputs) for label, runner in runners.items()},
        difference=plain.difference,
        measured="of the allowed" if plain.limit == 1 else "1 - cosine",
        allowed=plain.limit,
        conditions=f"batches of {len(inputs[0])} x {' x '.join(map(str, inputs[0].shape[1:]))}",
    )


if __name__ == "__main__":
    run_group("engines", comparisons, __doc__)

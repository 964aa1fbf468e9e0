"""A training step of the small models: in plain 32-bit floats, and with what is fast on a CPU.

    python examples/benchmarks/training.py --quick
    python examples/benchmarks/training.py --only FISVL --threads 2

Both run the training script of the config for some steps, in processes that take turns; the first step only warms up.
Plain is eager PyTorch with its own layout of images and weights. Ours keeps channels last in memory, as the training
scripts do by themselves, updates weights in one fused step, prepares batches in a process beside, and multiplies in 16
bits where that is faster, which it is not in SAT's narrow convolutions.
Memory, and further options, are measured by `python examples/benchmarks/training_cost.py`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import OURS, Comparison, Options, Timed, run_group
from training_cost import in_a_process, prepared

EAGER = ["--optim", "adamw_torch", "--bf16", "false"]
FAST = ["--optim", "adamw_torch_fused", "--dataloader_num_workers", "1"]


CONFIGS = (  # with a batch, and whether 16-bit floats are faster
    ("FISVL", "lite_rsicd", 64, "true"),
    ("MTTV", "lite_weibo", 32, "true"),
    ("SAT", "sat_coco_small", 16, "false"),
)


def comparisons(options: Options) -> Iterator[Comparison]:
    for method, config, batch, low in CONFIGS[-1:] if options.quick else CONFIGS:
        with tempfile.TemporaryDirectory() as scratch:
            fast = [*FAST, "--bf16", low]
            yield step(options, Path(scratch), method, config, batch // 4 if options.quick else batch, fast)


def step(options: Options, scratch: Path, method: str, config: str, batch: int, fast: list[str]) -> Comparison:
    steps = 3 if options.quick else 8
    command = prepared(config, scratch, batch=batch, samples=4 * batch, steps=steps)
    made = iter(range(10_000))

    def with_settings(more: list[str], *, plain: bool = False) -> Callable[[], Timed]:
        def run() -> Timed:
            own = ["--output_dir", str(scratch / f"run{next(made)}")]
            found = in_a_process([*command, *more, *own], options.threads, plain=plain)
            return Timed(sum(found["wall"][1:]), sum(found["cpu"][1:]), found["losses"])

        return run

    return Comparison(
        work=f"{method} lite: {steps - 1} training steps",
        count=batch * (steps - 1),
        unit="samples",
        ways={"eager float32": with_settings(EAGER, plain=True), OURS: with_settings(fast)},
        target=1.5,
        difference=lambda one, other: max(abs(a - b) / abs(a) for a, b in zip(one, other, strict=True)),
        measured="relative difference of the losses",
        allowed=0.1,
        conditions=f"{config}, batches of {batch}, drawn data; ours: channels last, {' '.join(fast)}, whose process's "
        "own time is not in that of the processor",
        rounds=1 if options.quick else 2,
        warm=False,
    )


if __name__ == "__main__":
    run_group("training", comparisons, __doc__)

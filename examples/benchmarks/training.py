"""A training step of the small models: in plain 32-bit floats, and with what is fast on a CPU.

    python examples/benchmarks/training.py --quick
    python examples/benchmarks/training.py --only FISVL --threads 2
    python examples/benchmarks/training.py --curves 40 --out examples/results

Both run the training script of the config for some steps, in processes that take turns; the first step only warms up.
Plain is eager PyTorch with its own layout of images and weights. Ours keeps channels last in memory, as the training
scripts do by themselves, updates weights in one fused step, prepares batches in a process beside, and multiplies in 16
bits. `--curves` trains for so many steps both ways, and draws the losses: loss_curves.json and loss_curves.png.
Memory, and further options, are measured by `python examples/benchmarks/training_cost.py`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import OURS, Comparison, Options, Timed, parser_of, run_group
from training_cost import in_a_process, prepared

from stmine_hf.files import write_entries

EAGER = ["--optim", "adamw_torch", "--bf16", "false"]
FAST = ["--optim", "adamw_torch_fused", "--dataloader_num_workers", "1", "--bf16", "true"]

CONFIGS = (  # with a batch
    ("FISVL", "lite_rsicd", 64),
    ("MTTV", "lite_weibo", 32),
    ("SAT", "sat_coco_small", 16),
)
SMOOTHED = 10  # losses of so many last steps are compared by their mean


def comparisons(options: Options) -> Iterator[Comparison]:
    for method, config, batch in CONFIGS[-1:] if options.quick else CONFIGS:
        with tempfile.TemporaryDirectory() as scratch:
            yield step(options, Path(scratch), method, config, batch // 4 if options.quick else batch)


def step(options: Options, scratch: Path, method: str, config: str, batch: int) -> Comparison:
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
        ways={"eager float32": with_settings(EAGER, plain=True), OURS: with_settings(FAST)},
        target=1.5,
        difference=lambda one, other: max(abs(a - b) / abs(a) for a, b in zip(one, other, strict=True)),
        measured="relative difference of the losses",
        allowed=0.1,
        conditions=f"{config}, batches of {batch}, drawn data; ours: channels last, {' '.join(FAST)}, whose process's "
        "own time is not in that of the processor",
        rounds=1 if options.quick else 2,
        warm=False,
    )


# ---- curves ----


def curves(steps: int, threads: int, out: Path) -> dict[str, Any]:
    """Train both ways for some steps, and write the losses of each."""
    found: dict[str, Any] = {}
    for method, config, batch in CONFIGS:
        print(f"{method}: {steps} steps of {batch} samples both ways ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            command = prepared(config, Path(scratch), batch=batch, samples=4 * batch, steps=steps)
            ways = {"eager float32": (EAGER, True), OURS: (FAST, False)}
            losses = {
                name: in_a_process(
                    [*command, *more, "--output_dir", f"{scratch}/{place}"], threads, plain=plain
                )["losses"]
                for place, (name, (more, plain)) in enumerate(ways.items())
            }  # fmt: skip
        last = [statistics.mean(own[-SMOOTHED:]) for own in losses.values()]
        found[method] = {
            "config": config,
            "batch": batch,
            "losses": losses,
            "last": dict(zip(losses, last, strict=True)),
        }
        print(f"{method}: the last {SMOOTHED} losses are {last[0]:.4f} and {last[1]:.4f} in the mean", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    write_entries(out / "loss_curves.json", found)
    draw_curves(found, out / "loss_curves.png")
    return found


def draw_curves(found: Mapping[str, Any], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(4 * len(found), 3), layout="constrained")
    for own, (method, row) in zip(axes, found.items(), strict=True):
        for (name, losses), style in zip(
            row["losses"].items(), ({"color": "black"}, {"color": "#0f766e"}), strict=True
        ):
            own.plot(range(1, len(losses) + 1), losses, label=name, linewidth=1.5, alpha=0.8, **style)
        own.set_title(f"{method}, {row['config']}", fontsize="small")
        own.set_xlabel("step")
        own.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("loss")
    axes[0].legend()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--curves", type=int, metavar="STEPS", help="draw the losses of so many steps instead")
    args = parser.parse_args()
    if args.curves:
        curves(args.curves, args.threads, args.out)
    else:
        run_group("training", comparisons, __doc__)


if __name__ == "__main__":
    main()

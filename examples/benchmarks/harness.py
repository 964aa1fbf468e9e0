"""Compare this package, fairly, with the released pipelines and usual alternatives, and with the machine's limit.

    make bench QUICK=1
    make bench DATA=data THREADS=2
    python examples/benchmarks/harness.py --groups metrics sat --quick

Every comparison takes turns: in each round all ways do the same work once, in an order that changes from round to
round, so that a busy machine slows all alike. A ratio is the median of the ratios of the rounds; beside it stand the
smallest and the largest. Two clocks are kept: that of the wall, which a user feels, and that of the processor (with
the processes that were started), which other load hardly stretches. The outputs of all ways are compared: a row whose
outputs differ by more than the stated amount fails the run.

"Released" is the authors' pipeline written down again in plain code: the same mathematics and batches, eager float32,
captions padded in file order, one crop at a time, Python loops in losses and metrics. The networks have the released
sizes and random weights, on which time does not depend.

Each group runs in a process of its own with a fixed number of threads. Results go to benchmarks.json, benchmarks.md
and benchmarks.png in `--out`, where rows that were not measured again stay as they are. Images, captions and posts are
drawn by the benchmark, or, with `--data DIR`, those of DIR/rsicd, DIR/weibo and DIR/coco_small.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from rich.console import Console
from rich.progress import track

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.reports import fill_page, versions
from stmine_hf.files import write_entries
from stmine_hf.inference.onnx_graph import OpenvinoNetwork, write_graph

GROUPS = ("metrics", "fisvl", "mttv", "sat", "engines", "training", "startup")
HERE = Path(__file__).resolve().parent
RESULTS = "benchmarks.json"
ELSEWHERE = HERE.parent / "results" / "benchmarks_zen5.json"  # of another processor
OURS = "ours"
AWAY = tempfile.gettempdir()  # where commands run: `python -m` prefers what lies in the current folder
LEAST_SECONDS = 0.05  # of a measurement: what takes less is called several times

Way = Callable[[], Any]


@dataclass
class Comparison:
    """One row of the table.

    Attributes:
        work: what is done.
        count: items that one call works on.
        unit: of the items, such as "images".
        ways: name -> one call. The first is what all are compared with; "ours" is what the target is for.
        target: the ratio that "ours" is to reach.
        most_seconds: that "ours" may take, on a machine with nothing else to do.
        difference: of the outputs of two ways (the first, another), and what it measures.
        measured: the name of the difference.
        allowed: the largest difference for which outputs count as equal.
        others: usual alternatives, timed but not compared, for they give other outputs.
        parts: steps of "ours", each called alone: where its time goes.
        former_parts: those of the first way.
        flops: of the matrices of one call.
        conditions: sizes and settings.
        rounds: None for as many as asked for.
        warm: let all ways work once before they are timed. Processes start cold.
    """

    work: str
    count: int
    unit: str
    ways: Mapping[str, Way]
    target: float | None = None
    difference: Callable[[Any, Any], float] | None = None
    measured: str = ""
    allowed: float = 0.0
    others: Mapping[str, Way] = field(default_factory=dict)
    parts: Mapping[str, Way] = field(default_factory=dict)
    former_parts: Mapping[str, Way] = field(default_factory=dict)
    flops: float = 0.0
    conditions: str = ""
    rounds: int | None = None
    warm: bool = True
    most_seconds: float | None = None


@dataclass
class Options:
    """What every group is told.

    Attributes:
        quick: fewer items and rounds.
        threads: of a process.
        rounds: of a comparison.
        data: a folder of real data; None: drawn.
        before: the Python of an environment with an earlier version, whose commands take turns with the present ones.
    """

    quick: bool = False
    threads: int = 1
    rounds: int = 5
    data: Path | None = None
    before: str | None = None

    def environment(self) -> dict[str, str]:
        """For commands that are timed: the same threads, no network."""
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return {**os.environ, **threads, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    def command(self, *words: str | Path, python: str | None = None) -> str:
        """What a command of `stmine` prints.

        Raises:
            StmineError: it failed; the message has its last lines.
        """
        line = [python or sys.executable, "-m", "stmine_hf.cli", *map(str, words)]
        done = subprocess.run(line, capture_output=True, text=True, env=self.environment(), cwd=AWAY)
        if done.returncode:
            last = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise StmineError(f"stmine {' '.join(map(str, words[:3]))} ended with {done.returncode}: {last}")
        return done.stdout

    def commands(self, run: Callable[[str], Any]) -> dict[str, Way]:
        """The ways of a command: of the earlier version, if there is one, and ours; `run` is told the Python."""
        earlier = {"before": lambda: run(str(self.before))} if self.before else {}
        return {**earlier, OURS: lambda: run(sys.executable)}

    def images(self, folder: Path, name: str, count: int, size: tuple[int, int] = (224, 224)) -> list[Path]:
        """JPEG files: the first of DATA/NAME/images, or drawn in `folder`; repeated under other names if too few."""
        there = sorted((self.data / name / "images").glob("*.jpg")) if self.data else []
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for number in range(count):
            file = folder / f"{number:06d}.jpg"
            if there:
                file.symlink_to(there[number % len(there)].resolve())
            else:
                drawn_image(number, size).save(file, quality=90)
            files.append(file)
        return files


class Timed(NamedTuple):
    """What a way returns that measures itself, such as steps of a program whose start does not count."""

    seconds: float
    cpu_seconds: float
    output: Any


def drawn_image(number: int, size: tuple[int, int]) -> Image.Image:
    """Soft patches with some noise, as photographs have."""
    import numpy as np

    random = np.random.default_rng(number)
    patches = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    noise = random.normal(0, 8, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(patches) + noise).clip(0, 255).astype(np.uint8))


Group = Callable[[Options], Iterator[Comparison]]


# ---- measure ----


def processor_seconds() -> float:
    """Of this process and of those that it started and waited for."""
    others = os.times()
    return time.process_time() + others.children_user + others.children_system


def measure(comparison: Comparison, options: Options, limits: Mapping[str, float]) -> dict[str, Any]:
    """Let all ways take turns, and compare their outputs.

    Args:
        limits: of `matrix_limits`.

    Raises:
        StmineError: outputs differ by more than is allowed.
    """
    calls = {**comparison.ways, **comparison.others}
    rounds = comparison.rounds or options.rounds
    first = next(iter(comparison.ways))
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    outputs: dict[str, Any] = {}
    names = list(calls)
    repeats = dict.fromkeys(names, 1)
    doing = f"{comparison.work[:50]}: taking turns"
    # Round 0 only warms up; work that takes long enough to be warm within a call does without.
    first_round = 0 if comparison.warm else 1
    for number in track(range(first_round, rounds + 1), doing, console=Console(stderr=True), transient=True):
        if number == 1 and comparison.warm and sum(seconds for (seconds,) in cpu.values()) > 60:
            break
        if number == 1 and comparison.warm:
            repeats = {name: max(1, round(LEAST_SECONDS / seconds)) for name, (seconds,) in wall.items()}
            wall, cpu = ({name: [] for name in calls} for _ in range(2))
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            started, busy = time.perf_counter(), processor_seconds()
            for _ in range(repeats[name]):
                result = calls[name]()
            seconds = (time.perf_counter() - started) / repeats[name]
            processor = (processor_seconds() - busy) / repeats[name]
            if isinstance(result, Timed):
                seconds, processor, result = result
            wall[name].append(seconds)
            cpu[name].append(processor)
            if name in comparison.ways:
                outputs[name] = result
    row: dict[str, Any] = {
        "work": comparison.work,
        "conditions": comparison.conditions,
        "count": comparison.count,
        "unit": comparison.unit,
        "threads": options.threads,
        "rounds": len(wall[first]),
        "baseline": first,
        "target": comparison.target,
        "most_seconds": comparison.most_seconds,
        "ways": {},
    }
    for name in calls:
        ratios = [own / other for own, other in zip(wall[first], wall[name], strict=True)]
        on_processor = [own / max(other, 1e-9) for own, other in zip(cpu[first], cpu[name], strict=True)]
        found: dict[str, Any] = {
            "seconds": spread(wall[name]),
            "cpu_seconds": spread(cpu[name]),
            "ratio": spread(ratios),
            "cpu_ratio": spread(on_processor),
        }
        if comparison.flops and name in comparison.ways:
            speed = comparison.flops / max(statistics.median(cpu[name]), 1e-9) / 1e9
            found["share_of_limit"] = {kind: round(speed / limit, 3) for kind, limit in limits.items()}
        if comparison.difference is not None and name in comparison.ways and name != first:
            found["difference"] = float(comparison.difference(outputs[first], outputs[name]))
        row["ways"][name] = found
    if comparison.difference is not None:
        row |= {"measured": comparison.measured, "allowed": comparison.allowed}
    row["parts"], row["former_parts"] = parts_of(comparison.parts), parts_of(comparison.former_parts)
    far = {name: way["difference"] for name, way in row["ways"].items() if "difference" in way}
    if broken := {name: value for name, value in far.items() if not value <= comparison.allowed}:
        raise StmineError(
            f"{comparison.work}: the outputs differ ({comparison.measured}): {broken}, allowed {comparison.allowed}."
        )
    return row


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def parts_of(parts: Mapping[str, Way], rounds: int = 3) -> dict[str, float]:
    """Seconds of the processor that each step takes alone, the median of some calls that take turns."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    started = time.perf_counter()
    for number in range(rounds):
        if number and time.perf_counter() - started > 10:
            break
        for name, call in parts.items():
            busy = processor_seconds()
            call()
            times[name].append(processor_seconds() - busy)
    return {name: statistics.median(values) for name, values in times.items()}


def matrix_limits(side: int = 1536, seconds: float = 0.5) -> dict[str, float]:
    """GFLOP in a second of the processor that products of large square matrices reach: float32, bfloat16, int8.

    In PyTorch, or in OpenVINO where that is faster: PyTorch's products of 32-bit floats do not use all of some
    processors.
    """
    import torch

    made = torch.rand(side, side)
    half, small = made.bfloat16(), (made * 100).to(torch.int8)
    products: list[tuple[str, int, Way]] = [
        ("float32", 1, lambda: made @ made),
        ("bfloat16", 1, lambda: half @ half),
        ("int8", 1, lambda: torch._int_mm(small, small)),
        *openvino_products(made),
    ]
    limits: dict[str, float] = {}
    with torch.inference_mode():
        for kind, count, multiply in products:
            with suppress(RuntimeError, NotImplementedError):  # not on this machine
                multiply()
                best, ends = float("inf"), time.perf_counter() + seconds
                while time.perf_counter() < ends:
                    busy = processor_seconds()
                    for _ in range(2):
                        multiply()
                    best = min(best, (processor_seconds() - busy) / 2 or float("inf"))
                limits[kind] = max(limits.get(kind, 0.0), round(2 * count * side**3 / best / 1e9, 1))
    return limits


def openvino_products(given: Any, count: int = 8) -> Iterator[tuple[str, int, Way]]:
    """The kind of numbers, how many products in a row, and what computes them; nothing without OpenVINO."""
    import torch

    if not (find_spec("openvino") and find_spec("onnx")):
        return
    side = len(given)
    layers = torch.nn.Sequential(*(torch.nn.Linear(side, side, bias=False) for _ in range(count)))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "products.onnx"
        write_graph(layers, {"rows": given[:2]}, "products", file)
        for kind, precision in (("float32", "f32"), ("bfloat16", "bf16")):
            network = OpenvinoNetwork(file, torch.get_num_threads(), precision=precision)
            yield kind, count, partial(network, {"rows": given.numpy()})


def flops_of(call: Way) -> float:
    """Floating-point operations of the matrix products and convolutions of a PyTorch call."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def engine(*names: str) -> str:
    """The engine for rows of a long job: the one that jobs find on most machines, without their measurement.

    Args:
        names: by preference; the first that is installed.
    """
    packages = {"openvino": "openvino", "onnx": "onnxruntime"}
    return next((name for name in names or ("openvino", "onnx") if find_spec(packages[name])), "torch")


def without(package: str, need: str) -> None:
    """Say that an alternative is left out because it is not installed."""
    print(f"{need} is left out: pip install {package}", file=sys.stderr)


# ---- report ----


def render(document: Mapping[str, Any]) -> str:
    """The results as Markdown: the rows with a target, alternatives, where the time goes, the machine."""
    rows = [row for _, row in sorted(document["rows"].items(), key=lambda item: order_of(item[1]))]
    lines = [
        "Times are medians, of the wall and in brackets of the processor.",
        "",
        "| work | compared with | its time | ours | ratio (spread) | of processor time | target | difference |",
        "|---|---|---:|---:|---|---:|---:|---|",
    ]
    for row in rows:
        base, name = row["ways"][row["baseline"]], row["baseline"]
        if OURS not in row["ways"] or name == OURS:
            continue
        ours = row["ways"][OURS]
        target = target_of(row)
        lines.append(
            f"| {row['work']} | {name} | {per_call(base)} | {per_call(ours)} | {times(ours['ratio'])} "
            f"| {ours['cpu_ratio']['median']:.2f} x | {target} | {difference_of(row, ours)} |"
        )
    more = [
        (row, name, way) for row in rows for name, way in row["ways"].items() if name not in (row["baseline"], OURS)
    ]
    alone = [(row, name, row["ways"][name]) for row in rows for name in [row["baseline"]] if name == OURS]
    if more or alone:
        lines += ["", "| work | way | its time | ratio to the first | target | difference |"]
        lines += ["|---|---|---:|---|---:|---|"]
        for row, name, way in [*alone, *more]:
            ratio = "" if name == row["baseline"] else times(way["ratio"])
            target = target_of(row) if name == OURS else ""
            cells = (row["work"], name, per_call(way), ratio, target, difference_of(row, way))
            lines.append(f"| {' | '.join(cells)} |")
    shares = [(row, name, way) for row in rows for name, way in row["ways"].items() if "share_of_limit" in way]
    if shares:
        kinds = list(shares[0][2]["share_of_limit"])
        lines += ["", f"| share of the limit of the processor's matrix products | way | {' | '.join(kinds)} |"]
        lines += [f"|---|---|{'---:|' * len(kinds)}"]
        for row, name, way in shares:
            cells = (f"{100 * way['share_of_limit'].get(kind, 0):.0f} %" for kind in kinds)
            lines.append(f"| {row['work']} | {name} | {' | '.join(cells)} |")
    if with_parts := [row for row in rows if row["parts"]]:
        lines += ["", "| where the processor's time goes | step | compared with | ours |", "|---|---|---:|---:|"]
        for row in with_parts:
            base, ours = (row["ways"][name]["cpu_seconds"]["median"] for name in (row["baseline"], OURS))
            former, parts = with_rest(row.get("former_parts", {}), base), with_rest(row["parts"], ours)
            for name in parts | former:
                cells = (part_of(steps.get(name), whole, row) for steps, whole in ((former, base), (parts, ours)))
                lines.append(f"| {row['work']} | {name} | {' | '.join(cells)} |")
    lines += ["", "Conditions: "]
    lines += [
        f"* {row['work']}: {row['conditions']}; {row['threads']} thread(s), {row['rounds']} rounds." for row in rows
    ]
    machine = document["machine"]
    limits = ", ".join(f"{kind} {value:,.0f}" for kind, value in machine["gflops"].items())
    named = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    lines += [
        "",
        f"{machine['processor']}, {machine['cores']} cores. Matrix products of one thread, GFLOP/s: {limits}.",
    ]
    lines += [f"{named}."]
    return "\n".join(lines)


def elsewhere(document: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The ratios of two processors side by side, as Markdown: rows that were measured on both."""
    processors = [
        f"{one['machine']['processor']}, {one['machine']['gflops']['float32']:.0f} GFLOP/s"
        for one in (document, other)
    ]
    lines = [f"| work | compared with | {' | '.join(processors)} |", "|---|---|---|---|"]
    for work, row in sorted(document["rows"].items(), key=lambda item: order_of(item[1])):
        base = row["baseline"]
        if base != OURS and work in other["rows"] and other["rows"][work]["baseline"] == base:
            ratios = (times(one["rows"][work]["ways"][OURS]["ratio"]) for one in (document, other))
            lines.append(f"| {work} | {base} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def with_rest(parts: Mapping[str, float], whole: float) -> dict[str, float]:
    """Steps and what they leave of the whole: files, waiting, Python between them."""
    return {**parts, "rest": max(0.0, whole - sum(parts.values()))} if parts else {}


def part_of(seconds: float | None, whole: float, row: Mapping[str, Any]) -> str:
    """Of one item, with the share of the whole."""
    if seconds is None:
        return ""
    return f"{1000 * seconds / row['count']:.3g} ms ({100 * seconds / whole:.0f} %)"


def order_of(row: Mapping[str, Any]) -> tuple[int, int]:
    return (GROUPS.index(row["group"]) if row.get("group") in GROUPS else len(GROUPS), row.get("place", 0))


def per_call(way: Mapping[str, Any]) -> str:
    wall, processor = (
        f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
        for seconds in (way["seconds"]["median"], way["cpu_seconds"]["median"])
    )
    return f"{wall} ({processor})"


def target_of(row: Mapping[str, Any]) -> str:
    if row.get("most_seconds") is not None:
        return f"at most {row['most_seconds']:g} s"
    return "" if row["target"] is None else f"{row['target']:g} x"


def times(ratio: Mapping[str, float]) -> str:
    digits = 0 if ratio["median"] >= 100 else 2
    return f"{ratio['median']:,.{digits}f} x ({ratio['least']:,.{digits}f} to {ratio['greatest']:,.{digits}f})"


def difference_of(row: Mapping[str, Any], way: Mapping[str, Any]) -> str:
    return f"{row['measured']} {way['difference']:.1e}" if "difference" in way else ""


def draw(document: Mapping[str, Any], file: Path) -> None:
    """The ratios as bars, with the targets and the spread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in document["rows"].values() if OURS in row["ways"] and row["baseline"] != OURS]
    rows.sort(key=order_of, reverse=True)
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.45 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        ratio = row["ways"][OURS]["ratio"]
        reached = row["target"] is None or ratio["median"] >= row["target"]
        axes.barh(place, ratio["median"], color="#0f766e" if reached else "#b45309", height=0.6)
        axes.plot([ratio["least"], ratio["greatest"]], [place, place], color="black", linewidth=1)
        if row["target"] is not None:
            axes.plot([row["target"]] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{row['work']}\n(to: {row['baseline']})" for row in rows], fontsize="x-small")
    axes.set_xscale("log")
    axes.set_xlabel("times as fast; thick stroke: target, thin: spread of the rounds")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
    pyplot.close(figure)


# ---- run ----


def parser_of(text: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer items, one round, not all rows: some two minutes")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--rounds", type=int, help="in which all ways take turns; default: 5, or 1 with --quick")
    parser.add_argument("--data", type=Path, help="folder of real data; default: drawn")
    parser.add_argument(
        "--before", help="the Python of an environment with an earlier version, to compare commands with"
    )
    parser.add_argument("--only", default="", help="measure rows alone whose work contains this")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"), help="folder for the results")
    parser.add_argument("--page", type=Path, help="Markdown page whose table `benchmarks` is filled in")
    return parser


def run_group(name: str, group: Group, text: str | None) -> None:
    """The command line of a group: measure its rows, write them among the others."""
    args = parser_of(text).parse_args()
    # Before PyTorch is imported, which reads them once.
    os.environ |= {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import torch
    from transformers.utils import logging

    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options = Options(args.quick, args.threads, args.rounds or (1 if args.quick else 5), args.data, args.before)
    print(f"{name}: {options.threads} thread(s), {options.rounds} rounds", file=sys.stderr, flush=True)
    limits = matrix_limits(seconds=0.2 if options.quick else 0.5)
    rows = {}
    try:
        for place, comparison in enumerate(group(options)):
            if args.only in comparison.work:
                row = measure(comparison, options, limits)
                rows[comparison.work] = {"group": name, "place": place, **row}
                write_report(args.out, rows, limits)
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
    print(render({**read_results(args.out), "rows": rows}))


def read_results(out: Path) -> dict[str, Any]:
    file = out / RESULTS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"rows": {}}


def write_report(out: Path, rows: Mapping[str, Any], limits: Mapping[str, float]) -> None:
    """Enter rows in the results of a folder, and draw table and image anew."""
    out.mkdir(parents=True, exist_ok=True)
    document = read_results(out)
    document["rows"] = {**document["rows"], **rows}
    machine = {"processor": processor_name(), "cores": os.cpu_count(), "gflops": limits}
    document |= {"machine": machine, "versions": versions("onnxruntime", "openvino", "pycocotools")}
    write_entries(out / RESULTS, document)
    (out / "benchmarks.md").write_text(render(document) + "\n", encoding="utf-8")
    with suppress(ImportError):
        draw(document, out / "benchmarks.png")


def processor_name() -> str:
    """Its name, with the family and the model that tell generations of one name apart."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        facts = [line.partition(":") for line in text.partition("\n\n")[0].splitlines()]
        known = {name.strip(): value.strip() for name, _, value in facts}
        if name := known.get("model name"):
            numbers = {"family": known.get("cpu family"), "model": known.get("model")}
            return ", ".join([name, *(f"{word} {number}" for word, number in numbers.items() if number)])
    return platform.processor() or platform.machine()


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    args = parser.parse_args()
    words = [*(["--quick"] if args.quick else []), "--threads", str(args.threads), "--out", str(args.out)]
    for option in ("rounds", "data", "before", "only"):
        if value := getattr(args, option):
            words += [f"--{option}", str(value)]
    failed = []
    for group in args.groups:
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        done = subprocess.run([sys.executable, str(HERE / f"{group}.py"), *words], env=environment)
        failed += [group] if done.returncode else []
    document = read_results(args.out)
    if args.page:
        fill_page(args.page, "benchmarks", render(document))
        fill_page(args.page, "elsewhere", elsewhere(document, json.loads(ELSEWHERE.read_text(encoding="utf-8"))))
    print(f"Results: {args.out / 'benchmarks.md'}, {RESULTS}, benchmarks.png")
    if failed:
        raise SystemExit(f"error: {', '.join(failed)} failed; see above")


if __name__ == "__main__":
    main()

"""examples/benchmarks: what is compared takes turns, outputs that differ fail, the report has every figure."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from documents import ROOT

FOLDER = ROOT / "examples" / "benchmarks"
LIMITS = {"float32": 100.0, "bfloat16": 300.0}


def load(name: str) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look there
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    return load("harness")


def comparison(harness, **changed):
    turns: list[str] = []

    def way(name: str, output: float):
        def run() -> float:
            turns.append(name)
            return output

        return run

    given = {
        "work": "sums",
        "count": 2,
        "unit": "numbers",
        "ways": {"released": way("released", 1.0), "ours": way("ours", 1.25)},
        "difference": lambda one, other: abs(one - other),
        "measured": "sum",
        "allowed": 0.5,
        "target": 3,
        "others": {"a library": way("a library", 0.0)},
        "parts": {"reading": lambda: sum(range(1000))},
        "former_parts": {"reading": lambda: sum(range(1000)), "sorting": lambda: sorted(range(1000))},
        "flops": 1e6,
        "conditions": "two numbers",
    }
    return harness.Comparison(**{**given, **changed}), turns


def test_all_ways_take_turns_and_are_compared(harness, monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "LEAST_SECONDS", 0)
    made, turns = comparison(harness)
    row = harness.measure(made, harness.Options(rounds=3, threads=2), LIMITS)
    names = ["released", "ours", "a library"]
    assert turns == [*names, *names[1:], names[0], names[2], *names[:2], *names]
    assert (row["rounds"], row["threads"], row["baseline"]) == (3, 2, "released")
    assert row["ways"]["ours"]["difference"] == 0.25 and "difference" not in row["ways"]["a library"]
    assert set(row["ways"]["ours"]["share_of_limit"]) == set(LIMITS) and set(row["parts"]) == {"reading"}
    ratio = row["ways"]["ours"]["ratio"]
    assert ratio["least"] <= ratio["median"] <= ratio["greatest"]

    harness.write_report(tmp_path, {"sums": {"group": "metrics", "place": 0, **row}}, LIMITS)
    harness.write_report(tmp_path, {}, LIMITS)  # rows that were not measured again stay
    document = json.loads((tmp_path / "benchmarks.json").read_text())
    assert document["rows"]["sums"]["ways"] == row["ways"] and document["machine"]["gflops"] == LIMITS
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| sums | released |" in page and "| 3 x | sum 2.5e-01 |" in page and "| sums | a library |" in page
    steps = [line for line in page.splitlines() if line.startswith(("| sums | reading", "| sums | sorting"))]
    assert [line.count(" ms (") for line in steps] == [2, 1] and "| sums | rest |" in page
    assert "bfloat16 300" in page and "two numbers; 2 thread(s), 3 rounds" in page
    assert (tmp_path / "benchmarks.png").stat().st_size > 1000


def test_outputs_that_differ_fail_the_run(harness):
    made, _ = comparison(harness, allowed=0.1)
    with pytest.raises(harness.StmineError, match=r"sums: the outputs differ \(sum\): .*0.25.*allowed 0.1"):
        harness.measure(made, harness.Options(rounds=1), LIMITS)
    made, _ = comparison(harness, difference=lambda one, other: float("nan"))
    with pytest.raises(harness.StmineError, match="outputs differ"):
        harness.measure(made, harness.Options(rounds=1), LIMITS)


def test_a_way_may_measure_itself(harness):
    ways = {"released": lambda: harness.Timed(2.0, 4.0, 1), "ours": lambda: harness.Timed(1.0, 1.0, 1)}
    made, _ = comparison(harness, ways=ways, others={})
    row = harness.measure(made, harness.Options(rounds=2), LIMITS)
    assert row["ways"]["ours"]["ratio"]["median"] == 2 and row["ways"]["ours"]["cpu_ratio"]["median"] == 4


def test_metrics_equal_the_released_loops():
    metrics = load("metrics")
    for made in (metrics.losses(10), metrics.recall(7, 5), metrics.average_precision(3, 20, 4)):
        first, *others = (way() for way in made.ways.values())
        assert all(made.difference(first, other) <= made.allowed for other in others), made.work


def test_the_guide_has_the_table_of_what_was_measured(harness):
    """As `--page` fills it: nothing in it is written by hand."""
    found = json.loads((ROOT / "examples" / "results" / "benchmarks.json").read_text())
    page = (ROOT / "examples" / "guides" / "evaluate.md").read_text()
    shown = page.split("<!-- benchmarks -->\n")[1].split("\n<!-- end of benchmarks -->")[0]
    assert shown == harness.render(found)
    other = json.loads(harness.ELSEWHERE.read_text())
    beside = page.split("<!-- elsewhere -->\n")[1].split("\n<!-- end of elsewhere -->")[0]
    assert beside == harness.elsewhere(found, other) and "GFLOP/s" in beside


@pytest.mark.slow
def test_the_quick_suite_runs_from_end_to_end(tmp_path):
    command = [sys.executable, str(FOLDER / "harness.py"), "--quick", "--rounds", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "benchmarks.json").read_text())["rows"]
    assert {row["group"] for row in rows.values()} == {
        "metrics",
        "fisvl",
        "mttv",
        "sat",
        "engines",
        "training",
        "startup",
    }
    assert all(way["seconds"]["median"] > 0 for row in rows.values() for way in row["ways"].values())
    assert all(Path(tmp_path / name).is_file() for name in ("benchmarks.md", "benchmarks.png"))

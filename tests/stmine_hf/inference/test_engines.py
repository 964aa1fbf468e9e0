"""Engines give PyTorch's outputs; the choice among them is made once, survives any cache, and changes no answer."""

from __future__ import annotations

import errno
import importlib.util
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stmine_hf.errors import StmineError
from stmine_hf.files import cache_folder
from stmine_hf.inference import engines
from stmine_hf.inference.engines import ENGINES, Network, Runner, cosine_distance, has_bfloat16


class Small(nn.Module):
    """A network that is slow in PyTorch, so that whatever else runs it is faster."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        self.calls = 0

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        time.sleep(0.02)
        return self._compute(pixel_values)

    def _compute(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.inner(pixel_values)
        return maps, maps.mean(dim=(2, 3))


class Graph(Small):
    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        return self._compute(pixel_values)


def small_network(limit: float = 0.05, **fields) -> Network:
    def apart(expected, found) -> float:
        return max(float((ours - theirs).abs().max()) for ours, theirs in zip(expected, found, strict=True))

    axes = {"pixel_values": {2: "height", 3: "width"}, "maps": {2: "rows", 3: "columns"}}
    return Network(
        "small", Small().eval(), ("pixel_values",), ("maps", "means"), "weights", apart, limit,
        **{"axes": axes, "graph": lambda inputs: Graph(), **fields},
    )  # fmt: skip


def images(count: int = 2, height: int = 16, width: int = 16) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))


@pytest.fixture
def worth_it(tmp_path, monkeypatch):
    """A cache of its own, and no other engine costs anything to build."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "_OPENING", 0.0)


def ran(runner: Runner, batches: int = 3) -> None:
    plain = runner.network.module
    for count in range(1, batches + 1):
        inputs = images(count, 16 + count)
        with torch.inference_mode():
            expected = plain(inputs)
        for ours, theirs in zip(expected, runner(inputs), strict=True):
            torch.testing.assert_close(theirs, ours, atol=0.05, rtol=0)


@pytest.mark.parametrize("name", ["torch", "torch-bf16", "onnx", "openvino"])
def test_every_engine_gives_pytorchs_outputs_for_any_batch_and_size(name):
    runner = Runner(small_network(), name)
    ran(runner)
    low = has_bfloat16()
    expected = {"torch-bf16": "torch-bf16" if low else "torch", "openvino": "openvino-bf16" if low else "openvino"}
    assert runner.used == [expected.get(name, name)]


def test_a_network_that_magnifies_rounding_computes_in_16_bits_only_where_that_is_asked_for(worth_it):
    network, low = small_network(low_unasked=False), has_bfloat16()
    names = {name: Runner(network, name) for name in ("torch-bf16", "openvino")}
    for runner in names.values():
        ran(runner)
    assert names["torch-bf16"].used == ["torch-bf16" if low else "torch"] and names["openvino"].used == ["openvino"]
    assert all(engine.precision == "float32" for engine in engines._engines(engines.AUTO, network))


def test_a_choice_of_16_bits_that_is_not_for_this_network_is_measured_anew(worth_it):
    network = small_network(low_unasked=False)
    engines._Choice("openvino", "bfloat16", 3.0, 1.0).write("key")
    assert engines._Choice.read("key", network) is None


@pytest.mark.slow
def test_a_compiled_network_gives_pytorchs_outputs():
    ran(Runner(small_network(), "torch-compile"), batches=2)


def test_parts_in_16_bits_leave_the_rest_and_the_network_itself_as_they_are():
    network = small_network(low=("inner.2",))
    runner, seen = Runner(network, "torch-bf16"), []
    hook = network.module.inner[0].register_forward_hook(lambda *given: seen.append(given[2].dtype))
    ran(runner, 1)
    hook.remove()
    assert set(seen) == {torch.float32}
    with torch.inference_mode():
        assert network.module(images())[0].dtype == torch.float32


def test_a_short_job_stays_in_pytorch_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runner = Runner(small_network())
    runner.expect(100)
    ran(runner)
    assert runner.used == ["torch"] and not any(tmp_path.iterdir())


def test_the_fastest_engine_is_found_once_and_remembered(worth_it, monkeypatch):
    first = Runner(small_network())
    first.expect(10_000)
    ran(first)
    assert first.used[0] == "torch" and first.used[1].startswith(("onnx", "openvino")), first.used
    assert first.used[1] in first.remark
    (kept,) = cache_folder("engines").iterdir()
    assert first.used[1].startswith(json.loads(kept.read_text())["engine"])

    opened = []
    open_onnx, open_openvino = engines._Onnx.open, engines._Openvino.open
    monkeypatch.setattr(engines._Onnx, "open", lambda *given: opened.append("onnx") or open_onnx(*given))
    monkeypatch.setattr(engines._Openvino, "open", lambda *given: opened.append("openvino") or open_openvino(*given))
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"seconds": 0.0}))
    second = Runner(small_network())
    second.expect(10_000)
    ran(second)
    assert second.used == first.used and len(opened) == 1


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b"[]", b'{"engine": "torch"}', b'{"engine": 7, "ratio": "nan"}']
)
def test_a_damaged_choice_is_measured_again(worth_it, content):
    runner = Runner(small_network())
    runner.expect(10_000)
    file = cache_folder("engines") / f"{runner._key((images(1, 17),))}.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    ran(runner)
    assert len(runner.used) == 2 and json.loads(file.read_text())["ratio"] > 1


def test_a_cache_that_cannot_be_written_changes_nothing(worth_it, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    runner = Runner(small_network())
    runner.expect(10_000)
    ran(runner)
    assert len(runner.used) == 2


def test_an_engine_that_differs_too_much_is_never_chosen(worth_it):
    runner = Runner(small_network(limit=-1.0))
    runner.expect(10_000)
    ran(runner)
    assert runner.used == ["torch"]
    (kept,) = cache_folder("engines").iterdir()
    assert json.loads(kept.read_text())["engine"] == "torch"
    calls = (again := Runner(small_network(limit=-1.0))).network.module.calls
    again.expect(10_000)
    again(images())
    again(images())
    assert again.network.module.calls == calls + 2 and again._decided  # nothing is measured again
    with pytest.raises(StmineError, match=r"engine onnx cannot be used.*differs from PyTorch by .* use --engine auto"):
        Runner(small_network(limit=-1.0), "onnx")(images())


def test_an_engine_that_fails_later_is_left_for_pytorch(worth_it):
    runner = Runner(small_network())
    runner.expect(10_000)
    ran(runner, 2)
    assert runner.label != "torch"

    def fail(*inputs):
        raise RuntimeError("out of something")

    runner._run = fail
    ran(runner)
    assert runner.label == "torch" and not runner.remark


def test_an_engine_that_fails_in_several_threads_is_left_for_pytorch_in_all_of_them(worth_it):
    runner = Runner(small_network())
    runner.expect(10_000)
    ran(runner, 2)

    def fail(*inputs):
        runner.back_to_torch()  # as another thread does whose batch has failed just before
        raise RuntimeError("out of something")

    runner._run = fail
    ran(runner, 1)
    assert runner.label == "torch"


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_threads_get_their_own_outputs(name):
    runner = Runner(small_network(graph=lambda inputs: Graph()), name)

    def work(number: int) -> None:
        for count in range(1, 9):
            inputs = images(count, 16 + number)
            with torch.inference_mode():
                expected = runner.network.module._compute(inputs)
            for ours, theirs in zip(expected, runner(inputs), strict=True):
                torch.testing.assert_close(theirs, ours, atol=0.05, rtol=0)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(runner.used) == 1 and runner._ran == 32


def test_a_comparison_is_not_missed_when_threads_count_at_once(worth_it, caplog):
    runner = Runner(small_network())
    runner.expect(10_000)
    ran(runner)
    first, run = runner.label, runner._run
    runner._run = lambda *inputs: tuple(one + 1 for one in run(*inputs))
    runner._ran = runner._comparing  # as two threads leave it, neither of which compared
    ran(runner, 1)
    assert runner.label != first and f"{first} differs from PyTorch" in caplog.text


def test_a_distance_that_is_not_a_number_is_no_agreement():
    rows = torch.ones(2, 3)
    assert cosine_distance((rows, rows), (rows, rows)) < 1e-9
    assert not cosine_distance((rows, rows), (rows, rows * torch.nan)) <= 1


def test_a_failure_that_can_pass_is_not_remembered(worth_it, monkeypatch):
    def full(*given, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(engines, "write_graph", full)
        patched.setattr(engines, "has_bfloat16", lambda *device: False)
        runner = Runner(small_network())
        runner.expect(10_000)
        ran(runner)
        assert runner.used == ["torch"] and runner._decided and not cache_folder("engines").exists()
    again = Runner(small_network())
    again.expect(10_000)
    ran(again)
    assert len(again.used) == 2


@pytest.mark.parametrize("package", ["torch", "onnx", "onnxruntime", "openvino"])
def test_another_version_of_a_package_is_another_choice(monkeypatch, package):
    runner, version = Runner(small_network()), engines._version
    before = runner._key((images(),))
    monkeypatch.setattr(engines, "_version", lambda name: "0.0.1" if name == package else version(name))
    assert runner._key((images(),)) != before


def test_a_user_without_a_home_has_no_cache(worth_it, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    runner = Runner(small_network())
    runner.expect(10_000)
    ran(runner)
    assert len(runner.used) == 2
    with pytest.raises(OSError, match="no folder for a cache"):
        cache_folder("engines")


@pytest.mark.parametrize("asked", ["auto", "openvino"])
def test_an_engine_that_turns_out_too_far_away_is_left_for_the_next_best(worth_it, caplog, asked):
    runner = Runner(small_network(), asked)
    runner.expect(10_000)
    ran(runner)
    first, run = runner.label, runner._run
    runner._run = lambda *inputs: tuple(one + 1 for one in run(*inputs))
    runner._comparing = runner._ran + 2
    runner(images())
    with torch.inference_mode():
        expected = runner.network.module(images())[0]
    for _ in range(2):
        found = runner(images())[0]
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert runner.label not in (first, "torch" if asked == "auto" else "onnx") and first in caplog.text


def test_a_network_without_a_part_that_is_named_runs_the_others_in_16_bits():
    ran(Runner(small_network(low=("inner", "missing")), "torch-bf16"), 1)


@pytest.mark.parametrize(("name", "package", "extra"), [("onnx", "onnxruntime", "export"), ("openvino",) * 3])
def test_a_missing_package_is_named_and_skipped(worth_it, monkeypatch, name, package, extra):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted, *more: None if wanted == package else find(wanted))
    with pytest.raises(StmineError, match=rf"{name} needs the package {package}: pip install 'stmine-hf\[{extra}\]'"):
        Runner(small_network(), name)
    runner = Runner(small_network())
    runner.expect(10_000)
    ran(runner)
    assert not any(one.startswith(name) for one in runner.used)


def test_unknown_engines_and_those_that_do_not_fit_are_refused():
    with pytest.raises(StmineError, match=f"expected one of {', '.join(ENGINES)}, found 'tensorrt'"):
        Runner(small_network(), "tensorrt")
    network = small_network()
    network.module.bfloat16()
    with pytest.raises(StmineError, match="runs 32-bit floats on the CPU"):
        Runner(network, "onnx")
    assert Runner(network)(images().bfloat16())[0].dtype == torch.bfloat16
    exported = Runner(replace(network, module=nn.ReLU()))
    exported.expect(10**6)
    exported(images())
    assert exported.used == ["torch"] and exported._decided

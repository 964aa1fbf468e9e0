"""Blocks on a Ray of two workers: the results of one process, also if workers are killed; and messages without Ray."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from documents import ROOT
from helpers import tiny_fisvl
from helpers_mttv import tiny_mttv
from helpers_sat import tiny_sat
from PIL import Image

from stmine_hf.detect import Detector, detect_images
from stmine_hf.detect import images as detecting
from stmine_hf.errors import StmineError
from stmine_hf.inference import cluster
from stmine_hf.inference.cluster import WorkerLostError, map_blocks
from stmine_hf.posts import prediction
from stmine_hf.posts.classify import classify_file
from stmine_hf.search import ImageIndex, build, store

STRANGERS = """
import os, subprocess, sys
import ray  # as a program may have done that uses it for other work
from stmine_hf.errors import StmineError
from stmine_hf.inference.cluster import LOCAL, _connected, map_blocks

work = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False); print(ray.get(ray.remote(lambda: 7).remote()))"
with _connected(LOCAL):
    address = ray.get_runtime_context().gcs_address
    for words, left_out in (("without", "RAY_AUTH_"), ("with", "-")):
        own = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        told = subprocess.run([sys.executable, "-c", work, address], env=own, capture_output=True, text=True)
        print(f"{words} the token:", told.stdout.strip() if told.returncode == 0 else "refused", flush=True)
print("afterwards:", [name for name in os.environ if name.startswith("RAY_AUTH_")])
with _connected(LOCAL):
    print("a second one:", ray.get(ray.remote(lambda: 8).remote()))
os.environ["RAY_AUTH_MODE"] = "disabled"
ray.init(address="local", num_cpus=0, include_dashboard=False, log_to_driver=False)
try:
    list(map_blocks("auto", len, [[1]]))
except StmineError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def two_workers():
    """A Ray of this process with two workers, which `map_blocks` uses instead of starting its own."""
    if "ray" not in sys.modules:  # it reads these when it is imported
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of this test"}
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'stmine-hf[ray]'")
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False
    )
    # This file is no module that a worker could import.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()


class Square:
    """Squares numbers, and says in which process; what is in `deadly` kills it, as long as the file is missing."""

    def __init__(self, deadly: tuple[int, ...] = (), once: Path | None = None):
        self.deadly, self.once = deadly, once

    def start(self, device):
        assert device is None

    def __call__(self, block):
        if set(block) & set(self.deadly):
            die(self.once)
        if 13 in block:
            raise StmineError("thirteen is refused")
        time.sleep(0.2)  # else one worker may do all before the other has started
        return [number * number for number in block], os.getpid()


def die(once: Path | None) -> None:
    if once is None or not once.exists():
        if once is not None:
            once.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def mortal(kind: type, once: Path) -> type:
    """A kind of work whose second block kills the worker that gets it, once."""

    class Mortal(kind):
        def __call__(self, block):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 2:
                die(once)
            return super().__call__(block)

        def portable(self, *engine):
            other = super().portable(*engine)
            other.__class__ = type(self)
            return other

    return Mortal


def images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    (folder / "bad.png").write_bytes(b"no image")
    return folder


# --- with Ray


@pytest.mark.slow
def test_results_are_in_order_and_both_workers_work(two_workers):
    found = list(map_blocks("local", Square(), ([number] for number in range(13))))
    assert [numbers for numbers, _ in found] == [[number * number] for number in range(13)]
    assert len({process for _, process in found}) == 2


@pytest.mark.slow
def test_a_killed_worker_costs_only_its_block(two_workers, tmp_path):
    given = []

    def blocks():
        for number in range(12):
            given.append(number)
            yield [number]

    found = [numbers for numbers, _ in map_blocks("local", Square((4,), tmp_path / "died"), blocks())]
    assert (tmp_path / "died").exists()
    assert found == [[number * number] for number in range(12)] and given == list(range(12))


@pytest.mark.slow
def test_a_block_that_kills_every_worker_is_an_error_after_three(two_workers):
    found = []
    with pytest.raises(WorkerLostError, match="3 workers with the same block"):
        found.extend(map_blocks("local", Square((3,)), ([number] for number in range(9))))
    assert [numbers for numbers, _ in found] == [[0], [1], [4]], "what came before is not lost"


@pytest.mark.slow
def test_an_error_in_a_worker_is_the_error_here(two_workers):
    with pytest.raises(StmineError, match=r"^thirteen is refused$"):
        list(map_blocks("local", Square(), ([number] for number in range(10, 20))))


@pytest.mark.slow
def test_an_index_built_by_workers_of_which_one_is_killed(two_workers, tmp_path, monkeypatch):
    folder, model = images(tmp_path / "images", 11), tiny_fisvl()
    monkeypatch.setattr(build, "_BLOCK", 2)
    options = {"model": model, "batch_size": 2, "save_every": 4, "progress": False}
    alone = ImageIndex.build(folder, tmp_path / "alone", **options)
    monkeypatch.setattr(build, "EmbedBlock", mortal(build.EmbedBlock, tmp_path / "died"))
    index = ImageIndex.build(folder, tmp_path / "index", ray="local", **options)
    assert (tmp_path / "died").exists()
    assert (index.report.embedded, len(index), len(index.report.skipped)) == (11, 11, 1)
    assert index.report.skipped == alone.report.skipped
    for number in range(11):
        query = folder / f"{number:02d}.png"
        expected, found = alone.query(query, 11), index.query(query, 11)
        assert [hit.path for hit in found] == [hit.path for hit in expected]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    again = ImageIndex.build(folder, tmp_path / "index", ray="local", **options)
    assert (again.report.embedded, again.report.unchanged) == (0, 11)


@pytest.mark.slow
def test_an_index_of_tiles_built_by_workers(two_workers, tmp_path):
    folder = images(tmp_path / "images", 3)
    options = {"model": tiny_fisvl(), "batch_size": 2, "tile": 32, "progress": False}
    alone = ImageIndex.build(folder, tmp_path / "alone", **options)
    index = ImageIndex.build(folder, tmp_path / "index", ray="local", **options)
    expected = {(hit.path, hit.window): hit.score for hit in alone.query("a plane", 100, merge=False)}
    found = {(hit.path, hit.window): hit.score for hit in index.query("a plane", 100, merge=False)}
    assert len(found) == 12 and found == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_run_on_workers_resumes_after_it_was_stopped(two_workers, tmp_path, monkeypatch):
    folder, model = images(tmp_path / "images", 12), tiny_fisvl()
    monkeypatch.setattr(build, "_BLOCK", 2)
    options = {"model": model, "batch_size": 2, "save_every": 2, "progress": False, "ray": "local"}
    taken, take = [], build.IndexBuilder._take

    def until_the_third(self, block):
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(block)
        take(self, block)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build.IndexBuilder, "_take", until_the_third)
        ImageIndex.build(folder, tmp_path / "index", **options)
    index = ImageIndex.build(folder, tmp_path / "index", **options)
    assert (index.report.embedded, index.report.unchanged, len(index)) == (6, 6, 12)


@pytest.mark.slow
def test_posts_classified_by_workers_of_which_one_is_killed(two_workers, tmp_path, monkeypatch):
    folder, random = images(tmp_path / "posts", 6), np.random.default_rng(0)
    lines = [
        {"id": f"p{number}", "text": " ".join(random.choice(["fake", "news", "harbour"], random.integers(1, 12)))}
        | ({"image": f"{number % 7:02d}.png"} if number % 3 == 0 else {})
        for number in range(30)
    ]
    (folder / "posts.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    monkeypatch.setattr(prediction, "_BLOCK", 4)
    parts, options = tiny_mttv(seed=1), {"batch_size": 4, "progress": False}
    alone = classify_file(*parts, folder / "posts.jsonl", tmp_path / "alone.csv", **options)
    monkeypatch.setattr(prediction, "ClassifyBlock", mortal(prediction.ClassifyBlock, tmp_path / "died"))
    report = classify_file(*parts, folder / "posts.jsonl", tmp_path / "out.csv", ray="local", **options)
    assert (tmp_path / "died").exists()
    assert (report.predicted, report.skipped) == (alone.predicted, alone.skipped) and alone.skipped
    assert report.first_skipped == alone.first_skipped
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    again = classify_file(*parts, folder / "posts.jsonl", tmp_path / "out.csv", ray="local", **options)
    assert (again.predicted, again.done_before) == (0, report.predicted)


@pytest.mark.slow
@pytest.mark.parametrize("side", [None, 32])
def test_objects_found_by_workers_of_which_one_is_killed(two_workers, tmp_path, monkeypatch, side):
    folder = images(tmp_path / "images", 9)
    detector = Detector(*tiny_sat(), threshold=0.00995, slice=side)
    monkeypatch.setattr(detecting, "_BLOCK", 2)
    options = {"batch_size": 2, "progress": False, "formats": ["csv"], "save_crops": True}
    alone = detect_images(detector, folder, tmp_path / "alone", **options)
    monkeypatch.setattr(detecting, "DetectBlock", mortal(detecting.DetectBlock, tmp_path / "died"))
    report = detect_images(detector, folder, tmp_path / "out", ray="local", **options)
    assert (tmp_path / "died").exists() and report.objects == alone.objects > 0
    assert (report.images, report.detected, report.skipped) == (9, 9, alone.skipped)
    files = {file.relative_to(tmp_path / "alone") for file in (tmp_path / "alone").rglob("*") if file.is_file()}
    assert len(files) > 20
    for file in files:
        if file.name not in (".stmine-outputs.jsonl",) and not file.name.endswith(".lock"):
            assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes(), file
    again = detect_images(detector, folder, tmp_path / "out", ray="local", **options)
    assert (again.detected, again.unchanged) == (0, 9)


# --- without


@pytest.mark.slow
def test_a_cluster_started_here_takes_no_work_of_strangers():
    """In a process of its own: this one has a cluster with a known token."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    asked = subprocess.run(
        [sys.executable, "-c", STRANGERS], env=clean, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert asked.stdout.splitlines()[:-1] == [
        "without the token: refused", "with the token: 7", "afterwards: []", "a second one: 8"
    ], asked.stderr[-2000:]  # fmt: skip
    assert asked.stdout.splitlines()[-1].startswith("the Ray cluster has neither a GPU nor a CPU for workers")


def test_without_ray_the_message_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    folder = images(tmp_path / "images", 2)
    with pytest.raises(StmineError, match=r"pip install 'stmine-hf\[ray\]'"):
        ImageIndex.build(folder, tmp_path / "index", model=tiny_fisvl(), ray="local", progress=False)
    assert store.read_manifest(tmp_path / "index" / store.FINISHED) is None


class FullCluster:
    """A Ray whose one processor is taken by others until the third time it is waited for."""

    exceptions = SimpleNamespace(RayTaskError=KeyError, RayError=LookupError)

    def __init__(self, **resources):
        self.resources, self.waited = resources, []

    def cluster_resources(self):
        return self.resources

    def remote(self, **needs):
        def call(result):
            return SimpleNamespace(remote=lambda *arguments: result(*arguments))

        worker = SimpleNamespace(start=call(lambda version: "started"), run=call(lambda block: ("ran", block)))
        return lambda kind: call(lambda work: worker)

    def wait(self, references, num_returns, timeout):
        self.waited.append(timeout)
        return (references[:1], references[1:]) if len(self.waited) > 2 else ([], references)

    def get(self, reference):
        return reference

    def kill(self, actor):
        pass


def test_what_a_full_cluster_is_waited_for_is_said_once(caplog):
    full = FullCluster(CPU=1.0)
    assert list(cluster._Workers(full, None).map([1, 2])) == [("ran", 1), ("ran", 2)]
    assert [record.message for record in caplog.records] == [
        "waiting for a free CPU of the Ray cluster's 1: no worker has started"
    ]
    assert set(full.waited) == {60.0}


@pytest.mark.parametrize("resources", [{}, {"GPU": 0.5, "CPU": 0.5}])
def test_a_cluster_without_processors_is_refused(resources):
    with pytest.raises(StmineError, match="neither a GPU nor a CPU for workers: add a machine"):
        cluster._Workers(FullCluster(**resources), None)


def test_where_no_cluster_listens_it_is_said_at_once(monkeypatch):
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'stmine-hf[ray]'")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # by the tests before
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(StmineError, match=f"found no Ray cluster at '{address}'.*ray start --head"):
        list(cluster.map_blocks(address, Square(), [[1]]))

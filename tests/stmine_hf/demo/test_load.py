"""Many visitors at once, some of whom never say what they want: everybody else gets the right answer."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import httpx
import load
import pytest
from helpers import tiny_fisvl
from helpers_mttv import tiny_mttv
from helpers_sat import tiny_sat

from stmine_hf.data.toy.toy_scenes import write_scenes
from stmine_hf.demo import app as demo
from stmine_hf.demo.searching import ImageSearch
from stmine_hf.demo.tools import Models

pytest.importorskip("gradio", reason='needs Gradio: pip install "stmine-hf[demo]"')
CLIENTS = int(os.environ.get("STMINE_CLIENTS", "40"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to measure memory")
def test_many_visitors_at_once_lose_no_answer(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{load.ROOT}{os.pathsep}{load.ROOT / 'tests'}")
    found = load.run(CLIENTS, seconds=10)
    assert not found.faults() and found.counts["answered"] >= CLIENTS


def test_a_full_queue_says_so_and_answers_whom_it_has_let_in(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_WAITING", 2)
    free, search, running = threading.Event(), ImageSearch.search, threading.Semaphore(0)

    def wait(self, *words, **options):
        running.release()
        assert free.wait(120)
        return search(self, *words, **options)

    app, address = demo.launch(
        Models(tiny_fisvl(), tiny_mttv(), tiny_sat(), tiny_sat(seed=1)),
        folder=write_scenes(tmp_path / "scenes", count=2, size=64),
        wait=False,
    )
    try:
        job = {**load.Page(address, os.getpid()).jobs["sentence"], "data": ["a harbour", None, "en"]}

        def join(visitor: str) -> httpx.Response:
            return httpx.post(f"{address}gradio_api/queue/join", json={**job, "session_hash": visitor}, timeout=120)

        load.answer_to(address, "first", join("first"))  # the models are open
        monkeypatch.setattr(ImageSearch, "search", wait)
        accepted = []
        for number in range(demo._AT_A_TIME):
            accepted.append((f"running-{number}", join(f"running-{number}")))
            assert running.acquire(timeout=120)
        accepted += [(f"waiting-{number}", join(f"waiting-{number}")) for number in range(demo._WAITING)]
        assert [one.status_code for _, one in accepted] == [200] * len(accepted)
        for number in range(5):
            refused = join(f"late-{number}")
            assert refused.status_code == 503 and "full" in json.dumps(refused.json())
        free.set()
        answers = {load.answer_to(address, visitor, joined) for visitor, joined in accepted}
        assert len(answers) == 1
    finally:
        free.set()
        app.close(verbose=False)

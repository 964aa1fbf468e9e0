"""Many visitors at once, some of whom never say what they want: everybody else gets the right answer."""

from __future__ import annotations

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

import httpx
import pytest
from helpers import tiny_fisvl
from helpers_mttv import tiny_mttv
from helpers_sat import tiny_sat

from stmine_hf.data.toy.toy_scenes import write_scenes
from stmine_hf.demo.app import launch
from stmine_hf.demo.tools import Models

pytest.importorskip("gradio", reason='needs Gradio: pip install "stmine-hf[demo]"')
CLIENTS = int(os.environ.get("STMINE_CLIENTS", "40"))
HALF_OPEN, ROUNDS = CLIENTS, 2
QUERIES = ("many planes", "a harbour", "a green forest", "a bridge")


def ask(app, address: str, client: str, query: str) -> str:
    """What a visitor gets for a sentence, without what differs between visits."""
    (number,) = [one["id"] for one in app.config["dependencies"] if one["api_name"] == "find"][:1]
    job = {"data": [query, None, "en"], "fn_index": number, "session_hash": client}
    while (joined := httpx.post(f"{address}gradio_api/queue/join", json=job, timeout=300)).status_code == 503:
        time.sleep(0.2)  # the queue is full, and says so
    joined.raise_for_status()
    with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash={client}", timeout=300) as answer:
        for line in answer.iter_lines():
            message = json.loads(line[5:]) if line.startswith("data:") else {"msg": ""}
            if message["msg"] == "process_completed":
                assert message["success"], message
                return json.dumps(message["output"]["data"])
    raise AssertionError("the answer was lost")


def memory() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to measure memory")
def test_many_visitors_at_once_lose_no_answer(tmp_path):
    scenes = write_scenes(tmp_path / "scenes", count=6, size=64)
    app, address = launch(
        Models(tiny_fisvl(), tiny_mttv(), tiny_sat(), tiny_sat(seed=1)), folder=scenes, port=None, wait=False
    )
    place = urlparse(address)
    idle = [socket.create_connection((place.hostname, place.port), timeout=30) for _ in range(HALF_OPEN)]
    try:
        for number, connection in enumerate(idle):  # some say nothing, some begin a request and never end it
            if number % 2:
                connection.sendall(b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        expected = {query: ask(app, address, f"first-{number}", query) for number, query in enumerate(QUERIES)}
        assert len(set(expected.values())) > 1

        def visit(number: int) -> bool:
            query = QUERIES[number % len(QUERIES)]
            if number % 10 == 0:
                time.sleep(0.5)
            return ask(app, address, f"visitor-{number}", query) == expected[query]

        used = []
        for turn in range(ROUNDS):
            with ThreadPoolExecutor(CLIENTS) as pool:
                right = list(pool.map(visit, range(turn * CLIENTS, (turn + 1) * CLIENTS)))
            assert all(right), f"{right.count(False)} of {len(right)} answers are wrong"
            used.append(memory())
        assert used[-1] - used[0] < 200 << 20, used
    finally:
        for connection in idle:
            connection.close()
        app.close(verbose=False)

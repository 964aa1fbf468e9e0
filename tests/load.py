"""The demo under load: every visitor gets the right answer or is asked to come back, and the memory stays flat.

    PYTHONPATH=.:tests python -m load --clients 1000 --seconds 60       make load

The page is served by a child with tiny models. One visitor asks each question first, and every later answer is
compared with that one. WARM visitors come and go: from then on the memory may grow no more. Then all come at once
and ask again and again: a tenth read their answers slowly. As many other connections say nothing, stop in the middle
of a request, or send it byte by byte. A visitor who finds the queue full
waits and asks again, also after the time is up until each has been answered once.

Ends with 1 if an answer is wrong or lost, a visitor is never answered, or the memory of the server grows.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import httpx

# The component by which a question is found on the page, and the texts to write into it.
QUESTIONS = {
    "sentence": ("many planes", "a harbour", "a green forest", "a bridge"),
    "post-text": ("fake news about water", "an old photo of a flood"),
}
ROOT = Path(__file__).resolve().parents[1]
OPEN_FILES = 1024  # that the server may hold: what most systems allow
WARM = 400  # visitors before the memory is measured: the page keeps what the last 200 look at
AT_ONCE = 20  # of them: as many as the page lets in
GROWTH = 50 * 2**20  # bytes that the server may grow after them and the first quarter of the others


@dataclass
class Found:
    """What a load has shown.

    Attributes:
        counts: "answered", "wrong", "lost", and "full": asked to come back.
        memory: bytes of the server after the first WARM visitors, whenever another quarter of the visitors has been
            answered, and at the end.
        unanswered: visitors who got no answer at all.
    """

    counts: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)
    unanswered: int = 0

    def faults(self) -> list[str]:
        grown = self.memory[-1] - self.memory[min(1, len(self.memory) - 1)]  # once all connections are open
        return [
            *(f"{self.counts[name]} answers {name}" for name in ("wrong", "lost") if self.counts[name]),
            *([f"{self.unanswered} visitors without an answer"] if self.unanswered else []),
            *([f"the memory grew by {grown >> 20} MB"] if grown > GROWTH else []),
        ]


class Page:
    """A served demo, by its address and the process that serves it."""

    def __init__(self, address: str, process: int):
        self.address, self.process = address, process
        config = httpx.get(f"{address}config", timeout=300).json()
        names = {one["id"]: one["props"].get("elem_id") for one in config["components"]}
        self.jobs: dict[str, dict[str, Any]] = {}
        for one in config["dependencies"]:  # the first that reads the component is the button beside it
            first = names.get(one["inputs"][0]) if len(one["inputs"]) == 3 or one["api_name"] == "find" else None
            if first in QUESTIONS and first not in self.jobs and one["queue"]:
                self.jobs[first] = {"fn_index": one["id"]}

    async def ask(self, client: httpx.AsyncClient, where: str, text: str, visitor: str, slow: bool = False) -> str:
        """The answer; "" if the queue is full."""
        job = {**self.jobs[where], "data": [text, None, "en"], "session_hash": visitor}
        joined = await client.post(f"{self.address}gradio_api/queue/join", json=job)
        if joined.status_code == 503:
            return ""
        joined.raise_for_status()
        events = f"{self.address}gradio_api/queue/data?session_hash={visitor}"
        async with client.stream("GET", events) as answer:
            async for line in answer.aiter_lines():
                if slow:
                    await asyncio.sleep(0.2)
                if found := _answer(line):
                    return found
        raise ValueError("the answer was lost")

    def memory(self) -> int:
        """Bytes that the server holds."""
        return int(Path(f"/proc/{self.process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _answer(line: str) -> str:
    """The answer in a line of the stream of events; "" if there is none yet."""
    message = json.loads(line[5:]) if line.startswith("data:") else {"msg": ""}
    if message["msg"] != "process_completed":
        return ""
    if not message["success"]:
        raise ValueError(f"not answered: {message}")
    return json.dumps(message["output"]["data"])


def answer_to(address: str, visitor: str, joined: httpx.Response) -> str:
    """What a visitor gets whom the queue has let in."""
    joined.raise_for_status()
    with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash={visitor}", timeout=300) as answer:
        return next(found for line in answer.iter_lines() if (found := _answer(line)))


async def hold(page: Page, number: int, end: float) -> None:
    """A client that never finishes its request, and comes back when it is thrown out."""
    place = urlparse(page.address)
    whole = b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{" + b" " * 800
    while time.monotonic() < end:
        with suppress(OSError, asyncio.TimeoutError):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            if number % 3 == 1:
                writer.write(whole[:200])
            for at in range(len(whole) if number % 3 == 2 else 0):
                writer.write(whole[at : at + 1])
                await writer.drain()
                await asyncio.sleep(max(min(1.0, end - time.monotonic()), 0))
            await asyncio.wait_for(reader.read(), max(end - time.monotonic(), 0))
            writer.close()
        await asyncio.sleep(0.5)


async def load(page: Page, clients: int, seconds: float) -> Found:
    """Ask as many visitors do."""
    found, chance = Found(), random.Random(0)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=1200, limits=limits) as client:
        texts = [(where, text) for where, several in QUESTIONS.items() for text in several]
        expected = {text: await page.ask(client, where, text, f"first-{text}") for where, text in texts}
        if len(set(expected.values())) < 3:
            raise ValueError(f"the questions have the same answers: {expected}")
        for first in range(0, WARM, AT_ONCE):
            visitors = zip(range(first, first + AT_ONCE), itertools.cycle(texts), strict=False)
            await asyncio.gather(*(page.ask(client, *text, f"warm-{number}") for number, text in visitors))
        found.memory.append(page.memory())
        began = time.monotonic()
        end = began + seconds
        answered: set[int] = set()

        async def visit(number: int) -> None:
            turn = 0
            while time.monotonic() < end or number not in answered:
                if time.monotonic() > end + 20 * seconds:
                    return
                where, text = texts[(number + turn) % len(texts)]
                try:
                    answer = await page.ask(client, where, text, f"{number}-{turn}", slow=number % 10 == 0)
                except (httpx.HTTPError, ValueError) as error:
                    found.counts["lost"] += 1
                    print(f"visitor {number}: {error!r}", file=sys.stderr)
                    await asyncio.sleep(chance.uniform(1, 3))
                    continue
                found.counts["full" if not answer else "answered" if answer == expected[text] else "wrong"] += 1
                if answer:
                    answered.add(number)
                    if len(answered) * 4 >= len(found.memory) * clients:
                        found.memory.append(page.memory())
                    turn += 1
                await asyncio.sleep(chance.uniform(1, 10) * max(clients / 500, 0.1))

        holders = [asyncio.create_task(hold(page, number, end)) for number in range(clients)]
        await asyncio.gather(*(visit(number) for number in range(clients)))
        found.memory.append(page.memory())
        found.unanswered = clients - len(answered)
        await asyncio.gather(*holders)
    return found


def serve() -> None:
    """The page, until standard input ends."""
    from helpers import tiny_fisvl
    from helpers_mttv import tiny_mttv
    from helpers_sat import tiny_sat

    from stmine_hf.data.toy.toy_scenes import write_scenes
    from stmine_hf.demo.app import launch
    from stmine_hf.demo.tools import Models

    _allow_open_files(OPEN_FILES)
    models = Models(tiny_fisvl(), tiny_mttv(), tiny_sat(), tiny_sat(seed=1))
    with tempfile.TemporaryDirectory() as folder:
        app, address = launch(models, folder=write_scenes(Path(folder) / "scenes", count=6, size=64), wait=False)
        print(f"address {address}", flush=True)
        sys.stdin.read()
        app.close(verbose=False)


def _allow_open_files(wanted: int) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(wanted, hard), hard))


def run(clients: int, seconds: float) -> Found:
    """Serve the page in a child and load it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "load", "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = next((line.split()[1] for line in server.stdout if line.startswith("address ")), None)
            if address is None:
                raise RuntimeError("the page is not served")
            _allow_open_files(4 * clients + 200)
            return asyncio.run(load(Page(address, server.pid), clients, seconds))
        finally:
            server.communicate("")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    found = run(options.clients, options.seconds)
    memory = ", ".join(f"{one >> 20}" for one in found.memory)
    print(f"{options.clients} visitors, {options.clients} stalled connections, {options.seconds:.0f} s: ", end="")
    print(", ".join(f"{found.counts[name]} {name}" for name in ("answered", "full", "wrong", "lost")))
    print(
        f"memory of the server (MB), when warm, with each quarter of the visitors answered, and at the end: {memory}"
    )
    sys.exit("\n".join(found.faults()) or 0)


if __name__ == "__main__":
    main()

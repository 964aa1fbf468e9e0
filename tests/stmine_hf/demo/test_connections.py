"""Connections of clients that keep the server waiting are ended; those of all others are not."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

uvicorn = pytest.importorskip("uvicorn", reason='needs Gradio: pip install "stmine-hf[demo]"')

from stmine_hf.demo import connections  # noqa: E402

LARGE = 32 * 2**20  # bytes of an answer: more than the system keeps for a client that does not read
GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"


async def answer(scope, receive, send):
    more = scope["type"] == "http"
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(1.0)  # longer than stalled clients may be silent
    body = b"x" * LARGE if scope["path"] == "/large" else b"done"
    await send({"type": "http.response.body", "body": body})


@contextmanager
def served(**options) -> Iterator[tuple[str, int]]:
    """The address of a server that ends stalled connections."""
    server = uvicorn.Server(uvicorn.Config(answer, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    connections.end_stalled(server, **options)
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def all_of(client: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    found = []
    try:
        while part := client.recv(1 << 16):
            found.append(part)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return b"".join(found)


def ask(address: tuple[str, int], request: bytes = GET) -> bytes:
    with socket.create_connection(address, timeout=60) as client:
        with suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(request)
        return all_of(client)


@pytest.mark.parametrize("begun", [b"", GET[:20], POST + b"half"], ids=["nothing", "head", "body"])
def test_a_client_that_falls_silent_is_ended_and_others_are_not(begun):
    with served(wait=0.3) as address:
        assert b"done" not in ask(address, begun)
        assert b"done" in ask(address)


def test_a_request_that_trickles_in_is_ended():
    with served(wait=5, whole=1.0) as address, socket.create_connection(address, timeout=60) as client:
        client.sendall(POST)
        began, ended = time.monotonic(), False
        while not ended and time.monotonic() < began + 30:
            time.sleep(0.1)
            try:
                client.sendall(b" ")
            except (ConnectionResetError, BrokenPipeError):
                ended = True
        assert ended
        assert b"done" in ask(address)


def test_the_next_request_of_a_connection_has_its_own_time():
    with served(wait=5, whole=1.5) as address, socket.create_connection(address, timeout=60) as client:
        for _ in range(3):  # a second each
            client.sendall(GET.replace(b"Connection: close\r\n", b""))
            found = b""
            while b"done" not in found:
                part = client.recv(4096)
                assert part, "ended"
                found += part


def test_a_client_that_reads_no_answer_is_ended():
    with served(wait=0.5) as address, socket.create_connection(address, timeout=60) as client:
        client.sendall(GET.replace(b"/", b"/large", 1))
        time.sleep(4)
        assert len(all_of(client)) < LARGE
    with served(wait=20) as address:
        assert len(ask(address, GET.replace(b"/", b"/large", 1))) > LARGE


def test_a_request_that_is_too_large_is_ended_and_an_upload_is_not(monkeypatch):
    monkeypatch.setattr(connections, "MAX_BODY", 10_000)
    body = b"x" * 200_000
    request = b"POST /%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 200000\r\n\r\n" + body
    with served() as address:
        assert b"done" not in ask(address, request % b"join")
        assert b"done" in ask(address, request % b"gradio_api/upload")


def test_the_connection_that_has_waited_longest_makes_room(monkeypatch):
    monkeypatch.setattr(connections, "PATIENCE", 0.5)
    with served(most=10) as address, ExitStack() as held:
        waiting: list[socket.socket] = []
        for _ in range(10):
            waiting.append(held.enter_context(socket.create_connection(address, timeout=60)))
            waiting[-1].sendall(POST)
            time.sleep(0.05)
        time.sleep(0.6)
        answers = [ask(address) for _ in range(3)]
        assert all(b"done" in one for one in answers)
        assert [all_of(one) for one in waiting[:3]] == [b""] * 3  # ended
        waiting[-1].settimeout(0.2)
        with pytest.raises(TimeoutError):  # still open
            waiting[-1].recv(1)


def test_with_no_room_at_all_the_newest_connection_is_ended():
    with served(most=5) as address, ExitStack() as held:
        for _ in range(5):
            held.enter_context(socket.create_connection(address, timeout=60)).sendall(POST)
        assert b"done" not in ask(address)  # nobody has waited long


def test_an_idle_connection_outlasts_the_five_seconds_of_clients():
    """httpx and others use a connection again for so long; one that ends just then costs a request."""
    with served() as address, socket.create_connection(address, timeout=60) as client:
        for pause in (0, 6):
            time.sleep(pause)
            client.sendall(GET.replace(b"Connection: close\r\n", b""))
            found = b""
            while b"done" not in found:
                part = client.recv(4096)
                assert part, f"ended after {pause} s"
                found += part

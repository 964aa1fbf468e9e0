"""Serve until SIGTERM or Ctrl-C, and finish pending requests."""

from __future__ import annotations

import math
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import StmineError
from ..printing import say

if TYPE_CHECKING:
    from .service import Service

DEFAULT_PORT = 8000
_BACKLOG = 2048


def serve(
    service: Service,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    api_key: str | None = None,
    on_ready: Callable[[str], None] = lambda address: say(f"Ready at {address}. Ctrl-C ends the service.", flush=True),
) -> None:
    """Serve until SIGTERM or Ctrl-C: then nothing more is accepted, and pending requests are answered.

    Args:
        service: a `Service`; its models are opened here, while `/ready` already answers.
        host: address to listen at; "0.0.0.0" lets other computers connect.
        port: 0: a free one.
        api_key: see `create_app`.
        on_ready: receives the address once all models are open.

    Raises:
        StmineError: the port is taken, or a model cannot be opened.
    """
    import uvicorn

    from ..demo.connections import MAX_BODY, end_stalled
    from .app import create_app

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # Connections inherit it. Head and body of an answer are two writes, and the second would else wait until the
        # client has confirmed the first: 40 ms for each request of a connection that is kept.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, OverflowError) as error:
        raise StmineError(f"cannot listen at {host}, port {port}: {error}. Choose another with --port.") from None
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listening.getsockname()[1]}"
    failed: list[Exception] = []

    def open_models() -> None:
        try:
            service.open()
        except Exception as error:
            failed.append(error)
            server.should_exit = True
        else:
            if service.ready:
                on_ready(address)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            end_stalled(self, most_bytes=max(MAX_BODY, 2 * service.limits.request_bytes))

    config = uvicorn.Config(
        create_app(service, api_key=api_key, open_models=open_models), log_level="warning", access_log=False,
        http="h11",  # bounds headers; uvicorn would choose httptools where it is installed, which does not
        log_config=None,  # uvicorn's would close the handlers of whoever calls this
        server_header=False, timeout_graceful_shutdown=math.ceil(service.limits.seconds) + 5,
    )  # fmt: skip
    server = Server(config)
    with listening, _quiet_signals():
        server.run(sockets=[listening])
    if failed:
        raise failed[0]


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """uvicorn raises the signal that stopped it again: the process would end by the signal, not with status 0."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {one: signal.signal(one, lambda number, frame: None) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)

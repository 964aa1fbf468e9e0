"""End connections whose client keeps the server waiting: half-open ones, and requests that stop in the middle."""

from __future__ import annotations

from typing import Any

from . import limits

WAIT = 60.0  # seconds without a byte from a client that has not finished its request, or that reads no answer
WHOLE = 900.0  # seconds for a whole request, however steadily it trickles in
OPEN = 4000  # connections; above this, the one that has kept the server waiting longest is ended
PATIENCE = 5.0  # seconds in which a client that has just connected may be about to write
BURST = 4096  # other files that the process may hold: the server takes so many connections at once, before it counts
MAX_BODY = 64 * 2**20  # bytes of a request that is no upload: an image of a camera, as base64, is the largest
MAX_UPLOAD = limits.MAX_IMAGES * limits.MAX_FILE_BYTES


def end_stalled(
    server: Any, wait: float = WAIT, whole: float = WHOLE, most: int | None = None, most_bytes: int | None = None
) -> None:
    """Make a running uvicorn server end such connections, from the next one on.

    Answers that take long, such as streams of results, are not touched as long as the client reads them.

    Args:
        server: `uvicorn.Server`, already started.
        wait: seconds to wait for the next byte.
        whole: seconds to wait for a whole request.
        most: connections to hold; by default `OPEN`, for which the limit of open files of this process is raised as
            far as the system lets it.
        most_bytes: of a request that is no upload of the demo's page; default: `MAX_BODY`.
    """
    base = server.config.http_protocol_class
    room = _room() if most is None else most

    class Impatient(base):  # type: ignore[misc, valid-type]
        _timer: Any = None
        _before: Any = None  # the request before the one that is coming in
        _received = 0  # bytes of that one
        _unread = 0  # bytes of an answer that the client had not read when the timer went off last

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._began = self._last = self.loop.time()
            self._restart()
            self._make_room()

        def data_received(self, data: bytes) -> None:
            self._last = self.loop.time()
            if self._is_whole():
                self._before, self._began, self._received = self.cycle, self._last, 0
            self._received += len(data)
            self._restart()
            super().data_received(data)
            if not self._is_whole() and (self._last - self._began > whole or self._received > self._most_bytes()):
                self.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _is_whole(self) -> bool:
            """Whether the request has been received completely."""
            return self.cycle is not self._before and not self.cycle.more_body

        def _is_waiting(self) -> bool:
            return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

        def _most_bytes(self) -> int:
            path = "" if self.cycle is self._before else self.scope["path"]
            return MAX_UPLOAD if path.endswith("/upload") else MAX_BODY if most_bytes is None else most_bytes

        def _restart(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(wait, self._end_if_waiting)

        def _end_if_waiting(self) -> None:
            unread = self.transport.get_write_buffer_size() if self.flow.write_paused else 0
            if self._is_waiting() or (unread and unread == self._unread):
                self.transport.abort()
            else:  # a request is being answered
                self._unread = unread
                self._restart()

        def _make_room(self) -> None:
            if len(self.connections) > room:
                old = [one for one in self.connections if self._last - one._last > PATIENCE and one._is_waiting()]
                min(old, key=lambda one: one._last, default=self).transport.abort()

    server.config.http_protocol_class = Impatient
    # Idle connections last longer than clients keep them: one that ends as a client writes to it costs a request.
    server.config.timeout_keep_alive = max(server.config.timeout_keep_alive, int(wait))


def _room() -> int:
    """How many connections the process may hold."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return OPEN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN + BURST
    if resource.RLIM_INFINITY != soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return OPEN if soft == resource.RLIM_INFINITY else min(OPEN, soft // 2)

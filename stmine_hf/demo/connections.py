"""End connections whose client keeps the server waiting: half-open ones, and requests that stop in the middle."""

from __future__ import annotations

from typing import Any

WAIT = 60.0  # seconds without a byte from a client that has not finished its request


def end_stalled(server: Any, wait: float = WAIT) -> None:
    """Make a running uvicorn server end such connections, from the next one on.

    Answers that take long, such as streams of results, are not touched.

    Args:
        server: `uvicorn.Server`, already started.
        wait: seconds to wait for the next byte.
    """
    base = server.config.http_protocol_class

    class Impatient(base):  # type: ignore[misc, valid-type]
        _timer: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._restart()

        def data_received(self, data: bytes) -> None:
            self._restart()
            super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _restart(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(wait, self._end_if_waiting)

        def _end_if_waiting(self) -> None:
            if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
                self.transport.abort()
            else:  # a request is being answered
                self._restart()

    server.config.http_protocol_class = Impatient

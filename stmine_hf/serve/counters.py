"""Numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Counters:
    """The counters of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = ("endpoint", "status")
        self.requests = Counter("stmine_requests", "Requests answered.", names, registry=self._registry)
        self.seconds = Histogram(
            "stmine_request_seconds", "Seconds from a request's first line to the end of its answer.", ("endpoint",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self.queue = Gauge(
            "stmine_queue_length", "Inputs of a model that wait or are worked on.", ("model",), registry=self._registry
        )
        self.batches = Histogram(
            "stmine_batch_size", "Inputs that went through a model together.", ("model",), buckets=_SIZES,
            registry=self._registry,
        )  # fmt: skip

    def watch_queue(self, model: str, length: Callable[[], float]) -> None:
        """Ask for the length of a queue whenever the numbers are asked for."""
        self.queue.labels(model).set_function(length)

    def text(self) -> bytes:
        """All numbers in Prometheus' text format."""
        return generate_latest(self._registry)

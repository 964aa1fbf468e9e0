"""The models that are served: opened once, a queue for each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ..errors import StmineError
from .batching import Batcher
from .counters import Counters
from .limits import Limits
from .problems import RequestError, busy
from .tasks import ClassifyTask, DetectTask, SearchTask, Task

SEARCH, CLASSIFY, DETECT = "search", "classify", "detect"
_OPTIONS = {SEARCH: "--index", CLASSIFY: "--classify-model", DETECT: "--detect-model"}


@dataclass(frozen=True)
class Models:
    """What to serve; what is None is not served.

    Attributes:
        index: an index, whose model also embeds.
        classify: folder, Hub id or short name of a model that classifies posts.
        detect: folder, Hub id or short name of a detector.
    """

    index: Path | str | None = None
    classify: str | None = None
    detect: str | None = None

    def __post_init__(self) -> None:
        if self.index is None and self.classify is None and self.detect is None:
            raise StmineError("nothing to serve: expected an index, a model to classify, or a model to detect")


class Served:
    """One task with its queue."""

    def __init__(self, name: str, task: Task, limits: Limits, counters: Counters):
        self.task, self.name, self._limits = task, name, limits
        self.pending = 0  # of the event loop alone
        size = counters.batches.labels(name).observe
        self._batches: Batcher[Any, Any] = Batcher(
            task.run, most=limits.batch, wait=limits.wait, name=name, on_batch=size
        )
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix=f"prepare-{name}")
        counters.watch_queue(name, lambda: self.pending)

    async def answer(self, asked: Sequence[Any]) -> list[Any]:
        """The answers to several inputs, in their order.

        Raises:
            RequestError: the queue is full, or one of them cannot be used.
        """
        if self.pending + len(asked) > self._limits.queue:
            raise busy(f"{self.pending} inputs wait for {self.name}, and no more may. Try again in a moment.")
        self.pending += len(asked)
        waiting: list[asyncio.Future[Any]] = []
        try:
            loop = asyncio.get_running_loop()
            for one in asked:
                ready = await loop.run_in_executor(self._preparing, self.task.prepare, one)
                waiting.append(asyncio.wrap_future(self._batches.submit(ready)))
            return list(await asyncio.gather(*waiting))
        finally:
            for future in waiting:
                future.cancel()
                if future.done() and not future.cancelled():
                    future.exception()  # the first one has been raised
            self.pending -= len(asked)

    def close(self) -> None:
        """Finish what waits."""
        self._preparing.shutdown()
        self._batches.close()


class Service:
    """The models of a service.

    Args:
        models: what to serve.
        limits: of requests.
        device: where the models run.
    """

    def __init__(self, models: Models, *, limits: Limits | None = None, device: str | None = None):
        self.models, self.limits, self.device = models, limits or Limits(), device
        self.counters = Counters()
        self._served: dict[str, Served] = {}
        self._opening: dict[str, Callable[[], Task]] = {}
        limit = self.limits
        if (index := models.index) is not None:
            self._opening[SEARCH] = lambda: SearchTask(index, limit, device)
        if (classify := models.classify) is not None:
            self._opening[CLASSIFY] = lambda: ClassifyTask(classify, limit, device)
        if (detect := models.detect) is not None:
            self._opening[DETECT] = lambda: DetectTask(detect, limit, device)
        self._stopped = threading.Event()

    def open(self) -> None:
        """Open every model; takes seconds.

        Raises:
            StmineError: one cannot be opened.
        """
        for name, make in self._opening.items():
            if self._stopped.is_set():
                return
            if name not in self._served:
                self._served[name] = Served(name, make(), self.limits, self.counters)

    @property
    def ready(self) -> bool:
        """Whether all models are open."""
        return self._served.keys() == self._opening.keys() and not self._stopped.is_set()

    def served(self, name: str) -> Served:
        """
        Raises:
            RequestError: it is not served, or not yet.
        """
        if name not in self._opening:
            raise RequestError(
                HTTPStatus.NOT_FOUND,
                f"This service has no model for it. Start it with {_OPTIONS[name]}: stmine serve --help.",
            )
        if name not in self._served:
            raise busy("The models are being opened. Try again in a moment.")
        return self._served[name]

    def facts(self) -> dict[str, Any]:
        """Facts about each open model for clients."""
        return {name: served.task.facts() for name, served in self._served.items()}

    def close(self) -> None:
        """Take nothing more, and finish what waits."""
        self._stopped.set()
        for served in list(self._served.values()):
            served.close()

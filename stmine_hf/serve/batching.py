"""Requests that arrive together go through a model together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from .problems import busy

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """A queue and the one thread that works it off, in batches.

    Args:
        run: answers of a batch, in its order; an exception among them is raised for its item. If it fails on several
            items, each is tried alone, so that one of them cannot spoil the others.
        most: items of a batch.
        wait: seconds that the first item waits for others.
        name: of the thread.
        on_batch: receives the size of each batch.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Sequence[R | Exception]],
        *,
        most: int = 8,
        wait: float = 0.004,
        name: str = "batches",
        on_batch: Callable[[int], None] = lambda size: None,
    ):
        self._answers, self._most, self._wait, self._on_batch = run, most, wait, on_batch
        self._waiting: deque[tuple[T, Future[R]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: T) -> Future[R]:
        """The answer to come. One that is cancelled while it waits costs nothing.

        Raises:
            RequestError: the queue is closed.
        """
        future: Future[R] = Future()
        with self._changed:
            if self._closed:
                raise busy("The service is stopping.")
            self._waiting.append((item, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Take nothing more, and finish what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            wanted = [(item, future) for item, future in batch if future.set_running_or_notify_cancel()]
            if wanted:
                self._on_batch(len(wanted))
                self._answer(wanted)

    def _next(self) -> list[tuple[T, Future[R]]]:
        """The next batch; empty when all is done."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            end = time.monotonic() + self._wait
            while len(self._waiting) < self._most and not self._closed and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]

    def _answer(self, batch: list[tuple[T, Future[R]]]) -> None:
        try:
            answers = self._answers([item for item, _ in batch])
        except BaseException as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for one in batch:
                self._answer([one])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

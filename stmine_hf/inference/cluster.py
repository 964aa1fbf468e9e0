"""Blocks of items over the workers of a Ray cluster, each of which holds the model.

Ray moves blocks and results, finds free processors and GPUs on all machines, and notices workers that are lost. Blocks
are given out and taken back here, so that they may come from a generator, results come in the order of the blocks,
few of both are in memory at a time, and a lost worker costs its block alone: another worker gets it.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol, TypeVar

from ..errors import StmineError

logger = logging.getLogger(__name__)

LOCAL = "local"
_PER_WORKER = 4  # blocks of each worker that may be under way or wait for their turn
_MOST_LOST = 3  # workers that one block may cost
_PATIENCE = 60.0  # seconds without a worker, after which it is said what is waited for

B = TypeVar("B", contravariant=True)
R = TypeVar("R", covariant=True)


class Work(Protocol[B, R]):
    """What workers do with blocks. It is pickled by Ray, once for all workers, and holds the model on the CPU."""

    def start(self, device: str | None) -> None:
        """Prepare for work, in the worker.

        Args:
            device: where the model is to run; None: where it is.
        """

    def __call__(self, block: B) -> R:
        """The result of one block. It is pickled, too."""


class _Task(NamedTuple):
    number: int
    block: Any
    lost: int = 0  # workers that died with it


class WorkerLostError(StmineError):
    """A block was lost with several workers in a row."""


def map_blocks(address: str, work: Work[B, R], blocks: Iterable[B]) -> Generator[R, None, None]:
    """The results of blocks, in their order.

    Each worker has one GPU, if the cluster has any, else one CPU. Workers need this version of the package, and the
    files that the blocks name under the same paths. At most four blocks a worker are under way or done and not taken.

    Args:
        address: "local" starts a cluster on this machine, which ends with the last result; else that of a running one,
            such as "auto" or "10.0.0.1:6379". A program that has called `ray.init` keeps its cluster.
        work: what to do; see `Work`.
        blocks: picklable.

    Raises:
        StmineError: Ray is not installed, there is no cluster at the address, or it has no GPU and no CPU, or
            three workers in a row were lost with one block; and what `work` raises.
    """
    with _connected(address) as ray:
        yield from _Workers(ray, ray.put(work)).map(blocks)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers otherwise
    try:
        import ray
    except ImportError:
        raise StmineError("a cluster needs Ray: pip install 'stmine-hf[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    with _own_token() if address == LOCAL else nullcontext():
        try:
            _require_open(address)
            more: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
        except Exception as error:  # Ray raises plain ones, too
            reason = " ".join(str(error).split())[:200]
            raise StmineError(
                f"found no Ray cluster at {address!r} ({reason}): start one with `ray start --head`, give its address "
                f"as HOST:PORT, or give {LOCAL!r}"
            ) from None
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _own_token() -> Iterator[None]:
    """Have a cluster that starts meanwhile ask for a token that no other process knows, unless the user decides.

    Ray listens on all interfaces, and runs the code of whoever may speak to it.
    """
    if "RAY_AUTH_MODE" in os.environ:
        yield
        return
    before = os.environ.get("RAY_AUTH_TOKEN")
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": before or secrets.token_hex(32)}
    try:
        _reread_settings()
        yield
    finally:  # another cluster would refuse it
        del os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]
        if before is not None:
            os.environ["RAY_AUTH_TOKEN"] = before
        _reread_settings()


def _reread_settings() -> None:
    """Have Ray read its environment again. By itself it does so once, when it is imported, and keeps a token."""
    try:
        inner: Any = import_module("ray._raylet")
        config, tokens = inner.Config, inner.AuthenticationTokenLoader
    except (ImportError, AttributeError):
        raise StmineError(
            "cannot have this version of Ray ask for a token: set RAY_AUTH_MODE=token yourself, or give the address "
            "of a cluster that runs"
        ) from None
    config.initialize("")  # first: Ray ends the process if it looks for a token in vain
    tokens.instance().reset_cache()


def _require_open(address: str) -> None:
    """Check that something listens at HOST:PORT. Ray itself tries for minutes.

    Raises:
        OSError: nothing does.
    """
    if found := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
        socket.create_connection((found[1], int(found[2])), timeout=10).close()


class _Worker:
    """An actor: a process of the cluster with the model."""

    def __init__(self, work: Work[Any, Any]):
        self._work = work

    def start(self, expected: str) -> None:
        """
        Raises:
            StmineError: the package has another version here.
        """
        found = version("stmine-hf")
        if found != expected:
            raise StmineError(f"expected stmine-hf {expected} on every machine of the cluster, found {found} on one")
        import ray

        self._work.start("cuda" if ray.get_gpu_ids() else None)

    def run(self, block: Any) -> Any:
        return self._work(block)


class _Workers:
    """As many workers as the cluster has GPUs, or CPUs."""

    def __init__(self, ray: Any, work: Any):
        self._ray, self._work = ray, work
        resources = ray.cluster_resources()
        self._kind = "GPU" if resources.get("GPU", 0) >= 1 else "CPU"
        self.count = int(resources.get(self._kind, 0))
        if self.count < 1:
            raise StmineError(
                "the Ray cluster has neither a GPU nor a CPU for workers: add a machine to it, or start it with "
                "--num-cpus of at least 1"
            )
        self._actor = ray.remote(**{f"num_{self._kind.lower()}s": 1})(_Worker)
        self._told = False
        self._alive: list[Any] = []
        self._starting: dict[Any, Any] = {}  # what `start` will return -> worker
        self._running: dict[Any, tuple[_Task, Any]] = {}  # what `run` will return -> block, worker
        self._free: list[Any] = []

    def map(self, blocks: Iterable[Any]) -> Generator[Any, None, None]:
        tasks = (_Task(number, block) for number, block in enumerate(blocks))
        again: list[_Task] = []  # of lost workers
        done: dict[int, Any] = {}
        turn = given = 0
        ended = False
        try:
            for _ in range(self.count):
                self._start()
            while True:
                while self._free and (again or (not ended and given - turn < _PER_WORKER * self.count)):
                    task = again.pop(0) if again else next(tasks, None)
                    if task is None:
                        ended = True
                        break
                    given = max(given, task.number + 1)
                    self._run(task)
                while turn in done:
                    yield done.pop(turn)
                    turn += 1
                if ended and turn == given:
                    return
                self._wait(again, done)
        finally:
            for actor in self._alive:
                self._ray.kill(actor)

    def _start(self) -> None:
        actor = self._actor.remote(self._work)
        self._alive.append(actor)
        self._starting[actor.start.remote(version("stmine-hf"))] = actor

    def _run(self, task: _Task) -> None:
        actor = self._free.pop(0)
        self._running[actor.run.remote(task.block)] = task, actor

    def _wait(self, again: list[_Task], done: dict[int, Any]) -> None:
        """Wait for a worker to be ready or done."""
        exceptions = self._ray.exceptions
        ready, _ = self._ray.wait([*self._running, *self._starting], num_returns=1, timeout=_PATIENCE)
        if not ready and not self._running and not self._told:
            self._told = True
            logger.warning(
                "waiting for a free %s of the Ray cluster's %d: no worker has started", self._kind, self.count
            )
        for reference in ready:
            task, actor = self._running.pop(reference, (None, None))
            actor = actor or self._starting.pop(reference)
            try:
                result = self._ray.get(reference)
            except exceptions.RayTaskError as error:
                raise _cause(error) from None
            except exceptions.RayError as error:  # the worker, or its machine, is gone
                self._alive.remove(actor)
                lost = _Task(-1, None) if task is None else task._replace(lost=task.lost + 1)
                if task is not None:
                    again.append(lost)
                if lost.lost >= _MOST_LOST or (task is None and not self._alive):
                    which = "all workers" if task is None else f"{lost.lost} workers with the same block"
                    raise WorkerLostError(
                        f"lost {which} ({' '.join(str(error).split())[:200]}). What is done is kept: free some "
                        "memory, or see the logs of Ray, and run the command again"
                    ) from None
                if task is not None:
                    self._start()
                continue
            self._free.append(actor)
            if task is not None:
                done[task.number] = result


def _cause(error: Any) -> BaseException:
    """What a worker raised."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else StmineError(f"a worker failed: {str(error).strip()[-500:]}")

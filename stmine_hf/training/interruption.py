"""Stop a training run on SIGTERM (from a cluster or `kill`) and Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from ..errors import StmineError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ASKED_AGAIN = 3.0  # seconds after which a repeated signal takes effect; launchers forward theirs at once


class Interrupted(StmineError):
    """A run stopped by a signal after saving: neither an error nor the end of the training.

    Attributes:
        exit_code: 128 + the signal's number, as shells count: 143 after SIGTERM, 130 after Ctrl-C.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.exit_code = 128 + number


class StopSignals:
    """Inside the block SIGTERM and Ctrl-C are only noted, so that the current step is finished and saved.

    The same signal `ASKED_AGAIN` seconds later has its usual effect. Outside the main thread no signal is caught.

    Args:
        say: text that the first signal prints on stderr; "" prints nothing.

    Attributes:
        received: number of the first signal, None without any.
    """

    def __init__(self, say: str = ""):
        self.say = say
        self.received: int | None = None
        self._since = 0.0
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            _follow_launcher()
            for number in SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:  # a shell makes background jobs ignore Ctrl-C
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a data worker: its parent stops it
            return
        if self.received is None:
            self.received, self._since = number, time.monotonic()
            if self.say:
                os.write(2, f"\n{self.say}\n".encode())  # the signal may have interrupted a print
        elif time.monotonic() - self._since > ASKED_AGAIN:
            self.__exit__()
            signal.raise_signal(number)


def leaving_signals_to_parent(worker_init: Callable[[int], None] | None) -> Callable[[int], None]:
    """Make data workers ignore a signal to the whole process group, so that the last batches are still delivered.

    Args:
        worker_init: what a `DataLoader` runs in each worker so far, given the worker's number.
    """
    return partial(_ignore_signals, worker_init)


def _ignore_signals(worker_init: Callable[[int], None] | None, worker: int) -> None:
    if worker_init is not None:
        worker_init(worker)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _follow_launcher() -> None:
    """Request SIGTERM when `accelerate launch` ends: with one process it only waits and forwards no signal.

    Linux only; elsewhere the signal must go to the script itself.
    """
    if sys.platform == "linux" and "ACCELERATE_MIXED_PRECISION" in os.environ:
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # 1 = PR_SET_PDEATHSIG

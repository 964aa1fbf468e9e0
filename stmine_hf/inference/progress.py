"""The bar of a running detection."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class DetectionBar:
    """Counts images or frames on stderr, with their speed; `total` None where nobody knows it (a camera)."""

    def __init__(self, total: int | None, *, disable: bool):
        self._progress = Progress(
            TextColumn("detecting"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=disable,
        )
        self._task = self._progress.add_task("", total=total, speed="")
        self._started = time.monotonic()
        self._worked = 0

    def __enter__(self) -> DetectionBar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def advance(self, *, worked: bool = True) -> None:
        """One more is done; `worked` if it went through the model."""
        self._worked += worked
        speed = f"{self._worked / (time.monotonic() - self._started):.1f}/s" if self._worked else ""
        self._progress.update(self._task, advance=1, speed=speed)

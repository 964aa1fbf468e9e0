"""The progress bar of all long jobs."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Progress bar with speed on stderr, if it is a terminal; removed at the end.

    Args:
        doing: description before the bar.
        total: number of items; None if unknown (a camera, a stream).
        shown: False turns it off.

    Example:
        >>> with ProgressBar("Counting", 3) as bar:
        ...     for _ in range(3):
        ...         bar.advance()
    """

    def __init__(self, doing: str, total: int | None = None, *, shown: bool = True):
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._progress.add_task(doing, total=total, speed="")
        self._started = time.monotonic()
        self._worked = 0

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def advance(self, count: int = 1, *, worked: int | None = None, doing: str | None = None) -> None:
        """Advance the bar.

        Args:
            count: number of items done.
            worked: number of them that count for the speed; those of an earlier run do not. Default: all.
            doing: new description, if it changes.
        """
        self._worked += count if worked is None else worked
        speed = f"{self._worked / (time.monotonic() - self._started):.1f}/s" if self._worked else ""
        self._progress.update(self._task, advance=count, speed=speed, description=doing)

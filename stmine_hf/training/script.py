"""End a training script with one line for an error that the user can fix, also under a launcher."""

from __future__ import annotations

import errno
import gc
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil
import torch.distributed as dist
from transformers.utils import logging as transformers_logging

from ..errors import StmineError
from ..files import write_problem
from ..printing import say
from .interruption import Interrupted

_NOT_PERMITTED = (errno.EACCES, errno.EPERM)
_LAUNCHER_SECONDS = 60.0  # time for a launcher to end the other processes

# Run by a process of its own: wait for the launcher to end, then print. Arguments: pid, seconds, text, claim.
_PRINT_AFTER = """
import os, sys, time, psutil
end = time.monotonic() + float(sys.argv[2])
try:
    launcher = psutil.Process(int(sys.argv[1]))
    while launcher.is_running() and launcher.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            sys.exit()
        time.sleep(0.02)
except psutil.NoSuchProcess:
    pass
finally:
    os.unlink(sys.argv[4])
print(sys.argv[3], file=sys.stderr, flush=True)
"""


class RunFinished(Exception):
    """A run that is resumed has nothing left to do; the message says so."""


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`: an error that the user can fix is one line, an interrupted run says how to resume.

    `accelerate launch` prints a traceback of its own when a process ends with an error. The line is printed once more
    after it, so that it is the last one.

    Raises:
        SystemExit: with 1 after a `StmineError`, 143 after SIGTERM, 130 after Ctrl-C.
    """
    transformers_logging.disable_progress_bar()  # of reading and writing weights, not of training
    try:
        main()
    except RunFinished as finished:
        if _is_first_process():
            say(finished)
    except Interrupted as stop:
        if _is_first_process():
            say(stop, to_stderr=True, flush=True)
            _repeat_after_launcher(str(stop).partition("; ")[2].partition("\n")[2].strip(), "Resume with: ")
        raise SystemExit(stop.exit_code) from None
    except KeyboardInterrupt:
        if _is_first_process():
            say("interrupted before the training began", to_stderr=True, flush=True)
        raise SystemExit(130) from None
    except StmineError as error:
        end_with(f"error: {error}")
    except Exception as error:
        problem = write_problem(error)
        if problem is None and isinstance(error, OSError) and error.errno in _NOT_PERMITTED:
            place = error.filename or "a file"
            problem = f"cannot write {place}: {error.strerror}. Choose a folder that can be written."
        if problem is None:
            raise
        end_with(f"error: {problem}")
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        # What still refers to the group, such as the wrapped model, goes with its threads. One that has a tensor of
        # Python to free when the interpreter ends would abort the process, after all work is done.
        gc.collect()


def resume_command(output_dir: Path) -> str:
    """The command that resumes the run in a folder."""
    start = ["accelerate", "launch"] if _launched() else ["python"]
    settings = ["--config", str(output_dir / "config.yaml"), "--resume_from_checkpoint", "auto"]
    return shlex.join([*start, sys.argv[0], *settings])


def end_with(message: str, code: int = 1) -> NoReturn:
    """Print one line, once more after a launcher's own, and end this process.

    Of several processes, whichever comes first has its line repeated: a launcher ends the others, rank 0 among them.

    Raises:
        SystemExit: with the code.
    """
    _write_error_file(message)
    _repeat_after_launcher(message)
    if code == 1:
        raise SystemExit(message) from None
    if _is_first_process():
        print(message, file=sys.stderr, flush=True)
    raise SystemExit(code) from None


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _launched() -> bool:
    return "ACCELERATE_MIXED_PRECISION" in os.environ


def _write_error_file(message: str) -> None:
    """What torchrun's summary shows as the cause."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        details = {"py_callstack": message, "timestamp": str(int(time.time()))}
        with suppress(OSError):
            Path(file).write_text(json.dumps({"message": {"message": message, "extraInfo": details}}), "utf-8")


def _repeat_after_launcher(text: str, before: str = "") -> None:
    """Print a line once more when `accelerate launch` has ended, which prints its own traceback after this process.

    Its config files cannot set `--quiet`, and this process cannot prevent the traceback.
    """
    if not text or not _launched():
        return
    try:
        launcher = psutil.Process(os.getppid())
        words = launcher.cmdline()
        several = "TORCHELASTIC_RUN_ID" in os.environ  # whose summary --quiet does not silence
        quiet = not several and {"--quiet", "-q"} & set(words[: _script_at(words)])
        if quiet or not any("accelerate" in word for word in words):
            return
        claim = Path(tempfile.gettempdir()) / f"stmine-{launcher.pid}-{launcher.create_time():.2f}"
        os.close(os.open(claim, os.O_CREAT | os.O_EXCL))  # one line for all processes
        words = [str(launcher.pid), str(_LAUNCHER_SECONDS), before + text, str(claim)]
        try:
            subprocess.Popen(  # noqa: S603  this interpreter, no external input
                [sys.executable, "-c", _PRINT_AFTER, *words],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # the launcher ends its own group
            )
        except OSError:
            claim.unlink(missing_ok=True)  # which the process would have removed
            raise
    except (OSError, psutil.Error):
        return  # the line was already printed once


def _script_at(words: list[str]) -> int:
    """Position of the script in the launcher's command: options after it are the script's own."""
    script = Path(sys.argv[0]).name
    return next((place for place, word in enumerate(words) if Path(word).name == script), len(words))

"""How a training script starts and ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

import torch.distributed as dist
from transformers.utils import logging as transformers_logging

from ..errors import StmineError
from .interruption import Interrupted


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`: what the user can mend is one line, a run that was asked to stop says how to go on.

    Raises:
        SystemExit: with 1 after a `StmineError`, 143 after SIGTERM, 130 after Ctrl-C.
    """
    transformers_logging.disable_progress_bar()  # of reading and writing weights, not of training
    try:
        main()
    except Interrupted as stop:
        if os.environ.get("RANK", "0") == "0":
            print(stop, file=sys.stderr)
        raise SystemExit(stop.exit_code) from None
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise SystemExit(f"error: cannot write {error.filename or 'a file'}: {error.strerror}. Make room.") from None
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()

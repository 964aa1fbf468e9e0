"""Errors in making the model that a run starts from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint_file, opening
from ..errors import StmineError
from ..loading import published

logger = logging.getLogger(__name__)

# Folders that the configs start from, which a script makes of the data set: the script, and the shipped model that was
# trained from there.
PREPARED = {
    "fisvl-lite-start": ("examples/build_fisvl_lite.py", "fisvl-lite-rsicd"),
    "mttv-lite-start": ("examples/build_mttv_lite.py", "mttv-lite-weibo"),
}


def start_for_other_data(source: str) -> str:
    """The start for another data set than the config's: the shipped model replaces a missing prepared start.

    Args:
        source: that of the config.

    Returns:
        The shipped model, if `source` is a prepared start that was not made; else `source`.
    """
    _, shipped = PREPARED.get(Path(source).name, (None, None))
    if shipped is None or Path(source).exists():
        return source
    logger.warning("%s does not exist: starting from the shipped model, %s.", source, published(shipped))
    return published(shipped)


def check_fields(fields: Mapping[str, Any], config_class: Any) -> None:
    """Check the names of `model_config`.

    Raises:
        StmineError: the configuration has no such field.
    """
    if unknown := sorted(set(fields) - set(config_class().to_dict())):
        raise StmineError(f"model_config: {config_class.__name__} has no field {', '.join(unknown)}.")


@contextmanager
def starting_from(source: str | None, shipped: str, *, checkpoint: str | None = None) -> Iterator[None]:
    """Convert errors in creating a model into a `StmineError` whose message says how to fix them.

    Args:
        source: folder or Hub id that the model starts from, if any.
        shipped: repository of the model of this method that ships with the project.
        checkpoint: `source`, if it is a checkpoint of the method: inside the block the model must not grow beyond its
            weights file; see `checkpoints.opening`.

    Raises:
        StmineError: inside the block nothing was found, or settings contradict each other.
    """
    try:
        if checkpoint and not Path(checkpoint).exists() and checkpoint_file(checkpoint, "config.json") is None:
            raise FileNotFoundError(checkpoint)  # not on the Hub either
        with opening(checkpoint) if checkpoint else nullcontext():
            yield
    except StmineError as error:
        if not checkpoint or checkpoint in str(error):
            raise
        raise StmineError(
            f"{checkpoint}: no model to start from ({error}). Download or train it again, or start from another one."
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and source is not None and not Path(source).exists():
            raise StmineError(_missing(source, shipped)) from error
        raise StmineError(f"Cannot make the model: {' '.join(str(error).split())}") from error


def _missing(source: str, shipped: str) -> str:
    script, _ = PREPARED.get(Path(source).name, (None, None))
    build = f"Build it first (python {script} --data_dir DATA --out {source}), or start" if script else "Start"
    return (
        f"No model to start from: {source} is no folder here, and no repository of the Hub that can be reached. "
        f"{build} from the model that ships with this project: --model_name_or_path {published(shipped)}"
    )

"""Checkpoints that are complete or absent: written to a temporary folder, then moved into place."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from ..errors import StmineError
from ..files import write_json
from ..outputs import listed

logger = logging.getLogger(__name__)

UNFINISHED = "unfinished"  # where checkpoints and the best model are written
_OLD = "old-"
_STATE = "trainer_state.json"  # the last file of a checkpoint to be written
_OF_WRITERS = re.compile(r"\.lock|\.stmine-.*")
_UNFINISHED_NAME = rf"({_OLD})?(best|checkpoint-\d+)"
_LIST = ".stmine-saved.json"  # in a folder that was moved into place: the names that it had
# What models, processors, reports and the Trainer write; in a folder without a list, as version 0.1 left it, a file of
# another name is the user's.
_WRITTEN = re.compile(
    r"README\.md|\.lock|\.stmine-.*|\.eval_results|latest|zero_to_fp32\.py|(global_step|pytorch_model_fsdp|optimizer|distcp).*"
    r"|(configuration|modeling|processing|image_processing|losses|inputs|pipeline)_\w+\.py"
    r"|.*\.(safetensors|bin|pt|pth|png|jsonl?|model|jinja|distcp)|(vocab|merges)\.txt"
)


def put_in_place(output_dir: str | Path, name: str) -> None:
    """Move the complete `unfinished/name` to `name`, replacing the folder that was there.

    If the process is killed in between, the old or the new one remains, if necessary after
    `recover_interrupted_save`.
    """
    place, unfinished = Path(output_dir) / name, Path(output_dir) / UNFINISHED
    old = unfinished / (_OLD + name)
    with suppress(OSError):  # a full disk; without the list `_WRITTEN` says what a run writes
        write_json(unfinished / name / _LIST, sorted(path.name for path in (unfinished / name).iterdir()))
    shutil.rmtree(old, ignore_errors=True)
    if os.path.lexists(place):
        place.rename(old)
    (unfinished / name).rename(place)
    recover_interrupted_save(output_dir)


def recover_interrupted_save(output_dir: str | Path) -> None:
    """Complete an interrupted move, and remove unfinished folders.

    Raises:
        StmineError: the folder `unfinished` is not from a run.
    """
    unfinished = Path(output_dir) / UNFINISHED
    if not os.path.lexists(unfinished):
        return
    if unfinished.is_symlink() or not unfinished.is_dir():
        raise StmineError(f"{unfinished}: expected a folder of a run, found another file: choose another output_dir.")
    if foreign := [path.name for path in unfinished.iterdir() if not re.fullmatch(_UNFINISHED_NAME, path.name)]:
        raise StmineError(
            f"{unfinished} holds {sorted(foreign)[0]}, which is not from a run; a run writes its checkpoints there "
            "first: choose another output_dir."
        )
    for old in unfinished.glob(_OLD + "*"):
        place = Path(output_dir) / old.name.removeprefix(_OLD)
        if not os.path.lexists(place):  # the old one had been moved already, so the new one is complete
            (unfinished / place.name).rename(place)
        for name in _of_the_user(old):
            if not os.path.lexists(place / name):
                (old / name).rename(place / name)
    shutil.rmtree(unfinished, ignore_errors=True)


def remove_saved(folder: Path) -> None:
    """Remove a checkpoint or a model of a run; files of the user in it stay, and what a link leads to."""
    if folder.is_symlink():
        folder.unlink()
        return
    own = _of_the_user(folder)
    if not own:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.name in own:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    logger.warning("%s: kept %s, which the run did not write.", folder, ", ".join(sorted(own)))


def _of_the_user(folder: Path) -> list[str]:
    """Names in a folder of a run that no run writes."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir()]
    try:
        saved = {*json.loads((folder / _LIST).read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError):
        return [name for name in names if not _WRITTEN.fullmatch(name)]
    saved |= {name.partition("/")[0] for name in listed(folder)}  # of commands that wrote there since
    return [name for name in names if name not in saved and not _OF_WRITERS.fullmatch(name)]


def checkpoints(output_dir: str | Path) -> list[Path]:
    """The complete checkpoints of a folder, by ascending step."""
    found = [file.parent for file in Path(output_dir).glob(f"checkpoint-*/{_STATE}")]
    return sorted((path for path in found if path.name.split("-")[-1].isdecimal()), key=_step)


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The complete checkpoint of a folder with the highest step, None without any."""
    found = checkpoints(output_dir)
    return str(found[-1]) if found else None


def is_checkpoint(folder: str | Path) -> bool:
    """Whether this folder is a complete checkpoint."""
    return os.path.isfile(Path(folder) / _STATE)  # False for names that no file can have


def remove_oldest(output_dir: str | Path, keep: int | None) -> None:
    """Keep the last `keep` checkpoints that were written; None or 0 keeps all."""
    if not keep:
        return
    for path in sorted(checkpoints(output_dir), key=lambda path: (path / _STATE).stat().st_mtime)[:-keep]:
        remove_saved(path)


def is_write_failure(error: BaseException) -> bool:
    """Whether the error is one of writing a checkpoint: a full disk, a missing folder, ..."""
    if isinstance(error, RuntimeError):  # raised by torch.save, without the reason
        return "inline_container" in str(error) or "PytorchStreamWriter" in str(error)
    return isinstance(error, (OSError, SafetensorError))


def free_space(folder: str | Path) -> str:
    """Free space on the disk of a folder, for messages."""
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB free"
    except OSError:
        return "the folder cannot be read"


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[-1])

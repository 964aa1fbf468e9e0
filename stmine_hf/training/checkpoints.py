"""Checkpoints of which none is ever half written: made in a folder of their own, then moved to their place."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from safetensors import SafetensorError

from .arguments import ZooTrainingArguments

logger = logging.getLogger(__name__)

UNFINISHED = "unfinished"  # where checkpoints and the best model are written
_OLD = "old-"


def put_in_place(output_dir: str | Path, name: str) -> None:
    """Move the complete `unfinished/name` to `name`, in the place of what was there.

    A kill in between leaves the old or the new one, if need be after `mend`.
    """
    place, workshop = Path(output_dir) / name, Path(output_dir) / UNFINISHED
    old = workshop / (_OLD + name)
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    (workshop / name).rename(place)
    shutil.rmtree(workshop, ignore_errors=True)


def mend(output_dir: str | Path) -> None:
    """Finish a move that a kill cut in two, and remove what was only begun."""
    workshop = Path(output_dir) / UNFINISHED
    for old in workshop.glob(_OLD + "*"):
        name = old.name.removeprefix(_OLD)
        if not (Path(output_dir) / name).exists():  # the old one had gone already, so the new one is whole
            (workshop / name).rename(Path(output_dir) / name)
    shutil.rmtree(workshop, ignore_errors=True)


def remove_oldest(output_dir: str | Path, keep: int | None) -> None:
    """Keep the last `keep` checkpoints that were written; None or 0 keeps all."""
    if not keep:
        return
    found = sorted(Path(output_dir).glob("checkpoint-*/trainer_state.json"), key=lambda file: file.stat().st_mtime)
    for file in found[:-keep]:
        shutil.rmtree(file.parent, ignore_errors=True)


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The newest complete checkpoint in a folder: one whose last file to be written is there."""
    folders = [path.parent for path in Path(output_dir).glob("checkpoint-*/trainer_state.json")]
    return str(max(folders, key=lambda path: int(path.name.split("-")[-1]))) if folders else None


def resume_point(args: ZooTrainingArguments) -> str | None:
    """The checkpoint to go on from: `--resume_from_checkpoint auto` takes the newest of the output folder, if any."""
    if args.resume_from_checkpoint != "auto":
        return args.resume_from_checkpoint
    found = last_checkpoint(args.output_dir or ".")
    logger.info("Going on from %s" if found else "No checkpoint in %s: starting anew.", found or args.output_dir)
    return found


def is_write_failure(error: BaseException) -> bool:
    """Whether this is how the writing of a checkpoint fails: a full disk, a folder that is gone, ..."""
    if isinstance(error, RuntimeError):  # torch.save; the reason is lost
        return "inline_container" in str(error) or "PytorchStreamWriter" in str(error)
    return isinstance(error, (OSError, SafetensorError))


def free_space(folder: str | Path) -> str:
    """Room left on the disk of a folder, for messages."""
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB free"
    except OSError:
        return "the folder cannot be read"

"""Checkpoints that are complete or absent: written to a temporary folder, then moved into place."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from safetensors import SafetensorError

logger = logging.getLogger(__name__)

UNFINISHED = "unfinished"  # where checkpoints and the best model are written
_OLD = "old-"
_STATE = "trainer_state.json"  # the last file of a checkpoint to be written


def put_in_place(output_dir: str | Path, name: str) -> None:
    """Move the complete `unfinished/name` to `name`, replacing the folder that was there.

    If the process is killed in between, the old or the new one remains, if necessary after
    `recover_interrupted_save`.
    """
    place, unfinished = Path(output_dir) / name, Path(output_dir) / UNFINISHED
    old = unfinished / (_OLD + name)
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    (unfinished / name).rename(place)
    shutil.rmtree(unfinished, ignore_errors=True)


def recover_interrupted_save(output_dir: str | Path) -> None:
    """Complete an interrupted move, and remove unfinished folders."""
    unfinished = Path(output_dir) / UNFINISHED
    for old in unfinished.glob(_OLD + "*"):
        name = old.name.removeprefix(_OLD)
        if not (Path(output_dir) / name).exists():  # the old one had been moved already, so the new one is complete
            (unfinished / name).rename(Path(output_dir) / name)
    shutil.rmtree(unfinished, ignore_errors=True)


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
    return (Path(folder) / _STATE).is_file()


def remove_oldest(output_dir: str | Path, keep: int | None) -> None:
    """Keep the last `keep` checkpoints that were written; None or 0 keeps all."""
    if not keep:
        return
    for path in sorted(checkpoints(output_dir), key=lambda path: (path / _STATE).stat().st_mtime)[:-keep]:
        shutil.rmtree(path, ignore_errors=True)


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

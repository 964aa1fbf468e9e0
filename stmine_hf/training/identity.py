"""Identify the run of a folder and its checkpoints, so that a run resumes only from its own checkpoints.

`run.json` names the run. It lies in the output folder and in each checkpoint. Checkpoints of version 0.1 have none;
they are resumed if a folder holds no others.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets

from ..data.held_out import data_fingerprint as data_fingerprint
from ..errors import StmineError
from ..evaluation.reports import undecoded
from ..files import write_json
from ..outputs import require_apart
from .checkpoints import checkpoints, is_checkpoint, remove_saved

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
RESULTS = "results.json"
# What a run leaves in its folder besides checkpoints: folders of models, and files.
_MODELS = ("best", "base")
_FILES = (RESULTS, "curves.png", "config.yaml")
_HOW = (
    "Resume it with --resume_from_checkpoint auto, choose another --output_dir, or remove it and start a new run with "
    "--overwrite_output_dir true."
)


@dataclass(frozen=True)
class RunIdentity:
    """A run.

    Attributes:
        id: differs from that of every other run.
        started: date and time, UTC.
        version: of this package.
        settings: those that distinguish runs: data set, start of the model, seed, ...
        settings_digest: of all settings.
        data: number and digest of the training rows, None where unknown.
        resumed_from: checkpoint of another run that this one began from: its name in the output folder, or a path.
        command: that started it, without the places of its data and its folder, if it was one of `stmine`.
    """

    id: str
    started: str
    version: str
    settings: dict[str, Any]
    settings_digest: str
    data: dict[str, Any] | None = None
    resumed_from: str | None = None
    of: str = field(default="stmine-hf training run")
    command: str | None = None

    @classmethod
    def new(cls, settings: Mapping[str, Any], all_settings: Mapping[str, Any], **more: Any) -> RunIdentity:
        from .. import __version__

        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        text = json.dumps(all_settings, sort_keys=True, default=str)
        digest = sha256(text.encode()).hexdigest()[:16]
        return cls(uuid.uuid4().hex, now, __version__, dict(settings), digest, **more)

    @classmethod
    def read(cls, folder: str | Path) -> RunIdentity | None:
        """That of a folder or checkpoint; None where there is none.

        Raises:
            StmineError: a damaged file.
        """
        file = Path(folder) / RUN_FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            names = [item.name for item in fields(cls) if item.name in content or item.name != "command"]
            identity = cls(**{name: content[name] for name in names})
            texts = [identity.id] if identity.resumed_from is None else [identity.id, identity.resumed_from]
            if not all(isinstance(text, str) for text in texts) or not isinstance(identity.settings, dict):
                raise TypeError("id or resumed_from is not a string, or settings is not an object")
            return identity
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StmineError(
                f"{file} cannot be read as that of a training run ({error!r}). Choose another --output_dir; to "
                "resume, name the checkpoint: --resume_from_checkpoint FOLDER."
            ) from error

    @classmethod
    def id_of(cls, folder: str | Path) -> str | None:
        """The id of the run that a checkpoint belongs to, None for one of version 0.1."""
        identity = cls.read(folder)
        return None if identity is None else identity.id

    def write(self, folder: str | Path) -> None:
        write_json(Path(folder) / RUN_FILE, asdict(self))

    @property
    def text(self) -> str:
        """The content of the file."""
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True)
class Start:
    """How a run begins: as which run, and from which checkpoint, if any."""

    identity: RunIdentity
    checkpoint: str | None = None


def choose_start(
    output_dir: str | Path, resume: str | None, overwrite: bool, settings: Mapping[str, Any], all_settings: Any
) -> Start:
    """Decide which run this is and where it begins. With `overwrite` an earlier run in the folder is removed.

    Args:
        output_dir: of the run; exists.
        resume: `auto` (the run in this folder, from its last checkpoint, if it has one), the folder of a checkpoint,
            or None for a new run.
        overwrite: remove the run in this folder first.
        settings: those that distinguish runs.
        all_settings: of this run.

    Raises:
        StmineError: the folder holds another run, or there is no such checkpoint.
    """
    output_dir = Path(output_dir)
    new = RunIdentity.new(settings, all_settings)
    if overwrite:
        if resume is not None:
            raise StmineError("overwrite_output_dir removes what resume_from_checkpoint needs: set one of them.")
        remove_run(output_dir)
    if resume is None:
        _refuse_another(output_dir)
        return Start(new)
    if resume == "auto":
        return _resume_own(output_dir, new)
    return _resume_named(output_dir, Path(resume), new)


def _refuse_another(output_dir: Path) -> None:
    if found := contents(output_dir):
        raise StmineError(f"{output_dir} holds another run ({', '.join(found)}). {_HOW}")


def _resume_own(output_dir: Path, new: RunIdentity) -> Start:
    present = RunIdentity.read(output_dir)
    found = checkpoints(output_dir)
    ids = [RunIdentity.id_of(path) for path in found]
    if present is None and found:  # run.json was lost, or never written: version 0.1
        if len(set(ids)) > 1:
            raise StmineError(
                f"{output_dir} holds checkpoints of several runs and no {RUN_FILE} that says which is its own. Name "
                "the one to resume from: --resume_from_checkpoint FOLDER."
            )
        present = RunIdentity.read(found[-1]) or replace(new, resumed_from=found[-1].name)
    if present is None:
        if contents(output_dir) not in ([], ["config.yaml"]):
            _refuse_another(output_dir)
        logger.info("No checkpoint in %s: starting a new run.", output_dir)
        return Start(new)
    changed = [
        f"{name} is {present.settings[name]!r} there and {value!r} now"
        for name, value in new.settings.items()
        if name in present.settings and present.settings[name] != value
    ]
    if changed:
        raise StmineError(
            f"{output_dir} holds another run: {', '.join(changed)}. Resume it with its own settings (--config "
            f"{output_dir / 'config.yaml'}), choose another --output_dir, or remove it and start a new run with "
            "--overwrite_output_dir true."
        )
    own = [path for path, identity in zip(found, ids, strict=True) if identity == present.id]
    begun = _begun_from(output_dir, present)
    if own:
        checkpoint = str(own[-1])
    elif begun is not None:
        checkpoint = str(begun)
    elif (output_dir / RESULTS).is_file():
        raise StmineError(
            f"{output_dir} holds a finished run without a checkpoint to resume from. Choose another --output_dir, or "
            "remove it and start a new run with --overwrite_output_dir true."
        )
    else:
        logger.info("No checkpoint of this run in %s: starting a new run.", output_dir)
        return Start(present)
    logger.info("Resuming from %s", checkpoint)
    return Start(present, checkpoint)


def _resume_named(output_dir: Path, checkpoint: Path, new: RunIdentity) -> Start:
    if not is_checkpoint(checkpoint):
        raise StmineError(
            f"--resume_from_checkpoint {checkpoint}: expected the folder of a checkpoint, with trainer_state.json in "
            "it, or auto."
        )
    inside = checkpoint.resolve().parent == output_dir.resolve()
    present, its = RunIdentity.read(output_dir), RunIdentity.read(checkpoint)
    name = checkpoint.name if inside else str(checkpoint.resolve())
    logger.info("Resuming from %s", checkpoint)
    if present is not None and (
        present.resumed_from == name or (inside and _is_last_own(output_dir, present, checkpoint))
    ):
        return Start(present, str(checkpoint))
    if not inside:
        _refuse_another(output_dir)
    elif present is None and its is not None and checkpoints(output_dir)[-1].name == name:
        return Start(its, str(checkpoint))
    return Start(replace(new, resumed_from=name), str(checkpoint))


def _is_last_own(output_dir: Path, present: RunIdentity, checkpoint: Path) -> bool:
    own = [path.name for path in checkpoints(output_dir) if RunIdentity.id_of(path) == present.id]
    return own[-1:] == [checkpoint.name]


def _begun_from(output_dir: Path, identity: RunIdentity) -> Path | None:
    """The checkpoint of another run that this one began from, if it is still there."""
    if identity.resumed_from is None:
        return None
    place = output_dir / identity.resumed_from  # an absolute path stays as it is
    return place if is_checkpoint(place) else None


def contents(output_dir: Path) -> list[str]:
    """Names in a folder that a new run would replace."""
    found = [path.name for path in checkpoints(output_dir)]
    if (output_dir / RUN_FILE).is_file():  # a run that ended before it had a result leaves only its settings
        names: tuple[str, ...] = ("best", RESULTS)
    else:
        names = (*_MODELS, *_FILES)
    return [name for name in names if (output_dir / name).exists()] + found


def remove_run(output_dir: Path) -> None:
    """Remove what a run left in its folder; all other files stay.

    Raises:
        StmineError: something of such a name is not from a run; nothing is removed then.
    """
    folders = [output_dir / name for name in _MODELS if (output_dir / name).exists()]
    for path in folders:
        if not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise StmineError(f"{path} is not a model of a run, so it is not removed: choose another --output_dir.")
    results = output_dir / RESULTS
    if results.is_file() and not _is_results(results):
        raise StmineError(f"{results} is not from a run, so it is not removed: choose another --output_dir.")
    saved = [*folders, *checkpoints(output_dir)]
    was_a_run = bool(saved) or (output_dir / RUN_FILE).is_file()
    for path in saved:
        remove_saved(path)
    for name in (RESULTS, "curves.png", RUN_FILE, *(["config.yaml"] if was_a_run else [])):
        (output_dir / name).unlink(missing_ok=True)


def _is_results(file: Path) -> bool:
    try:
        return {"best", "training"} <= set(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False


def require_apart_from_images(output: Path, splits: Iterable[Any]) -> None:
    """Check that the folder of a run contains no image that the rows name, such as those of a table elsewhere.

    Raises:
        OutputError: it does.
    """
    if not output.is_dir():
        return
    folders: set[str] = set()
    for rows in splits:
        if isinstance(rows, datasets.Dataset) and isinstance(rows.features.get("image"), datasets.Image):
            for image in undecoded(rows)["image"]:
                if image is not None and image["path"]:
                    folders.add(os.path.dirname(image["path"]))
    require_apart(output, sorted(folders - {""}), inside=True)

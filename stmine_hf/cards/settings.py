"""Settings of a training as a card shows them: those that were chosen, without the machine's folders and tokens."""

from __future__ import annotations

from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from ..data import BUILDERS
from ..documents import read_json
from ..evaluation.reports import with_present_names
from ..loading import published

# Settings of a run that say nothing about what it learned.
_BOOKKEEPING = {
    "accelerator_config",
    "dataloader_pin_memory",
    "debug",
    "disable_tqdm",
    "do_eval",
    "logging_steps",
    "report_to",
    "resume_from_checkpoint",
}
_OFF_BY_DEFAULT = {"activation_checkpointing", "gradient_checkpointing"}  # None in transformers' default


def resolved_arguments(*arguments: Any) -> dict[str, Any]:
    """The settings by name, without fields at their default and without the token."""
    resolved: dict[str, Any] = {}
    for group in arguments:
        for item in fields(group):
            value = getattr(group, item.name)
            if item.init and item.name != "hub_token" and not _is_default(item, value):
                resolved[item.name] = _plain(value)
    return resolved


def portable_settings(settings: dict[str, Any], paths: dict[str, Any]) -> dict[str, Any]:
    """Settings of a training run, as a user of the repository would write them.

    Args:
        settings: of the run's `config.yaml`.
        paths: what replaces the paths of the machine it ran on; comes first. Absolute paths elsewhere, and those
            from the home folder or outside the current one (~, ..), keep their last part only.
    """
    kept = {key: value for key, value in settings.items() if key not in {*paths, *_BOOKKEEPING}}
    kept = {key: value for key, value in kept.items() if value or key not in _OFF_BY_DEFAULT}
    return paths | _without_machine(kept)


def portable_start(settings: dict[str, Any]) -> dict[str, str]:
    """The model that a training started from, if any: as an id, a published folder, or a folder of `outputs/`."""
    start = settings.get("model_name_or_path")
    if not start:
        return {}
    path = PurePath(start)
    if Path(published(path.name)).is_dir():
        start = f"hub_cards/{path.name}"
    elif path.is_absolute() or Path(start).is_dir():
        start = f"outputs/{path.name}"
    return {"model_name_or_path": start}


def portable_data(settings: dict[str, Any], name: str) -> dict[str, str]:
    """The data set of a training; its folder, if it has one, is called `name` on any machine.

    The user's own file, such as a table of captions, is in `data/` under its file name.
    """
    dataset = settings["dataset"]
    if (path := PurePath(dataset)).is_absolute():
        return {"dataset": f"data/{path.name}"}
    return {"dataset": dataset} | ({"data_dir": f"data/{name}"} if settings.get("data_dir") else {})


def data_word(settings: dict[str, Any]) -> str:
    """The data set of a training as a part of a file's name: of the user's own, the file or folder without its place.

    Example:
        >>> data_word({"dataset": "rsicd"}), data_word({"dataset": "data/mine.csv"})
        ('rsicd', 'mine')
    """
    if settings.get("hold_out") is not None and settings.get("data_dir"):
        return Path(settings["data_dir"]).name  # the name of its layout says nothing
    dataset = str(settings["dataset"])
    return dataset if dataset in BUILDERS else Path(dataset).stem


def outcome_of(run: Path) -> dict[str, Any]:
    """`results.json` of a run; empty for a run that has not finished."""
    file = run / "results.json"
    return with_present_names(read_json(file)) if file.is_file() else {}


def _without_machine(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_machine(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_machine(item) for item in value]
    if isinstance(value, str):
        path = PurePath(value)
        return path.name if path.is_absolute() or value.startswith("~") or ".." in path.parts[:1] else value
    return value


def _is_default(item: Field, value: Any) -> bool:
    default = item.default_factory() if item.default_factory is not MISSING else item.default
    return _plain(value) == _plain(default)


def _plain(value: Any) -> Any:
    """Enums to their value, dataclasses to mappings: what YAML can hold."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value

"""What cards say of a model that `stmine train` made of the user's own data: from what, on what, with which scores."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data import BUILDERS
from ..data.description import entry
from ..data.held_out import SHARE
from ..data.tables import TABLES
from ..detect.classes import THRESHOLD
from ..loading import hub_id
from ..methods import Method

THINGS = {"captions": "images", "posts": "posts", "boxes": "images"}  # of the rows of each kind
_OF_DATA = ("--data", "--column", "--label", "--encoding", "--option")  # options of train that evaluate has, too


def is_own_data(settings: Mapping[str, Any]) -> bool:
    """Whether a run was trained on data of the user's own, of which it may hold rows out, by its settings."""
    return settings.get("hold_out") is not None


def data_options(settings: Mapping[str, Any], command: str | None) -> str:
    """The options by which `stmine train` and `stmine evaluate` read the data again, whose folder is the current one.

    Args:
        settings: of the run.
        command: that trained, if known.
    """
    if command is None:
        words = ["--data", data_name(settings)]
        for part in settings.get("column_mapping") or []:
            words += ["--column", part]
        for key, value in (settings.get("dataset_options") or {}).items():
            if key == "label_names":
                words += [word for pair in value.items() for word in ("--label", "=".join(map(str, pair)))]
            elif isinstance(value, str | int | float):
                words += ["--option", f"{key}={value}"]
        return shlex.join(words)
    given = shlex.split(command)
    pairs = [given[at : at + 2] for at, word in enumerate(given) if word in _OF_DATA]
    return shlex.join([word for pair in pairs for word in pair])


def data_name(settings: Mapping[str, Any]) -> str:
    """The data without their place: a folder's or table's name, or an id on the Hub."""
    if settings.get("data_dir"):
        return Path(settings["data_dir"]).name
    dataset = str(settings["dataset"])
    is_file = f"*{Path(dataset).suffix.lower()}" in TABLES or dataset.startswith("data/")  # org/posts.v2 is on the Hub
    return Path(dataset).name if is_file else dataset


def own_run(
    method: Method, settings: Mapping[str, Any], outcome: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The facts that `own_run.md` and `own_measured.md` name.

    Args:
        method: of the model.
        settings: of the run, without the machine's paths.
        outcome: its `results.json`.
        measured: the measurements of the repository's files, by the file's path without its suffix.
    """
    name, start = data_name(settings), str(settings.get("model_name_or_path") or "")
    split = str(settings.get("eval_split") or "val")
    before, after = outcome.get("start"), outcome.get("best")
    own = next((result for result in measured.values() if result["split"] == split), None)
    rows = []
    if before:
        rows.append(("before the training", _scores(method, before)))
    if own is not None:
        rows.append(("**this model**", _scores(method, own["metrics"])))
    elif after:
        rows.append(("**this model**, as trained", _scores(method, after)))
    rows += [
        (f"**this model**, split {result['split']}", _scores(method, result["metrics"]))
        for result in measured.values()
        if result["split"] != split
    ]
    classes = _classes(method, outcome.get("by_class") or [], own)
    return {
        "data": name,
        "start": hub_id(start) or Path(start).name,
        "command": outcome.get("command"),
        "counts": {"train": None, "val": None} | (outcome.get("rows") or {}),
        "things": THINGS[method.rows],
        "unit": method.rows,
        "layout": _layout(name, settings),
        "meaning": method.score_meaning,
        "measured": own,
        "files": list(measured),
        "titles": list(method.metrics.values()),
        "scores": rows,
        "class_titles": list(method.class_metrics.values()),
        "classes": [[row["name"], *row["shown"]] for row in classes],
        "threshold": THRESHOLD,
        "hidden": [row for row in classes if row["threshold"] is not None],
        "lost": [row["name"] for row in classes if row["found"] == 0 and row["threshold"] is None],
        "share": settings["hold_out"],
        # `stmine evaluate` holds out the usual share of data without a split val.
        "repeatable": settings["hold_out"] == SHARE or (own is not None and not own.get("held_out")),
        "evaluate": f"stmine evaluate {method.name}",
        "data_options": data_options(settings, outcome.get("command")),
    }


def _scores(method: Method, scores: Mapping[str, Any]) -> list[str]:
    found = [scores.get(f"eval_{key}", scores.get(key)) for key in method.metrics]
    return ["-" if value is None else f"{value:.{2 if value > 1 else 4}f}" for value in found]


def _classes(
    method: Method, trained: list[dict[str, Any]], measured: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """The rows of the run's table of classes, with the scores of the measured files where there are any."""
    found = {row["name"]: row for row in (measured or {}).get("by_class") or []}
    first, *_ = method.class_metrics or [""]
    rows = []
    for row in trained:
        after = found.get(row["name"], row["after"])
        scores = [
            None if row["before"] is None else row["before"][first],
            *(after.get(key) for key in method.class_metrics),
        ]
        shown = ["-" if value is None or not row["held_out"] else f"{value:.3f}" for value in scores]
        count = "-" if row["train"] is None else str(row["train"])
        boxes = row["held_out"]
        at = {key: after.get(key) if boxes else None for key in ("found", "threshold")}
        lower = found.get(row["name"], row).get("found_lower")
        counts = {"number": round((at["found"] or 0) * boxes), "lower": round((lower or 0) * boxes)}
        rows.append({**row, **at, **counts, "shown": [count, str(boxes), *shown]})
    return rows


def _layout(name: str, settings: Mapping[str, Any]) -> str | None:
    """How the data have to lie; None for data on the Hub."""
    dataset = str(settings["dataset"])
    if dataset in BUILDERS:
        about = entry(dataset).about.rstrip(".")
        return f"the layout `{dataset}` of stmine-hf, {about.rpartition(': ')[2]}"
    if "/" in name:
        return None
    columns = (part.partition("=")[::2] for part in settings.get("column_mapping") or [])
    named = ", ".join(f"`{column}` ({part})" for part, column in columns)
    return f"a table with the columns {named}" if named else "a table"

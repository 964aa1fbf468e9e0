"""What the commands that convert share."""

from __future__ import annotations

from typing import Any

from ..printing import say
from .terminal import print_json


def label_names(labels: str) -> list[str]:
    """The names given as `--labels a,b`."""
    return [name.strip() for name in labels.split(",")]


def report_conversion(document: dict[str, Any], written: str, next_step: str, as_json: bool) -> None:
    """Print what was written and what comes next; with `--json`, the document alone."""
    if as_json:
        print_json(document)
    else:
        say(f"Written: {written}")
        say(next_step)

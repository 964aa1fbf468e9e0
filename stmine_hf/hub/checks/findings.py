"""Findings of a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: what was checked.
        outcome: "failed" keeps a folder from being published, "warning" does not.
        detail: what was found, and what to do about it.
    """

    check: str
    outcome: Literal["ok", "warning", "failed"]
    detail: str


def finding_of(check: str, faults: list[str], fine: str) -> Finding:
    """A finding that failed, with its faults (the first few of many), or one that is fine."""
    if not faults:
        return Finding(check, "ok", fine)
    more = f"; and {len(faults) - 4} more" if len(faults) > 4 else ""
    return Finding(check, "failed", "; ".join(faults[:4]) + more)

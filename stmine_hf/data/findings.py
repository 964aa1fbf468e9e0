"""Findings of reading a data set: counted while its files are read, stored beside the cached table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

from ..files import write_json
from ..outputs import write_output
from ..printing import counted, printable

FATES = ("skipped", "dropped", "corrected", "noted", "not used")
_FORMER_FATES = {"left out": "skipped", "mended": "corrected"}  # in files of version 0.1
ALIKE = "labels that may be the same: kept apart (list the right ones by the option labels or classes)"
FILE = ".findings.json"  # beside a cached table; `datasets` ignores names that begin with a dot


class Findings:
    """What was skipped, dropped, corrected, noted or not used: counts by reason, with the places.

    Counts are exact; of the places the first `PLACES` of a reason are kept, of which messages show `EXAMPLES`. What a
    format states and rows do not hold (`not used`, such as outlines) is no fault: it is listed, but causes no warning.

    Args:
        row: what a row of the set is, for messages.

    Attributes:
        subject: the set and its size in words, the beginning of messages.
    """

    EXAMPLES, REASONS = 3, 6  # shown of each reason, and of each fate
    PLACES = 1000

    def __init__(self, row: str = "image") -> None:
        self.row, self.subject = row, ""
        self.counts: dict[str, Counter[str]] = {fate: Counter() for fate in FATES}
        self.places: dict[tuple[str, str], list[str]] = {}

    def skip(self, reason: str, place: str) -> None:
        """Count a row that is not in the set."""
        self._add("skipped", reason, place)

    def drop(self, reason: str, place: str) -> None:
        """Count a box that is not in the set; its image is."""
        self._add("dropped", reason, place)

    def correct(self, reason: str, place: str) -> None:
        """Count something that is in the set, but not as the file has it."""
        self._add("corrected", reason, place)

    def note(self, reason: str, place: str) -> None:
        """Count something that is in the set as the file has it, but suspicious."""
        self._add("noted", reason, place)

    def pass_over(self, reason: str, place: str) -> None:
        """Count something that the format states and no row holds."""
        self._add("not used", reason, place)

    def _add(self, fate: str, reason: str, place: str) -> None:
        reason, place = printable(reason), printable(place)
        self.counts[fate][reason] += 1
        places = self.places.setdefault((fate, reason), [])
        if len(places) < self.PLACES:
            places.append(place)

    def number(self, fate: str) -> int:
        return self.counts[fate].total()

    def copy(self) -> Findings:
        return deepcopy(self)

    def listed(self) -> list[dict[str, Any]]:
        """For programs: `fate`, `reason`, `count` and the first `places` of each kind."""
        return [
            {"fate": fate, "reason": reason, "count": number, "places": self.places[fate, reason]}
            for fate, reasons in self.counts.items()
            for reason, number in reasons.most_common()
        ]

    def save(self, file: Path) -> None:
        """Write all of it as JSON, for `load`."""
        write_json(file, {"row": self.row, "subject": self.subject, "findings": self.listed()})

    def save_for(self, file: str | Path, inputs: Iterable[str | Path]) -> None:
        """Write the same to a file that the user named.

        Raises:
            OutputError: it is an input or lies in one, or a file is there that this package did not write.
        """
        write_output(file, self.save, inputs=inputs)

    @classmethod
    def load(cls, file: Path) -> Findings | None:
        """What `save` wrote; None where there is no such file."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            findings = cls(content["row"])
            findings.subject = content["subject"]
            for one in content["findings"]:
                fate, reason = _FORMER_FATES.get(one["fate"], one["fate"]), str(one["reason"])
                findings.counts[fate][reason] = int(one["count"])
                findings.places[fate, reason] = [str(place) for place in one["places"]]
        except (OSError, ValueError, OverflowError, KeyError, TypeError, RecursionError):
            return None
        return findings

    def __bool__(self) -> bool:
        return any(reasons for fate, reasons in self.counts.items() if fate != "not used")

    def __str__(self) -> str:
        """`skipped 2 images: 2 x no such file (images[0], a.jpg; images[1], b.jpg); dropped 1 box: ...`"""
        return self._described(self.EXAMPLES)

    def brief(self) -> str:
        """The same without places: `skipped 2 images: 2 x no such file`."""
        return self._described(0)

    def _described(self, examples: int) -> str:
        things = {"skipped": self.row, "dropped": "box"}
        return "; ".join(
            f"{fate} {counted(reasons.total(), things.get(fate, ''))}: {self._reasons(fate, examples)}"
            for fate, reasons in self.counts.items()
            if reasons and fate != "not used"
        )

    def _reasons(self, fate: str, examples: int) -> str:
        shown = []
        for reason, number in self.counts[fate].most_common(self.REASONS):
            places = [*self.places[fate, reason][:examples], "..."][:number]
            shown.append(f"{number:,} x {reason}" + (f" ({'; '.join(places)})" if examples else ""))
        rest = len(self.counts[fate]) - len(shown)
        return ", ".join(shown) + (f", and {rest} more reasons" if rest else "")

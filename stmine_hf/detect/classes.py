"""Classes of a detector by name, and their thresholds; needs no PyTorch, so that wrong names are reported at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from ..errors import StmineError
from ..printing import shell_word

OTHERS = "*"  # in a mapping of thresholds: all classes without one of their own
THRESHOLD = 0.4  # least score of what is shown, as in the released demo
SCORE_THRESHOLD = 0.05  # of the official evaluation: detections below it do not count
_MUCH = 0.1  # share of the boxes of a class that another threshold must find beside, to be worth a line
_MOST_HINTS = 5  # classes


def parse_thresholds(given: float | Mapping[str, float], names: Mapping[int, str]) -> tuple[float, dict[int, float]]:
    """Thresholds of classes: that of all others, and those by the class's number.

    Args:
        given: see [`Detector`].
        names: of the classes.

    Raises:
        StmineError: not a number, a number that is not a score, or a class that the model does not have.
    """
    others: float = THRESHOLD
    own: dict[int, float] = {}
    for name, value in (given if isinstance(given, Mapping) else {OTHERS: given}).items():
        try:
            least = float(value)
        except (TypeError, ValueError):
            raise StmineError(
                f"threshold: expected a score such as 0.4, or scores of classes, {{'person': 0.3}}, found {value!r}."
            ) from None
        if not 0 <= least < 1:
            raise StmineError(f"threshold: expected a score from 0 to below 1, found {value}.")
        if name == OTHERS:
            others = least
        else:
            own[known_labels([name], names).pop()] = least
    return others, own


def option_showing(scores: Mapping[str, float], given: str = f"{THRESHOLD:g}") -> str | None:
    """`--threshold` of `stmine detect` with thresholds of these classes that their scores pass.

    Args:
        scores: of the classes.
        given: the option as it is.

    Returns:
        None where a name or a score leaves no such option.

    Example:
        >>> option_showing({"crane": 0.12, "wild duck": 0.39})
        "--threshold '0.4,crane=0.1,wild duck=0.35'"
    """
    return threshold_option({name: 0.05 * (math.ceil(score / 0.05) - 1) for name, score in scores.items()}, given)


def threshold_option(thresholds: Mapping[str, float], given: str = f"{THRESHOLD:g}") -> str | None:
    """`--threshold` of `stmine detect` with these thresholds of classes; see `option_showing`."""
    if not all(least > 0 for least in thresholds.values()) or any({*",="} & {*name} for name in thresholds):
        return None
    return "--threshold " + shell_word(",".join([given, *(f"{name}={least:g}" for name, least in thresholds.items())]))


def better_threshold(
    found: float | None, best: float | None, found_at: Callable[[float], float | None]
) -> float | None:
    """The threshold to suggest for a class of which `THRESHOLD` hides much; None: it hides little.

    Args:
        found: share of its boxes that are found at `THRESHOLD`.
        best: the threshold with the best F1.
        found_at: the share at a threshold.
    """
    if best is None or found is None or best >= THRESHOLD:
        return None
    return best if (found_at(best) or 0) - found >= _MUCH or not found else None


def threshold_hints(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines on the classes of which the usual threshold hides much, and on those that no threshold finds.

    Args:
        rows: of classes that were measured: `name`, `boxes`, `found` (share of them at `THRESHOLD`), `threshold` (see
            `better_threshold`) and `found_lower` (share at that).
    """
    measured = [row for row in rows if row["boxes"] and row.get("found") is not None]
    hints = []
    if hidden := [row for row in measured if row["threshold"] is not None]:
        hidden.sort(key=lambda row: row["found"] - row["found_lower"])
        shown = hidden[:_MOST_HINTS]
        counts = [
            f"{_number(row, 'found')} of {row['boxes']} {str(row['name'])!r} ({_number(row, 'found_lower')} at "
            f"{row['threshold']:g})"
            for row in shown
        ]
        option = threshold_option({str(row["name"]): row["threshold"] for row in shown}) or "lower ones (--threshold)"
        others = f" The same holds for {len(hidden) - len(shown)} more classes." if len(hidden) > len(shown) else ""
        hints.append(
            f"The threshold {THRESHOLD:g} finds {', '.join(counts)}. Detect with {option} (best F1 on these images), "
            f"or train longer or on more images.{others}"
        )
    if lost := [str(row["name"]) for row in measured if not row["found"] and row["threshold"] is None]:
        names = ", ".join(map(repr, lost[:_MOST_HINTS])) + (" ..." if len(lost) > _MOST_HINTS else "")
        hints.append(f"No threshold from {SCORE_THRESHOLD:g} up finds any {names}: train longer, or on more images.")
    return hints


def _number(row: Mapping[str, Any], share: str) -> int:
    return round(row[share] * row["boxes"])


def known_labels(wanted: Iterable[str], names: Mapping[int, str]) -> set[int]:
    """The numbers of classes.

    Args:
        wanted: their names, in any case.
        names: of all classes.

    Raises:
        StmineError: the model has no such class.
    """
    label_of = {name.lower(): label for label, name in names.items()}
    labels = set()
    for name in wanted:
        if name.strip().lower() not in label_of:
            close = get_close_matches(name.strip().lower(), label_of, n=3) or list(label_of)[:10]
            raise StmineError(
                f"classes: the model has no class {name.strip()!r}. Of its {len(label_of)}, did you mean "
                f"{' or '.join(names[label_of[one]] for one in close)}?"
            )
        labels.add(label_of[name.strip().lower()])
    return labels

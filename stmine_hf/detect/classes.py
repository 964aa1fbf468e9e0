"""Classes of a detector by name, and their thresholds; needs no PyTorch, so that wrong names are reported at once."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from ..errors import StmineError

OTHERS = "*"  # in a mapping of thresholds: all classes without one of their own
THRESHOLD = 0.4  # least score of what is shown, as in the released demo


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
    lower = {name: 0.05 * (math.ceil(score / 0.05) - 1) for name, score in scores.items()}
    if not all(least > 0 for least in lower.values()) or any({*",="} & {*name} for name in lower):
        return None
    return "--threshold " + shlex.quote(",".join([given, *(f"{name}={least:g}" for name, least in lower.items())]))


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

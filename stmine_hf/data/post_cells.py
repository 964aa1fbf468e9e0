"""What cells of posts mean, also where no data set is built: ids made unique, the name of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .cells import name_of, opened, text_of
from .errors import BadRow

SEEN_BEFORE = "id seen before, made unique"


class UniqueIds:
    """Makes ids that occur twice unique: the second post of id 7 is 7#2, in training, features and predictions."""

    def __init__(self) -> None:
        self._times: dict[str, int] = {}

    def take(self, given: str) -> str:
        """The id, or the next of its kind that is free."""
        own = given
        while own in self._times:
            self._times[given] += 1
            own = f"{given}#{self._times[given]}"
        self._times[own] = 1
        return own


def image_of(value: Any, place: str) -> str:
    """The name of the image that a cell means, of several the first; "" for none.

    Raises:
        BadRow: the cell holds something else.
    """
    if value is None:
        return ""
    value = opened(value)
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    if isinstance(value, (Mapping, bytes)):
        raise BadRow("an image in the table itself: load the file as a data set of your own, of the kind posts")
    name = name_of(value) if not isinstance(value, str) else text_of(value).strip()
    return "" if name.lower() in ("nan", "null", "none", "<na>") else name

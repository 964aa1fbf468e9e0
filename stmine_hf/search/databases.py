"""Whether an index is a folder or in a database."""

from __future__ import annotations

from pathlib import Path

from ..errors import StmineError

LANCE = "lancedb://"


def is_uri(place: object) -> bool:
    """Whether a place for an index names a database.

    Raises:
        StmineError: it names one of a kind that is not supported.
    """
    if not isinstance(place, str) or "://" not in place:
        return False
    if not place.startswith(LANCE):
        raise StmineError(
            f"{place}: expected a folder, or {LANCE} with a folder or an address such as s3://BUCKET/KEY"
        )
    return True


def folder_or_uri(place: str) -> Path | str:
    """A place as given on a command line.

    Raises:
        StmineError: it names a database of a kind that is not supported.
    """
    return place if is_uri(place) else Path(place)

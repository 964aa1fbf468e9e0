"""Whether a query is a sentence or names an image."""

from __future__ import annotations

import os

from ..errors import StmineError
from ..images import SUFFIXES, looks_like_image


def is_image(query: str) -> bool:
    """Whether `query` searches by the image of this path, not by a sentence.

    Raises:
        StmineError: it looks like the path of an image that is not there.
    """
    try:
        if os.path.isfile(query):
            return looks_like_image(query)
    except ValueError:  # a NUL in it
        return False
    if os.path.splitext(query)[1].lower() in SUFFIXES and len(query.split()) == 1:
        raise StmineError(f"no such image: {query}")
    return False

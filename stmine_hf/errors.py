"""The error type for users: the command line prints its message as a single line and exits with 1."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["StmineError"]

# Words of help texts and documents that stand for something of the user's.
_PLACEHOLDERS = set(
    "ADAPTER BASE COLUMN DATA DATASET DIR FILE FOLDER ID IMAGE IMAGES INDEX KEY LICENSE MERGED MODEL NAME ORG "  # noqa: SIM905
    "ORGANISATION ORGANIZATION OUT OWNER PART PATH POSTS REPO REPOSITORY RUN SOURCE TABLE TEXT USER USERNAME VALUE "
    "VIDEO YOUR_NAME YOUR-NAME".split()
)


class StmineError(Exception):
    """An error that the user can fix: the message says what was expected, what was found and what to do next.

    Everything else that escapes (a bug, a full disk) keeps its own type and its traceback.
    """


def placeholder_hint(words: Iterable[str | None]) -> str:
    """A sentence on those of the words that are placeholders of documents; "" without any.

    Args:
        words: of a command that failed, or values of its options.

    Example:
        >>> placeholder_hint(["detect", "IMAGES"])
        ' IMAGES is a placeholder: put the name of your own in its place.'
    """
    found = [
        word
        for word in words
        if word and all(part in _PLACEHOLDERS for part in re.split("[/=]", word)) and not Path(word).exists()
    ]
    if len(found) > 1:
        return f" {' and '.join(found)} are placeholders: put the names of your own in their place."
    return f" {found[0]} is a placeholder: put the name of your own in its place." if found else ""


def require_own_id(repo: str | None) -> None:
    """Check the id of a repository on the Hub.

    Raises:
        StmineError: it is a placeholder of a document, such as NAME/MODEL.
    """
    parts = (repo or "").split("/")
    placeholders = [part for part in parts if part in _PLACEHOLDERS]
    if placeholders and (parts[0] in placeholders or placeholders == parts):  # jane/MODEL may be a model's name
        raise StmineError(
            f"{repo}: {' and '.join(placeholders)} stand{'s' if len(placeholders) == 1 else ''} for a name of yours. "
            "Expected your name on the Hub and the repository's, such as jane-doe/my-model."
        )

"""The error type for users: the command line prints its message as a single line and exits with 1."""

from __future__ import annotations

__all__ = ["StmineError"]


class StmineError(Exception):
    """An error that the user can fix: the message says what was expected, what was found and what to do next.

    Everything else that escapes (a bug, a full disk) keeps its own type and its traceback.
    """

"""Errors of data sets: each is a `StmineError`, so that the command line prints its message alone."""

from __future__ import annotations

from ..errors import StmineError


class DataError(StmineError):
    """A data set that cannot be loaded: unknown name, option or split, missing or malformed files."""


class DataFolderError(DataError):
    """The files are not those of the data set: what was expected, what was found, and where to get it."""


class BadRow(ValueError):
    """A row to be skipped; the message is the reason."""

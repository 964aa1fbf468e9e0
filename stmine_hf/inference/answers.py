"""What the Python classes return: answers to one item or to many, as dictionaries and as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import StmineError

if TYPE_CHECKING:
    import pandas


class BadItemError(StmineError, ValueError):
    """The one item that was given cannot be used. Of several items, a bad one gets an answer with `error` instead."""


class Answer(Protocol):
    """What an answer has, whatever the task."""

    @property
    def error(self) -> str | None:
        """Why the item has no answer; None if it has one."""

    def rows(self) -> list[dict[str, Any]]:
        """The answer as rows of a table."""


T = TypeVar("T", bound=Answer)


class Answers(list[T]):
    """The answers to several items, in their order.

    Args:
        answers: of the items.
        columns: of `to_pandas`, which has them even where there are no rows.
    """

    def __init__(self, answers: Iterable[T] = (), columns: Sequence[str] = ()):
        super().__init__(answers)
        self._columns = list(columns)

    @property
    def failed(self) -> list[T]:
        """Those without an answer; `error` has the reason."""
        return [answer for answer in self if answer.error is not None]

    def to_pandas(self) -> pandas.DataFrame:
        """All answers as one table; rows as in `to_pandas` of a single answer."""
        return data_frame([row for answer in self for row in answer.rows()], self._columns)


def data_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pandas.DataFrame:
    """Rows as a table with these columns first.

    Raises:
        StmineError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise StmineError("to_pandas needs pandas: pip install pandas") from None
    names = [*columns, *(name for name in dict.fromkeys(name for row in rows for name in row) if name not in columns)]
    return pandas.DataFrame([dict(row) for row in rows], columns=names)

"""What is wrong with a request, by its HTTP status."""

from __future__ import annotations

from http import HTTPStatus

from ..errors import StmineError

RETRY_AFTER = 1  # seconds


class RequestError(StmineError):
    """A request that gets no answer.

    Args:
        status: of the response.
        message: what was expected, what was found, what to do.
        item: the part of the request that is wrong, such as "images[1]"; None: the request as a whole.
    """

    def __init__(self, status: HTTPStatus, message: str, item: str | None = None):
        super().__init__(message)
        self.status, self.item = status, item

    @property
    def headers(self) -> dict[str, str]:
        """Of the response."""
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return {"Retry-After": str(RETRY_AFTER)}
        return {"WWW-Authenticate": "Bearer"} if self.status == HTTPStatus.UNAUTHORIZED else {}


def unusable(message: str, item: str | None) -> RequestError:
    """A value that cannot be used."""
    return RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, message, item)


def too_large(message: str, item: str | None = None) -> RequestError:
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message, item)


def busy(message: str) -> RequestError:
    """A request that may succeed later."""
    return RequestError(HTTPStatus.SERVICE_UNAVAILABLE, message)

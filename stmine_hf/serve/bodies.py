"""JSON and multipart requests to checked values."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ..errors import StmineError
from .asked import Asked
from .limits import Limits
from .problems import RequestError, busy, too_large, unusable

A = TypeVar("A", bound=Asked)
_MOST_FIELDS = 1000  # of a request, and values of one of its lists: each wrong one would be an error of its own
_MOST_COMMAS = 1_000_000  # of a JSON body: bounds what it holds, which can take 50 times its bytes
_FIELDS = ("bbox", "near", "from", "to", "where", "threshold", "classes")  # that messages begin with
_NAMES = {"start": "from", "end": "to"}


class _InMemory(MultiPartParser):
    """Keeps files in memory, which the limit of the body bounds, instead of writing them to a disk."""

    spool_max_size = 2**62


class Bodies:
    """Reads the bodies of requests, a bounded number of bytes at a time.

    Args:
        limits: of a body, and of all that are held.
    """

    def __init__(self, limits: Limits):
        self._limits, self._held = limits, 0

    async def read(self, request: Request) -> bytes:
        """The body; `release` its length when it is no longer needed.

        Raises:
            RequestError: too large, or too many bodies are held already.
        """
        most = self._limits.request_bytes
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > most:
            raise too_large(f"The request has {int(announced):,} bytes; {most:,} are allowed. Send smaller images.")
        parts: list[bytes] = []
        size = 0
        try:
            async for part in request.stream():
                size += len(part)
                self._held += len(part)
                if size > most:
                    raise too_large(f"The request has more than the {most:,} bytes allowed. Send smaller images.")
                if self._held > self._limits.held_bytes:
                    raise busy("The service holds as many requests as it may. Try again in a moment.")
                parts.append(part)
        except BaseException as error:
            self._held -= size
            if isinstance(error, ClientDisconnect):
                raise RequestError(HTTPStatus.BAD_REQUEST, "The request was cut short.") from None
            raise
        return b"".join(parts)

    def release(self, size: int) -> None:
        """Forget a body of so many bytes."""
        self._held -= size


async def read_asked(kind: type[A], headers: Headers, body: bytes) -> A:
    """The checked values of a request.

    Raises:
        RequestError: another content type, a body that cannot be read, or values that cannot be used.
    """
    content = headers.get("content-type", "").partition(";")[0].strip().lower()
    if content == "application/json":
        values = _from_json(kind, body)
    elif content == "multipart/form-data":
        values = await _from_multipart(kind, headers, body)
    else:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Expected a body of application/json or multipart/form-data, found {content[:60] or 'none'!r}.",
        )
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _invalid(kind, error) from None


def _from_json(kind: type[Asked], body: bytes) -> dict[str, Any]:
    if body.count(b",") + body.count(b"[") > _MOST_COMMAS:
        raise too_large(f"The body has more than {_MOST_COMMAS:,} values. Send several requests.")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "not UTF-8, or nested too deep"
        raise RequestError(HTTPStatus.BAD_REQUEST, f"The body is not JSON: {reason}.") from None
    if not isinstance(values, dict):
        raise RequestError(HTTPStatus.BAD_REQUEST, f"Expected a JSON object, found {type(values).__name__}.")
    if len(values) > _MOST_FIELDS:
        raise too_large(f"The body has {len(values):,} fields; expected {len(kind.model_fields)} at most.")
    for name, value in values.items():
        if isinstance(value, list) and len(value) > _MOST_FIELDS:
            name = name if name in kind.model_fields else name[:60]
            raise too_large(f"{name}: expected at most {_MOST_FIELDS:,} values, found {len(value):,}.", name)
    for name in kind.images_in:
        value = values.get(name)
        if isinstance(value, list):
            values[name] = [_decoded(one, f"{name}[{place}]") for place, one in enumerate(value)]
        elif value is not None:
            values[name] = _decoded(value, name)
    return values


async def _from_multipart(kind: type[Asked], headers: Headers, body: bytes) -> dict[str, Any]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    try:
        parser = _InMemory(
            headers, whole(), max_files=_MOST_FIELDS, max_fields=_MOST_FIELDS, max_part_size=max(1, len(body))
        )
        form = await parser.parse()
    except Exception as error:  # parsers raise errors of nearly every type for malformed bytes
        reason = " ".join((str(getattr(error, "message", "")) or type(error).__name__).split())[:120]
        raise RequestError(HTTPStatus.BAD_REQUEST, f"The multipart body cannot be read ({reason}).") from None
    values: dict[str, Any] = {}
    try:
        for name, part in form.multi_items():
            item = f"{name}[{len(values.get(name, []))}]" if name in kind.several_in else name
            value: Any
            if isinstance(part, UploadFile):
                if name not in kind.images_in:
                    raise unusable(f"{name[:60]}: expected a text, found a file.", name[:60])
                value = await part.read()
            else:
                value = _decoded(part, item) if name in kind.images_in else part
            if name in kind.several_in:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise unusable(f"{name[:60]}: expected one value, found several.", name[:60])
            else:
                values[name] = value
    finally:
        await form.close()
    return values


def _decoded(value: Any, item: str) -> bytes:
    """
    Raises:
        RequestError: no base64.
    """
    if not isinstance(value, str):
        raise unusable(f"{item}: expected an image as base64, found {type(value).__name__}.", item)
    start, comma, rest = value[:100].partition(",")
    text = rest + value[100:] if comma and start.startswith("data:") else value
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise unusable(f"{item}: expected an image as base64, found something else. Send its bytes.", item) from None


def _invalid(kind: type[Asked], error: ValidationError) -> RequestError:
    """The first thing that is wrong, in this package's wording."""
    first = error.errors(include_url=False, include_context=True)[0]
    place, message, value = list(first["loc"]), first["msg"], first.get("input")
    if first["type"] == "extra_forbidden":
        known = ", ".join(_NAMES.get(name, name) for name in kind.model_fields)
        return unusable(f"{str(place[0])[:60]}: unknown. Expected {known}.", str(place[0])[:60])
    item = None
    if place:
        numbers = [f"[{part}]" for part in place[1:] if isinstance(part, int)]
        item = f"{place[0]}{''.join(numbers)}"
    if first["type"] == "missing":
        return unusable(f"{item}: expected a value, found none.", item)
    if first["type"] == "value_error":
        message = message.removeprefix("Value error, ")
        return unusable(f"{message[:1].upper()}{message[1:]}.", item)
    message = message.replace("Input should be", "expected").replace("List should have", "expected")
    found = repr(value)[:60] if isinstance(value, (str, int, float, bool)) else type(value).__name__
    return unusable(f"{item}: {message}, found {found}.", item)


@contextmanager
def naming(item: str | None) -> Iterator[None]:
    """Name the part of the request that an error is about."""
    try:
        yield
    except RequestError:
        raise
    except StmineError as error:
        text = str(error)
        start = text.partition(":")[0]
        if start in _FIELDS:
            item = start
        elif item is not None:
            text = f"{item}: {text}"
        raise unusable(text if text.endswith((".", "?")) else f"{text}.", item) from None

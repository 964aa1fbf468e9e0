"""Addresses, key and answers of the service."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..errors import StmineError
from .asked import Asked, AskedToClassify, AskedToDetect, AskedToEmbed, AskedToSearch
from .bodies import Bodies, naming, read_asked
from .counters import CONTENT_TYPE
from .problems import RequestError, too_large, unusable
from .service import CLASSIFY, DETECT, SEARCH, Service
from .tasks import AskedImage, AskedPost, Query

logger = logging.getLogger(__name__)

OPEN = ("/health", "/ready")  # without a key: requested by supervisors
_DESCRIPTION = (
    "Search images, classify posts and detect objects. Images are sent as bytes; no path of the server is read."
)


class JsonAnswer(Response):
    """ASCII JSON, so that halves of surrogate pairs in a message cannot break it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def create_app(
    service: Service, *, api_key: str | None = None, open_models: Callable[[], None] | None = None
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        service: its models.
        api_key: what requests have to send as `Authorization: Bearer KEY` or `X-API-Key: KEY`; None: nothing.
        open_models: called in a thread at the start; default: `service.open`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, open_models or service.open)
        try:
            yield
        finally:
            await loop.run_in_executor(None, service.close)
            await asyncio.gather(opening, return_exceptions=True)
            await loop.run_in_executor(None, service.close)  # of a model that was still being opened

    app = FastAPI(
        title="stmine-hf", version=__version__, description=_DESCRIPTION, lifespan=lifespan, docs_url=None,
        redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    bodies = Bodies(service.limits)

    def endpoint(path: str, kind: type[Asked], example: dict[str, Any]) -> Any:
        """A POST address that reads a request of a form."""

        def register(answer: Callable[[Any], Awaitable[Any]]) -> None:
            async def respond(request: Request) -> Response:
                body = await bodies.read(request)
                try:
                    work = _answered(kind, request, body, answer)
                    return JsonAnswer(await asyncio.wait_for(work, service.limits.seconds))
                except asyncio.TimeoutError:
                    raise RequestError(
                        HTTPStatus.GATEWAY_TIMEOUT, f"No answer within {service.limits.seconds:g} s. Try again later."
                    ) from None
                finally:
                    bodies.release(len(body))

            app.add_api_route(
                path, respond, methods=["POST"], summary=(answer.__doc__ or "").strip(), response_class=JsonAnswer,
                openapi_extra=_request_body(kind), responses=_responses(example),
            )  # fmt: skip

        return register

    limits = service.limits

    @endpoint("/embed", AskedToEmbed, {"model": "my-model", "dimension": 3, "embeddings": [[0.6, 0.8, 0.0]]})
    async def embed(asked: AskedToEmbed) -> dict[str, Any]:
        """Unit vectors of texts or images, in the space of the index's model."""
        served = service.served(SEARCH)
        queries = [Query(f"texts[{place}]", text) for place, text in enumerate(asked.texts or ())]
        queries += [Query(f"images[{place}]", None, image) for place, image in enumerate(asked.images or ())]
        if len(queries) > limits.inputs:
            item = "images" if asked.texts is None else "texts"
            raise too_large(
                f"{item}: expected at most {limits.inputs}, found {len(queries)}. Send several requests.", item
            )
        found = await served.answer(queries)
        embeddings = [one["embedding"] for one in found]
        return {"model": found[0]["model"], "dimension": len(embeddings[0]), "embeddings": embeddings}

    @endpoint(
        "/search",
        AskedToSearch,
        {"query": "planes", "hits": [{"rank": 1, "score": 0.312, "path": "airport_3.jpg", "place": [[2.1, 41.3]]}]},
    )
    async def search(asked: AskedToSearch) -> dict[str, Any]:
        """The most similar images of the index."""
        from ..search import Where

        served = service.served(SEARCH)
        if asked.k > limits.hits:
            raise unusable(f"k: expected at most {limits.hits}, found {asked.k}.", "k")
        with naming(None):
            where = Where.parse(
                bbox=_joined(asked.bbox), near=_joined(asked.near), start=asked.start, end=asked.end, where=asked.where
            )
        item = "query" if asked.query is not None else "image"
        (found,) = await served.answer([Query(item, asked.query, asked.image or b"", asked.k, where)])
        return found

    @endpoint(
        "/classify",
        AskedToClassify,
        {"label": "fake", "score": 0.93, "scores": {"fake": 0.93, "real": 0.07}, "characters": 12,
         "unread_characters": 0, "model": "my-model"},
    )  # fmt: skip
    async def classify(asked: AskedToClassify) -> dict[str, Any]:
        """The estimate of whether a post is fake, and on request what drove it."""
        served = service.served(CLASSIFY)
        given = asked.image if isinstance(asked.image, list) else [] if asked.image is None else [asked.image]
        if len(given) > limits.images:
            raise too_large(f"image: expected at most {limits.images}, found {len(given)}.", "image")
        images = [("image" if len(given) == 1 else f"image[{place}]", one) for place, one in enumerate(given)]
        (found,) = await served.answer([AskedPost(asked.text, images, asked.explain)])
        return found

    @endpoint(
        "/detect",
        AskedToDetect,
        {"model": "my-model", "width": 640, "height": 480,
         "detections": [{"label": 0, "name": "person", "score": 0.81, "box": [10.5, 20.0, 60.0, 180.5]}]},
    )  # fmt: skip
    async def detect(asked: AskedToDetect) -> dict[str, Any]:
        """The objects of an image, best first; `box` is left, top, right, bottom in pixels."""
        classes = None if asked.classes is None else [name for one in asked.classes for name in one.split(",")]
        (found,) = await service.served(DETECT).answer([AskedImage(asked.image, asked.threshold, classes)])
        return found

    @app.get("/health", summary="Whether the process is alive", response_class=JsonAnswer)
    async def health() -> Response:
        return JsonAnswer({"status": "alive"})

    @app.get("/ready", summary="Whether all models are open", response_class=JsonAnswer)
    async def ready() -> Response:
        status = HTTPStatus.OK if service.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return JsonAnswer({"ready": service.ready}, status_code=status)

    @app.get("/models", summary="What is served", response_class=JsonAnswer)
    async def models() -> Response:
        return JsonAnswer(service.facts())

    @app.get("/metrics", summary="Numbers for Prometheus")
    async def metrics() -> Response:
        return Response(service.counters.text(), media_type=CONTENT_TYPE)

    _handle_errors(app)
    paths = {route.path for route in app.routes if hasattr(route, "path")}
    app.add_middleware(Gate, service=service, api_key=api_key, paths=paths)
    return app


class Gate:
    """Refuses requests without the key, and counts all.

    Args:
        app: what answers them.
        service: whose counters count.
        api_key: None: no key is needed.
        paths: that are counted by name.
    """

    def __init__(self, app: ASGIApp, *, service: Service, api_key: str | None, paths: set[str]):
        self._app, self._counters, self._paths = app, service.counters, paths
        self._key = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), HTTPStatus.INTERNAL_SERVER_ERROR.value

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._key is not None and scope["path"] not in OPEN and not self._knows(scope):
                await _refusal()(scope, receive, noting)
            else:
                await self._app(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._counters.requests.labels(path, str(status)).inc()
            self._counters.seconds.labels(path).observe(time.perf_counter() - began)

    def _knows(self, scope: Scope) -> bool:
        assert self._key is not None
        headers = dict(scope["headers"])
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        keys = [headers.get(b"x-api-key", b""), given.strip() if scheme.lower() == b"bearer" else b""]
        return any([hmac.compare_digest(key, self._key) for key in keys])


async def _answered(kind: type[Asked], request: Request, body: bytes, answer: Callable[[Any], Awaitable[Any]]) -> Any:
    return await answer(await read_asked(kind, request.headers, body))


def _joined(numbers: str | list[float] | None) -> str | None:
    return ",".join(map(repr, numbers)) if isinstance(numbers, list) else numbers


def _problem(error: RequestError) -> JsonAnswer:
    return JsonAnswer({"error": str(error), "item": error.item}, status_code=error.status, headers=error.headers)


def _refusal() -> JsonAnswer:
    message = "Expected the key of this service as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
    return _problem(RequestError(HTTPStatus.UNAUTHORIZED, message))


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return _problem(error)

    @app.exception_handler(StmineError)
    async def failed(request: Request, error: StmineError) -> Response:
        """Nothing that the request could change: those errors are RequestErrors."""
        logger.error("%s: %s", request.url.path, error)
        return _problem(RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        if status == HTTPStatus.NOT_FOUND:
            message = "There is nothing at this address. /openapi.json lists the addresses."
        elif status == HTTPStatus.METHOD_NOT_ALLOWED:
            message = f"{request.method[:20]} is not allowed at this address. /openapi.json lists what is."
        else:
            message = f"{error.detail}."
        return JsonAnswer({"error": message, "item": None}, status_code=status, headers=error.headers)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return _problem(RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed; its log has the reason."))


def _request_body(kind: type[Asked]) -> dict[str, Any]:
    examples = {name: {"value": value} for name, value in kind.examples.items()}
    content = {
        "application/json": {"schema": kind.model_json_schema(by_alias=True), "examples": examples},
        "multipart/form-data": {"schema": kind.multipart_schema()},
    }
    return {"requestBody": {"required": True, "content": content}}


def _responses(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    schema = {
        "type": "object",
        "properties": {"error": {"type": "string"}, "item": {"type": ["string", "null"]}},
        "required": ["error", "item"],
    }
    meanings = {
        400: "The body cannot be read.",
        401: "The key is missing or wrong.",
        404: "No such model is served.",
        413: "The request, an image or a text is too large.",
        415: "Neither JSON nor multipart.",
        422: "A value cannot be used; `item` names it.",
        503: "Too many requests, or the models are not open yet; see Retry-After.",
        504: "No answer in time.",
    }
    problems: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "content": {"application/json": {"schema": schema}}}
        for status, text in meanings.items()
    }
    answer = {"description": "The answer.", "content": {"application/json": {"example": example}}}
    return {200: answer, **problems}

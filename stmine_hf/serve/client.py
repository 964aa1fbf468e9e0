"""Ask a service; needs the standard library alone, so that a query costs milliseconds."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from ..errors import StmineError

KEY_VARIABLE = "STMINE_API_KEY"
_MOST_ANSWER = 2**28  # bytes
_TRIES = 5
_LONGEST_WAIT = 5.0  # seconds between two tries


class Client:
    """A service at an address.

    Args:
        address: such as "http://127.0.0.1:8000".
        api_key: its key; default: the environment variable STMINE_API_KEY.
        timeout: seconds to wait for an answer.

    Raises:
        StmineError: not an address.

    Example:
        >>> client = Client("http://127.0.0.1:8000")  # doctest: +SKIP
        >>> client.search("many planes", k=3)["hits"]  # doctest: +SKIP
    """

    def __init__(self, address: str, *, api_key: str | None = None, timeout: float = 120.0):
        parts = urlsplit(address if "://" in address else f"http://{address}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme not in ("http", "https") or not host:
            raise StmineError(f"server: expected an address such as http://127.0.0.1:8000, found {address!r}.")
        self.address = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path.rstrip("/")
        self._key = os.environ.get(KEY_VARIABLE) if api_key is None else api_key
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, port, timeout=timeout)

    def embed(self, texts: Iterable[str] | None = None, images: Iterable[bytes] | None = None) -> list[list[float]]:
        """Unit vectors of texts, or of encoded images."""
        asked: dict[str, Any] = {} if texts is None else {"texts": list(texts)}
        asked |= {} if images is None else {"images": [_encoded(image) for image in images]}
        return self.ask("/embed", asked)["embeddings"]

    def search(self, query: str | bytes, k: int = 10, **where: Any) -> dict[str, Any]:
        """The hits of a sentence, or of an encoded image.

        Args:
            query: bytes are an image.
            k: number of hits.
            where: `bbox`, `near`, `start`, `end` and `where`, as of `Where.parse`.
        """
        names = {"start": "from", "end": "to"}
        asked = {names.get(name, name): value for name, value in where.items() if value}
        asked |= {"query": query} if isinstance(query, str) else {"image": _encoded(query)}
        return self.ask("/search", {**asked, "k": k})

    def classify(self, text: str = "", images: Iterable[bytes] = (), *, explain: bool = False) -> dict[str, Any]:
        """The prediction for a post."""
        encoded = [_encoded(image) for image in images]
        return self.ask("/classify", {"text": text, "explain": explain, **({"image": encoded} if encoded else {})})

    def detect(self, image: bytes, *, threshold: float = 0.4, classes: Iterable[str] | None = None) -> dict[str, Any]:
        """The objects in an encoded image."""
        wanted = {} if classes is None else {"classes": list(classes)}
        return self.ask("/detect", {"image": _encoded(image), "threshold": threshold, **wanted})

    def models(self) -> dict[str, Any]:
        """What is served."""
        return self.ask("/models")

    def ask(self, path: str, asked: dict[str, Any] | None = None) -> Any:
        """The answer to one request; a service that asks to come back is asked again a few times.

        Raises:
            StmineError: the service cannot be reached, or refuses the request.
        """
        body = None if asked is None else json.dumps(asked).encode()
        for attempt in range(1, _TRIES + 1):
            status, headers, content = self._send(path, body)
            if status != http.client.SERVICE_UNAVAILABLE or attempt == _TRIES:
                break
            time.sleep(_pause(headers.get("Retry-After")))
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if status == http.client.OK and isinstance(answer, dict):
            return answer
        said = answer.get("error") if isinstance(answer, dict) else None
        if status == http.client.UNAUTHORIZED:
            said = f"expected its key: set the environment variable {KEY_VARIABLE}"
        raise StmineError(f"{self.address}: {said or f'this is no service of stmine (status {status}).'}")

    def _send(self, path: str, body: bytes | None) -> tuple[int, Any, bytes]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self._key}"} if self._key else {}
        for fresh in (False, True):  # a kept connection may have been closed by the server meanwhile
            kept = self._connection.sock is not None
            try:
                self._connection.request("GET" if body is None else "POST", self._path + path, body, headers)
                response = self._connection.getresponse()
                content = response.read(_MOST_ANSWER)
                return response.status, response.headers, content
            except TimeoutError:
                self._connection.close()
                raise StmineError(f"{self.address}: no answer in {self._connection.timeout:g} s.") from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._connection.close()
                if fresh or not kept:
                    reason = str(error) or type(error).__name__
                    raise StmineError(
                        f"{self.address}: no service can be reached there ({reason}). Start one with `stmine serve`."
                    ) from None
        raise AssertionError("unreachable")


def _encoded(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _pause(said: str | None) -> float:
    return min(float(said), _LONGEST_WAIT) if said and said.isdecimal() else 1.0

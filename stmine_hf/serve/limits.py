"""What one request may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a service.

    Attributes:
        request_bytes: of a request's body.
        held_bytes: of the bodies that are held at a time; further requests are asked to come back.
        pixels: of an image.
        text: characters of a text or a sentence.
        inputs: texts or images of one request to embed.
        images: of a post.
        hits: of a search.
        queue: inputs of a model that wait or are worked on; further requests are asked to come back.
        seconds: from a request's last byte to its answer.
        batch: inputs that go through a model together.
        wait: seconds that the first of them waits for the others.
    """

    request_bytes: int = 20 * 2**20
    held_bytes: int = 256 * 2**20
    pixels: int = 40_000_000
    text: int = 10_000
    inputs: int = 64
    images: int = 8
    hits: int = 1000
    queue: int = 256
    seconds: float = 30.0
    batch: int = 8
    wait: float = 0.004

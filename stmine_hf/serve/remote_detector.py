"""A detector whose network is in a service: for everything that runs a `Detector` on images."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from PIL import Image

from ..detect.detection import Detection
from ..errors import StmineError
from ..images import PixelOptions
from .client import Client


class PreparedImage(NamedTuple):
    """An image on its way to the service."""

    png: bytes
    size: tuple[int, int]  # height and width


class RemoteDetector:
    """Finds objects in images as the service's detector does: images go there as PNG, without loss.

    Args:
        server: address of a service with a detector.
        threshold: minimum score, exclusive.
        classes: names of the classes to look for, also with commas between them; None for all.
        pixels: how to read images of more than 8 bits or more than three bands.

    Raises:
        StmineError: no service there, or one without a detector.
    """

    slices = None  # images go there whole

    def __init__(
        self,
        server: str,
        *,
        threshold: float = 0.4,
        classes: str | Iterable[str] | None = None,
        pixels: PixelOptions | None = None,
    ):
        self._server = server
        facts = Client(server).models().get("detect")
        if facts is None:
            raise StmineError(f"{server}: this service has no detector. Start it with --detect-model.")
        self.name, self._identity = facts["model"], facts["identity"]
        self.names: dict[int, str] = {int(label): name for label, name in facts["names"].items()}
        self.threshold, self.pixels = threshold, pixels or PixelOptions()
        wanted = classes.split(",") if isinstance(classes, str) else classes
        self._classes = None if wanted is None else sorted({name.strip().lower() for name in wanted})

    engines: tuple[str, ...] = ()
    remark = ""

    def expect(self, images: int | None) -> None:
        """The service chooses its engine."""

    @property
    def settings(self) -> dict[str, Any]:
        """As of a `Detector`: with the same model and settings, one continues the folder of the other."""
        known = {name.lower(): name for _, name in sorted(self.names.items())}
        labels = None if self._classes is None else [own for name, own in known.items() if name in self._classes]
        settings = {"model": self.name, "identity": self._identity, "threshold": self.threshold, "labels": labels}
        return settings if self.pixels == PixelOptions() else {**settings, "pixels": self.pixels.document()}

    def prepare(self, image: Image.Image) -> PreparedImage:
        """An image as it is sent; a thread can do this ahead."""
        file = io.BytesIO()
        image.convert("RGB").save(file, "PNG", compress_level=1)
        return PreparedImage(file.getvalue(), (image.height, image.width))

    def detect(self, images: Sequence[PreparedImage]) -> list[list[Detection]]:
        """What is in each image, best first; all are asked at once, so that the service makes one batch of them."""
        with ThreadPoolExecutor(max(1, len(images))) as pool:
            return list(pool.map(self._found, images))

    def _found(self, image: PreparedImage) -> list[Detection]:
        answer = Client(self._server).detect(image.png, threshold=self.threshold, classes=self._classes)
        return [
            Detection(one["label"], one["name"], one["score"], tuple(one["box"]))  # type: ignore[arg-type]
            for one in answer["detections"]
        ]

"""Search, classification and detection of a batch of requests.

A task prepares each input by itself, in a thread beside the model's, and answers a batch in the model's own thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from ..errors import StmineError
from ..images import ImageError, image_pixels, open_bytes
from ..posts.reading import whole_text
from .bodies import naming
from .limits import Limits
from .problems import too_large, unusable

if TYPE_CHECKING:
    from ..detect.detector import Detector
    from ..search import Where

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """A sentence or an image to embed, or to search by.

    Attributes:
        item: its name in the request.
        sentence: None for an image.
        image: encoded.
        k: number of hits; None: only embed it.
        where: images to consider.
        ready: what the model takes, from `SearchTask.prepare`: what it reads for the sentence, or a tensor.
    """

    item: str
    sentence: str | None = None
    image: bytes = field(default=b"", repr=False)
    k: int | None = None
    where: Where | None = None
    ready: Any = field(default=None, repr=False)


@dataclass(frozen=True)
class AskedPost:
    """A post to classify; `explain`: with what drove the prediction."""

    text: str
    images: Sequence[tuple[str, bytes]] = field(default=(), repr=False)  # the name in the request, the encoded image
    explain: bool = False


@dataclass(frozen=True)
class AskedImage:
    """An image to find objects in; `view` and `ready` come from `DetectTask.prepare`."""

    image: bytes = field(repr=False)
    threshold: float = 0.4
    classes: Sequence[str] | None = None
    view: Any = field(default=None, repr=False)
    ready: Any = field(default=None, repr=False)


class Task(Protocol):
    """What is served of a model."""

    def prepare(self, asked: Any) -> Any:
        """What the model's thread needs of an input.

        Raises:
            RequestError: the input cannot be used.
        """

    def run(self, asked: list[Any]) -> list[Any]:
        """Answers of prepared inputs, in their order; a RequestError for one that cannot be used."""

    def facts(self) -> dict[str, Any]:
        """Facts about the model for clients."""


class SearchTask:
    """Searches an index, and embeds with its model."""

    def __init__(self, index: Path | str, limits: Limits, device: str | None = None):
        from ..search import ImageIndex
        from ..search.databases import is_uri
        from ..search.store import state

        # An index in a database is the one of the start: each look at its state costs a request there.
        self._folder = None if is_uri(index) else Path(index)
        self._state_of = state
        self._state = None if self._folder is None else state(self._folder)
        self._index, self._limits = ImageIndex.open(index, device=device), limits
        self._dimension = self._index.embed(["an airport with many planes"]).shape[1]

    def prepare(self, asked: Query) -> Query:
        with naming(asked.item):
            if asked.where is not None:
                self._index.require_known(asked.where)
            if asked.sentence is not None:
                return replace(asked, ready=self._index.reads(checked_text(asked.sentence, asked.item, self._limits)))
            read = partial(self._index.prepare, asked.image)
            return replace(asked, image=b"", ready=read_image(asked.image, asked.item, self._limits, read))

    def run(self, asked: list[Query]) -> list[dict[str, Any]]:
        self._reopen_if_updated()
        try:
            return self._answers(asked)
        except StmineError:
            if self._folder is not None:
                raise
            self._index = self._index.reopened()  # a build may have removed the version of the database that was open
            return self._answers(asked)

    def facts(self) -> dict[str, Any]:
        return {
            "model": self._index.model_name,
            "dimension": self._dimension,
            "images": len(self._index),
            "columns": self._index.columns,
        }

    def _reopen_if_updated(self) -> None:
        if self._folder is None or (state := self._state_of(self._folder)) == self._state:
            return
        self._state = state
        try:
            self._index = self._index.reopened()
        except StmineError as error:
            logger.error("the index has changed and cannot be opened; its former state is searched: %s", error)
        else:
            logger.info("the index has been updated: %d images", len(self._index))

    def _answers(self, asked: list[Query]) -> list[dict[str, Any]]:
        vectors = self._index.embed([one.ready for one in asked])
        return [self._answer(one, vector) for one, vector in zip(asked, vectors, strict=True)]

    def _answer(self, asked: Query, vector: np.ndarray) -> dict[str, Any]:
        if asked.k is None:
            return {"model": self._index.model_name, "embedding": [round(value, 7) for value in vector.tolist()]}
        read = asked.ready if asked.sentence is not None else None
        found = self._index.answer(asked.sentence or "", read, vector, asked.k, asked.where)
        said = {"query": asked.sentence} if asked.sentence is not None else {}
        said |= {} if found.read_as is None else {"read_as": found.read_as}
        said |= {} if found.warning is None else {"warning": found.warning}
        return {**said, "hits": [{**hit.document(), "path": self._name(hit.path)} for hit in found.hits]}

    def _name(self, path: Path) -> str:
        """The path of an image below the folder of the index's images; else its name, to hide other paths."""
        root = self._index.images_folder
        name = PurePath(os.path.relpath(path, root)).as_posix() if path.is_relative_to(root) else path.name
        return name.encode("utf-8", "replace").decode()


class ClassifyTask:
    """Classifies posts."""

    def __init__(self, model: str, limits: Limits, device: str | None = None):
        from ..inference.scope import Scope
        from ..loading import load_mttv

        self._model, self._processor = load_mttv(model, device=device)
        self._limits, self._scope = limits, Scope.of(self._model)
        self._labels = [self._model.config.id2label[index] for index in range(self._model.config.num_labels)]
        self.run([AskedPost("a")])

    def prepare(self, asked: AskedPost) -> AskedPost:
        text = checked_text(asked.text, "text", self._limits)
        if asked.images and self._model.config.vision_config is None:
            raise unusable("image: this model has no visual encoder, it classifies text alone. Omit it.", "image")
        for item, content in asked.images:
            require_pixels(content, item, self._limits)
        return replace(asked, text=text)

    def run(self, asked: list[AskedPost]) -> list[Any]:
        from ..posts.post import Post, PostImage
        from ..posts.prediction import predict

        answers: list[Any] = [self._explained(one) if one.explain else None for one in asked]
        places = [place for place, one in enumerate(asked) if not one.explain]

        def posts() -> Any:
            for place in places:
                images = [PostImage(partial(self._image, item, content)) for item, content in asked[place].images]
                yield Post(place, asked[place].text, images)

        for batch in predict(self._model, self._processor, posts(), batch_size=len(asked)):
            for found in batch:
                text = found.post.text
                if found.logits is None:
                    answers[found.post.id] = unusable(f"image: {found.problem}.", "image")
                else:
                    answers[found.post.id] = self._document(self._scores(found.logits), text)
        return answers

    def facts(self) -> dict[str, Any]:
        reads_images = self._model.config.vision_config is not None
        return {"model": model_name(self._model), "labels": self._labels, "reads_images": reads_images}

    def _scores(self, logits: np.ndarray) -> dict[str, Any]:
        from ..posts.answer import label_scores

        label, score, scores = label_scores(logits, self._labels)
        return {"label": label, "score": score, "scores": scores}

    def _document(self, found: dict[str, Any], text: str) -> dict[str, Any]:
        from ..posts.reasons import remarks

        said = remarks(self._processor, self._scope, text)
        return {**found, **said, "model": model_name(self._model)}

    def _explained(self, asked: AskedPost) -> Any:
        from ..modeling.mttv.pipeline_mttv import DEFAULT_METHOD
        from ..posts.reasons import classified

        try:
            images = [self._image(item, content) for item, content in asked.images]
        except ImageError as error:
            return unusable(f"image: {error}.", "image")
        explained = classified(self._model, self._processor, asked.text, images, method=DEFAULT_METHOD)
        return {**explained.found, "model": model_name(self._model)}

    def _image(self, item: str, content: bytes) -> Image.Image:
        from ..posts.reading import SIDE

        return open_bytes(content, side=SIDE)


class DetectTask:
    """Finds objects in images."""

    def __init__(self, model: str, limits: Limits, device: str | None = None):
        from ..detect.detector import Detector

        self._detector, self._limits = Detector(model, device=device), limits
        self._detector.detect([self._detector.prepare(Image.new("RGB", (64, 64)))])

    def prepare(self, asked: AskedImage) -> AskedImage:
        with naming(None):
            view = self._detector.narrowed(threshold=asked.threshold, classes=asked.classes)

        def read() -> Any:
            return view.prepare(open_bytes(asked.image, options=view.pixels))

        return replace(asked, image=b"", view=view, ready=read_image(asked.image, "image", self._limits, read))

    def run(self, asked: list[AskedImage]) -> list[Any]:
        groups: dict[Any, list[int]] = {}  # of equal limits: only these can share a call
        for place, one in enumerate(asked):
            groups.setdefault((one.threshold, tuple(one.view.labels or ())), []).append(place)
        answers: list[Any] = [None] * len(asked)
        for places in groups.values():
            view: Detector = asked[places[0]].view
            found = view.detect([asked[place].ready for place in places])
            for place, objects in zip(places, found, strict=True):
                height, width = asked[place].ready.size
                boxes = [
                    {
                        "label": one.label,
                        "name": one.name,
                        "score": round(one.score, 5),
                        "box": [round(v, 2) for v in one.box],
                    }
                    for one in objects
                ]
                answers[place] = {"model": view.name, "width": width, "height": height, "detections": boxes}
        return answers

    def facts(self) -> dict[str, Any]:
        names = {str(label): name for label, name in sorted(self._detector.names.items())}
        return {"model": self._detector.name, "identity": self._detector.identity, "names": names}


def read_image(content: bytes, item: str, limits: Limits, read: Any) -> Any:
    """What `read` makes of an encoded image.

    Raises:
        RequestError: it has too many pixels, or cannot be read.
    """
    require_pixels(content, item, limits)
    try:
        return read()
    except ImageError as error:
        raise unusable(f"{item}: {error}.", item) from None


def require_pixels(content: bytes, item: str, limits: Limits) -> None:
    """
    Raises:
        RequestError: more than are allowed, by the header of the image.
    """
    if (found := image_pixels(content)) > limits.pixels:
        raise too_large(
            f"{item}: the image has {found / 10**6:.1f} megapixels; {limits.pixels / 10**6:g} are allowed. Shrink it.",
            item,
        )


def checked_text(text: str, item: str, limits: Limits) -> str:
    """A text without what no tokenizer reads.

    Raises:
        RequestError: too long.
    """
    if len(text) > limits.text:
        raise too_large(f"{item}: the text has {len(text):,} characters; {limits.text:,} are allowed.", item)
    return whole_text(text.replace("\0", " "))


def model_name(model: Any) -> str:
    """The name of a model without where its folder is."""
    name = str(getattr(model, "name_or_path", "") or type(model).__name__)
    return Path(name).name if os.path.isdir(name) else name

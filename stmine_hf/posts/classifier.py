"""`PostClassifier`: posts in Python, one or many, to predictions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..data.cells import is_missing, whole_text
from ..data.columns import TAKEN
from ..errors import StmineError
from ..images import ImageError, PixelOptions, looks_like_image
from ..images.items import items_of, name_of_item, open_item
from ..inference.answers import Answers, BadItemError
from ..inference.engines import AUTO, require_engine
from ..inference.scope import Scope
from ..loading import load_mttv
from ..modeling.mttv.pipeline_mttv import DEFAULT_METHOD
from .answer import COLUMNS, PostAnswer, label_scores
from .detectors import load_detector
from .engine import EngineClassifier
from .post import Post, PostImage
from .prediction import Prediction, RegionDetector, predict
from .reading import NO_CONTENT, post_image, read_posts
from .reasons import ExplainedPost, classified

if TYPE_CHECKING:
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor

_OF_A_ROW = ("label", *TAKEN["posts"])  # what rows of data sets have beside the text
_ONE = (str, bytes, bytearray, Mapping, Image.Image, np.ndarray)


class PostClassifier:
    """Estimates whether posts are fake, from text, image or both.

    Args:
        model: folder, Hub id or short name of an MTTV model, None for the shipped one; or a loaded
            `(model, processor)`.
        detector: folder, Hub id or short name of an object detector whose boxes the model uses, too.
        batch_size: posts at a time: small batches are fastest on a CPU, try 64 on a GPU.
        device: "cpu", "cuda", "mps", ...; None is CUDA where there is one.
        without_bad_images: classify a post by its text where its image cannot be read, and report it as `problem`.
        pixels: how to read images of more than 8 bits or more than three bands.
        engine: what runs the model: "torch", "torch-bf16", "torch-compile", "onnx" or "openvino"; "auto" finds the
            fastest by a short measurement, for many posts. Probabilities differ from PyTorch's by less than 0.02.

    Raises:
        StmineError: no such model or detector, or one that does not fit; the engine is not installed or cannot run
            the model.

    Example:
        >>> from stmine_hf import PostClassifier
        >>> classify = PostClassifier(model="mttv-lite-weibo")  # doctest: +SKIP
        >>> answer = classify({"text": "自来水已被污染，请转发！", "image": "photo.jpg"})  # doctest: +SKIP
        >>> answer.label, answer.score  # doctest: +SKIP
        ('fake', 0.93)
        >>> answer.save("why.html")  # doctest: +SKIP
        >>> classify(Path("posts.csv")).to_pandas()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path | tuple[MttvForSequenceClassification, MttvProcessor] | None = None,
        *,
        detector: str | Path | RegionDetector | None = None,
        batch_size: int = 8,
        device: str | torch.device | None = None,
        without_bad_images: bool = False,
        pixels: PixelOptions | None = None,
        engine: str = AUTO,
    ):
        require_engine(engine)
        if batch_size < 1:
            raise StmineError(f"batch_size: expected 1 or more, found {batch_size}.")
        self.model, self.processor = model if isinstance(model, tuple) else load_mttv(model, device=device)
        self.detector: RegionDetector | None = (
            load_detector(detector, self.model.device, model=self.model)
            if isinstance(detector, (str, Path))
            else detector
        )
        self.batch_size, self.without_bad_images = batch_size, without_bad_images
        self.pixels = pixels or PixelOptions()
        self.labels: list[str] = [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]
        self._scope = Scope.of(self.model)
        self._in_engine = EngineClassifier(self.model, engine)

    def __call__(
        self, posts: Any, *, encoding: str | None = None, columns: Mapping[str, str | list[str]] | None = None
    ) -> Any:
        """Classify a post, or each of several.

        Args:
            posts: a post: a string (its text), a mapping of `text`, `image` (one or several) and `id`, or an image
                alone (bytes, a PIL image, a NumPy array, or its `Path`). Or several: an iterable of posts, the `Path`
                of a file of posts (see `read_posts`), or the `Path` of a folder, each image of which is a post.
                An image in a mapping may be a string: its path. A row of `stmine_hf.load_dataset` is a post, too.
            encoding: of a file of posts that is not UTF-8, such as "gb18030".
            columns: of a file of posts, which hold `text`, `image` and `id`: `{"text": "content"}`.

        Returns:
            A [`PostAnswer`]; of several, a list of them in their order, with `to_pandas`. A post that cannot be
            classified has `error`, and is in `failed` of the list.

        Raises:
            BadItemError: the one post cannot be classified. It is a ValueError, too.
            StmineError: a file or folder that cannot be read.
        """
        if isinstance(posts, Path) and not os.path.isdir(posts) and looks_like_image(posts):
            posts = {"image": posts}
        if (encoding or columns) and (not isinstance(posts, Path) or os.path.isdir(posts)):
            raise StmineError("encoding and columns are of a file of posts: give its Path.")
        if not isinstance(posts, _ONE):
            self._in_engine.expect(None)
            return Answers(self._answers(self._all(posts, encoding, columns)), COLUMNS)
        (answer,) = self._answers([posts])
        if answer.error is not None:
            raise BadItemError(f"{_beginning(answer)}: {answer.error}")
        return answer

    def explain_post(self, post: Post, method: str | None = None) -> ExplainedPost:
        """The prediction for a post and what drove it.

        Args:
            post: its images are opened here.
            method: "occlusion" (default) or "integrated_gradients".

        Raises:
            StmineError: an image that cannot be read.
        """
        images = [image() for image in post.images]
        files = [image.path for image in post.images if isinstance(image, PostImage) and image.path is not None]
        return classified(
            self.model, self.processor, post.text, images, detector=self.detector,
            method=method or DEFAULT_METHOD, files=files, row=f"Post {post.id}" if isinstance(post.id, str) else "",
        )  # fmt: skip

    def _all(self, posts: Any, encoding: str | None, columns: Mapping[str, str | list[str]] | None) -> Iterator[Any]:
        """The posts of a file, a folder or an iterable; those of a file as `Post`, or as (id, problem)."""
        if isinstance(posts, Path) and not os.path.isdir(posts):
            for row in read_posts(posts, encoding, columns, self.pixels):
                yield (row.id, row.problem or "") if row.post is None else row.post
        elif isinstance(posts, Path):
            skipped: list[Any] = []
            yield from ({"image": item, "id": str(item)} for item in items_of(posts, skipped.append))
            yield from ((skip.path, skip.reason) for skip in skipped)
        elif isinstance(posts, Iterable):
            yield from posts
        else:
            raise StmineError(
                "expected a post (a text, a mapping of text and image, or an image), a list of them, or the Path of "
                f"a file or folder, found {type(posts).__name__}"
            )

    def _answers(self, posts: Iterable[Any]) -> list[PostAnswer]:
        answers: list[PostAnswer | None] = []
        places: list[int] = []  # of the posts that go through the model

        def wanted() -> Iterator[Post]:
            for number, given in enumerate(posts, start=1):
                post = given if isinstance(given, Post) else _post(given, number, self.pixels)
                if isinstance(post, PostAnswer):
                    answers.append(post)
                    continue
                places.append(len(answers))
                answers.append(None)
                yield post

        batches = predict(
            self._in_engine.model, self.processor, wanted(), batch_size=self.batch_size, detector=self.detector,
            without_bad_images=self.without_bad_images,
        )  # fmt: skip
        for batch in batches:
            for one in batch:
                answers[places[one.number]] = self._answer(one)
        return [answer for answer in answers if answer is not None]

    def _answer(self, one: Prediction) -> PostAnswer:
        post = one.post
        if one.logits is None or (one.problem and not post.text.strip()):
            return PostAnswer(post.id, post.text, error=one.problem or "")
        warned = self._scope.check_text(post.text) if self._scope else None
        label, score, scores = label_scores(one.logits, self.labels)
        return PostAnswer(
            post.id, post.text, label, score, scores, warned.message if warned else None, one.problem,
            _post=post, _classifier=self,
        )  # fmt: skip


def _post(given: Any, number: int, pixels: PixelOptions) -> Post | PostAnswer:
    """A post in any form, or an answer with `error` for what is not a post."""
    if isinstance(given, tuple) and len(given) == 2:  # a row that cannot be used
        return PostAnswer(given[0], "", error=str(given[1]))
    if isinstance(given, str):
        given = {"text": given}
    elif not isinstance(given, Mapping):
        given = {"image": given}
    name, text, image = given.get("id", given.get("post_id")), given.get("text"), given.get("image")
    name = number if name is None else name
    if unknown := [key for key in given if key not in ("id", "text", "image", *_OF_A_ROW)]:
        return PostAnswer(name, "", error=f"expected text, image and id, found {unknown[0]!r}")
    if not (text is None or isinstance(text, str)) and not (np.isscalar(text) and is_missing(text)):
        return PostAnswer(name, "", error=f"text: expected a string, found {type(text).__name__}")
    text = whole_text(text) if isinstance(text, str) else ""
    images = list(image) if isinstance(image, (list, tuple)) else [] if image is None else [image]
    if not text.strip() and not images:
        return PostAnswer(name, text, error=NO_CONTENT)
    return Post(name, text, [_image(one, pixels) for one in images])


def _image(item: Any, pixels: PixelOptions) -> PostImage:
    if isinstance(item, (str, Path)) and not str(item).startswith(("http://", "https://")):
        return PostImage(partial(_opened, item, pixels), str(item), Path(item), pixels=pixels)
    return PostImage(partial(open_item, item, pixels), name_of_item(item) or "", pixels=pixels)


def _opened(path: str | Path, pixels: PixelOptions) -> Image.Image:
    """
    Raises:
        ImageError: it cannot be read; the message names the path.
    """
    try:
        return post_image(path, pixels)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None


def _beginning(answer: PostAnswer) -> str:
    return repr(answer.text[:40]) if answer.text.strip() else f"post {answer.id}"

"""Posts through an MTTV model, in batches of like length: what evaluation, the classify command and features share.

One bad post costs itself alone, and no figure depends on which posts happened to share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature

from ..errors import StmineError
from ..images import ImageError, decode_image, image_errors
from ..inference.batching import batched, read_ahead
from ..loading import place

# Posts are sorted by length among so many: padding then costs little, and few posts wait in memory.
WINDOW = 512

BLIND = "the model has no visual encoder, it judges texts alone"


class Post(NamedTuple):
    """A post to be judged.

    Attributes:
        id: what its verdict is told by.
        text: "" for a post without text.
        images: functions that open its images, called when its turn comes.
        features: a function that gets its `global_features` (C, rows, columns) and `region_features` (R, C), in the
            place of images.
    """

    id: Any
    text: str
    images: Sequence[Callable[[], Image.Image]] = ()
    features: Callable[[], Mapping[str, Any]] | None = None


class Judged(NamedTuple):
    """What became of a post.

    Attributes:
        number: place of the post among those given, from 0.
        post: the post.
        logits: (L,) float32; None if it could not be judged.
        problem: why not; or, of a post judged without an image that cannot be read, what is wrong with that.
    """

    number: int
    post: Post
    logits: np.ndarray | None
    problem: str | None = None


class Encoded(NamedTuple):
    """A batch on its way to the model: what could be prepared, and (number, post, problem) of each; and the rest."""

    inputs: BatchFeature | None
    posts: list[tuple[int, Post, str | None]]
    failed: list[Judged]


def judge(
    model: Any,
    processor: Any,
    posts: Iterable[Post],
    *,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    detector: Any = None,
    without_bad_images: bool = False,
) -> Iterator[list[Judged]]:
    """Judge posts. At most a few hundred of them are held at a time, and the images of two batches.

    Args:
        model: an `MttvForSequenceClassification`; it is put into evaluation mode.
        processor: its `MttvProcessor`.
        posts: any iterable.
        batch_size: posts at a time: few are fastest on a CPU.
        device: where to run; by default where the model is.
        detector: finds regions in the images; see `MttvProcessor`.
        without_bad_images: judge a post by what is left when an image of it cannot be read. Else the post fails.

    Yields:
        What became of the posts of one batch. Batches are out of order; `number` tells the place of a post.

    Raises:
        StmineError: the model gives NaN.
    """
    place(model, device)
    encode = Encoder(model, processor, detector=detector, without_bad_images=without_bad_images)
    for batch in read_ahead(encode, by_length(posts, batch_size), workers=1, ahead=2):
        done = list(batch.failed)
        if batch.inputs is not None:
            with torch.inference_mode():
                logits = model(**batch.inputs.to(model.device)).logits.float().cpu().numpy()
            if not np.isfinite(logits).all():
                raise StmineError("The model gives NaN or infinity for a post: its weights are broken.")
            for (number, post, problem), own in zip(batch.posts, logits, strict=True):
                done.append(Judged(number, post, own, problem))
        yield done


def by_length(posts: Iterable[Post], batch_size: int) -> Iterator[list[tuple[int, Post]]]:
    """Numbered posts in batches of like length. Posts without images come first: their batches need no vision."""
    numbered = iter(enumerate(posts))
    while window := list(islice(numbered, max(WINDOW, batch_size))):
        window.sort(key=lambda item: (bool(item[1].images or item[1].features), len(item[1].text)))
        yield from batched(window, batch_size)


class Encoder:
    """Numbered posts to a batch of the model. Arguments as of `judge`."""

    def __init__(self, model: Any, processor: Any, *, detector: Any = None, without_bad_images: bool = False):
        self.processor, self.detector, self.without_bad_images = processor, detector, without_bad_images
        self.sees = model.config.vision_config is not None

    def __call__(self, batch: list[tuple[int, Post]]) -> Encoded:
        posts: list[tuple[int, Post, str | None]] = []
        images: list[list[Image.Image]] = []
        failed: list[Judged] = []
        for number, post in batch:
            opened, problem = self._open(post)
            if problem is None or self.without_bad_images:
                posts.append((number, post, problem))
                images.append(opened)
            else:
                failed.append(Judged(number, post, None, problem))
        if not posts:
            return Encoded(None, [], failed)
        try:
            return Encoded(self._inputs([post for _, post, _ in posts], images), posts, failed)
        except Exception as error:  # whatever tokenizers and detectors meet: it must not cost the posts beside it
            if len(posts) == 1:
                number, post, _ = posts[0]
                return Encoded(None, [], [*failed, Judged(number, post, None, f"{type(error).__name__}: {error}")])
            alone = [self([(number, post)]) for number, post, _ in posts]
            if not any(encoded.failed for encoded in alone):
                raise
        failed += [one for encoded in alone for one in encoded.failed]
        kept = self([(number, post) for encoded in alone for number, post, _ in encoded.posts])
        return Encoded(kept.inputs, kept.posts, failed + kept.failed)

    def _open(self, post: Post) -> tuple[list[Image.Image], str | None]:
        """RGB images of a post, and what is wrong with the last of those that cannot be read."""
        if post.images and not self.sees:
            return [], BLIND
        opened, problem = [], None
        for image in post.images:
            try:
                with image_errors():
                    opened.append(decode_image(image()))
            except ImageError as error:
                problem = str(error)
        return opened, problem

    def _inputs(self, posts: list[Post], images: list[list[Image.Image]]) -> BatchFeature:
        texts = [post.text for post in posts]
        # The model takes what is not there at all for zeros, as it takes an image that is masked.
        shown = {"images": images, "detector": self.detector} if any(images) else {}
        features = [None if post.features is None else post.features() for post in posts]
        return BatchFeature({**self.processor(text=texts, **shown), **stack_features(features)})


def progress_bar(shown: bool) -> Progress:
    """A bar on stderr, if that is a terminal; it leaves nothing behind."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not (shown and console.is_terminal))


def stack_features(features: Sequence[Mapping[str, Any] | None]) -> dict[str, torch.Tensor]:
    """`global_features` (B, C, rows, columns) and `region_features` (B, R, C) of posts; zeros where there are none.

    {} if no post has any.
    """
    found = [one for one in features if one is not None]
    if not found:
        return {}
    shape = found[0]["global_features"].shape
    nothing = {"global_features": torch.zeros(shape), "region_features": torch.zeros(0, shape[0])}
    full = [nothing if one is None else one for one in features]
    return {
        name: pad_sequence([torch.as_tensor(one[name]).float() for one in full], batch_first=True) for name in nothing
    }

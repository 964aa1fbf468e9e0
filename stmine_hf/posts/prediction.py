"""Classify posts in batches of similar length: used by evaluation, the classify command and features.

A bad post affects no other one, and no score depends on which posts share a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature

from ..errors import StmineError
from ..images import ImageError, decode_image, image_errors
from ..inference.batching import batched, read_ahead
from ..inference.cluster import map_blocks
from ..inference.engines import AUTO, TORCH, on_workers
from ..loading import on_cpu, place
from .engine import EngineClassifier
from .post import Post, PostImage

if TYPE_CHECKING:
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor, Regions

# Posts are sorted by length among so many: padding then costs little, and few posts wait in memory.
WINDOW = 512
_BLOCK = 64  # posts that a worker of a cluster gets at a time, or the next number that makes whole batches

TEXT_ONLY = "the model has no visual encoder, it classifies text alone"


class RegionDetector(Protocol):
    """Finds regions in RGB images: a `TorchvisionDetector`, a `TransformersDetector`, or any such function."""

    def __call__(self, images: list[Image.Image]) -> list[Regions]: ...


class Prediction(NamedTuple):
    """The prediction for a post.

    Attributes:
        number: position of the post among those given, from 0.
        post: the post.
        logits: (L,) float32; None if it could not be classified.
        problem: why not; or why an image of the post could not be read and was not used.
    """

    number: int
    post: Post
    logits: np.ndarray | None
    problem: str | None = None


class Encoded(NamedTuple):
    """A batch on its way to the model: what could be prepared, and (number, post, problem) of each; and the rest."""

    inputs: BatchFeature | None
    posts: list[tuple[int, Post, str | None]]
    failed: list[Prediction]


def predict(
    model: MttvForSequenceClassification,
    processor: MttvProcessor,
    posts: Iterable[Post],
    *,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    detector: RegionDetector | None = None,
    without_bad_images: bool = False,
    is_wanted: Callable[[Post], bool] = lambda post: True,
    ray: str | None = None,
    engine: str = AUTO,
) -> Iterator[list[Prediction]]:
    """Classify posts. At most a few hundred of them are in memory at a time, and the images of two batches.

    Args:
        model: an `MttvForSequenceClassification`; it is put into evaluation mode.
        processor: its `MttvProcessor`.
        posts: any iterable.
        batch_size: posts per batch; small batches are fastest on a CPU.
        device: where to run; default: the device of the model.
        detector: finds regions in the images; see `MttvProcessor`.
        without_bad_images: classify a post by the rest if an image of it cannot be read. Else the post fails.
        is_wanted: False for posts that an earlier run has classified. The others then share a batch with the same
            posts as in a run that was never stopped, so that the last bits of their scores are the same.
        ray: classify on the workers of a Ray cluster, in the same batches; see `stmine_hf.inference.cluster`.
        engine: of the workers.

    Yields:
        The predictions of one batch. Batches are out of order; `number` is the position of a post.

    Raises:
        StmineError: the model gives NaN.
    """
    batches: Iterable[Batch] = (
        [one for one in batch if is_wanted(one[1])] for batch in by_length(posts, batch_size)
    )  # fmt: skip
    classify = ClassifyBlock(model, processor, detector=detector, without_bad_images=without_bad_images)
    if ray is None:
        place(model, device)
        yield from classify.predictions(filter(None, batches))
        return
    sent: dict[int, Post] = {}  # to the workers, by their numbers
    blocks = _sent(batched(filter(None, batches), -(-_BLOCK // batch_size)), sent)
    with closing(map_blocks(ray, classify.portable(on_workers(engine)), blocks)) as done:
        for block in done:
            yield [one._replace(post=sent.pop(one.number)) for one in block]


Batch = list[tuple[int, "Post"]]


class ClassifyBlock:
    """Classifies batches; what a worker of a cluster does with a block of them. Arguments as of `predict`."""

    def __init__(
        self,
        model: MttvForSequenceClassification,
        processor: MttvProcessor,
        *,
        detector: RegionDetector | None = None,
        without_bad_images: bool = False,
        engine: str = TORCH,
    ):
        self._model, self._processor, self._engine = model, processor, engine
        self._detector, self._without_bad_images = detector, without_bad_images

    def portable(self, engine: str) -> ClassifyBlock:
        """The same with the models on the CPU, for another process, which opens the engine."""
        detector = self._detector
        if detector is not None and hasattr(detector, "model"):
            detector = copy.copy(detector)
            detector.model = on_cpu(detector.model)
        return ClassifyBlock(
            on_cpu(self._model), self._processor, detector=detector, without_bad_images=self._without_bad_images,
            engine=engine,
        )  # fmt: skip

    def start(self, device: str | None) -> None:
        place(self._model, device)
        if device is not None and self._detector is not None and hasattr(self._detector, "model"):
            self._detector.model.to(device)
        self._model = EngineClassifier(self._model, self._engine).model

    def __call__(self, block: list[Batch]) -> list[Prediction]:
        nothing = Post(None, "")  # the posts are known where the block comes from
        return [one._replace(post=nothing) for batch in self.predictions(block) for one in batch]

    def predictions(self, batches: Iterable[Batch]) -> Iterator[list[Prediction]]:
        """The predictions of each batch, which is encoded while the model is at work on the one before it."""
        self._model.eval()
        encode = Encoder(
            self._model, self._processor, detector=self._detector, without_bad_images=self._without_bad_images
        )
        for batch in read_ahead(encode, batches, workers=1, ahead=2):
            done = list(batch.failed)
            if batch.inputs is not None:
                with torch.inference_mode():
                    logits = self._model(**batch.inputs.to(self._model.device)).logits.float().cpu().numpy()
                if not np.isfinite(logits).all():
                    raise StmineError("The model gives NaN or infinity for a post: its weights are broken.")
                for (number, post, problem), own in zip(batch.posts, logits, strict=True):
                    done.append(Prediction(number, post, own, problem))
            yield done


def _sent(blocks: Iterable[list[Batch]], sent: dict[int, Post]) -> Iterator[list[Batch]]:
    """Blocks for workers: without ids, and with images that open by their path or content."""
    for block in blocks:
        sent.update(one for batch in block for one in batch)
        yield [[(number, _portable(post)) for number, post in batch] for batch in block]


def _portable(post: Post) -> Post:
    images = [image.portable() if isinstance(image, PostImage) else image for image in post.images]
    return post._replace(id=None, images=images)


def by_length(posts: Iterable[Post], batch_size: int) -> Iterator[list[tuple[int, Post]]]:
    """Numbered posts in batches of similar length. Posts without images come first: their batches need no vision."""
    numbered = iter(enumerate(posts))
    while window := list(islice(numbered, max(WINDOW, batch_size))):
        window.sort(key=lambda item: (bool(item[1].images or item[1].features), len(item[1].text)))
        yield from batched(window, batch_size)


class Encoder:
    """Numbered posts to a batch of the model. Arguments as of `predict`."""

    def __init__(
        self,
        model: MttvForSequenceClassification,
        processor: MttvProcessor,
        *,
        detector: RegionDetector | None = None,
        without_bad_images: bool = False,
    ):
        self.processor, self.detector, self.without_bad_images = processor, detector, without_bad_images
        self.sees = model.config.vision_config is not None

    def __call__(self, batch: list[tuple[int, Post]]) -> Encoded:
        posts: list[tuple[int, Post, str | None]] = []
        images: list[list[Image.Image]] = []
        failed: list[Prediction] = []
        for number, post in batch:
            opened, problem = self._open(post)
            if problem is None or self.without_bad_images:
                posts.append((number, post, problem))
                images.append(opened)
            else:
                failed.append(Prediction(number, post, None, problem))
        if not posts:
            return Encoded(None, [], failed)
        try:
            return Encoded(self._inputs([post for _, post, _ in posts], images), posts, failed)
        except Exception as error:  # of a tokenizer or detector: it must not affect the other posts
            if len(posts) == 1:
                number, post, _ = posts[0]
                return Encoded(None, [], [*failed, Prediction(number, post, None, f"{type(error).__name__}: {error}")])
            alone = [self([(number, post)]) for number, post, _ in posts]
            if not any(encoded.failed for encoded in alone):
                raise
        failed += [one for encoded in alone for one in encoded.failed]
        kept = self([(number, post) for encoded in alone for number, post, _ in encoded.posts])
        return Encoded(kept.inputs, kept.posts, failed + kept.failed)

    def _open(self, post: Post) -> tuple[list[Image.Image], str | None]:
        """RGB images of a post, and what is wrong with the last of those that cannot be read."""
        if post.images and not self.sees:
            return [], TEXT_ONLY
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
        # The model treats missing features as zeros, like those of a masked image.
        shown = {"images": images, "detector": self.detector} if any(images) else {}
        features = [None if post.features is None else post.features() for post in posts]
        return BatchFeature({**self.processor(text=texts, **shown), **stack_features(features)})


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

"""Run a detector: images to named boxes, in batches that never change a result."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from PIL import Image
from torch import Tensor

from ..errors import StmineError
from ..images import ImageError, PixelOptions, Scene, Skip, Window, WindowError, decode_image, open_scene
from ..images.items import ImageItem, is_one, items_of, name_of_item, open_item
from ..inference.answers import Answers, BadItemError
from ..inference.batching import batched, read_ahead
from ..inference.engines import AUTO, Runner, on_workers, require_engine
from ..loading import load_sat, on_cpu
from ..model_identity import weights_digest
from ..modeling.sat.modeling_sat import SatForObjectDetection
from .answer import COLUMNS, ImageAnswer
from .batches import DetectionModel, Prepared, found_in, prepare, run_batch
from .classes import THRESHOLD, known_labels, parse_thresholds
from .detection import Detection
from .engine import EngineDetector
from .results import IOU, MAX_BOXES, identity_parts, settings_of
from .slicing import Slices, detect_sliced, slices_of_image, slices_of_scene

if TYPE_CHECKING:
    from ..modeling.sat.image_processing_sat import SatImageProcessor

    Model: TypeAlias = str | Path | SatForObjectDetection | tuple[SatForObjectDetection, SatImageProcessor] | None

_NEAR = 0.5  # of a threshold: scores from there up to it are near
_ALL = 2**31  # more boxes than any image has


class Detector:
    """Finds objects in images.

    Args:
        model: folder, Hub id or short name of a detector, None for the shipped one; or a loaded
            [`SatForObjectDetection`], a copy of which with its batch normalisations fused is what runs.
        processor: the image processor of a loaded model.
        threshold: least score, exclusive; or one for each class, `{"person": 0.3, "car": 0.5, "*": 0.4}`, where "*"
            is that of all other classes (0.4 if it is missing).
        classes: names of the classes to look for; None for all classes of the model.
        iou: of two boxes of one class with a larger intersection over union, the one with the lower score is removed.
        max_boxes: of an image, the best ones.
        batch_size: images that go through the model at a time; use more on a GPU.
        device: "cpu", "cuda", "mps", ... for a model that is to be loaded; None is CUDA where there is one.
        pixels: how to read images of more than 8 bits or more than three bands.
        slice: side in pixels of slices that images are cut into, for small objects in large images; their boxes are
            merged. Images of any size can be read then. None: images as a whole.
        overlap: share of a slice that its neighbour shows, too; more than the largest object that matters.
        labels: former name of `classes`.
        engine: what runs the model: "torch", "torch-bf16", "torch-compile", "onnx" or "openvino"; "auto" finds the
            fastest by a short measurement, for many images. Scores differ from PyTorch's by less than 0.001.

    Raises:
        StmineError: no such model, the model has no such class, a number is out of its range, or the engine is not
            installed or cannot run the model.

    Example:
        >>> from stmine_hf import Detector
        >>> detector = Detector(model="sat-coco-small", threshold=0.3)  # doctest: +SKIP
        >>> detector("street.jpg").counts  # doctest: +SKIP
        {'person': 3, 'dog': 1}
        >>> detector("images").to_pandas()  # a folder, or a list of images  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Model = None,
        processor: SatImageProcessor | None = None,
        *,
        threshold: float | Mapping[str, float] = THRESHOLD,
        classes: Iterable[str] | None = None,
        iou: float = IOU,
        max_boxes: int = MAX_BOXES,
        batch_size: int = 4,
        device: str | torch.device | None = None,
        pixels: PixelOptions | None = None,
        slice: int | None = None,
        overlap: float = 0.2,
        labels: Iterable[str] | None = None,
        engine: str = AUTO,
    ):
        require_engine(engine)
        if processor is None:
            source = cast("str | Path | tuple[SatForObjectDetection, SatImageProcessor] | None", model)
            network, processor = source if isinstance(source, tuple) else load_sat(source, device=device)
        else:
            network = cast("SatForObjectDetection", model)
        self.names: dict[int, str] = {int(label): name for label, name in network.config.id2label.items()}
        self.threshold, self._own_thresholds = parse_thresholds(threshold, self.names)
        wanted = labels if classes is None else classes
        wanted = wanted.split(",") if isinstance(wanted, str) else wanted
        self.labels = None if wanted is None else sorted(known_labels(wanted, self.names))
        if not 0 < iou <= 1:
            raise StmineError(f"iou: expected a number above 0, up to 1, found {iou}.")
        if max_boxes < 1 or batch_size < 1:
            raise StmineError(f"expected max_boxes and batch_size of 1 or more, found {max_boxes} and {batch_size}.")
        self.iou, self.max_boxes, self.batch_size = iou, max_boxes, batch_size
        self.slices = None if slice is None else Slices(slice, overlap)
        self.processor = processor
        self.pixels = pixels or PixelOptions()
        self.name = _name(network)
        self.identity = _identity(network, processor)
        self._network = copy.deepcopy(network).fuse()
        self._engine = engine
        self._open(engine)

    def _open(self, engine: str) -> None:
        """Run the network in an engine."""
        self._model: DetectionModel = self._network
        self._runner: Runner | None = None  # of a model that PyTorch runs; exported ones have an engine of their own
        if isinstance(self._network, SatForObjectDetection):
            self._model = EngineDetector(self._network, engine, identity=self.identity)
            self._runner = self._model.runner
            self._runner.expect(0)
        elif engine != AUTO:
            raise StmineError(f"{self.name} was exported for another runtime, which runs it: omit the engine.")

    @property
    def engine_of_workers(self) -> str:
        """The engine of what `portable` returns."""
        return on_workers(self._engine)

    def portable(self) -> Detector:
        """The same on the CPU, for another process, where `start` comes before everything else.

        Raises:
            StmineError: an exported model, which cannot be sent.
        """
        other = copy.copy(self)
        other._network = on_cpu(self._network)
        other._model, other._runner = other._network, None
        return other

    def start(self, device: str | torch.device | None) -> None:
        """Open the engine of what `portable` returned, on a device."""
        if device is not None:
            self._network.to(device)
        self._open(self.engine_of_workers)

    def expect(self, images: int | None) -> None:
        """Tell how many images are to come: on it depends whether another engine than PyTorch is looked for.

        Args:
            images: None: unknown. Before the first call: none.
        """
        if self._runner is not None:
            self._runner.expect(images)

    @property
    def engines(self) -> list[str]:
        """The engines that have run the model so far."""
        return [] if self._runner is None else list(self._runner.used)

    @property
    def remark(self) -> str:
        """The engine that was chosen, and how fast it is; "" for PyTorch by default."""
        return "" if self._runner is None else self._runner.remark

    @classmethod
    def load(
        cls, model: str | Path | None = None, *, device: str | torch.device | None = None, **options: Any
    ) -> Detector:
        """The same as `Detector(model, device=device, **options)`."""
        return cls(model, device=device, **options)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide which boxes are found: two runs with equal settings find the same."""
        others = settings_of(
            self.names,
            threshold=self.threshold,
            own_thresholds=self._own_thresholds,
            labels=self.labels,
            iou=self.iou,
            max_boxes=self.max_boxes,
            slices=None if self.slices is None else (self.slices.side, self.slices.overlap),
            pixels=self.pixels,
        )
        return {"model": self.name, "identity": self.identity, **others}

    def __call__(self, images: Any) -> Any:
        """What is in an image, or in each of several, best first.

        Args:
            images: an image: a path, encoded bytes, a PIL image, or a NumPy array (H, W, 3) of uint8 in RGB order; or
                a folder, or an iterable of images and folders.

        Returns:
            An [`ImageAnswer`]; of a folder or of several, a list of them in their order, with `to_pandas`. One that
            cannot be read has `error`, and is in `failed` of the list.

        Raises:
            BadItemError: the one image cannot be read. It is a ValueError, too.
            StmineError: a folder without images.
        """
        if not is_one(images):
            self.expect(None)
            return Answers(self.stream(images), COLUMNS)
        (answer,) = self.stream([images])
        if answer.error is not None:
            raise BadItemError(f"{answer.source or type(images).__name__}: {answer.error}")
        return answer

    def stream(self, images: Iterable[ImageItem] | str | Path) -> Iterator[ImageAnswer]:
        """The answers of a call one by one, for more images than there is memory for answers."""
        if self.slices is not None:
            yield from self._stream_sliced(images, self.slices)
            return
        skipped: list[Skip] = []

        def load(item: Any) -> tuple[Any, Prepared | str]:
            try:
                return item, self.prepare(open_item(item, self.pixels))
            except ImageError as error:
                return item, str(error)

        workers = min(4, max(2, os.cpu_count() or 1))
        items = items_of(images, skipped.append)
        with closing(read_ahead(load, items, workers=workers, ahead=self.batch_size + workers)) as loaded:
            for batch in batched(loaded, self.batch_size):
                found = iter(self.detect([ready for _, ready in batch if isinstance(ready, Prepared)]))
                for item, ready in batch:
                    if isinstance(ready, str):
                        yield ImageAnswer(name_of_item(item), error=ready, _item=item)
                        continue
                    height, width = ready.size
                    boxes = tuple(next(found))
                    yield ImageAnswer(
                        name_of_item(item), width, height, boxes, _item=item, _pixels=self.pixels
                    )  # fmt: skip
        yield from (ImageAnswer(path, error=reason) for path, reason in skipped)

    def _stream_sliced(self, images: Iterable[ImageItem] | str | Path, slices: Slices) -> Iterator[ImageAnswer]:
        skipped: list[Skip] = []
        for item in items_of(images, skipped.append):
            name = name_of_item(item)
            try:
                if isinstance(item, (str, Path)):
                    with open_scene(item, self.pixels) as scene:
                        size, found = (scene.width, scene.height), self.detect_scene(scene)
                else:
                    image = open_item(item, self.pixels)
                    size, found = image.size, self._detect_pieces(slices_of_image(image, slices), image.size)
            except ImageError as error:
                yield ImageAnswer(name, error=str(error), _item=item)
                continue
            yield ImageAnswer(name, *size, tuple(found), _item=item, _pixels=self.pixels)
        yield from (ImageAnswer(path, error=reason) for path, reason in skipped)

    def detect_scene(self, scene: Scene) -> list[Detection]:
        """What is in the slices of a scene, best first.

        Raises:
            ImageError: a part of it cannot be read: objects there would be missing without a warning.
        """
        if self.slices is None:
            raise ValueError("a scene is detected in slices: Detector(slice=320)")
        failed: list[WindowError] = []
        found = self._detect_pieces(slices_of_scene(scene, self.slices, failed.append), (scene.width, scene.height))
        if failed:
            raise ImageError(f"{len(failed)} slices cannot be read: {failed[0].reason}")
        return found

    def _detect_pieces(self, pieces: Iterable[tuple[Window, Image.Image]], size: tuple[int, int]) -> list[Detection]:
        least = min([self.threshold, *self._own_thresholds.values()])
        options = {"nms_threshold": self.iou, "max_detections": _ALL}
        found = detect_sliced(
            self._model, self.processor, pieces, size, batch_size=self.batch_size, threshold=least, **options
        )
        return self._named(found, 1.0)

    def narrowed(
        self, *, threshold: float | Mapping[str, float] = THRESHOLD, classes: Iterable[str] | None = None
    ) -> Detector:
        """The same detector with another threshold and other classes; they share the network.

        Raises:
            StmineError: the model has no such class, or the threshold is not a score.
        """
        other = copy.copy(self)
        other.threshold, other._own_thresholds = parse_thresholds(threshold, self.names)
        other.labels = None if classes is None else sorted(known_labels(classes, self.names))
        return other

    def prepare(self, image: Image.Image) -> Prepared:
        """Prepare an image; a thread can do this ahead."""
        return prepare(self.processor, decode_image(image, self.pixels))

    def detect(
        self, images: Sequence[Prepared], *, share: float = 1.0, highest: dict[str, float] | None = None
    ) -> list[list[Detection]]:
        """What is in each prepared image, best first.

        Args:
            images: of `prepare`.
            share: of the thresholds; below 1 for a tracker, which also uses detections with lower scores.
            highest: gets the highest score of each class in these images, also below the threshold.
        """
        return self.begin(images, share=share, highest=highest)()

    def begin(
        self, images: Sequence[Prepared], *, share: float = 1.0, highest: dict[str, float] | None = None
    ) -> Callable[[], list[list[Detection]]]:
        """The network's part of `detect`, whose arguments these are.

        Returns:
            What does the rest: another thread can do this beside the next batch.
        """
        ran = run_batch(self._model, images)

        def finish() -> list[list[Detection]]:
            scores: list[Tensor] | None = None if highest is None else []
            least = share * min([self.threshold, *self._own_thresholds.values()])
            results = found_in(
                self.processor, ran, threshold=least, highest=scores, nms_threshold=self.iou, max_detections=_ALL
            )
            if highest is not None and scores:
                best = torch.stack(scores).amax(0).tolist()
                highest.update({name: best[label] for label, name in self.names.items() if self._wants(label)})
            return [self._named(result, share) for result in results]

        return finish

    def near_threshold(self, highest: Mapping[str, float]) -> dict[str, float]:
        """Of the highest scores of classes those below the threshold, by half of it at most; the highest first."""
        near = {
            name: highest[name]
            for label, name in self.names.items()
            if name in highest and _NEAR * self.least(label) <= highest[name] <= self.least(label)
        }
        return dict(sorted(near.items(), key=lambda entry: -entry[1]))

    def _wants(self, label: int) -> bool:
        return self.labels is None or label in self.labels

    def least(self, label: int) -> float:
        """The threshold of a class."""
        return self._own_thresholds.get(label, self.threshold)

    def _named(self, result: dict[str, Tensor], share: float) -> list[Detection]:
        labels, scores, boxes = result["labels"], result["scores"], result["boxes"]
        if self._own_thresholds:
            least = torch.tensor([share * self.least(label) for label in range(max(self.names) + 1)])
            kept = scores > least[labels]
            labels, scores, boxes = labels[kept], scores[kept], boxes[kept]
        rows = zip(labels.tolist(), scores.tolist(), boxes.tolist(), strict=True)
        found = [
            Detection(label, self.names[label], score, tuple(box)) for label, score, box in rows if self._wants(label)
        ]
        return found[: self.max_boxes]


def _name(model: SatForObjectDetection) -> str:
    name = getattr(model, "name_or_path", None) or type(model).__name__
    return Path(name).name if Path(name).exists() else name


def _identity(model: SatForObjectDetection, processor: SatImageProcessor) -> str:
    """Identifies models, and processors that place or colour images differently."""
    parts = identity_parts(lambda name: getattr(processor, name), model.config.id2label)
    return weights_digest(model, size=8, also=parts)

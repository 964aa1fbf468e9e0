"""Detector of the demo: boxes in an image or a video."""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import StmineError
from . import limits, temporary
from .texts import class_name

if TYPE_CHECKING:
    from ..detect import Detection, Detector
    from ..modeling.sat.image_processing_sat import SatImageProcessor
    from ..modeling.sat.modeling_sat import SatForObjectDetection

THRESHOLD = 0.25  # of boxes: in drawn images models trained on photographs give lower scores


@dataclass(frozen=True)
class FoundObjects:
    """What is in an image.

    Attributes:
        boxes: in pixels of the image, best first.
        source: the image.
    """

    boxes: list[Detection]
    source: Image.Image

    @property
    def image(self) -> Image.Image:
        """A copy of the image with the boxes drawn."""
        return self.drawn("en")

    def drawn(self, language: str) -> Image.Image:
        """The same, with names of classes in a language."""
        from ..detect import draw_detections

        boxes = [box._replace(name=class_name(box.name, language)) for box in self.boxes]
        return draw_detections(self.source, boxes)

    @property
    def counts(self) -> dict[str, int]:
        """Objects of each class, the most frequent first."""
        return dict(Counter(box.name for box in self.boxes).most_common())


@dataclass(frozen=True)
class FoundInVideo:
    """What is in a video.

    Attributes:
        video: the annotated copy (MP4).
        frames: number of frames that were searched.
        cut: whether the rest of the video was skipped.
        counts: boxes of each class in all frames together, the most frequent first.
    """

    video: Path
    frames: int
    cut: bool
    counts: dict[str, int]


class ObjectFinder:
    """Finds objects.

    Args:
        model: folder or Hub id of a SAT model, a loaded `(model, processor)`, or None for the small one of COCO's
            classes.
    """

    def __init__(
        self,
        model: str | Path | tuple[SatForObjectDetection, SatImageProcessor] | None = None,
        *,
        device: str | None = None,
    ):
        from ..detect import Detector

        self._detector = Detector(*model) if isinstance(model, tuple) else Detector.load(model, device=device)
        self._detector.names = {label: name.replace("_", " ") for label, name in self._detector.names.items()}

    @property
    def model_name(self) -> str:
        return self._detector.name

    @property
    def names(self) -> list[str]:
        """The classes of the model."""
        return list(self._detector.names.values())

    def find(self, image: limits.ImageInput, threshold: float = THRESHOLD) -> FoundObjects:
        """Objects in an image.

        Raises:
            StmineError: an image that cannot be used, or a threshold outside 0 to 1.
        """
        checked = limits.checked_image(image)
        boxes = self._at(threshold)([checked])[0]
        return FoundObjects(boxes, checked)

    def find_in_video(
        self,
        path: str | Path,
        threshold: float = THRESHOLD,
        *,
        out: str | Path | None = None,
        progress: bool = False,
    ) -> FoundInVideo:
        """Objects in every frame of a video.

        Args:
            out: folder for the annotated copy; by default a new temporary one, which the caller may delete; it is
                removed when the process ends.

        Raises:
            StmineError: too large a file or frame, or not a video that can be read; PyAV is missing.
        """
        from ..detect import detect_video
        from ..detect.video_reading import open_video, video_stream

        path = Path(path)
        limits.require_file_size(path, limits.MAX_VIDEO_BYTES)
        with closing(open_video(path)) as container:
            stream = video_stream(container)
            limits.require_frame_size(stream.width, stream.height)
        folder = Path(out) if out else temporary.new_folder()
        report = detect_video(self._at(threshold), path, folder, limit=limits.MAX_VIDEO_FRAMES, progress=progress)
        return FoundInVideo(
            folder / report.video, report.frames, report.frames == limits.MAX_VIDEO_FRAMES, report.classes
        )

    def _at(self, threshold: float) -> Detector:
        """The same detector at another threshold: users share the model but not the slider."""
        if not 0 <= threshold < 1:
            raise StmineError(f"threshold: expected a score from 0 to below 1, found {threshold}.")
        detector = copy.copy(self._detector)
        detector.threshold = float(threshold)
        return detector

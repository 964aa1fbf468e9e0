"""Detector: boxes in an image or a video."""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..detect import Detection, Detector, detect_video, draw_detections
from ..detect.video import open_video
from ..errors import StmineError
from . import limits

THRESHOLD = 0.4


@dataclass(frozen=True)
class FoundObjects:
    """What is in an image: boxes in its pixels, best first, and a copy of it with them drawn."""

    boxes: list[Detection]
    image: Image.Image

    @property
    def counts(self) -> dict[str, int]:
        """Objects of each class, the most frequent first."""
        return dict(Counter(box.name for box in self.boxes).most_common())


@dataclass(frozen=True)
class FoundInVideo:
    """What is in a video.

    Attributes:
        video: the annotated copy (MP4).
        frames: in which objects were looked for.
        cut: it was so many that the looking ended there.
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

    def __init__(self, model: str | Path | tuple[Any, Any] | None = None, *, device: str | None = None):
        self._detector = Detector(*model) if isinstance(model, tuple) else Detector.load(model, device=device)
        self._detector.names = {label: name.replace("_", " ") for label, name in self._detector.names.items()}

    @property
    def model_name(self) -> str:
        return self._detector.name

    @property
    def names(self) -> list[str]:
        """The classes that the model knows."""
        return list(self._detector.names.values())

    def find(self, image: limits.ImageInput, threshold: float = THRESHOLD) -> FoundObjects:
        """Objects in an image.

        Raises:
            StmineError: an image that cannot be used, or a threshold outside 0 to 1.
        """
        checked = limits.checked_image(image)
        boxes = self._at(threshold)([checked])[0]
        return FoundObjects(boxes, draw_detections(checked, boxes))

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
            out: folder for the annotated copy; by default a new one among the system's temporary files, which is the
                caller's to delete.

        Raises:
            StmineError: too large a file or frame, or not a video that can be read; PyAV is missing.
        """
        path = Path(path)
        limits.require_file_size(path, limits.MAX_VIDEO_BYTES)
        with closing(open_video(path)) as container:
            stream = container.streams.video[0]
            limits.require_frame_size(stream.width, stream.height)
        folder = Path(out) if out else Path(tempfile.mkdtemp(prefix="stmine-demo-"))
        report = detect_video(self._at(threshold), path, folder, limit=limits.MAX_VIDEO_FRAMES, progress=progress)
        return FoundInVideo(
            folder / report.video, report.frames, report.frames == limits.MAX_VIDEO_FRAMES, report.classes
        )

    def _at(self, threshold: float) -> Detector:
        """The same detector at another threshold; visitors share the model, and not the slider."""
        if not 0 <= threshold < 1:
            raise StmineError(f"threshold: expected a score from 0 to below 1, found {threshold}.")
        detector = copy.copy(self._detector)
        detector.threshold = float(threshold)
        return detector

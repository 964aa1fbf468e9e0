"""Objects of a video followed from frame to frame, by ByteTrack of the package `trackers`."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import StmineError
from .detection import Detection
from .detector import Detector

SHARE = 0.5  # of a class's threshold: the least score of an object that is followed


class ObjectTracker:
    """Numbers the objects of a video: each class by a tracker of its own, numbers from 1 in order of appearance.

    An object gets its number in the second frame in a row that shows it. It keeps the number while its score stays
    above half of the threshold, and for a second without being detected.

    Args:
        detector: its thresholds decide which objects are followed.
        rate: frames a second.

    Raises:
        StmineError: the package `trackers` is not installed.
    """

    def __init__(self, detector: Detector, rate: float):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its optional parts
                from supervision import Detections
                from trackers import ByteTrackTracker
        except ImportError as error:
            raise StmineError(
                f"--track needs the package trackers: pip install 'stmine-hf[track]' ({error})."
            ) from None
        self._detector, self._rate = detector, rate
        self._new_tracker, self._detections = ByteTrackTracker, Detections
        self._trackers: dict[int, Any] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self.counts: Counter[str] = Counter()
        """Tracks of each class."""

    def follow(self, found: Sequence[Detection]) -> list[Detection]:
        """The objects of the next frame with their numbers, best first.

        Args:
            found: by `Detector.detect` with the share `SHARE`. Those below the threshold that continue no track are
                left out.
        """
        followed: list[Detection] = []
        for label in sorted({*self._trackers, *(one.label for one in found)}):
            own = [one for one in found if one.label == label]
            for one, track in zip(own, self._update(label, own), strict=True):
                if track >= 0:
                    followed.append(one._replace(track=self._number(label, one.name, track)))
                elif one.score > self._detector.least(label):
                    followed.append(one)
        return sorted(followed, key=lambda one: -one.score)

    def _update(self, label: int, own: list[Detection]) -> list[int]:
        """The tracker's number of each detection; -1 for none."""
        least = self._detector.least(label)
        if label not in self._trackers:
            self._trackers[label] = self._new_tracker(
                frame_rate=self._rate, track_activation_threshold=least, high_conf_det_threshold=least
            )
        boxes = np.array([one.box for one in own], dtype=np.float32).reshape(-1, 4)
        scores = np.array([one.score for one in own], dtype=np.float32)
        given = self._detections(xyxy=boxes, confidence=scores, data={"place": np.arange(len(own))})
        answer = self._trackers[label].update(given)
        numbers = [-1] * len(own)
        for place, track in zip(answer.data.get("place", ()), answer.tracker_id, strict=True):
            numbers[int(place)] = int(track)
        return numbers

    def _number(self, label: int, name: str, track: int) -> int:
        if (label, track) not in self._numbers:
            self._numbers[label, track] = len(self._numbers) + 1
            self.counts[name] += 1
        return self._numbers[label, track]

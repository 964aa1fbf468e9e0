"""Detect objects in images, folders, videos and camera streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .answer import ImageAnswer as ImageAnswer
    from .detection import Detection as Detection
    from .detector import Detector as Detector
    from .drawing import draw_detections as draw_detections
    from .engine import EngineDetector as EngineDetector
    from .images import ImageReport as ImageReport
    from .images import detect_images as detect_images
    from .sources import source_kind as source_kind
    from .video import VideoReport as VideoReport
    from .video import detect_video as detect_video

__all__ = [
    "Detection",
    "Detector",
    "EngineDetector",
    "ImageAnswer",
    "ImageReport",
    "VideoReport",
    "detect_images",
    "detect_video",
    "draw_detections",
    "source_kind",
]

__getattr__ = lazy_names(
    __name__,
    {
        "EngineDetector": "engine",
        "Detection": "detection",
        "Detector": "detector",
        "ImageAnswer": "answer",
        "draw_detections": "drawing",
        "ImageReport": "images",
        "detect_images": "images",
        "source_kind": "sources",
        "VideoReport": "video",
        "detect_video": "video",
    },
)

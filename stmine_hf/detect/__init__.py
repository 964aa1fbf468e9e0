"""Detect objects in images, folders, videos and camera streams."""

from .detector import Detection, Detector
from .drawing import draw_detections
from .images import ImageReport, detect_images
from .sources import source_kind
from .video import VideoReport, detect_video

__all__ = [
    "Detection",
    "Detector",
    "ImageReport",
    "VideoReport",
    "detect_images",
    "detect_video",
    "draw_detections",
    "source_kind",
]

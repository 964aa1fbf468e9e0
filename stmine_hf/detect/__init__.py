"""Find objects in pictures, folders, videos and what a camera sees."""

from .detector import Detection, Detector
from .drawing import draw_detections
from .pictures import PictureReport, detect_pictures
from .sources import source_kind
from .video import VideoReport, detect_video

__all__ = [
    "Detection",
    "Detector",
    "PictureReport",
    "VideoReport",
    "detect_pictures",
    "detect_video",
    "draw_detections",
    "source_kind",
]

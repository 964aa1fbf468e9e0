"""The demo without its user interface: search, post checker, detector, and the three on one event.

All take texts, PIL images or image files, and raise `StmineError` with a message for the user.
"""

from __future__ import annotations

from .event import Event, EventDemo
from .objects import FoundInVideo, FoundObjects, ObjectFinder
from .posts import PostCheck, PostChecker
from .searching import ImageSearch, Match

__all__ = [
    "Event",
    "EventDemo",
    "FoundInVideo",
    "FoundObjects",
    "ImageSearch",
    "Match",
    "ObjectFinder",
    "PostCheck",
    "PostChecker",
]

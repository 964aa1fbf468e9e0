"""What a visitor tries: search, post checker, detector, and the three at work on one event; no user interface.

Every door takes texts, PIL images or files of them, and raises `StmineError` with words for the visitor.
"""

from __future__ import annotations

from .event import Event, EventDesk
from .objects import FoundInVideo, FoundObjects, ObjectFinder
from .posts import MovedRegion, MovedWord, PostCheck, PostChecker, WhatIf
from .searching import ImageSearch, Match

__all__ = [
    "Event",
    "EventDesk",
    "FoundInVideo",
    "FoundObjects",
    "ImageSearch",
    "Match",
    "MovedRegion",
    "MovedWord",
    "ObjectFinder",
    "PostCheck",
    "PostChecker",
    "WhatIf",
]

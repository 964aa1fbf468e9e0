"""The demo without its user interface: search, post checker, detector, and the three on one event;
objects counted in the scene that answers a sentence.

All take texts, PIL images or image files, and raise `StmineError` with a message for the user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .event import Event as Event
    from .event import EventDemo as EventDemo
    from .objects import FoundInVideo as FoundInVideo
    from .objects import FoundObjects as FoundObjects
    from .objects import ObjectFinder as ObjectFinder
    from .posts import PostCheck as PostCheck
    from .posts import PostChecker as PostChecker
    from .scene import CountedScene as CountedScene
    from .scene import count_in_scene as count_in_scene
    from .searching import ImageSearch as ImageSearch
    from .searching import Match as Match

__all__ = [
    "CountedScene",
    "Event",
    "EventDemo",
    "FoundInVideo",
    "FoundObjects",
    "ImageSearch",
    "Match",
    "ObjectFinder",
    "PostCheck",
    "PostChecker",
    "count_in_scene",
]

__getattr__ = lazy_names(
    __name__,
    {
        "CountedScene": "scene",
        "count_in_scene": "scene",
        "Event": "event",
        "EventDemo": "event",
        "FoundInVideo": "objects",
        "FoundObjects": "objects",
        "ObjectFinder": "objects",
        "PostCheck": "posts",
        "PostChecker": "posts",
        "ImageSearch": "searching",
        "Match": "searching",
    },
)

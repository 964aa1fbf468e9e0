"""From a post to the ground: the three models at work on one event."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ..errors import StmineError
from . import limits
from .objects import THRESHOLD, FoundObjects, ObjectFinder
from .places import place_in
from .posts import PostCheck, PostChecker
from .searching import ImageSearch, Match


@dataclass(frozen=True)
class Event:
    """What three models say of one post.

    Attributes:
        check: whether it reads like a fake, and why.
        objects: what its image shows; None without an image.
        sentence: what was searched for among the satellite images.
        matches: the best of these.
        heat_maps: where the words match, one for each of `matches`.
    """

    check: PostCheck
    objects: FoundObjects | None
    sentence: str
    matches: list[Match]
    heat_maps: list[Image.Image]


class EventDesk:
    """Three models at one table."""

    def __init__(self, search: ImageSearch, posts: PostChecker, objects: ObjectFinder):
        self.search, self.posts, self.objects = search, posts, objects

    def look(
        self,
        text: str,
        image: limits.ImageInput | None = None,
        *,
        place: str = "",
        threshold: float = THRESHOLD,
        top: int = 3,
    ) -> Event:
        """Judge a post, find objects in its image, and satellite images of the place that it tells of.

        Args:
            place: what to search for, in English; of Chinese its place words. By default the post itself, likewise.

        Raises:
            StmineError: no place in it, or something that one of the three models cannot use.
        """
        checked = None if image is None else limits.checked_image(image)
        text = limits.checked_text(text, limits.MAX_POST)
        sentence = (place_in(place.strip()) or place_in(text))[: limits.MAX_SENTENCE]
        if not sentence:
            raise StmineError("The post names no place that can be searched for: say in English what it looks like.")
        check = self.posts.check(text, checked)
        objects = None if checked is None else self.objects.find(checked, threshold)
        matches = self.search.search(sentence, top)
        heat_maps = [self.search.heat_map(match, sentence) for match in matches]
        return Event(check, objects, sentence, matches, heat_maps)

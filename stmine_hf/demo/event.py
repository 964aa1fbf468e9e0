"""From a post to satellite images: the three models on one event."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ..errors import StmineError
from ..search.places import place_in
from . import limits
from .objects import THRESHOLD, FoundObjects, ObjectFinder
from .posts import PostCheck, PostChecker
from .searching import ImageSearch, Match


@dataclass(frozen=True)
class Event:
    """What the three models find for one post.

    Attributes:
        check: the prediction for the post, and what drove it.
        objects: in its image; None without an image.
        sentence: what was searched for in the satellite images.
        matches: the best of these.
        heat_maps: where the words match, one for each of `matches`.
    """

    check: PostCheck
    objects: FoundObjects | None
    sentence: str
    matches: list[Match]
    heat_maps: list[Image.Image]


class EventDemo:
    """Runs the three models on one post."""

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
        """Classify a post, detect objects in its image, and satellite images of the place that it names.

        Args:
            place: what to search for, in English, or place words in Chinese. By default the post itself.

        Raises:
            StmineError: the post names no place, or one of the three models cannot use it.
        """
        checked = None if image is None else limits.checked_image(image)
        text = limits.checked_text(text, limits.MAX_POST)
        sentence = (place_in(place.strip()) or place_in(text))[: limits.MAX_SENTENCE]
        if not sentence:
            raise StmineError("The post names no place to search for. Describe the place in English.")
        check = self.posts.check(text, checked)
        objects = None if checked is None else self.objects.find(checked, threshold)
        matches = self.search.search(sentence, top)
        heat_maps = [self.search.heat_map(match, sentence) for match in matches]
        return Event(check, objects, sentence, matches, heat_maps)

"""The models of the demo's page, opened at first use, and their answers to its examples."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..loading import published
from ..search.places import place_in
from ..search.store import FINISHED
from . import samples
from .event import Event, EventDemo
from .objects import THRESHOLD, FoundObjects, ObjectFinder
from .posts import PostCheck, PostChecker
from .samples import SamplePost
from .searching import ImageSearch, Match

if TYPE_CHECKING:
    from ..modeling.fisvl.modeling_fisvl import FisvlModel
    from ..modeling.fisvl.processing_fisvl import FisvlProcessor
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor
    from ..modeling.sat.image_processing_sat import SatImageProcessor
    from ..modeling.sat.modeling_sat import SatForObjectDetection

logger = logging.getLogger(__name__)

Made = TypeVar("Made")

EVERYDAY, HIDDEN = "everyday", "hidden"


@dataclass(frozen=True)
class Models:
    """Folder or Hub id of each model, a loaded `(model, processor)`, or None for the one of this release."""

    fisvl: str | Path | tuple[FisvlModel, FisvlProcessor] | None = None
    mttv: str | Path | tuple[MttvForSequenceClassification, MttvProcessor] | None = None
    # sat finds everyday objects, hidden what is hard to see.
    sat: str | Path | tuple[SatForObjectDetection, SatImageProcessor] | None = None
    hidden: str | Path | tuple[SatForObjectDetection, SatImageProcessor] | None = None


class Tools:
    """What the users of the page share.

    Args:
        models: opened at the first call that needs them.
        folder: of images to search, or an index of them; the only one that users may search. None: drawn scenes.
        device: where the models run.
    """

    def __init__(self, models: Models | None = None, *, folder: Path | None = None, device: str | None = None):
        self.models, self.folder, self.device = models or Models(), folder, device
        self._once = Once()

    @property
    def search(self) -> ImageSearch:
        """Over the folder, or over drawn scenes."""
        return self._once(
            "search", lambda: ImageSearch(self.models.fisvl, self.folder or samples.scenes(), device=self.device)
        )

    @property
    def subfolders(self) -> Path | None:
        """The folder inside which users may name others."""
        return None if self.folder is None or (self.folder / FINISHED).is_file() else self.folder

    @property
    def posts(self) -> PostChecker:
        return self._once("posts", lambda: PostChecker(self.models.mttv, device=self.device))

    def objects(self, kind: str) -> ObjectFinder:
        """The detector of everyday objects, or that of hidden ones."""
        model = (self.models.hidden or published("sat-indiscernible")) if kind == HIDDEN else self.models.sat
        return self._once(("objects", kind), lambda: ObjectFinder(model, device=self.device))

    @property
    def event(self) -> EventDemo:
        return EventDemo(self.search, self.posts, self.objects(EVERYDAY))

    def sample_posts(self) -> list[SamplePost]:
        return self._once("sample posts", samples.posts)

    def sample_images(self) -> list[tuple[Any, str]]:
        """Drawn images to find objects in, and the detector of each."""
        return self._once(
            "sample images",
            lambda: [(samples.street(), EVERYDAY), *((image, HIDDEN) for image in samples.hidden())],
        )

    def found_first(self, language: str = "en") -> list[Match]:
        """The answer to the first sentence in a language."""
        sentence = place_in(samples.SENTENCES[language][0])
        return self._once(("found", sentence), lambda: self.search.search(sentence))

    def checked(self, number: int) -> PostCheck:
        """The prediction for a drawn post."""
        post = self.sample_posts()[number]
        return self._once(("checked", number), lambda: self.posts.check(post.text, post.image))

    def spotted(self, number: int, threshold: float) -> FoundObjects:
        """What is in a drawn image; kept at the default threshold alone."""
        image, kind = self.sample_images()[number]

        def find() -> FoundObjects:
            return self.objects(kind).find(image, threshold)

        return self._once(("spotted", number), find) if threshold == THRESHOLD else find()

    def looked_into(self, number: int) -> Event:
        """All three on a drawn post."""
        post = self.sample_posts()[number]
        return self._once(("looked into", number), lambda: self.event.look(post.text, post.image, place=post.place))

    def open_all(self, stop: threading.Event | None = None) -> None:
        """Open what the page needs at first, in the order in which a user meets it, until stopped."""
        for step in (
            self.found_first,
            lambda: self.spotted(0, THRESHOLD),
            lambda: self.checked(0),
            lambda: self.objects(HIDDEN),
        ):
            if stop is not None and stop.is_set():
                return
            step()

    def open_in_background(self) -> Background:
        """`open_all` while the page is already there; what fails, fails again for the user who needs it."""
        return Background(self.open_all)


class Background:
    """Work in a thread that can be stopped between steps.

    Python must not end while the thread loads a model: PyTorch would abort the process.
    """

    def __init__(self, work: Callable[[threading.Event], None]):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name="open models", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the current step."""
        self._stop.set()
        self._thread.join()

    def _run(self, work: Callable[[threading.Event], None]) -> None:
        try:
            work(self._stop)
        except Exception:
            logger.info("opening the models ahead of their use failed", exc_info=True)


class Once:
    """Makes each thing once: the first caller makes it, others wait meanwhile. A failure is not kept.

    Keys must be few: what was made is never freed.
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, Future[Any]] = {}
        self._looking = threading.Lock()

    def __call__(self, key: Hashable, make: Callable[[], Made]) -> Made:
        with self._looking:
            future = self._made.get(key)
            first = future is None
            if future is None:
                future = self._made[key] = Future()
        if first:
            try:
                future.set_result(make())
            except BaseException as error:
                with self._looking:
                    del self._made[key]
                future.set_exception(error)
        return future.result()

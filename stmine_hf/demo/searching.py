"""Search: a sentence or an image in, ranked images out, and a map of where the words match."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from ..errors import StmineError
from ..images import Skip
from ..inference.scope import Warned
from ..loading import load_fisvl
from ..search.present import name_of
from ..search.store import FINISHED
from . import limits, temporary
from .samples import cache

if TYPE_CHECKING:
    from ..modeling.fisvl.modeling_fisvl import FisvlModel
    from ..modeling.fisvl.processing_fisvl import FisvlProcessor


class Match(NamedTuple):
    """One image found.

    Attributes:
        rank: counts from 1.
        score: cosine similarity in [-1, 1].
        path: of its file.
        image: RGB; of an index of tiles the tile.
        warned: why all matches of the sentence mean little; None if there is no such reason.
        name: of the file, and where in it a tile lies.
    """

    rank: int
    score: float
    path: Path
    image: Image.Image
    warned: Warned | None = None
    name: str = ""


class ImageSearch:
    """Images, searchable by a sentence or by an image.

    Args:
        model: folder or Hub id of a FISVL model, a loaded `(model, processor)`, or None for the small one.
        images: a folder of images (embedded at first, then kept in the cache), an index that `stmine index` made,
            or a list of files that someone uploaded.
        within: the only folder below which `images` may lie; None: anywhere.

    Raises:
        StmineError: no such folder, none or too many images, a folder outside `within`.

    Example:
        >>> search = ImageSearch(images="my_images")  # doctest: +SKIP
        >>> best = search.search("many planes near a terminal", top=3)[0]  # doctest: +SKIP
        >>> search.heat_map(best, "many planes near a terminal").save("why.png")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path | tuple[FisvlModel, FisvlProcessor] | None = None,
        images: str | Path | Sequence[str | Path] = (),
        *,
        within: str | Path | None = None,
        device: str | None = None,
        progress: bool = False,
    ):
        from ..explain.heat import HeatMaps
        from ..search import ImageIndex

        self.loaded = model if isinstance(model, tuple) else load_fisvl(model, device=device)
        self._heat = HeatMaps(*self.loaded)
        self._within = within
        self._uploads: tempfile.TemporaryDirectory | None = None
        if not isinstance(images, (str, Path)):
            folder = self._kept(list(images))
        else:
            folder = Path(images).absolute() if within is None else limits.inside(within, images)
        if (folder / FINISHED).is_file():
            self._index = ImageIndex.open(folder, model=self.loaded)
            return
        if folder.is_dir():
            limits.require_folder_size(folder)
        place = Path(self._uploads.name) / "index" if self._uploads else index_folder(folder, self.loaded)
        try:
            self._index = ImageIndex.build(folder, place, model=self.loaded, progress=progress)
        except StmineError:
            if self._uploads is None:
                raise
            raise StmineError(
                "None of these files is an image that can be read: send JPEG or PNG files, for example."
            ) from None

    def __len__(self) -> int:
        return len(self._index)

    @property
    def model_name(self) -> str:
        return Path(self.loaded[0].name_or_path).name

    @property
    def skipped(self) -> list[Skip]:
        """Images that could not be read, and why."""
        report = self._index.report
        return [] if report is None else report.skipped

    def search(self, query: str | Image.Image, top: int = 6) -> list[Match]:
        """The best images, best first. Images that no longer exist or cannot be read are skipped.

        Raises:
            StmineError: nothing to search for, too long a sentence, or an image that cannot be used.
        """
        query = self._sentence(query) if isinstance(query, str) else limits.checked_image(query)
        matches, hits = [], self._index.query(query, k=max(1, top), paths=False)
        warned = self._index.check(query, hits) if isinstance(query, str) else None
        for hit in hits:
            try:
                path = hit.path if self._within is None else limits.inside(self._within, hit.path)
                image = limits.checked_hit(hit._replace(path=path), self._index.pixels)
                matches.append(Match(hit.rank, hit.score, path, image, warned, name_of(hit)))
            except StmineError:
                continue
        return matches

    def heat_map(self, match: Match, sentence: str) -> Image.Image:
        """The image of a match, orange where it matches the sentence and grey where it does not.

        Raises:
            StmineError: nothing to compare with, or too long a sentence.
        """
        from ..explain.heat import glowing

        return glowing(match.image, self._heat(match.image, self._sentence(sentence)))

    def _sentence(self, text: str) -> str:
        text = limits.checked_text(text, limits.MAX_SENTENCE)
        if not any(character.isalnum() for character in text):
            raise StmineError("Nothing to search for: write at least one word, or add an image.")
        return text

    def _kept(self, files: list[str | Path]) -> Path:
        """Copy uploaded images, checked, into a temporary folder, which is removed with this object."""
        if not files:
            raise StmineError("No images to search: name a folder, or upload some.")
        if len(files) > limits.MAX_IMAGES:
            raise StmineError(f"{len(files)} images; at most {limits.MAX_IMAGES} are allowed at a time.")
        self._uploads = tempfile.TemporaryDirectory(dir=temporary.root())
        folder = Path(self._uploads.name) / "images"
        folder.mkdir()
        for number, file in enumerate(files):
            limits.require_file_size(Path(file), limits.MAX_FILE_BYTES)
            own = folder / f"{number:03d}"  # two files may have one name
            own.mkdir()
            shutil.copyfile(file, own / Path(file).name)
        return folder


def index_folder(images: Path, loaded: tuple[FisvlModel, FisvlProcessor]) -> Path:
    """Where the index of a folder is cached: one for each folder and model."""
    from ..search.embedder import Embedder

    identity = Embedder(loaded).identity
    name = f"{images} {identity['weights']} {identity['probe']}"
    return cache("indexes") / f"{images.name}-{blake2b(name.encode(), digest_size=6).hexdigest()}"

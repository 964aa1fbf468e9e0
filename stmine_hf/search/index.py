"""`ImageIndex`: embed a folder of images once, then search it by a sentence or by an image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from ..errors import StmineError
from ..files import LOCK
from ..images import (
    SUFFIXES,
    ImageError,
    ImageFile,
    PixelOptions,
    Skip,
    Window,
    decode_image,
    find_images,
    image_file,
    open_bytes,
    open_image,
)
from ..inference.answers import Answers, BadItemError
from ..inference.engines import AUTO, require_engine
from ..inference.scope import Warned
from ..outputs import Outputs, require_readable_name
from . import store
from .answer import COLUMNS, SearchAnswer
from .approximate import is_large
from .build import BuildReport, IndexBuilder
from .databases import is_uri
from .embedder import Embedder
from .filters import PlacesAndTimes, Where
from .hits import Hit, points_of
from .lance import LanceBuilder, LanceRows, LanceStore
from .merge import merge_indexes
from .metadata import Metadata
from .named_images import is_image
from .places import place_in
from .store import Manifest
from .tiles import Tiles
from .vectors import nearest

if TYPE_CHECKING:
    import torch

    from .embedding import DualEncoder, DualProcessor


class TilesOf(NamedTuple):
    """What an index has of one image.

    Attributes:
        path: of the image, absolute.
        rows: (N,) numbers of its N tiles in the index.
        windows: of the tiles; None: the whole image.
        places: of the tiles; see `Hit`.
        time: when it was taken.
    """

    path: Path
    rows: np.ndarray
    windows: list[Window | None]
    places: list[tuple[tuple[float, float], ...]]
    time: datetime | None


class ImageIndex:
    """Images searchable by sentences and by images.

    Example:
        >>> index = ImageIndex.build("images", "my.index")  # doctest: +SKIP
        >>> index.query("many planes near a terminal", k=5)  # doctest: +SKIP
    """

    report: BuildReport | None = None
    """Report of the last `build` or `add` of this object."""

    def __init__(
        self,
        folder: Path | LanceStore,
        embedder: Embedder,
        images: str | Path | None = None,
        verify: bool | None = None,
    ):
        self._lance = folder if isinstance(folder, LanceStore) else None
        self._folder = folder.folder if isinstance(folder, LanceStore) else folder
        self._place: object = folder  # for messages
        self._embedder = embedder
        self._moved_to, self._verify = images and os.path.abspath(images), verify
        self._read()

    @classmethod
    def build(
        cls,
        images: str | Path,
        out: str | Path,
        *,
        model: str | Path | tuple[DualEncoder, DualProcessor] | None = None,
        batch_size: int = 8,
        device: str | torch.device | None = None,
        progress: bool = True,
        save_every: int = 1024,
        pixels: PixelOptions | None = None,
        tile: int | str | None = None,
        overlap: float = 0.25,
        metadata: str | Path | Metadata | None = None,
        time_pattern: str | None = None,
        engine: str = AUTO,
        ray: str | None = None,
    ) -> ImageIndex:
        """Create the index `out` of a folder of images, or update it.

        Only new and changed files go through the model: those of another size or time (mtime or ctime) are read, and
        those of another content are embedded. Images that no longer exist are removed from the index; those of a
        subfolder that cannot be read now stay. A killed run is resumed where it stopped.

        Memory: one batch of images, and about 200 bytes for each image of the index.

        For scenes there are `tile` and `overlap` (how they are cut), `pixels` (how they are read), `metadata` and
        `time_pattern` (what is known of them beside what their files say). The index stores how they were cut and
        read and what was known: a later run that gives nothing keeps it.

        Args:
            images: the folder; subfolders are searched too. It may have been moved since the last build.
            out: folder of the index; created if missing. Or a database: "lancedb://" with a folder, or with an address
                of object storage such as "s3://BUCKET/KEY"; see `stmine_hf.search.lance`.
            model: folder, Hub id, or a loaded `(model, processor)`; by default that of the index, or FISVL lite.
            batch_size: images per batch. Eight are a third faster than 32 on a CPU (less memory to touch); use 64 or
                more on a GPU.
            save_every: number of images between two saves, which a kill may cost.
            tile: side in pixels of the tiles that images are cut into, or several ("256,512"); each tile is embedded
                and found by itself, with its window, place and time. The memory does not depend on the size of an
                image. None for a new index: whole images.
            overlap: share of a tile that its neighbour shows, too.
            pixels: how to read images of more than 8 bits or more than three bands, here and for what is shown of the
                index later. Images have to have the bands that are named; the others are skipped.
            metadata: a table with a column of image names, and any of longitude and latitude, time, and others to
                filter by; or a [`Metadata`], which also names the columns of a table and its encoding.
            time_pattern: how file names hold the time of an image, such as "%Y%m%d".
            engine: what runs the model: "torch", "torch-bf16", "torch-compile", "onnx" or "openvino"; "auto" finds the
                fastest by a short measurement, if there are enough images. Embeddings of two engines have a cosine
                of 0.999 at least; the index stores which ones embedded it.
            ray: embed on the workers of a Ray cluster: "local", or the address of one that runs; see
                `stmine_hf.inference.cluster`. They read the images under the same paths. Embeddings are those of one
                process to the last bits, which depend on the images that share a batch.

        Raises:
            StmineError: no such folder, no images in it, another run is writing the index, or the index belongs to
                another model, other images, other `pixels` or another format version; the engine is not installed,
                or differs from PyTorch by more than that.
        """
        require_engine(engine)
        place = LanceStore(str(out)) if is_uri(out) else Path(os.path.abspath(out))
        root, folder = Path(os.path.abspath(images)), place.folder if isinstance(place, LanceStore) else place
        if not root.is_dir():
            found = "a file" if root.exists() else "nothing"
            raise StmineError(f"expected a folder of images at {root}, found {found}")
        if isinstance(place, Path) and folder.is_dir() and any(folder.iterdir()) and not _is_index(folder):
            raise StmineError(f"{folder} is neither empty nor an index: choose another folder for the index")
        if next(find_images(root, exclude=folder), None) is None:
            raise StmineError(f"found no images in {root} (looked for {' '.join(sorted(SUFFIXES))} and by content)")
        if isinstance(place, Path) and folder.exists() and not folder.is_dir():
            raise StmineError(f"{folder} is a file: choose another place for the index")
        tiles = None if tile is None else Tiles.parse(tile, overlap)
        facts: Metadata | None = None
        if isinstance(metadata, Metadata):
            facts = metadata if time_pattern is None else replace(metadata, time_pattern=time_pattern)
        elif metadata is not None or time_pattern is not None:
            facts = Metadata(None if metadata is None else Path(metadata), time_pattern)
        if facts is not None:
            facts.require_readable()

        with _writing(place, root) as start:
            earlier = _earlier(place)
            if earlier:
                _require_same_images(earlier, place, root)
            embedder = Embedder(model or (earlier.model["source"] if earlier else None), device, engine)
            builder = start(
                root,
                embedder,
                batch_size=batch_size,
                save_every=save_every,
                pixels=pixels,
                tiles=tiles,
                metadata=facts,
                ray=ray,
            )

            def list_images(on_skip: Callable[[Skip], None]) -> Iterator[ImageFile]:
                yield from find_images(root, on_skip=on_skip, exclude=folder)
                for path in builder.known_outside():
                    if os.path.exists(path) and (file := image_file(path, on_skip)):
                        yield file

            report = builder.run(list_images, remove_missing=True, progress=progress)
        index = cls(place, embedder)
        index.report = report
        return index

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        model: str | Path | tuple[DualEncoder, DualProcessor] | None = None,
        device: str | torch.device | None = None,
        images: str | Path | None = None,
        verify: bool | None = None,
        engine: str = AUTO,
    ) -> ImageIndex:
        """Open a finished index. The model is loaded (and checked to be the right one) by the first query.

        Args:
            path: the folder, or "lancedb://" with a folder or an address.
            model: where the index's model is now, if it has been moved; or a loaded `(model, processor)`.
            images: where the images are now, if they have been moved without the index.
            verify: check every file against its checksum (a second for each gigabyte or so). Default: if the index is
                below 1 GB.
            engine: see `build`; of sentences, whose embeddings have a cosine of 0.9999 at least to PyTorch's, and of
                images that are added.

        Raises:
            StmineError: no index there, one that was never finished, a damaged one or one of another format version.
        """
        place = LanceStore(str(path)) if is_uri(path) else Path(os.path.abspath(path))
        manifest = _earlier(place, unfinished=False)
        embedder = Embedder(model or (manifest.model["source"] if manifest else None), device, engine)
        return cls(place, embedder, images, verify)

    def reopened(self) -> ImageIndex:
        """The index as it is on disk now, with the same loaded model.

        Raises:
            StmineError: as of `open`; or it was made again with another model.
        """
        index = type(self)(self._lance or self._folder, self._embedder, self._moved_to, self._verify)
        self._embedder.require(index._manifest.model, self._place)
        return index

    def add(
        self, images: str | Path | Iterable[str | Path], *, batch_size: int = 8, progress: bool = True
    ) -> BuildReport:
        """Add a folder, an image, or several of either; nothing is removed.

        Images outside the index's own folder are remembered by their absolute path; a later `build` keeps them as
        long as they exist.

        Raises:
            StmineError: another run is writing the index, or its model is not the one it was made with.
        """
        sources = [images] if isinstance(images, (str, Path)) else list(images)

        def list_images(on_skip: Callable[[Skip], None]) -> Iterator[ImageFile]:
            seen: set[str] = set()
            for source in sources:
                for file in _all_of(os.path.abspath(source), self._folder, on_skip):
                    file = file._replace(path=self._row_path(file.path))
                    if file.path not in seen:
                        seen.add(file.path)
                        yield file

        with _writing(self._lance or self._folder, None) as start:
            builder = start(self._images, self._embedder, batch_size=batch_size)
            self.report = builder.run(list_images, remove_missing=False, progress=progress)
        self._read()
        return self.report

    def remove(self, images: str | Path | Iterable[str | Path], *, progress: bool = True) -> BuildReport:
        """Remove an image, or several, from the index; the files stay.

        A later `build` adds them again if they are still in the images' folder.

        Args:
            images: paths, also relative to the images' folder; the files need not exist.

        Raises:
            StmineError: one of them is not in the index, or all are; another run is writing the index, or its model
                is not the one it was made with.
        """
        given = [images] if isinstance(images, (str, Path)) else list(images)
        known = set(self._rows.column("path").to_pylist()) if self._lance is None else self._stored.paths()
        paths = {self._known_path(image, known) for image in given}
        if paths == known:
            raise StmineError(f"expected to leave an image in {self._folder}: to remove all, delete the folder")
        with _writing(self._lance or self._folder, None) as start:
            builder = start(self._images, self._embedder, batch_size=1)
            for path in paths:
                builder.leave_out(path)
            self.report = builder.run(lambda on_skip: iter(()), remove_missing=False, progress=progress)
        self._read()
        return self.report

    @classmethod
    def merge(
        cls,
        indexes: Sequence[str | Path],
        out: str | Path,
        *,
        model: str | Path | tuple[DualEncoder, DualProcessor] | None = None,
        device: str | torch.device | None = None,
        progress: bool = True,
    ) -> ImageIndex:
        """Create the index `out` of the images of several indexes, such as those of several machines.

        No image is read or embedded, and the indexes stay as they are. An image that several have is taken from the
        first that has it. The images' folder is that of the first index; a later `build` from it keeps images outside
        of it as long as they exist.

        Args:
            indexes: folders of finished indexes, at least two.
            out: folder of the new index; created if missing.
            model: where the indexes' model is now, if it has been moved; or a loaded `(model, processor)`.

        Raises:
            StmineError: one of them is no finished index or is damaged; they were made with different models, tiles
                or ways to read pixels; or there is an index in `out` already.
        """
        if bases := [place for place in (*indexes, out) if is_uri(place)]:
            raise StmineError(f"merging is for folders, found {bases[0]}: index all images into one database")
        folder = Path(os.path.abspath(out))
        if folder.is_dir() and any(folder.iterdir()) and not _is_index(folder):
            raise StmineError(f"{folder} is neither empty nor an index: choose another folder for the index")
        merge_indexes([Path(os.path.abspath(index)) for index in indexes], folder, progress=progress)
        return cls.open(folder, model=model, device=device)

    def _row_path(self, path: str) -> str:
        inside = path.startswith(f"{self._images}{os.sep}")
        return Path(os.path.relpath(path, self._images)).as_posix() if inside else path

    def query(
        self,
        query: str | Path | Image.Image,
        k: int = 10,
        *,
        paths: bool = True,
        where: Where | None = None,
        merge: bool = True,
        exact: bool = False,
    ) -> list[Hit]:
        """The k most similar images (all, if there are fewer), best first; equal scores by path.

        Among more than 50,000 images that may be an answer, a few of the best can be missed: lists of similar images
        choose those that are compared. The scores are exact in any case.

        Args:
            query: a sentence in any language that the model reads (sentences that are too long are cut), an image, or
                the path of one. A string counts as a path if there is such an image.
            paths: False treats every string as a sentence, so that third-party input cannot reach files here.
            where: consider only images that meet it; see [`Where`].
            merge: of tiles of an image that overlap, only the best is an answer.
            exact: compare every image, of any number.

        Raises:
            StmineError: an empty query, an image that cannot be read, or k < 1; at the first query, the wrong model;
                a filter by something that the index does not have.
        """
        _require_count(k)
        return self._best(self._vector_of(query, paths), k, where, merge, exact)

    def search(
        self, queries: Any, k: int = 10, *, paths: bool = True, where: Where | None = None, exact: bool = False
    ) -> Any:
        """The k most similar images of a query, or of each of several, with warnings about them.

        Args:
            queries: a sentence, an image, or the path of one, as of `query`; or an iterable of these. Sentences are
                embedded in batches.
            k: as of `query`.
            paths: as of `query`.
            where: as of `query`.
            exact: as of `query`.

        Returns:
            A [`SearchAnswer`]; of several queries a list of them in their order, with `to_pandas`. A query that is
            refused has `error`, and is in `failed` of the list.

        Raises:
            BadItemError: the one query is refused. It is a ValueError, too.
            StmineError: k < 1, or the wrong model.
        """
        _require_count(k)
        if isinstance(queries, (str, Path, Image.Image)):
            (answer,) = self._answers([queries], k, paths, where, exact)
            if answer.error is not None:
                raise BadItemError(answer.error)
            return answer
        if not isinstance(queries, Iterable):
            raise StmineError(f"expected a sentence, an image or a list of them, found {type(queries).__name__}")
        return Answers(self._answers(list(queries), k, paths, where, exact), COLUMNS)

    def prepare(self, content: bytes) -> torch.Tensor:
        """An encoded image as `embed` takes it (3, H, W), read as `query` reads its file.

        Raises:
            ImageError: it cannot be read.
        """
        return self._embedder.pixels(open_bytes(content, self._embedder.side, self.pixels))

    def embed(self, queries: Sequence[str | torch.Tensor]) -> np.ndarray:
        """(N, D) unit vectors of sentences, as `reads` gives them, and of images, as `prepare` does; in batches.

        Raises:
            StmineError: the wrong model.
        """
        self._embedder.require(self._manifest.model, self._place)
        places = {kind: [n for n, one in enumerate(queries) if isinstance(one, str) == kind] for kind in (True, False)}
        rows: dict[int, np.ndarray] = {}
        if sentences := [one for one in queries if isinstance(one, str)]:
            rows |= zip(places[True], self._embedder.texts(sentences), strict=True)
        if images := [one for one in queries if not isinstance(one, str)]:
            rows |= zip(places[False], self._embedder.features(images), strict=True)
        return np.stack([rows[place] for place in range(len(queries))])

    def answer(
        self, query: str, read: str | None, vector: np.ndarray, k: int, where: Where | None, exact: bool = False
    ) -> SearchAnswer:
        """The answer to a query whose embedding is there.

        Args:
            query: the sentence; "" for an image.
            read: what `reads` makes of the sentence; None for an image.
            vector: (D,), of `embed`.
            k: as of `query`.
            where: as of `query`.
            exact: as of `query`.
        """
        hits = self._best(vector[None], k, where, exact=exact)
        warned = None if read is None else self._check_fit(vector[None], hits)
        other = read if read is not None and read != query else None
        return SearchAnswer(query, tuple(hits), other, warned.message if warned else None, pixels=self.pixels)

    def require_known(self, where: Where) -> None:
        """
        Raises:
            StmineError: a filter by something that the index does not have.
        """
        if self._lance is not None:
            self._stored.require_known(where)
        else:
            self._facts.mask(where)

    def _answers(
        self, queries: list[Any], k: int, paths: bool, where: Where | None, exact: bool
    ) -> list[SearchAnswer]:
        images = any(_names_image(query, paths) for query in queries)
        self._embedder.require(self._manifest.model, self._place, images=images)
        sentences: dict[int, str] = {}  # place -> what is searched for
        vectors: dict[int, np.ndarray] = {}
        failed: dict[int, str] = {}
        for place, query in enumerate(queries):
            try:
                if isinstance(query, str) and not (paths and is_image(query)):
                    _require_words(query)
                    sentences[place] = self.reads(query)
                elif isinstance(query, (str, Path, Image.Image)):
                    vectors[place] = self._vector_of(query, paths)
                else:
                    raise StmineError(f"expected a sentence or an image, found {type(query).__name__}")
            except StmineError as error:
                failed[place] = str(error)
        if sentences:
            rows = self._embedder.texts(list(sentences.values()))
            vectors |= {place: row[None] for place, row in zip(sentences, rows, strict=True)}
        answers = []
        for place, query in enumerate(queries):
            name = "" if isinstance(query, Image.Image) else str(query)
            if place in failed:
                answers.append(SearchAnswer(name, error=failed[place]))
                continue
            answers.append(self.answer(name, sentences.get(place), vectors[place][0], k, where, exact))
        return answers

    def _best(
        self, vector: np.ndarray, k: int, where: Where | None, merge: bool = True, exact: bool = False
    ) -> list[Hit]:
        """The hits of a query whose embedding (1, D) is there."""
        search = self._search_of(vector, where, exact)
        candidates = 2 * k + 8  # with room for ties and for tiles that overlap
        while True:
            scores, rows, complete = search(candidates)
            # Ties with the last one may stretch further, and which of them FAISS returns depends on the file's order.
            kept = scores if complete else scores[scores > scores[-1]]
            hits = self._hits(kept, rows[: len(kept)], k, merge)
            if complete or len(hits) == k:
                return hits
            candidates *= 2

    def _search_of(
        self, vector: np.ndarray, where: Where | None, exact: bool
    ) -> Callable[[int], tuple[np.ndarray, list[dict[str, Any]], bool]]:
        """What finds the n best rows that meet a filter: their scores, the rows, and whether there are no others."""
        if self._lance is not None:

            def stored(n: int) -> tuple[np.ndarray, list[dict[str, Any]], bool]:
                scores, rows = self._stored.nearest(vector, n, where, exact)
                return scores, rows, len(rows) < n

            return stored
        allowed = None if where is None else np.flatnonzero(self._facts.mask(where))
        count = len(self) if allowed is None else len(allowed)

        def loaded(n: int) -> tuple[np.ndarray, list[dict[str, Any]], bool]:
            if not count:
                return np.zeros(0), [], True
            scores, rows = self._nearest(vector, min(n, count), allowed, exact)
            return scores, self._rows.take(pa.array(rows)).to_pylist(), len(scores) == count

        return loaded

    def _nearest(
        self, vector: np.ndarray, k: int, allowed: np.ndarray | None, exact: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """(k,) scores, falling, and rows."""
        among = allowed
        if self._lists is not None and not exact and (allowed is None or is_large(len(allowed))):
            chosen = self._lists.search(vector, k, allowed)
            among = allowed if chosen is None or len(chosen) < k else chosen
        return nearest(self._vectors, vector, k, among)

    def _hits(self, scores: np.ndarray, rows: list[dict[str, Any]], k: int, merge: bool) -> list[Hit]:
        """The best k of some rows, of overlapping tiles the best one each."""
        found = sorted(
            zip(scores.tolist(), rows, strict=True),
            key=lambda one: (-one[0], one[1]["path"], one[1]["window"] or []),
        )
        hits: list[Hit] = []
        windows_of: dict[str, list[Window]] = {}  # of the hits
        for score, row in found:
            if len(hits) == k:
                break
            window = None if row["window"] is None else Window(*row["window"])
            if merge and window is not None:
                others = windows_of.setdefault(row["path"], [])
                if any(_overlap(window, other) for other in others):
                    continue
                others.append(window)
            path = self._images / row["path"]
            hits.append(Hit(len(hits) + 1, score, path, window, points_of(row["place"]), row["time"]))
        return hits

    @cached_property
    def _facts(self) -> PlacesAndTimes:
        return store.facts_of(self._rows, self._metadata)

    def tiles_of(self, image: str | Path) -> TilesOf:
        """What the index has of one image.

        Args:
            image: its path, also relative to the images' folder, or its name, if only one image has it.

        Raises:
            StmineError: it is not in the index, or several have the name.
        """
        if self._lance is not None:
            rows, taken = self._stored.of_path(self._known_path(image, self._stored.paths()))
            found = taken[0]["path"]
        else:
            paths = self._rows.column("path")
            found = self._known_path(image, set(paths.unique().to_pylist()))
            rows = np.flatnonzero(np.asarray(pc.equal(paths, found)))
            taken = self._rows.take(pa.array(rows)).to_pylist()
        places = [points_of(row["place"]) for row in taken]
        windows = [None if row["window"] is None else Window(*row["window"]) for row in taken]
        return TilesOf(self._images / found, rows, windows, places, taken[0]["time"])

    def _known_path(self, image: str | Path, known: set[str]) -> str:
        """The path of a row for an image in the words of `tiles_of`."""
        given = str(image)
        candidates = [given, self._row_path(os.path.abspath(given))]
        found = next((path for path in candidates if path in known), None)
        if found is not None:
            return found
        named = [path for path in known if os.path.basename(path) == given]
        if len(named) != 1:
            several = f"{len(named)} images of that name are" if named else "it is not"
            raise StmineError(f"{given}: expected an image of the index, but {several} in it")
        return named[0]

    def scores(self, query: str | Path | Image.Image, rows: np.ndarray) -> np.ndarray:
        """(N,) cosine similarities of a query and N rows of the index, see `tiles_of`."""
        stored = self._vectors.reconstruct_batch if self._lance is None else self._stored.vectors
        return stored(rows) @ self._vector_of(query, paths=True)[0]

    @property
    def tiles(self) -> Tiles | None:
        """How images were cut; None: not at all."""
        return Tiles.from_document(self._manifest.tiles)

    @property
    def pixels(self) -> PixelOptions:
        """How images of more than 8 bits or more than three bands were read."""
        return PixelOptions.from_document(self._manifest.pixel_options)

    @property
    def model_name(self) -> str:
        """Name of the model, without where its folder is; "" if it was never saved."""
        return self._embedder.name

    @property
    def columns(self) -> list[str]:
        """Names of the columns that `where` may compare."""
        return list(self._facts.columns if self._lance is None else self._stored.columns)

    @staticmethod
    def is_image(query: str) -> bool:
        """Whether `query` searches by the image of this path, not by a sentence.

        Raises:
            StmineError: it looks like the path of an image that is not there.
        """
        return is_image(query)

    def reads(self, sentence: str) -> str:
        """A sentence as the model reads it: place words of a Chinese one in English, if the model reads no Chinese.

        Raises:
            StmineError: the sentence has no word, or is in a script that the model cannot read.
        """
        _require_words(sentence)
        scope = self._embedder.scope
        if scope is None:
            return sentence
        read = place_in(sentence) if scope.script == "LATIN" else sentence
        if not read:
            raise StmineError(
                f"nothing to search for in {sentence[:40]!r}: the model reads English, and of Chinese only words for "
                "types of places, such as 机场 (airport). Describe the place in English"
            )
        if warned := scope.check_query(read):
            raise StmineError(f"cannot search for {sentence[:40]!r}: {warned.message}")
        return read

    def check(self, query: str, hits: Sequence[Hit]) -> Warned | None:
        """Whether even the best hit does not fit a sentence; None if it does, or if nothing is known of the model.

        Args:
            query: a sentence.
            hits: what `query` found for it.
        """
        return self._check_fit(self._embedder.text(self.reads(query)), hits)

    def _check_fit(self, vector: np.ndarray, hits: Sequence[Hit]) -> Warned | None:
        """`check` of a sentence whose embedding (1, D) is there."""
        scope = self._embedder.scope
        if scope is None or scope.least_fit is None or not hits:
            return None
        return scope.check_fit(hits[0].score, float(vector[0] @ self._embedder.meaningless))

    def start_faster(self) -> None:
        """Write the text tower of the index's model into the user's cache, so that later processes need no PyTorch.

        It does nothing if the model has not been loaded, or if the cache has its tower or cannot be written.
        """
        self._embedder.keep_tower()

    @property
    def images_folder(self) -> Path:
        """Where the images are."""
        return self._images

    def __len__(self) -> int:
        return self._manifest.count

    def __repr__(self) -> str:
        return f"ImageIndex({str(self._place)!r}, {len(self)} images of {str(self._images)!r})"

    def _vector_of(self, query: str | Path | Image.Image, paths: bool) -> np.ndarray:
        """(1, D)."""
        if paths and isinstance(query, str) and is_image(query):
            query = Path(query)
        if isinstance(query, str):
            _require_words(query)
        elif isinstance(query, Path):
            try:
                query = open_image(query, self._embedder.side, self.pixels)
            except ImageError as error:
                raise StmineError(f"cannot search by {query}: {error}") from None
        self._embedder.require(self._manifest.model, self._place, images=isinstance(query, Image.Image))
        if isinstance(query, Image.Image):
            query = decode_image(query, self.pixels)
        return self._embedder.text(self.reads(query)) if isinstance(query, str) else self._embedder.image(query)

    def _read(self) -> None:
        if self._lance is not None:
            self._stored = LanceRows(self._lance)
            self._manifest = self._stored.state.manifest
            self._images = Path(self._moved_to or store.images_folder(self._manifest, self._folder))
            return
        for _ in range(3):  # a run that is just finishing may remove a file, but not three times in a row
            manifest = store.read_manifest(self._folder / store.FINISHED)
            if manifest is None:
                raise StmineError(_no_index(self._folder))
            try:
                verified = self._verify
                if verified is None:
                    verified = store.size(self._folder, manifest) < store.VERIFIED
                if verified:
                    store.verify(self._folder, manifest)
                rows = store.read_rows(self._folder, manifest.shards, manifest.checksums)
                self._metadata = store.read_metadata(self._folder, manifest)
                self._vectors = store.open_vectors(self._folder, manifest)
                self._lists = store.read_lists(self._folder, manifest, verified=verified)
                break
            except (FileNotFoundError, RuntimeError) as error:  # FAISS raises the second
                problem: Exception = error
        else:
            raise problem if isinstance(problem, StmineError) else store.damaged(self._folder, problem)
        if not self._vectors.ntotal == len(rows) == manifest.count:
            found = f"{self._vectors.ntotal} vectors and {len(rows)} paths, not {manifest.count}"
            raise store.damaged(self._folder, found)
        rows = store.with_metadata(rows, self._metadata)
        # Of one piece: rows are taken from the thousand pieces of as many shards a hundred times as slowly.
        self._manifest, self._rows = manifest, rows.combine_chunks()
        self.__dict__.pop("_facts", None)
        self._images = Path(self._moved_to or store.images_folder(manifest, self._folder))


def _overlap(one: Window, other: Window) -> bool:
    beside = one.left >= other.left + other.width or other.left >= one.left + one.width
    return not (beside or one.top >= other.top + other.height or other.top >= one.top + one.height)


def _require_count(k: int) -> None:
    if k < 1:
        raise StmineError(f"k: expected at least 1, found {k}")


def _require_words(query: str) -> None:
    if not any(character.isalnum() for character in query):
        raise StmineError(f"nothing to search for in {query[:40]!r}: write at least one word, or name an image")


@contextmanager
def _writing(place: Path | LanceStore, root: Path | None) -> Iterator[Callable[..., IndexBuilder]]:
    """Keep other runs out of an index: what makes a builder of it."""
    if isinstance(place, LanceStore):
        with place.writing(root):
            yield partial(LanceBuilder, place)
        return
    inputs = [] if root is None else [root]
    indexed = any((place / name).is_file() for name in (store.FINISHED, store.UNFINISHED))
    require_readable_name(place)
    with Outputs(place, inputs=inputs, inside=indexed) as outputs:
        yield partial(IndexBuilder, outputs)


def _earlier(place: Path | LanceStore, *, unfinished: bool = True) -> Manifest | None:
    """The manifest of the index that is there, that of an unfinished one first."""
    if isinstance(place, LanceStore):
        finished, under_way = place.manifests()
        return (under_way if unfinished else None) or finished
    names = [store.UNFINISHED] * unfinished + [store.FINISHED]
    return next(filter(None, (store.read_manifest(place / name) for name in names)), None)


def _require_same_images(manifest: Manifest, place: Path | LanceStore, root: Path) -> None:
    folder = place.folder if isinstance(place, LanceStore) else place
    known = store.images_folder(manifest, folder)
    if known.is_dir() and not known.samefile(root):
        raise StmineError(
            f"{place} indexes {known}, which still exists: choose another --out for {root} (updating this index "
            "from it would remove all its images)"
        )
    if not known.is_dir():  # moved, or not available at the moment
        if isinstance(place, LanceStore):
            paths = place.paths()
        else:
            paths = store.read_rows(folder, manifest.shards).column("path").to_pylist()
        if paths and not any((root / path).exists() for path in paths):
            raise StmineError(
                f"{place} indexes {known}, which no longer exists, and none of its {len(paths)} images is in {root}: "
                "choose another --out (updating this index from it would remove all its images)"
            )


def _all_of(source: str, exclude: Path, on_skip: Callable[[Skip], None]) -> Iterator[ImageFile]:
    """The image `source` itself, or the images of the folder `source`; absolute paths."""

    def absolute(skip: Skip) -> None:
        on_skip(skip._replace(path=f"{source}/{skip.path}"))

    if os.path.isdir(source):
        for file in find_images(source, on_skip=absolute, exclude=exclude):
            yield file._replace(path=os.path.join(source, file.path))
    elif single := image_file(source, on_skip):
        yield single


def _names_image(query: Any, paths: bool) -> bool:
    """Whether a query is an image, or the path of one."""
    if not isinstance(query, str):
        return True
    with suppress(StmineError):
        return paths and is_image(query)
    return False


def _is_index(folder: Path) -> bool:
    """Whether there is an index, finished or not. A copy may lack what begins with a dot."""
    if (folder / LOCK).exists():
        return True
    try:
        return any(store.read_manifest(folder / name) for name in (store.FINISHED, store.UNFINISHED))
    except StmineError:  # an index.json of something else, or a damaged one
        return False


def _no_index(folder: Path) -> str:
    unfinished = f"the index {folder} was never finished: run `stmine index` with the same folders again to resume it"
    if (folder / store.UNFINISHED).exists():
        return unfinished
    if folder.is_dir() and next(find_images(folder), None) is not None:
        return f"{folder} holds images and no index: make one with `stmine index {folder} --out {folder}.index`"
    if (folder / LOCK).exists():  # killed before anything was saved
        return unfinished
    return f"no index in {folder} (no {store.FINISHED}): make one with `stmine index IMAGES --out {folder}`"

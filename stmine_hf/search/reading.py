"""Read images and tiles for a model, and embed whole blocks of them, on any machine that has the files."""

from __future__ import annotations

import os
from collections.abc import Container, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..images import (
    ImageError,
    ImageFile,
    PixelOptions,
    Skip,
    Window,
    content_digest,
    image_errors,
    open_image,
    place_and_time,
    scene_size,
)
from ..inference.batching import batched, generated_ahead, read_ahead
from .embedder import Embedder
from .store import IndexedImage, indexed
from .tiles import EmptyTile, Tile, Tiles, tiles_of

if TYPE_CHECKING:
    import numpy as np
    import torch

# One image as it comes from the reading threads: its pixel values, or None if they are not needed or not available.
# None alone is a tile without data.
Loaded = tuple["IndexedImage | Skip", "torch.Tensor | None"] | None
# One image with its embedding (D,), or None where it has none or a published row of the same content has it.
Embedded = tuple["IndexedImage | Skip", "np.ndarray | None"] | None


class Wanted(NamedTuple):
    """An image file to be embedded.

    Attributes:
        file: the file.
        known: of an index of tiles, the windows that the index has.
    """

    file: ImageFile
    known: frozenset[Window | None] = frozenset()


class Reader:
    """Reads the images of an index as its model takes them.

    Args:
        root: the images' folder.
        embedder: preprocesses.
        pixels: see `ImageIndex.build`.
        tiles: see `ImageIndex.build`.
        digests: of content that the index has: no pixels of it are needed.
    """

    def __init__(
        self, root: Path, embedder: Embedder, pixels: PixelOptions, tiles: Tiles | None, digests: Container[bytes]
    ):
        self.root, self.embedder, self.pixels, self.tiles, self.digests = root, embedder, pixels, tiles, digests

    def read(self, wanted: Iterable[Wanted], batch_size: int) -> Generator[Loaded, None, None]:
        """The images, or their tiles, in their order; read ahead in threads, far enough for a whole batch."""
        workers = min(8, max(2, os.cpu_count() or 1))
        ahead = batch_size + workers
        if self.tiles is None:
            return read_ahead(self._load, (one.file for one in wanted), workers=workers, ahead=ahead)
        tiles = generated_ahead(self._tiles(wanted, self.tiles), ahead=ahead)
        return read_ahead(self._load_tile, tiles, workers=workers, ahead=ahead)

    def _load(self, file: ImageFile) -> Loaded:
        """Read one image (in a thread): pixel values, or None where the index has the same content already."""
        path = self.root / file.path
        try:
            seen = place_and_time(path)
            points = [] if seen.point is None else [seen.point]
            if seen.georeference is not None:
                points = seen.georeference.corners(0, 0, *scene_size(path)) or []
            place = [number for point in points for number in point] or None
            row = indexed(file, content_digest(path), None, place, seen.time)
            if row.digest in self.digests:
                return row, None
            image = open_image(path, self.embedder.side, self.pixels)
            with image_errors():
                return row, self.embedder.pixels(image)
        except ImageError as error:
            return Skip(file.path, str(error)), None

    def _tiles(self, wanted: Iterable[Wanted], tiles: Tiles) -> Iterator[Tile | EmptyTile | Skip]:
        for file, known in wanted:
            yield from tiles_of(file, self.root, tiles, self.pixels, set(known), self.digests)

    def _load_tile(self, tile: Tile | EmptyTile | Skip) -> Loaded:
        """Preprocess one tile (in a thread)."""
        if isinstance(tile, Skip):
            return tile, None
        if isinstance(tile, EmptyTile):
            return None
        return tile.row, None if tile.image is None else self.embedder.pixels(tile.image)


class EmbedBlock:
    """What a worker of a cluster does with a block of images: read and embed them, in the batches of one process."""

    def __init__(self, reader: Reader, batch_size: int):
        self._reader, self._batch_size = reader, batch_size

    def start(self, device: str | None) -> None:
        self._reader.embedder.place(device)

    def __call__(self, block: list[Wanted]) -> list[Embedded]:
        embedded: list[Embedded] = []
        with closing(self._reader.read(block, self._batch_size)) as loaded:
            for batch in batched(_placed(loaded, embedded), self._batch_size):
                vectors = self._reader.embedder.features([pixels for _, pixels in batch])
                for (number, _), vector in zip(batch, vectors, strict=True):
                    row = embedded[number]
                    assert row is not None
                    embedded[number] = row[0], vector
        return embedded


def _placed(loaded: Iterable[Loaded], embedded: list[Embedded]) -> Iterator[tuple[int, torch.Tensor]]:
    """The pixel values of a block with their places in `embedded`, into which all its images are entered."""
    for one in loaded:
        embedded.append(None if one is None else (one[0], None))
        if one is not None and one[1] is not None:
            yield len(embedded) - 1, one[1]

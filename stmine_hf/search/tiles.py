"""Tiles: how large scenes are cut for an index."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import StmineError
from ..images import (
    Georeference,
    ImageError,
    ImageFile,
    PixelOptions,
    Skip,
    Window,
    WindowError,
    content_digest,
    open_scene,
    scene_size,
    tile_windows,
)
from .store import IndexedImage, indexed

LEAST_SIDE, MOST_SIDE = 16, 4096  # of a tile: less is no image, more does not fit into the strips that are read
LEAST_DATA = 0.25  # share of a tile's pixels that must be data


@dataclass(frozen=True)
class Tiles:
    """How images are cut.

    Args:
        sides: of the tiles, in pixels; several for objects of several sizes. An image that is no larger than a side
            stays whole at that side.
        overlap: share of a tile that its neighbour shows, too.

    Raises:
        StmineError: a side out of 16 to 4096, or an overlap out of 0 to 0.9.
    """

    sides: tuple[int, ...]
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if not self.sides or not all(LEAST_SIDE <= side <= MOST_SIDE for side in self.sides):
            found = ",".join(map(str, self.sides)) or "none"
            raise StmineError(f"tile: expected sides of {LEAST_SIDE} to {MOST_SIDE} pixels, found {found}.")
        if not 0 <= self.overlap <= 0.9:
            raise StmineError(f"overlap: expected a share from 0 to 0.9, such as 0.25, found {self.overlap:g}.")

    @classmethod
    def parse(cls, tile: str | int, overlap: float = 0.25) -> Tiles:
        """The tiles as given on a command line, such as "256" or "256,512".

        Raises:
            StmineError: they cannot be understood.
        """
        try:
            sides = tuple(sorted({int(side) for side in str(tile).split(",")}))
        except ValueError:
            raise StmineError(f"tile: expected sides in pixels, such as 256 or 256,512, found {tile!r}.") from None
        return cls(sides, overlap)

    @classmethod
    def from_document(cls, document: dict[str, Any] | None) -> Tiles | None:
        """The tiles that `document` gave."""
        return None if not document else cls(tuple(document["sides"]), float(document["overlap"]))

    def document(self) -> dict[str, Any]:
        """The tiles as JSON."""
        return {"sides": list(self.sides), "overlap": self.overlap}

    def windows(self, width: int, height: int) -> list[Window]:
        """All tiles of an image, one side after the other, each only once."""
        windows = [window for side in self.sides for window in tile_windows(width, height, side, self.overlap)]
        return list(dict.fromkeys(windows))

    def count(self, path: Path) -> int:
        """How many tiles an image has; 1 for a file that cannot be read."""
        try:
            return len(self.windows(*scene_size(path)))
        except ImageError:
            return 1


@dataclass(frozen=True)
class Tile:
    """A tile to be embedded.

    Attributes:
        row: of the index.
        image: RGB pixels; None: the index has the same content already.
    """

    row: IndexedImage
    image: Image.Image | None


class EmptyTile:
    """A tile without data."""


def tiles_of(
    file: ImageFile,
    root: Path,
    tiles: Tiles,
    pixels: PixelOptions,
    known: set[Window | None],
    digests: Container[bytes],
) -> Iterator[Tile | EmptyTile | Skip]:
    """The tiles of a scene, read as they are asked for.

    Args:
        known: the windows that an unfinished index has of this file; None means the whole image.
        digests: of the rows that the index has, of which no pixels are needed.
    """
    path = root / file.path
    try:
        digest = content_digest(path)
        with open_scene(path, pixels) as scene:
            whole = Window(0, 0, scene.width, scene.height)
            named = {window: None if window == whole else window for window in tiles.windows(*whole[2:])}
            missing = [window for window, name in named.items() if name not in known]

            def row(window: Window) -> IndexedImage:
                of_window = digest if named[window] is None else _tile_digest(digest, window)
                place = _place(scene.place.georeference, scene.place.point, window)
                return indexed(file, of_window, named[window], place, scene.place.time)

            rows = {window: row(window) for window in missing}
            if all(one.digest in digests for one in rows.values()):  # a copy, or a renamed scene
                yield from (Tile(one, None) for one in rows.values())
                return
            failed: list[WindowError] = []
            for found in scene.windows(missing, least_data=LEAST_DATA):
                if isinstance(found, WindowError):
                    failed.append(found)
                elif found[1] is None:
                    yield EmptyTile()
                else:
                    yield Tile(rows[found[0]], None if rows[found[0]].digest in digests else found[1])
            if failed:
                yield Skip(file.path, f"{len(failed)} of {len(missing)} tiles: {failed[0].reason}")
    except ImageError as error:
        yield Skip(file.path, str(error))


def _place(georeference: Georeference | None, point: tuple[float, float] | None, window: Window) -> list[float] | None:
    if georeference is not None:
        corners = georeference.corners(*window)
        return None if corners is None else [number for corner in corners for number in corner]
    return None if point is None else list(point)


def _tile_digest(digest: bytes, window: Window) -> bytes:
    return blake2b(digest + repr(tuple(window)).encode(), digest_size=16).digest()

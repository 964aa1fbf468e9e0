"""Limits of what users of the page may send, and the folders that may be read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..data.cells import whole_text
from ..errors import StmineError
from ..images import ImageError, PixelOptions, decode_image, find_images, image_errors, image_pixels, open_image
from ..search.present import image_of

if TYPE_CHECKING:
    from ..search import Hit

MAX_FILE_BYTES = 20 * 2**20  # of an image
MAX_PIXELS = 40_000_000  # of an image
MAX_SENTENCE = 300  # characters to search for
MAX_POST = 2000  # characters of a post
MAX_IMAGES = 200  # uploaded at a time, to be searched
MAX_FOLDER = 20_000  # images in a folder to be searched
MAX_VIDEO_BYTES = 50 * 2**20
MAX_VIDEO_PIXELS = 4096 * 2304  # of a frame
MAX_VIDEO_FRAMES = 300  # in which objects are looked for; later ones are skipped
SIDE = 1600  # pixels of the longer side of the kept image: more than any model reads or page shows

ImageInput = Image.Image | str | os.PathLike[str]


def checked_text(text: str | None, limit: int) -> str:
    """Strip blanks around a text, and characters that no tokenizer reads.

    Raises:
        StmineError: it is longer than `limit` characters.
    """
    text = whole_text((text or "").replace("\0", " ")).strip()
    if len(text) > limit:
        raise StmineError(f"The text has {len(text)} characters; {limit} are allowed. Shorten it.")
    return text


def checked_image(image: ImageInput) -> Image.Image:
    """The image, upright RGB, at most `SIDE` pixels a side.

    Args:
        image: a PIL image, or the path of a file.

    Raises:
        StmineError: the file is too large, has too many pixels, or cannot be read.
    """
    try:
        if not isinstance(image, Image.Image):
            image = _opened(Path(image))
        require_pixels(image.width * image.height)
        with image_errors():
            upright = decode_image(_reduced(image))
    except ImageError as error:
        raise StmineError(f"The image cannot be used: {error}.") from None
    if max(upright.size) > SIDE:
        upright = upright.copy()
        upright.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return upright


def checked_hit(hit: Hit, pixels: PixelOptions) -> Image.Image:
    """The image of a hit, or the tile of it, as `checked_image` gives it.

    Args:
        pixels: how its index reads images.

    Raises:
        StmineError: the file is too large, has too many pixels, or cannot be read.
    """
    try:
        if hit.window is None:
            _require_small(hit.path)
        return checked_image(image_of(hit, SIDE // 3, pixels))
    except ImageError as error:
        raise StmineError(f"The image cannot be used: {error}.") from None


def require_pixels(pixels: int) -> None:
    """
    Raises:
        StmineError: an image with more pixels than are allowed.
    """
    if pixels > MAX_PIXELS:
        raise StmineError(
            f"The image has {pixels / 10**6:.1f} megapixels; {MAX_PIXELS / 10**6:.0f} megapixels are allowed. "
            "Shrink it or cut a part out."
        )


def require_frame_size(width: int, height: int) -> None:
    """
    Raises:
        StmineError: a video with more pixels a frame than are allowed.
    """
    if width * height > MAX_VIDEO_PIXELS:
        raise StmineError(
            f"The video has {width} x {height} pixels; {MAX_VIDEO_PIXELS / 10**6:.1f} megapixels a frame are allowed. "
            "Send a smaller one."
        )


def require_file_size(path: Path, limit: int) -> None:
    """
    Raises:
        StmineError: no such file, or larger than `limit` bytes.
    """
    if not path.is_file():
        raise StmineError(f"{path.name}: expected a file, found none.")
    if (size := path.stat().st_size) > limit:
        raise StmineError(
            f"{path.name} has {size / 2**20:.1f} MB; {limit // 2**20} MB are allowed. Send a smaller one."
        )


def inside(root: str | Path, path: str | Path) -> Path:
    """`path`, absolute or from `root`, links followed.

    Raises:
        StmineError: it leads out of `root`, or there is nothing.
    """
    try:
        top, found = Path(root).resolve(), (Path(root) / path).resolve()
    except (OSError, ValueError, RuntimeError):  # a NUL in it, links in a circle
        raise StmineError("This is not the path of a folder; write it as my_images/harbour.") from None
    if found != top and top not in found.parents:
        raise StmineError("This folder is outside the one that may be searched; name one inside it.")
    if not found.exists():
        raise StmineError(f"{path}: expected a folder, found nothing.")
    return found


def require_folder_size(folder: Path) -> None:
    """
    Raises:
        StmineError: more images than a demo should embed while someone waits.
    """
    if _more_than(MAX_FOLDER, find_images(folder)):
        raise StmineError(
            f"{folder.name} has more than {MAX_FOLDER} images. Embed it once with `stmine index {folder.name} --out "
            "my.index`, then open my.index here."
        )


def _require_small(path: Path) -> None:
    require_file_size(path, MAX_FILE_BYTES)
    require_pixels(image_pixels(path))


def _opened(path: Path) -> Image.Image:
    _require_small(path)
    return open_image(path, SIDE // 3)  # which keeps three times as many pixels a side


def _reduced(image: Image.Image) -> Image.Image:
    """The image at 1/2, 1/3, ... of its size as long as that is more than `SIDE`, before copies are made of it.

    Images in other modes than these must be converted first.
    """
    image.draft(None, (SIDE, SIDE))  # does nothing but to JPEG files that are not decoded yet
    factor = max(image.size) // SIDE
    ready = image.mode in ("RGB", "RGBA", "L", "CMYK") and "transparency" not in image.info
    return image.reduce(factor) if factor > 1 and ready else image


def _more_than(limit: int, items: Iterable[object]) -> bool:
    return any(number > limit for number, _ in enumerate(items, start=1))

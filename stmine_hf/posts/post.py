"""A post, and what identifies its content; needs no PyTorch, so that files of posts are read before it is imported."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..images import ImageError, PixelOptions, content_digest, decode_image

if TYPE_CHECKING:
    from PIL import Image

_DEFAULT = PixelOptions()


@dataclass(frozen=True)
class PostImage:
    """An image of a post that is opened when needed and recognized by its content.

    Args:
        open: opens it; raises ImageError.
        name: as given in the post.
        file: its file, or what finds it, if there is one.
        content: its encoded bytes, if they are in memory.
        pixels: how `open` reads it; a part of what it is recognized by.
        open_file: opens it by its name, file and pixels, where `file` finds that; raises ImageError.
    """

    open: Callable[[], Image.Image]
    name: str = ""
    file: Path | Callable[[], Path] | None = None
    content: bytes | None = None
    pixels: PixelOptions = _DEFAULT
    open_file: Callable[[str, Path, PixelOptions], Image.Image] | None = None

    def __call__(self) -> Image.Image:
        return self.open()

    @property
    def path(self) -> Path | None:
        """Its file; None if there is none."""
        return self.file() if callable(self.file) else self.file

    def portable(self) -> PostImage:
        """The same for another process, where it is found under its present path."""
        if not callable(self.file) or self.open_file is None:
            return self
        try:
            file = Path(os.path.abspath(self.file()))
        except ValueError:  # a NUL in the path
            return self
        return replace(self, open=partial(self.open_file, self.name, file, self.pixels), file=None)

    def digest(self) -> str | None:
        """Hexadecimal digest of the encoded bytes, and of `pixels` if not the default; None if it cannot be read."""
        if self.content is not None:
            digest = blake2b(self.content, digest_size=16)
        else:
            try:
                file = self.path
                if file is None or not file.is_file():
                    return None
                found = content_digest(file)
            except (ImageError, ValueError):  # ValueError: a NUL in the path
                return None
            if self.pixels == PixelOptions():
                return found.hex()
            digest = blake2b(found, digest_size=16)
        if self.pixels != PixelOptions():
            digest.update(json.dumps(self.pixels.document()).encode())
        return digest.hexdigest()


def row_image(image: Any, pixels: PixelOptions = _DEFAULT) -> PostImage:
    """The image of a data set's row.

    Args:
        image: as `datasets` stores it, {"bytes": ..., "path": ...}; or a PIL image.
        pixels: how to read images of more than 8 bits or more than three bands.
    """
    stored = image if isinstance(image, Mapping) else {}
    path = stored.get("path")
    opened = partial(decode_image, image, pixels)
    return PostImage(opened, path or "", Path(path) if path else None, stored.get("bytes"), pixels)


class Post(NamedTuple):
    """A post to be classified.

    Attributes:
        id: identifies its prediction.
        text: "" for a post without text.
        images: functions that open its images, called when needed; a `PostImage` is recognized when it has
            changed, any other function is not.
        features: a function that returns its `global_features` (C, rows, columns) and `region_features` (R, C),
            instead of images.
    """

    id: Any
    text: str
    images: Sequence[Callable[[], Image.Image]] = ()
    features: Callable[[], Mapping[str, Any]] | None = None


def image_digests(post: Post) -> list[str | None]:
    """The digest of each image's content; None where it cannot be read or is not known."""
    return [image.digest() if isinstance(image, PostImage) else None for image in post.images]


def content_key(post: Post) -> str:
    """Hexadecimal digest of text and images, on which the prediction depends; not of the id.

    An image that cannot be read counts by its name.
    """
    digests = zip(post.images, image_digests(post), strict=True)
    images = [digest or f"name {getattr(image, 'name', '')}" for image, digest in digests]
    return blake2b(json.dumps([post.text, images]).encode(), digest_size=16).hexdigest()

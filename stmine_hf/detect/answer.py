"""What the detector gives back for an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from PIL import Image

from ..files import document_bytes
from ..images import PixelOptions
from ..images.items import open_item
from ..inference.answers import BadItemError, data_frame
from ..outputs import write_output
from ..printing import shown_path
from .detection import Detection
from .drawing import draw_detections

if TYPE_CHECKING:
    import pandas

COLUMNS = ("name", "score", "left", "top", "right", "bottom", "source", "label", "error")
_IMAGES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, repr=False)
class ImageAnswer(Sequence[Detection]):
    """The objects found in an image: a sequence of [`Detection`], best first.

    Attributes:
        source: path of the image as it was given; None of one that has none.
        width: of the image in pixels; 0 where it cannot be read.
        height: of the image in pixels; 0 where it cannot be read.
        detections: what was found.
        error: why the image cannot be read; None if it can.
    """

    source: str | None
    width: int = 0
    height: int = 0
    detections: tuple[Detection, ...] = ()
    error: str | None = None
    _item: Any = field(default=None, repr=False, compare=False)
    _pixels: PixelOptions = field(default_factory=PixelOptions, repr=False, compare=False)

    def __repr__(self) -> str:
        if self.error is not None:
            return f"ImageAnswer({self.source!r}, error={self.error!r})"
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        source = "an image" if self.source is None else repr(shown_path(self.source))
        return f"ImageAnswer({source}, {self.width} x {self.height} px, {counts or 'nothing found'})"

    def __str__(self) -> str:
        """A line for each object."""
        lines = [repr(self).removeprefix("ImageAnswer(").removesuffix(")")]
        lines += [
            f"  {one.score:.2f}  {one.name:<16} " + " ".join(f"{side:>6.0f}" for side in one.box)
            for one in self.detections
        ]
        return "\n".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As notebooks show it."""
        printer.text(str(self))

    @overload
    def __getitem__(self, index: int) -> Detection: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Detection, ...]: ...

    def __getitem__(self, index: int | slice) -> Detection | tuple[Detection, ...]:
        return self.detections[index]

    def __len__(self) -> int:
        return len(self.detections)

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.detections)

    @property
    def counts(self) -> dict[str, int]:
        """Objects of each class, the most frequent first."""
        return dict(Counter(found.name for found in self.detections).most_common())

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON has it; `box` is left, top, right, bottom."""
        found = [
            {"label": one.label, "name": one.name, "score": round(one.score, 5), "box": [round(v, 2) for v in one.box]}
            for one in self.detections
        ]
        document = {"source": self.source, "width": self.width, "height": self.height, "detections": found}
        return document if self.error is None else {**document, "error": self.error}

    def rows(self) -> list[dict[str, Any]]:
        """One row for each object; of an image that cannot be read, one with `error`."""
        if self.error is not None:
            return [{"source": self.source, "error": self.error}]
        sides = ("left", "top", "right", "bottom")
        return [
            {"source": self.source, "label": one.label, "name": one.name, "score": one.score}
            | dict(zip(sides, one.box, strict=True))
            for one in self.detections
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each object."""
        return data_frame(self.rows(), COLUMNS)

    def plot(self) -> Image.Image:
        """A copy of the image with its boxes, names and scores.

        Raises:
            BadItemError: the image cannot be read.
        """
        if self.error is not None:
            raise BadItemError(f"{self.source or 'the image'}: {self.error}")
        return draw_detections(open_item(self._item, self._pixels), self.detections)

    def show(self) -> None:
        """Open the drawn image in the viewer of this system."""
        self.plot().show()

    def save(self, path: str | Path) -> Path:
        """Write the drawn image (.jpg, .png, .webp), or the answer itself (.json).

        Returns:
            The file.

        Raises:
            OutputError: a file is there that this package did not write, or it is the image itself.
            BadItemError: another suffix, or an image that cannot be read.
        """
        path = Path(path)
        inputs = [] if self.source is None else [self.source]
        if path.suffix.lower() == ".json":
            return write_output(path, lambda file: file.write_bytes(document_bytes(self.to_dict())), inputs=inputs)
        if path.suffix.lower() not in _IMAGES:
            raise BadItemError(f"{path}: expected a name that ends with {', '.join((*_IMAGES, '.json'))}")
        drawn = self.plot()
        return write_output(path, lambda file: drawn.save(file, quality=92), inputs=inputs)

"""What an index gives back for a query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from PIL import Image

from ..files import document_bytes
from ..images import PixelOptions
from ..inference.answers import BadItemError, data_frame
from ..outputs import write_output
from ..printing import shown_path
from .hits import Hit
from .present import contact_sheet, html_page, sheet_image, title_of

if TYPE_CHECKING:
    import pandas

COLUMNS = ("query", "rank", "score", "image", "no_good_match")


@dataclass(frozen=True, repr=False)
class SearchAnswer(Sequence[Hit]):
    """The images found for a query: a sequence of [`Hit`], best first.

    Attributes:
        query: the sentence, or the path of the image; "" for an image without one.
        hits: what was found.
        read_as: what was searched for in place of the sentence, such as the place words of a Chinese one; else None.
        warning: why even the best hit means little; None if there is no such reason.
        error: why nothing could be searched for; None if something was.
        pixels: how the index reads images, for `plot` and `save`.
    """

    query: str
    hits: tuple[Hit, ...] = ()
    read_as: str | None = None
    warning: str | None = None
    error: str | None = None
    pixels: PixelOptions = field(default=PixelOptions(), repr=False)

    def __repr__(self) -> str:
        found = f"{len(self.hits)} hits" if self.error is None else f"error={self.error!r}"
        best = f", best {self.hits[0].score:.3f} {shown_path(self.hits[0].path)!r}" if self.hits else ""
        return f"SearchAnswer({self.query!r}, {found}{best}{', with a warning' if self.warning else ''})"

    def __str__(self) -> str:
        """A line for each hit, and what there is to say about them."""
        lines = [self.query or "(an image)"]
        lines += [f"searched for: {self.read_as}"] if self.read_as else []
        lines += [f"{hit.rank:>4}  {hit.score:.3f}  {shown_path(hit.path)}" for hit in self.hits]
        lines += [f"Warning: {self.warning}"] if self.warning else []
        lines += [f"error: {self.error}"] if self.error is not None else []
        return "\n".join(lines)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As notebooks show it."""
        printer.text(str(self))

    @overload
    def __getitem__(self, index: int) -> Hit: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...

    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON has it."""
        said = {"read_as": self.read_as, "warning": self.warning, "error": self.error}
        hits = [{"rank": hit.rank, "score": float(hit.score), "image": str(hit.path)} for hit in self.hits]
        return {"query": self.query, **{name: one for name, one in said.items() if one is not None}, "hits": hits}

    def rows(self) -> list[dict[str, Any]]:
        """One row for each hit; of a query that was refused, one with `error`."""
        if self.error is not None:
            return [{"query": self.query, "error": self.error}]
        more = {} if self.read_as is None else {"read_as": self.read_as}
        return [
            {"query": self.query, "rank": hit.rank, "score": float(hit.score), "image": str(hit.path)}
            | {"no_good_match": self.warning is not None, **more}
            | ({} if hit.window is None else {"window": list(hit.window)})
            for hit in self.hits
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """A table with a row for each hit."""
        return data_frame(self.rows(), COLUMNS)

    def plot(self) -> Image.Image:
        """The hits as a contact sheet."""
        return sheet_image(self.hits, title=title_of(self.query, self.warning), pixels=self.pixels)

    def show(self) -> None:
        """Open the contact sheet in the viewer of this system."""
        self.plot().show()

    def save(self, path: str | Path) -> Path:
        """Write the contact sheet (.png), a page (.html), or the answer itself (.json).

        Returns:
            The file.

        Raises:
            OutputError: a file is there that this package did not write.
            BadItemError: another suffix.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".json":
            return write_output(path, lambda file: file.write_bytes(document_bytes(self.to_dict())))
        if suffix not in (".png", ".html"):
            raise BadItemError(f"{path}: expected a name that ends with .png, .html or .json")
        write, title = contact_sheet if suffix == ".png" else html_page, title_of(self.query, self.warning)
        write(self.hits, path, title=title, pixels=self.pixels)
        return path

"""How samples of more than 8 bits become 8-bit RGB: the stretch, and the choice of bands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import StmineError

PERCENTILES = (2.0, 98.0)


@dataclass(frozen=True)
class PixelOptions:
    """What to do with images of more than 8 bits a sample, or of more bands than three.

    Images of 8 bits are read as they are: `stretch` never changes them.

    Args:
        stretch: the values that become black and white, linearly in between: "0,3000" are values of the file, "2%,98%"
            percentiles of the valid values of an image, all chosen bands together. None: percentiles 2 and 98,
            except for an image that fills the range of its type, which is scaled by that range (65535 becomes 255).
            An image fills it if percentile 98 lies in the upper half, or if every value is one of 8 bits times 257.
            The range of floats is 0 to 1.
        bands: numbers of the bands, from 1, that become red, green and blue ("3,2,1"), or of one band to be shown in
            grey. None: the red, green and blue bands if the file names them, else the first three; of one or two
            bands the first in grey.

    Raises:
        StmineError: the stretch is not two increasing numbers, or there are not one or three bands.
    """

    stretch: str | None = None
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _parse_stretch(self.stretch)
        if self.bands is not None and (len(self.bands) not in (1, 3) or min(self.bands) < 1):
            raise StmineError(
                f"bands: expected the numbers of three bands, or of one, counted from 1 (such as 3,2,1), found "
                f"{','.join(map(str, self.bands))}."
            )

    @classmethod
    def parse(cls, stretch: str | None = None, bands: str | None = None) -> PixelOptions:
        """The options as given on a command line; None means the default.

        Raises:
            StmineError: they cannot be understood; see the class.
        """
        numbers: tuple[int, ...] | None = None
        if bands is not None:
            try:
                numbers = tuple(int(number) for number in bands.split(","))
            except ValueError:
                raise StmineError(
                    f"bands: expected the numbers of three bands, or of one, such as 3,2,1, found {bands!r}."
                ) from None
        return cls(None if stretch is None else "".join(stretch.split()), numbers)

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | None) -> PixelOptions:
        """The options that `document` gave (None: the default)."""
        if not document:
            return cls()
        bands = document.get("bands")
        return cls(document.get("stretch"), None if bands is None else tuple(bands))

    def document(self) -> dict[str, Any]:
        """The options as JSON, to be stored with the results made with them."""
        return {"stretch": self.stretch, "bands": None if self.bands is None else list(self.bands)}

    @property
    def limits(self) -> tuple[float, float] | None:
        """Low and high value of the file; None: percentiles decide."""
        low, high, percent = _parse_stretch(self.stretch)
        return None if percent else (low, high)

    @property
    def percentiles(self) -> tuple[float, float]:
        return _parse_stretch(self.stretch)[:2]


def _parse_stretch(stretch: str | None) -> tuple[float, float, bool]:
    """Low and high end, and whether they are percentiles.

    Raises:
        StmineError: not two increasing numbers, both or neither of them percentiles.
    """
    if stretch is None:
        return *PERCENTILES, True
    parts = stretch.split(",")
    percent = [part.endswith("%") for part in parts]
    try:
        low, high = (float(part.removesuffix("%")) for part in parts)
    except ValueError:
        low = high = math.nan
    in_range = 0 <= low < high <= 100 if all(percent) else not any(percent) and low < high
    if not (in_range and math.isfinite(low) and math.isfinite(high)):
        raise StmineError(
            "stretch: expected two increasing values such as 0,3000, or two percentiles such as 2%,98%, found "
            f"{stretch!r}."
        )
    return low, high, all(percent)

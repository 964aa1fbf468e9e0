"""Which images of an index a search considers: by place, by time, by the columns of a user's table."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import StmineError
from ..images import parse_time
from .boxes import boxes_of, distances_km, touches
from .hits import points_of

_COMPARISONS = {  # of numbers, and of texts
    "<=": (np.less_equal, pc.less_equal), ">=": (np.greater_equal, pc.greater_equal), "<": (np.less, pc.less),
    ">": (np.greater, pc.greater), "=": (np.equal, pc.equal), "!=": (np.not_equal, pc.not_equal),
}  # fmt: skip
_CONDITION = re.compile(r"\s*(.+?)\s*(<=|>=|!=|<|>|=)\s*(.*?)\s*")


class Cells:
    """A column of texts, prepared for comparisons: of the distinct texts only.

    Args:
        texts: (N,) None or null where a cell is empty.
    """

    def __init__(self, texts: Sequence[str | None] | pa.ChunkedArray):
        array = texts if isinstance(texts, pa.ChunkedArray) else pa.chunked_array([pa.array(texts, pa.string())])
        encoded = array.combine_chunks().dictionary_encode()
        self.distinct = encoded.dictionary
        self.places = encoded.indices.fill_null(len(self.distinct)).to_numpy(zero_copy_only=False)  # N of them
        found = (number_of_cell(text) for text in self.distinct.to_pylist())
        self.numbers = np.array([np.nan if number is None else number for number in found])  # of the distinct texts


@dataclass(frozen=True)
class Condition:
    """A comparison with a column: as numbers if both sides are numbers, else as text."""

    column: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """
        Raises:
            StmineError: not COLUMN=VALUE, or another of the signs <= >= != < >.
        """
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise StmineError(f"where: expected COLUMN=VALUE (or <, <=, >, >=, !=), found {text!r}.")
        return cls(*found.groups())

    def mask(self, cells: Cells | Sequence[str | None]) -> np.ndarray:
        """(N,) which cells meet it; an empty cell meets none."""
        cells = cells if isinstance(cells, Cells) else Cells(cells)
        of_numbers, of_texts = _COMPARISONS[self.sign]
        meets = of_texts(cells.distinct, self.value).to_numpy(zero_copy_only=False).astype(bool)
        if (wanted := number_of_cell(self.value)) is not None:
            meets = np.where(np.isnan(cells.numbers), meets, of_numbers(cells.numbers, wanted))
        return np.append(meets, False)[cells.places]


@dataclass(frozen=True)
class Where:
    """The images that a search considers: those that meet all given conditions.

    An image whose place or time is not known meets no condition on it.

    Args:
        bbox: west, south, east and north in degrees; images that touch it. West may be greater than east: the box then
            crosses the antimeridian.
        near: longitude, latitude and kilometres; images at most that far away.
        start: the first moment.
        end: the last moment.
        conditions: on columns of the table that the index was made with.

    Raises:
        StmineError: a place that is not on Earth, or an end before the start.
    """

    bbox: tuple[float, float, float, float] | None = None
    near: tuple[float, float, float] | None = None
    start: datetime | None = None
    end: datetime | None = None
    conditions: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if self.bbox is not None:
            west, south, east, north = self.bbox
            if not (abs(west) <= 180 and abs(east) <= 180 and -90 <= south <= north <= 90):
                raise StmineError(
                    "bbox: expected WEST,SOUTH,EAST,NORTH in degrees (longitudes within 180, latitudes within 90, "
                    f"south not above north), found {','.join(f'{number:g}' for number in self.bbox)}."
                )
        if self.near is not None:
            lon, lat, km = self.near
            if not (abs(lon) <= 180 and abs(lat) <= 90 and 0 <= km < math.inf):
                raise StmineError(
                    "near: expected LONGITUDE,LATITUDE,KILOMETRES (within 180 and 90 degrees, not negative), found "
                    f"{','.join(f'{number:g}' for number in self.near)}."
                )
        if self.start is not None and self.end is not None and self.end < self.start:
            raise StmineError(f"expected a time to end after its start, found {self.start} to {self.end}.")

    @classmethod
    def parse(
        cls,
        *,
        bbox: str | None = None,
        near: str | None = None,
        start: str | None = None,
        end: str | None = None,
        where: Sequence[str] = (),
    ) -> Where | None:
        """The filter as given on a command line; None if nothing is given.

        Args:
            start: a date or time in ISO 8601; without a zone in UTC.
            end: the same; a date means its last moment.
            where: conditions, such as "sensor=S2" and "cloud<=10".

        Raises:
            StmineError: one of them cannot be understood.
        """
        if bbox is None and near is None and start is None and end is None and not where:
            return None
        box, point = _numbers(bbox, 4, "bbox"), _numbers(near, 3, "near")
        return cls(
            None if box is None else (box[0], box[1], box[2], box[3]),
            None if point is None else (point[0], point[1], point[2]),
            _time(start, "from"),
            _time(end, "to", last=True),
            tuple(map(Condition.parse, where)),
        )

    @property
    def about_place(self) -> bool:
        return self.bbox is not None or self.near is not None

    @property
    def about_time(self) -> bool:
        return self.start is not None or self.end is not None


class PlacesAndTimes:
    """Places, times and columns of the N rows of an index.

    Args:
        place: lists of longitudes and latitudes, of a point or of four corners.
        time: in UTC.
        columns: by name.
    """

    def __init__(self, place: pa.ChunkedArray, time: pa.ChunkedArray, columns: Mapping[str, Cells]):
        self.place, self.time, self.columns = place, time, columns

    @cached_property
    def boxes(self) -> np.ndarray:
        """(N, 4) the box of each row, see `boxes_of`; NaN where no place is known."""
        boxes = np.full((len(self.place), 4), np.nan)
        lengths = pc.fill_null(pc.list_value_length(self.place), 0).to_numpy()
        known = np.flatnonzero(lengths)
        if len(known):
            numbers = pc.list_flatten(self.place).to_numpy()
            starts = np.cumsum([0, *lengths[known][:-1]]) // 2
            west, south = (np.minimum.reduceat(numbers[axis::2], starts) for axis in (0, 1))
            east, north = (np.maximum.reduceat(numbers[axis::2], starts) for axis in (0, 1))
            boxes[known] = np.stack([west, south, east, north], axis=1)
        # Around the antimeridian and the poles there is more to it.
        wide = np.flatnonzero(boxes[:, 2] - boxes[:, 0] >= 180)
        boxes[wide] = boxes_of([points_of(self.place[row].as_py()) for row in wide.tolist()])
        return boxes

    @cached_property
    def moments(self) -> np.ndarray:
        """(N,) datetime64 in milliseconds; NaT where no time is known."""
        return self.time.to_numpy().astype("datetime64[ms]")

    def mask(self, where: Where) -> np.ndarray:
        """(N,) which rows meet a filter.

        Raises:
            StmineError: no such column, or a filter by place or time where no image has one.
        """
        mask = np.ones(len(self.place), dtype=bool)
        places = not (where.about_place and np.isnan(self.boxes).all())
        times = not (where.about_time and np.isnat(self.moments).all())
        require_answerable(where, places=places, times=times, columns=list(self.columns))
        with np.errstate(invalid="ignore"):
            if where.bbox is not None:
                mask &= touches(self.boxes, where.bbox)
            if where.near is not None:
                mask &= distances_km(self.boxes, where.near[0], where.near[1]) <= where.near[2]
        if where.start is not None:
            mask &= self.moments >= moment_of(where.start)
        if where.end is not None:
            mask &= self.moments <= moment_of(where.end)
        for condition in where.conditions:
            mask &= condition.mask(self.columns[condition.column])
        return mask


def require_answerable(where: Where, *, places: bool, times: bool, columns: Sequence[str]) -> None:
    """Check that an index knows what a filter asks for.

    Args:
        where: the filter.
        places: the place of some image is known.
        times: the time of some image is known.
        columns: that the index has.

    Raises:
        StmineError: no such column, or a filter by place or time where no image has one.
    """
    if where.about_place and not places:
        raise StmineError(_not_known("place", "GeoTIFF files, GPS positions in EXIF"))
    if where.about_time and not times:
        raise StmineError(_not_known("time", "times in EXIF or TIFF tags"))
    for condition in where.conditions:
        if condition.column not in columns:
            known = ", ".join(columns) or "none: build the index with --metadata TABLE"
            raise StmineError(f"where: no column {condition.column!r} in the index; there are {known}.")


def _not_known(what: str, from_where: str) -> str:
    return (
        f"the index has no {what} of any image, so a search cannot be limited by it: it comes from {from_where} or a "
        "table given to `stmine index --metadata`; an index of an earlier version has to be made again."
    )


def _numbers(text: str | None, count: int, name: str) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise StmineError(f"{name}: expected {count} numbers with commas between them, found {text!r}.")
    return numbers


def _time(text: str | None, name: str, *, last: bool = False) -> datetime | None:
    if text is None:
        return None
    time = parse_time(text)
    if time is None:
        raise StmineError(
            f"{name}: expected a date or time such as 2024-05-31 or 2024-05-31T12:00:00Z, found {text!r}."
        )
    whole_day = last and re.fullmatch(r"\d{4}-?\d\d-?\d\d", text.strip())
    return time + timedelta(days=1, milliseconds=-1) if whole_day else time


def moment_of(time: datetime) -> np.datetime64:
    """A time as `PlacesAndTimes.moments` has it."""
    return np.datetime64(round(time.timestamp() * 1000), "ms")


def number_of_cell(text: str) -> float | None:
    """The number that a cell holds; None: it is compared as text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

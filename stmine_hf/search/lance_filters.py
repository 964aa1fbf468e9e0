"""Filters of a search as SQL conditions on the columns of a LanceDB table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from .boxes import EARTH_KM
from .filters import Condition, PlacesAndTimes, Where, moment_of, number_of_cell

BOX = ("west", "south", "east", "north")  # in degrees; east above 180 where a box crosses the antimeridian
MOMENT = "moment"  # milliseconds since 1970 in UTC
_TURNS = (-360.0, 0.0, 360.0)


def text_column(number: int) -> str:
    """The name in the database of a column of the user's table, by its place there: its own may be any text."""
    return f"c{number}_text"


def number_column(number: int) -> str:
    """The column with the numbers among the cells of a column, which compare as numbers."""
    return f"c{number}_number"


def filter_columns(facts: PlacesAndTimes) -> dict[str, pa.Array]:
    """The columns that filters compare, of N rows."""
    boxes = facts.boxes + 0.0  # the database tells -0.0 from 0.0
    columns = {name: pa.array(boxes[:, n], from_pandas=True) for n, name in enumerate(BOX)}
    moments = facts.moments
    columns[MOMENT] = pa.array(moments.astype(np.int64), pa.int64(), mask=np.isnat(moments))
    for place, cells in enumerate(facts.columns.values()):
        columns[text_column(place)] = cells.distinct.take(
            pa.array(cells.places, mask=cells.places == len(cells.distinct))
        )
        numbers = np.append(cells.numbers, np.nan)[cells.places] + 0.0
        columns[number_column(place)] = pa.array(numbers, from_pandas=True)
    return columns


def sql_of(where: Where, columns: Sequence[str]) -> str:
    """The condition that a row meets which meets a filter.

    Args:
        where: the filter; see `filters.require_answerable`.
        columns: of the user's table, in the order in which the database has them.
    """
    parts = []
    if where.bbox is not None:
        parts.append(_touches(*where.bbox))
    if where.near is not None:
        parts.append(_is_near(*where.near))
    if where.start is not None:
        parts.append(f"{MOMENT} >= {int(moment_of(where.start).astype(np.int64))}")
    if where.end is not None:
        parts.append(f"{MOMENT} <= {int(moment_of(where.end).astype(np.int64))}")
    numbers = {name: number for number, name in enumerate(columns)}
    parts += [_compares(condition, numbers[condition.column]) for condition in where.conditions]
    return _all(parts)


def text_literal(text: str) -> str:
    """A text as it stands in SQL."""
    shown = text.encode(errors="replace").decode()  # half a surrogate pair, which no row holds
    return "'" + shown.replace("'", "''") + "'"


def _touches(west: float, south: float, east: float, north: float) -> str:
    east += 360.0 if east < west else 0.0
    beside = [f"west <= {_literal(east + turn)} AND east >= {_literal(west + turn)}" for turn in _TURNS]
    return _all([f"north >= {_literal(south)}", f"south <= {_literal(north)}", _any(beside)])


def _is_near(lon: float, lat: float, km: float) -> str:
    """At most `km` from a point to a box: the haversine formula, without CASE, which the database does not know here.

    The nearest latitude is the point's own, or a side of the box, and so is the nearest longitude; it grows with both.
    """
    if km / (2 * EARTH_KM) >= math.pi / 2:
        return "west IS NOT NULL"
    most = math.sin(km / (2 * EARTH_KM)) ** 2
    reach = math.degrees(km / EARTH_KM) + 1e-6
    inside = _any(f"west <= {_literal(lon + turn)} AND east >= {_literal(lon + turn)}" for turn in _TURNS)
    here = _literal(lat)

    def within(nearest: str) -> str:
        up = f"power(sin(radians({nearest} - {here}) / 2.0), 2.0)"
        wide = f"{_literal(math.cos(math.radians(lat)))} * cos(radians({nearest}))"

        def off(degrees: str) -> str:
            return f"{up} + {wide} * power(sin(radians({degrees}) / 2.0), 2.0) <= {_literal(most)}"

        beside = [off(f"west - {_literal(lon)}"), off(f"{_literal(lon)} - east")]
        return _any([_all([inside, f"{up} <= {_literal(most)}"]), *beside])

    beside_or_inside = [
        _all([f"south <= {here}", f"north >= {here}", within(here)]),
        _all([f"south > {here}", within("south")]),
        _all([f"north < {here}", within("north")]),
    ]
    # The first two can be looked up; the rest is computed for what they leave.
    return _all([f"south <= {_literal(lat + reach)}", f"north >= {_literal(lat - reach)}", _any(beside_or_inside)])


def _compares(condition: Condition, place: int) -> str:
    text, number = text_column(place), number_column(place)
    as_text = f"{text} {condition.sign} {text_literal(condition.value)}"
    wanted = number_of_cell(condition.value)
    if wanted is None:
        return as_text
    as_number = f"{number} IS NOT NULL AND {number} {condition.sign} {_literal(wanted)}"
    return _any([as_number, f"{number} IS NULL AND {as_text}"])


def _literal(number: float) -> str:
    shown = repr(float(number) + 0.0)
    return f"({shown})" if shown.startswith("-") else shown


def _all(parts: Iterable[str]) -> str:
    return " AND ".join(f"({part})" for part in parts)


def _any(parts: Iterable[str]) -> str:
    return " OR ".join(f"({part})" for part in parts)

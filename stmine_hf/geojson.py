"""Places as GeoJSON (RFC 7946), which every map program opens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Point = tuple[float, float]  # longitude, latitude
_DECIMALS = 7  # of a degree: 1 cm


def feature(place: Sequence[Point], properties: Mapping[str, Any]) -> dict[str, Any]:
    """A feature: a point, or a polygon with these corners; without geometry for no place.

    A polygon that crosses the antimeridian is cut there, as RFC 7946 asks (section 3.1.9); one with a pole inside
    reaches up to the pole at all longitudes.
    """
    return {"type": "Feature", "geometry": _geometry(place), "properties": dict(properties)}


def collection(features: Iterable[dict[str, Any]]) -> str:
    """The text of a GeoJSON file."""
    return json.dumps({"type": "FeatureCollection", "features": list(features)}, ensure_ascii=False, indent=1)


def unwrapped(place: Sequence[Point]) -> list[Point]:
    """Points without the jump at the antimeridian: longitudes east of it are above 180."""
    lons = [lon for lon, _ in place]
    jumps = max(lons) - min(lons) > 180
    return [(lon + 360 if jumps and lon < 0 else lon, lat) for lon, lat in place]


def pole_inside(place: Sequence[Point]) -> float:
    """The latitude of the pole inside a polygon, which its outline goes around; 0 if there is none."""
    steps = [(b[0] - a[0] + 180) % 360 - 180 for a, b in zip(place, (*place[1:], *place[:1]), strict=True)]
    if len(place) < 3 or abs(sum(steps)) < 180:
        return 0.0
    return 90.0 if sum(lat for _, lat in place) > 0 else -90.0


def _geometry(place: Sequence[Point]) -> dict[str, Any] | None:
    if not place:
        return None
    if len(place) == 1:
        return {"type": "Point", "coordinates": _rounded(place[0])}
    if pole := pole_inside(place):
        return {"type": "Polygon", "coordinates": [_ring(_to_the_pole(place, pole))]}
    points = unwrapped(place)
    if all(lon <= 180 for lon, _ in points):
        return {"type": "Polygon", "coordinates": [_ring(place)]}
    west = _clipped(points, keep_west=True)
    east = [(lon - 360, lat) for lon, lat in _clipped(points, keep_west=False)]
    rings = [[_ring(part)] for part in (west, east) if len(part) > 2]
    return {"type": "MultiPolygon", "coordinates": rings}


def _to_the_pole(place: Sequence[Point], pole: float) -> list[Point]:
    """The outline from longitude -180 to 180, and back over the pole."""
    ordered = sorted(place)
    (first, south), (last, north) = ordered[0], ordered[-1]
    gap = first + 360 - last
    edge = north + (south - north) * (180 - last) / gap if gap else north  # the latitude at the antimeridian
    return [(-180.0, edge), *ordered, (180.0, edge), (180.0, pole), (-180.0, pole)]


def _clipped(points: Sequence[Point], *, keep_west: bool) -> list[Point]:
    """The part of a polygon on one side of longitude 180 (Sutherland and Hodgman)."""
    kept: list[Point] = []
    for before, point in zip((points[-1], *points[:-1]), points, strict=True):
        if (before[0] <= 180) != (point[0] <= 180):
            share = (180 - before[0]) / (point[0] - before[0])
            kept.append((180.0, before[1] + share * (point[1] - before[1])))
        if (point[0] <= 180) == keep_west:
            kept.append(point)
    return kept


def _ring(points: Sequence[Point]) -> list[list[float]]:
    """A closed ring from the first point, counterclockwise."""
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, (*points[1:], points[0]), strict=True))
    ordered = points if area >= 0 else (points[0], *points[:0:-1])
    return [_rounded(point) for point in (*ordered, ordered[0])]


def _rounded(point: Point) -> list[float]:
    return [round(number, _DECIMALS) for number in point]

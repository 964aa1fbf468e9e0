"""Boxes of longitudes and latitudes around places, across the antimeridian and around the poles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..geojson import Point, pole_inside, unwrapped

EARTH_KM = 6371.0088  # mean radius


def boxes_of(places: Sequence[Sequence[Point]]) -> np.ndarray:
    """(N, 4) west, south, east and north of N places, in degrees; NaN for a place without points.

    Each is the smaller box around the points; around a polygon that has a pole inside, all longitudes up to the pole.
    East may be above 180, by less than 360: the box then crosses the antimeridian.
    """
    return np.array([_box_of(place) for place in places], dtype=np.float64).reshape(len(places), 4)


def _box_of(place: Sequence[Point]) -> tuple[float, float, float, float]:
    if not place:
        return math.nan, math.nan, math.nan, math.nan
    lats = [lat for _, lat in place]
    if pole := pole_inside(place):
        return -180.0, min(*lats, pole), 180.0, max(*lats, pole)
    lons = [lon for lon, _ in unwrapped(place)]
    return min(lons), min(lats), max(lons), max(lats)


def centre(place: Sequence[Point]) -> Point:
    """Longitude and latitude of the middle of a place; its pole, if that is inside."""
    if pole := pole_inside(place):
        return 0.0, pole
    points = unwrapped(place)
    lon, lat = (math.fsum(axis) / len(points) for axis in zip(*points, strict=True))
    return (lon + 180) % 360 - 180, lat


def touches(boxes: np.ndarray, bbox: tuple[float, float, float, float]) -> np.ndarray:
    """(N,) which boxes share a point with one; its west may be above its east: across the antimeridian."""
    west, south, east, north = boxes.T
    width = bbox[2] - bbox[0] + (360 if bbox[2] < bbox[0] else 0)
    beside = ((west - bbox[0]) % 360 <= width) | ((bbox[0] - west) % 360 <= east - west)
    return beside & (north >= bbox[1]) & (south <= bbox[3])


def distances_km(boxes: np.ndarray, lon: float, lat: float) -> np.ndarray:
    """(N,) kilometres from a point to the nearest latitude and longitude of each box, on the sphere; 0 inside."""
    west, south, east, north = boxes.T
    off_west, off_east = (west - lon) % 360, (lon - east) % 360  # eastwards from the point, westwards from it
    inside = (lon - west) % 360 <= east - west
    off = np.where(inside, 0.0, np.minimum(off_west, off_east))
    nearest = np.clip(lat, south, north)
    return _great_circle_km(lat, nearest, off)


def _great_circle_km(lat: float, other: np.ndarray, off: np.ndarray) -> np.ndarray:
    """Haversine formula, degrees."""
    a = np.sin(np.radians(other - lat) / 2) ** 2
    a = a + np.cos(np.radians(lat)) * np.cos(np.radians(other)) * np.sin(np.radians(off) / 2) ** 2
    return 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(a, 0, 1)))

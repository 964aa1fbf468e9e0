"""Where on Earth the pixels of an image lie, and when it was taken, as far as its file states it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from PIL import Image

from .metadata import exif_of

Point = tuple[float, float]  # longitude in [-180, 180] and latitude in [-90, 90], in degrees of WGS 84
_EXIF_TIME, _EXIF_OFFSET = 0x9003, 0x9011  # DateTimeOriginal and its zone
_EXIF, _GPS = 0x8769, 0x8825


@dataclass(frozen=True)
class Georeference:
    """The map of an image: its coordinate reference system, and where pixels lie in it.

    Attributes:
        crs: the system, as text that `rasterio.CRS.from_user_input` understands ("EPSG:32633", or WKT).
        transform: (a, b, c, d, e, f) of `x = a * column + b * row + c`, `y = d * column + e * row + f`.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]

    def map_points(self, pixels: Sequence[Point]) -> list[Point]:
        """Coordinates in the system of (column, row) points; pixel (0, 0) reaches from (0, 0) to (1, 1)."""
        a, b, c, d, e, f = self.transform
        return [(a * column + b * row + c, d * column + e * row + f) for column, row in pixels]

    def lon_lat(self, pixels: Sequence[Point]) -> list[Point] | None:
        """Longitudes and latitudes of (column, row) points; None if one of them is not on Earth."""
        from rasterio.warp import transform

        points = self.map_points(pixels)
        try:
            lons, lats = transform(self.crs, "EPSG:4326", *map(list, zip(*points, strict=True)))
        except Exception:  # of PROJ's own types: a system of a site, or of another planet
            return None
        if not all(
            math.isfinite(lon) and math.isfinite(lat) and abs(lat) <= 90 for lon, lat in zip(lons, lats, strict=True)
        ):
            return None
        return [(wrapped(lon), lat) for lon, lat in zip(lons, lats, strict=True)]

    def corners(self, left: float, top: float, width: float, height: float) -> list[Point] | None:
        """Upper left, upper right, lower right and lower left of a window.

        None if one of them is not on Earth, or if a side is longer than half a circle of latitude: the corners would
        then stand for the other half.
        """
        right, bottom = left + width, top + height
        outline = [(left, top), (right, top), (right, bottom), (left, bottom)]
        middles = [
            ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in zip(outline, outline[1:] + outline[:1], strict=True)
        ]
        points = self.lon_lat(outline + middles)
        if points is None:
            return None
        corners, between = points[:4], [lon for lon, _ in points[4:]]
        for (start, _), middle, (end, _) in zip(corners, between, corners[1:] + corners[:1], strict=True):
            if abs(_eastwards(start, middle) + _eastwards(middle, end)) > 180:
                return None
        return corners


def _eastwards(start: float, end: float) -> float:
    """Degrees from a longitude to another, the shorter way; negative: westwards."""
    return (end - start + 180) % 360 - 180


def wrapped(longitude: float) -> float:
    """A longitude brought into [-180, 180]."""
    return longitude if -180 <= longitude <= 180 else (longitude + 180) % 360 - 180


def georeference_of(dataset: Any) -> Georeference | None:
    """Of an open rasterio dataset; None if it has no system or no place in it."""
    from rasterio.errors import CRSError

    try:
        crs = dataset.crs
        text = "" if crs is None else crs.to_string()
    except CRSError:
        return None
    transform = tuple(float(number) for number in dataset.transform[:6])
    if not text or transform == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0) or not all(map(math.isfinite, transform)):
        return None
    if transform[0] * transform[4] == transform[1] * transform[3]:  # all pixels on one line
        return None
    return Georeference(text, transform)  # type: ignore[arg-type]


def time_of(dataset: Any) -> datetime | None:
    """When an open rasterio dataset was taken: GDAL's acquisition time, else TIFF's DateTime."""
    acquired = parse_time(dataset.tags(ns="IMAGERY").get("ACQUISITIONDATETIME", ""))
    return acquired or parse_time(dataset.tags().get("TIFFTAG_DATETIME", ""))


def exif_place_and_time(image: Image.Image) -> tuple[Point | None, datetime | None]:
    """Place and time that the camera recorded for an image; None where missing or invalid."""
    place = time = None
    with suppress(Exception):  # an invalid EXIF block, or a part of it, counts as none
        time = _exif_time(exif_of(image).get_ifd(_EXIF))
    with suppress(Exception):
        place = _exif_point(exif_of(image).get_ifd(_GPS))
    return place, time


def _exif_time(tags: dict[int, Any]) -> datetime | None:
    time = parse_time(str(tags.get(_EXIF_TIME, "")))
    offset = re.fullmatch(r"\s*([+-])(0\d|1[0-4]):([0-5]\d)\s*", str(tags.get(_EXIF_OFFSET, "")).rstrip("\0"))
    if time is None or offset is None:
        return time
    sign, hours, minutes = offset.groups()
    return time - (1 if sign == "+" else -1) * timedelta(hours=int(hours), minutes=int(minutes))


def _exif_point(tags: dict[int, Any]) -> Point | None:
    def degrees(values: Any, side: Any) -> float:
        whole, minutes, seconds = (float(value) for value in values)
        if not (whole >= 0 and 0 <= minutes <= 60 and 0 <= seconds <= 60):
            return math.nan
        return (-1 if str(side).strip("\0 ").upper() in ("S", "W") else 1) * (whole + minutes / 60 + seconds / 3600)

    if not {1, 2, 3, 4} <= tags.keys():
        return None
    lat, lon = degrees(tags[2], tags[1]), degrees(tags[4], tags[3])
    nowhere = (lon, lat) == (0.0, 0.0)  # what cameras write that have no position
    return (lon, lat) if abs(lon) <= 180 and abs(lat) <= 90 and not nowhere else None


def parse_time(text: str) -> datetime | None:
    """A time in UTC from what files hold ("2021:05:30 10:11:12", ISO 8601); one without a zone counts as UTC.

    Returns:
        None if it is no time, such as EXIF's "0000:00:00 00:00:00".
    """
    text = text.strip().strip("\0").strip()
    exif = re.fullmatch(r"(\d{4}):(\d\d):(\d\d)(?:[ T](\d\d:\d\d:\d\d(?:\.\d+)?))?", text)
    if exif:
        text = f"{exif[1]}-{exif[2]}-{exif[3]}" + (f"T{exif[4]}" if exif[4] else "")
    if re.fullmatch(r"\d{8}", text):  # Python 3.10 reads it only with hyphens
        text = f"{text[:4]}-{text[4:6]}-{text[6:]}"
    if text.endswith(("Z", "z")):
        text = f"{text[:-1]}+00:00"
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None

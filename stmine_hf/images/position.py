"""Where on the Earth the pixels of a georeferenced image lie."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from ..errors import StmineError
from .deep import gdal_options

_TIFF, _JPEG_2000 = "GTiff", "JP2OpenJPEG"
_JPEG_2000_STARTS = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")


def require_rasterio() -> None:
    """
    Raises:
        StmineError: rasterio is not installed.
    """
    try:
        import rasterio  # noqa: F401
    except ImportError:
        raise StmineError("positions of images need rasterio: pip install 'stmine-hf[geo]'") from None


def positions(
    path: str | Path, points: Sequence[tuple[float, float]], size: tuple[int, int]
) -> list[tuple[float, float]] | None:
    """Longitude and latitude (WGS 84, degrees) of points of an image.

    Args:
        path: of the image: GeoTIFF or JPEG 2000.
        points: (x, y) in pixels, from the upper left corner.
        size: width and height of the image as it was read.

    Returns:
        None of an image that does not say where it is, or that was turned or shrunk on reading.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.warp import transform

    with warnings.catch_warnings(), rasterio.Env(**gdal_options()):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with open(path, "rb") as file:
                start = file.read(8)
            driver = _JPEG_2000 if start.startswith(_JPEG_2000_STARTS) else _TIFF
            with rasterio.open(Path(path).absolute(), driver=driver) as dataset:
                if dataset.crs is None or (dataset.width, dataset.height) != size:
                    return None
                placed = [dataset.xy(y, x, offset="ul") for x, y in points]
                if not placed:
                    return []
                longitudes, latitudes = transform(dataset.crs, "EPSG:4326", *zip(*placed, strict=True))
        except (OSError, RasterioError, ValueError):
            return None
    return list(zip(longitudes, latitudes, strict=True))

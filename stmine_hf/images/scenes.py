"""Scenes: images of any size, read window by window, with their place on Earth if they state it.

What a window shows is what `open_image` would show of the whole image: the same bands, and one stretch for all
windows of a scene. Up to `limits.LARGE` pixels the image is read whole and cut; a larger one is read by rasterio, a
strip of windows at a time, so that the memory depends on its width and on the windows, not on its height.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from . import limits
from .deep import GDAL_DRIVERS, ChosenBands, gdal_dataset, is_valid, to_bytes, value_range
from .finding import ImageError, image_errors
from .georeference import Georeference, Point, exif_place_and_time, georeference_of, time_of
from .header import file_layout, open_lazily
from .layout import Layout
from .metadata import exif_of
from .options import PixelOptions
from .reading import open_image

_STRIP_PIXELS = 2**24  # read at a time
_DEFAULT = PixelOptions()
_PIECE = 2**21  # values scaled at a time: in floats, a few times as many bytes
MOST_SIDE = 2**31 - 1  # of a scene: a header that states more is wrong


class Window(NamedTuple):
    """A rectangle of pixels."""

    left: int
    top: int
    width: int
    height: int


class WindowError(NamedTuple):
    """A window that cannot be read, and why."""

    window: Window
    reason: str


class PlaceAndTime(NamedTuple):
    """Place and time stated by an image file.

    Attributes:
        georeference: of its pixels.
        point: where the camera was, for images without a georeference.
        time: in UTC.
    """

    georeference: Georeference | None = None
    point: Point | None = None
    time: datetime | None = None


def tile_windows(width: int, height: int, side: int, overlap: float = 0.0) -> list[Window]:
    """Square windows that cover an image, row by row.

    The last of a row and the last row are moved inwards, so that all have one size; an image smaller than a window in
    one direction is covered by windows that are as wide or as high as it is.

    Args:
        side: of a window, in pixels.
        overlap: share of a window that the next one shows, too; 0 to below 1.
    """
    if side < 1 or not 0 <= overlap < 1:
        raise ValueError(f"expected a side of at least 1 and an overlap from 0 to below 1, got {side} and {overlap}")
    step = max(1, round(side * (1 - overlap)))

    def starts(length: int) -> list[int]:
        if length <= side:
            return [0]
        return [*range(0, length - side, step), length - side]

    size = (min(side, width), min(side, height))
    return [Window(left, top, *size) for top in starts(height) for left in starts(width)]


class _Pixels(Protocol):
    """Windows of an image."""

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """(height, width, 3) uint8, and (height, width) where there is data (None: everywhere)."""


class Scene:
    """An open scene.

    Attributes:
        width: in pixels.
        height: in pixels.
        place: place and time as stated by the file.
    """

    def __init__(self, width: int, height: int, pixels: _Pixels, place: PlaceAndTime):
        self.width, self.height, self.place = width, height, place
        self._pixels = pixels

    def windows(
        self, windows: Sequence[Window], *, least_data: float = 0.0
    ) -> Iterator[tuple[Window, Image.Image | None] | WindowError]:
        """The windows as RGB images, in their order; quick if those of one height and top follow each other.

        Args:
            least_data: the share of pixels with data that a window must have. One with less, or with no data at all,
                comes as None.
        """
        for (top, height), row in groupby(windows, key=lambda window: (window.top, window.height)):
            for strip in _strips(list(row)):
                left = min(window.left for window in strip)
                width = max(window.left + window.width for window in strip) - left
                try:
                    with image_errors():
                        pixels, data = self._pixels.read(Window(left, top, width, height))
                except ImageError as error:
                    yield from (WindowError(window, str(error)) for window in strip)
                    continue
                for window in strip:
                    columns = slice(window.left - left, window.left - left + window.width)
                    share = 1.0 if data is None else float(data[:, columns].mean())
                    there = share > 0 and share >= least_data
                    yield window, Image.fromarray(np.ascontiguousarray(pixels[:, columns])) if there else None

    def reduced(self, most: int) -> Image.Image:
        """The scene in RGB, at most so many pixels along its longer side; as it is, if it is no larger.

        Raises:
            ImageError: it cannot be read.
        """
        factor = min(1.0, most / max(self.width, self.height))
        if factor == 1:
            return self.window(Window(0, 0, self.width, self.height))
        size = (max(1, round(self.width * factor)), max(1, round(self.height * factor)))
        small = Image.new("RGB", size)
        rows = max(1, math.ceil(1 / factor), _STRIP_PIXELS // 4 // self.width)
        for top in range(0, self.height, rows):
            strip = Window(0, top, self.width, min(rows, self.height - top))
            first, last = round(top * factor), min(size[1], round((top + strip.height) * factor))
            if last > first:
                shown = self.window(strip).resize((size[0], last - first), Image.Resampling.BILINEAR, reducing_gap=2)
                small.paste(shown, (0, first))
        return small

    def window(self, window: Window) -> Image.Image:
        """One window as RGB.

        Raises:
            ImageError: it cannot be read, or reaches beyond the scene.
        """
        left, top, width, height = window
        if left < 0 or top < 0 or min(width, height) < 1 or left + width > self.width or top + height > self.height:
            raise ImageError(
                f"no window of {width} x {height} px at {left},{top} in the image of {self.width} x {self.height} px: "
                "it has changed"
            )
        with image_errors():
            return Image.fromarray(self._pixels.read(window)[0])


def _strips(row: list[Window]) -> Iterator[list[Window]]:
    """Neighbours of a row that are read together."""
    strip: list[Window] = []
    for window in row:
        if strip and (window.left + window.width - strip[0].left) * window.height > _STRIP_PIXELS:
            yield strip
            strip = []
        strip.append(window)
    yield strip


def scene_size(path: str | Path) -> tuple[int, int]:
    """Width and height by the header of a file.

    Raises:
        ImageError: for anything that keeps it from being read.
    """
    with image_errors(), open(path, "rb") as file:
        layout = _layout_of(file)
        return layout.width, layout.height


def place_and_time(path: str | Path) -> PlaceAndTime:
    """Place and time stated by an image file; empty where it states none or cannot be read."""
    try:
        with image_errors(), open(path, "rb") as file, ExitStack() as stack:
            layout = _layout_of(file)
            dataset = None
            if layout.georeferenced:
                dataset = stack.enter_context(gdal_dataset(file, Path(path), layout))
            return _place_and_time(file, dataset)
    except ImageError:
        return PlaceAndTime()


@contextmanager
def open_scene(path: str | Path, options: PixelOptions = _DEFAULT) -> Iterator[Scene]:
    """Open an image of any size.

    Args:
        options: how to read images of more than 8 bits or more than three bands.

    Raises:
        ImageError: for anything that keeps it from being read, with the reason. Large images need rasterio.
    """
    with ExitStack() as stack, image_errors():
        file = stack.enter_context(open(path, "rb"))
        layout = _layout_of(file)
        if layout.width < 1 or layout.height < 1 or max(layout.width, layout.height) > MOST_SIDE:
            raise ImageError(f"corrupt: its size is {layout.width} x {layout.height} px")
        pixels = layout.width * layout.height
        small = pixels <= limits.LARGE or (pixels <= limits.MAX_PIXELS and layout.format not in GDAL_DRIVERS)
        dataset = None
        if layout.format in GDAL_DRIVERS and (not small or layout.georeferenced or layout.format == "TIFF"):
            try:
                dataset = stack.enter_context(gdal_dataset(file, Path(path), layout))
            except ImageError:
                if not small:
                    raise
        place = _place_and_time(file, dataset)
        if small:
            image = open_image(path, options=options)
            upright = image.size == (layout.width, layout.height) and layout.orientation == 1
            whole = _WholeImage(image, dataset if upright else None)
            yield Scene(*image.size, whole, place if upright else place._replace(georeference=None))
            return
        if layout.format not in GDAL_DRIVERS:
            raise ImageError(limits.too_many_pixels((layout.width, layout.height)))
        if dataset is None:
            raise ImageError(
                f"{layout.width} x {layout.height} px: reading windows of it needs rasterio: "
                "pip install 'stmine-hf[geo]'"
            )
        if _orientation(file, layout) != 1:
            raise ImageError(f"{layout.width} x {layout.height} px and stored rotated: save it upright")
        yield Scene(layout.width, layout.height, _Dataset(dataset, layout, options), place)


def _layout_of(file: Any) -> Layout:
    """The layout of any image; that of JPEG and some other formats has little more than the size."""
    layout = file_layout(file)
    if layout is not None:
        return layout
    with open_lazily(file) as image:
        progressive = bool(image.info.get("progressive"))
        block = (image.width, image.height if progressive else 8)
        return Layout(image.format or "", image.width, image.height, len(image.getbands()), 8, block=block)


def _orientation(file: Any, layout: Layout) -> int:
    file.seek(0)
    try:
        with image_errors(), open_lazily(file) as image:
            return int(exif_of(image).get(0x0112, layout.orientation))
    except ImageError:  # a format that Pillow does not support
        return layout.orientation


def _place_and_time(file: Any, dataset: Any) -> PlaceAndTime:
    georeference = time = None
    if dataset is not None:
        georeference, time = georeference_of(dataset), time_of(dataset)
    file.seek(0)
    point = None
    try:
        with image_errors(), open_lazily(file) as image:
            point, taken = exif_place_and_time(image)
            time = taken or time
    except ImageError:  # a format that Pillow does not support
        pass
    return PlaceAndTime(georeference, point, time)


class _WholeImage:
    """An image in memory; `dataset` gives where it has data."""

    def __init__(self, image: Image.Image, dataset: Any):
        self._image, self._dataset = image, dataset

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        left, top, width, height = window
        pixels = np.array(self._image.crop((left, top, left + width, top + height)))
        if self._dataset is None or _is_full(self._dataset):
            return pixels, None
        return pixels, self._dataset.dataset_mask(window=_rasterio_window(window)) > 0


class _Dataset:
    """A large image on disk, through rasterio."""

    def __init__(self, dataset: Any, layout: Layout, options: PixelOptions):
        self._dataset, self._layout = dataset, layout
        layout.require_readable()
        bands = ChosenBands(dataset, layout, options)
        if "cyan" in bands.colours:
            raise ImageError(f"{layout} in the colour model CMYK: save it as RGB")
        self._alpha, self._bands, self._dtype, self._nodata = bands.alpha, bands.numbers, bands.dtype, bands.nodata
        # A mask of its own, or opacity: not a value that means no data, which the values themselves show.
        self._masked = any(
            flag.name in ("per_dataset", "alpha") for flags in dataset.mask_flag_enums for flag in flags
        )
        paletted = "palette" in bands.colours and options.bands is None
        self._palette = _palette(dataset, self._bands) if paletted else None
        self._require_memory()
        self._low, self._high = value_range(self._samples(), self._dtype, self._sampled_values(), layout, options)

    def _require_memory(self) -> None:
        """A block, or all of a format that is decoded whole, and a strip of windows have to fit."""
        layout = self._layout
        copies = {"JPEG": 2, "JPEG2000": 8 // max(1, layout.bits // 8)}.get(layout.format, 1)
        strip = _STRIP_PIXELS * (len(self._bands) * self._dtype.itemsize + 4)
        blocks = f"in blocks of {layout.block[0]} x {layout.block[1]} px"
        limits.require_bytes(
            copies * layout.block_bytes + strip, f"{layout.width} x {layout.height} px, {layout}, {blocks},"
        )

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        values, data = self._values(window)
        if self._palette is not None:
            return self._palette[values[0]], data
        if self._layout.bits < 8:
            values = values * np.uint8(255 // (2**self._layout.bits - 1))
        rgb = np.empty((window.height, window.width, 3), np.uint8)
        rows = max(1, _PIECE // window.width)
        for top in range(0, window.height, rows):
            part = slice(top, top + rows)
            for band, grey in enumerate(values[:, part]):
                if self._dtype != np.uint8:
                    nodata = self._nodata[band]
                    grey = to_bytes(grey, nodata, self._low, self._high, self._layout.inverted)
                elif self._layout.inverted:
                    grey = 255 - grey
                rgb[part, :, slice(None) if len(values) == 1 else band] = grey[..., None] if len(values) == 1 else grey
        if self._alpha is not None and data is not None:
            rgb[~data] = 255  # transparency on white, as in images of every size
        return rgb, data

    def _values(self, window: Window) -> tuple[np.ndarray, np.ndarray | None]:
        """(bands, height, width), and where one of the bands has data; None: everywhere."""
        area = _rasterio_window(window)
        values = self._dataset.read(self._bands, window=area)
        if _is_full(self._dataset):
            return values, None
        if self._masked:
            return values, self._dataset.read_masks(self._bands[0], window=area) > 0
        data = np.zeros(values.shape[1:], dtype=bool)
        for band, nodata in zip(values, self._nodata, strict=True):
            valid = is_valid(band, nodata)
            if valid is None:
                return values, None
            data |= valid
        return values, data

    def _samples(self) -> Iterator[np.ndarray]:
        """Valid values of strips from all over the scene: of all, up to `limits.MAX_PIXELS` pixels."""
        for window in self._sample_windows():
            values, data = self._values(window)
            for band, nodata in zip(values, self._nodata, strict=True):
                valid = is_valid(band, nodata)
                if self._masked:
                    valid = data if valid is None else valid if data is None else valid & data
                yield band.ravel() if valid is None else band[valid]

    def _sample_windows(self) -> list[Window]:
        width, height = self._dataset.width, self._dataset.height
        block = self._dataset.block_shapes[self._bands[0] - 1][0]
        rows = min(height, max(1, block, _PIECE // width // max(1, block) * block))
        strips = [Window(0, top, width, min(rows, height - top)) for top in range(0, height, rows)]
        return strips[:: math.ceil(width * height / limits.MAX_PIXELS)]

    def _sampled_values(self) -> int:
        return sum(window.width * window.height for window in self._sample_windows()) * len(self._bands)


def _palette(dataset: Any, bands: list[int]) -> np.ndarray:
    """(256, 3) colours of a palette."""
    colours = np.zeros((256, 3), np.uint8)
    for number, colour in dataset.colormap(bands[0]).items():
        if 0 <= number < 256:
            colours[number] = colour[:3]
    return colours


def _is_full(dataset: Any) -> bool:
    """Whether every pixel of every band is data."""
    return all(flag.name == "all_valid" for flags in dataset.mask_flag_enums for flag in flags)


def _rasterio_window(window: Window) -> Any:
    from rasterio.windows import Window as RasterioWindow

    return RasterioWindow(*window)

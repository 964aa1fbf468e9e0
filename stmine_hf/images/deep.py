"""Images of more than 8 bits a sample, or of bands that Pillow does not support, to 8-bit RGB.

They are read in strips, twice: once for the range of their values, once to be scaled. So a 10,980 x 10,980 px tile of
16 bits takes little more than the resulting RGB image.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
from PIL import Image

from .finding import ImageError
from .layout import Layout
from .limits import bytes_of_rows, require_bytes
from .options import PixelOptions

_STRIP_BYTES = 2**24  # read at a time, where the file's blocks allow it
_PIECE_VALUES = 2**21  # scaled at a time: in floats, a few times as many bytes
_KEPT_BYTES = 2**25  # images of up to so many bytes are decoded once and kept, not decoded twice
_MOST_SAMPLED = 2**24  # values that percentiles of floats and of 32-bit integers are taken from
GDAL_DRIVERS = {  # by format: none is guessed
    "TIFF": "GTiff", "PNG": "PNG", "JPEG2000": "JP2OpenJPEG", "PPM": "PNM", "JPEG": "JPEG"
}  # fmt: skip
# Neither side files nor the network are looked at, nothing is written, and little is cached.
_GDAL_OPTIONS = {
    "GDAL_CACHEMAX": 64,
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_HTTP_MAX_RETRY": 0,
    "CPL_VSIL_USE_TEMP_FILE_FOR_RANDOM_WRITE": "NO",
}


class Piece(NamedTuple):
    """Some rows of some channels."""

    channel: int  # the first of them
    top: int  # the first row
    values: np.ndarray  # (channels, rows, width)


class Source(Protocol):
    """The chosen bands of a file: three channels or one."""

    channels: int
    width: int
    height: int
    dtype: np.dtype
    nodata: tuple[float | None, ...]  # of each channel

    def pieces(self) -> Iterator[Piece]:
        """All rows of all channels; may be called again."""

    def alpha(self) -> Image.Image | None:
        """The opacity of each pixel as "L"."""


def read_deep(
    file: BinaryIO, path: Path | None, layout: Layout, image: Image.Image | None, *, factor: int, options: PixelOptions
) -> Image.Image:
    """The RGB image of a file, not turned upright, and reduced by `factor`.

    Args:
        path: of the file, if it lies in a folder; else it is read from `file`.
        layout: of the file.
        image: what Pillow makes of it, not loaded; None: nothing.

    Raises:
        ImageError: samples that cannot be read here, or that would take too much memory.
    """
    layout.require_readable()
    with ExitStack() as stack:
        source: Source | None = _pillow_source(image, layout, options, factor)
        if source is None or layout.format != "PNG":
            dataset = stack.enter_context(gdal_dataset(file, path, layout))
            if dataset is not None:
                source = _GdalSource(dataset, layout, options, factor)
        if source is None:
            return _upper_bytes(image, layout, options, factor)
        return scaled(source, layout, options, factor)


def scaled(source: Source, layout: Layout | None, options: PixelOptions, factor: int = 1) -> Image.Image:
    """The channels as 8-bit RGB, reduced by `factor`."""
    alpha = source.alpha()
    low, high = _range(source, layout, options, alpha)
    inverted = layout is not None and layout.inverted
    size = (-(-source.width // factor), -(-source.height // factor))
    planes = [Image.new("L", size) for _ in range(source.channels)]
    for piece in _pieces(source, layout, alpha):
        for number, values in enumerate(piece.values, start=piece.channel):
            grey = to_bytes(values, source.nodata[number], low, high, inverted)
            part = Image.fromarray(grey)
            planes[number].paste(part if factor == 1 else part.reduce(factor), (0, piece.top // factor))
    if alpha is not None:
        alpha = alpha if factor == 1 else alpha.reduce(factor)
    return _merged(planes, alpha)


def _pieces(source: Source, layout: Layout | None, alpha: Image.Image | None) -> Iterator[Piece]:
    """The values without opacity: those stored multiplied by it are divided by it."""
    if alpha is None or layout is None or not layout.premultiplied:
        yield from source.pieces()
        return
    most = _full_range(source.dtype, layout) or math.inf
    for channel, top, values in source.pieces():
        box = (0, top, source.width, top + values.shape[1])
        opacity = np.maximum(np.asarray(alpha.crop(box)), 1) / 255
        yield Piece(channel, top, np.minimum(values / opacity, most).astype(source.dtype))


def scaled_image(image: Image.Image, options: PixelOptions) -> Image.Image:
    """A decoded image of 16 or 32 bits or of floats ("I;16", "I", "F") as 8-bit RGB."""
    _require_bands(options, 1)
    return scaled(_PillowSource(image, None), None, options)


def is_deep(image: Image.Image) -> bool:
    """Whether a decoded image has one band of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def _merged(planes: list[Image.Image], alpha: Image.Image | None) -> Image.Image:
    """Planes to RGB, transparency on white, in strips: no second copy of the whole."""
    width, height = planes[0].size
    planes = planes * 3 if len(planes) == 1 else planes
    if alpha is None:
        return Image.merge("RGB", planes)
    merged = Image.new("RGB", (width, height))
    rows = max(1, _PIECE_VALUES // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(height, top + rows))
        strip = Image.merge("RGBA", [plane.crop(box) for plane in (*planes, alpha)])
        strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        merged.paste(strip.convert("RGB"), (0, top))
    return merged


def to_bytes(values: np.ndarray, nodata: float | None, low: float, high: float, inverted: bool) -> np.ndarray:
    """(rows, width) values to uint8: `low` and below is 0, `high` and above 255, no data 0."""
    valid = is_valid(values, nodata)
    with np.errstate(invalid="ignore", over="ignore"):
        share = (values.astype(np.float64) - low) * (255 / (high - low))
        share = np.round(np.clip(np.nan_to_num(share, nan=0.0, posinf=255.0, neginf=0.0), 0, 255)).astype(np.uint8)
    share = 255 - share if inverted else share
    return share if valid is None else np.where(valid, share, np.uint8(0))


def is_valid(values: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """Where values are data; None: everywhere."""
    valid = None
    if values.dtype.kind == "f":
        valid = np.isfinite(values)
    if nodata is not None and math.isfinite(nodata):
        there = values != values.dtype.type(nodata) if _holds(values.dtype, nodata) else None
        valid = there if valid is None else valid if there is None else valid & there
    return valid


def _holds(dtype: np.dtype, number: float) -> bool:
    """Whether a type can hold this value: an unsigned one cannot hold -9999."""
    if dtype.kind == "f":
        return True
    return number == int(number) and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max


def _range(
    source: Source, layout: Layout | None, options: PixelOptions, alpha: Image.Image | None
) -> tuple[float, float]:
    """The values that become black and white."""

    def parts() -> Iterator[np.ndarray]:
        for piece in _pieces(source, layout, alpha):
            rows = piece.values.shape[1]
            opaque = None
            if alpha is not None:
                opaque = np.asarray(alpha.crop((0, piece.top, source.width, piece.top + rows))) > 0
            for number, values in enumerate(piece.values, start=piece.channel):
                valid = is_valid(values, source.nodata[number])
                if opaque is not None:
                    valid = opaque if valid is None else valid & opaque
                yield values.ravel() if valid is None else values[valid]

    return value_range(parts(), source.dtype, source.width * source.height * source.channels, layout, options)


def value_range(
    parts: Iterable[np.ndarray], dtype: np.dtype, total: int, layout: Layout | None, options: PixelOptions
) -> tuple[float, float]:
    """The values that become black and white.

    Args:
        parts: the valid values of an image, of which none are taken where they do not matter.
        dtype: their type.
        total: how many there are at most.
    """
    if dtype == np.uint8:
        return 0.0, 255.0
    if options.limits is not None:
        return options.limits
    statistics = _Counts(dtype) if dtype.itemsize <= 2 and dtype.kind in "iu" else _Sample(total)
    for values in parts:
        statistics.add(values)
    full = _full_range(dtype, layout)
    if not statistics.count:
        return 0.0, 1.0
    lowest, highest = statistics.percentile(0), statistics.percentile(100)
    low, high = (statistics.percentile(percent) for percent in options.percentiles)
    within = options.stretch is None and full is not None and lowest >= 0 and highest <= full
    if within and full is not None and (high >= full / 2 or statistics.is_8_bits_scaled()):
        return 0.0, full
    if low < high:
        return low, high
    return (lowest, highest) if lowest < highest else (0.0, full or 255.0)


def _full_range(dtype: np.dtype, layout: Layout | None) -> float | None:
    """White of a file that fills its range; None for signed and 32-bit integers, where it is unknown."""
    if dtype.kind == "f":
        return 1.0
    if dtype != np.uint16:
        return None
    return float(2 ** (layout.bits if layout is not None and 8 < layout.bits <= 16 else 16) - 1)


class _Counts:
    """How often each value of up to 16 bits occurs: exact percentiles in 512 KB."""

    def __init__(self, dtype: np.dtype):
        self._first = int(np.iinfo(dtype).min)
        self._counts = np.zeros(2 ** (8 * dtype.itemsize), np.int64)
        self.count = 0

    def add(self, values: np.ndarray) -> None:
        self._counts += np.bincount(values.astype(np.int64) - self._first, minlength=len(self._counts))
        self.count += values.size

    def percentile(self, percent: float) -> float:
        """As `numpy.percentile`, which interpolates between two values."""
        rank = percent / 100 * (self.count - 1)
        ends = np.cumsum(self._counts)
        below, above = (int(np.searchsorted(ends, place, side="right")) for place in (int(rank), math.ceil(rank)))
        return self._first + below + (above - below) * (rank - int(rank))

    def is_8_bits_scaled(self) -> bool:
        """Whether this is an 8-bit image times 257, as written by programs that save 16 bits only."""
        return not (np.flatnonzero(self._counts) % 257).any()


class _Sample:
    """Values evenly taken from all over the image: percentiles of floats, exact for images of up to 5 megapixels."""

    def __init__(self, total: int):
        self._step = -(-total // _MOST_SAMPLED)
        self._parts: list[np.ndarray] = []
        self._extremes: list[float] = []
        self.count = 0

    def add(self, values: np.ndarray) -> None:
        if values.size:
            self._parts.append(values[:: self._step].copy())
            self._extremes += [float(values.min()), float(values.max())]
            self.count += values.size

    def percentile(self, percent: float) -> float:
        if percent in (0, 100):
            return min(self._extremes) if percent == 0 else max(self._extremes)
        self._parts = [np.concatenate(self._parts)]
        return float(np.percentile(self._parts[0], percent))

    def is_8_bits_scaled(self) -> bool:
        return False


def _pillow_source(
    image: Image.Image | None, layout: Layout, options: PixelOptions, factor: int
) -> _PillowSource | None:
    """What Pillow reads in full depth: one grey band."""
    if image is None or layout.bands != 1 or not is_deep(image):
        return None
    _require_bands(options, 1)
    return _PillowSource(image, layout, factor)


class _PillowSource:
    """One band that Pillow has decoded."""

    channels: int = 1

    def __init__(self, image: Image.Image, layout: Layout | None, factor: int = 1):
        self._image, self._factor = image, factor
        self.width, self.height = image.size
        short = image.mode.startswith("I;16") or (layout is not None and layout.format == "PNG")  # of old Pillow "I"
        self.dtype = np.dtype("uint16" if short else "int32" if image.mode == "I" else "float32")
        self.nodata: tuple[float | None, ...] = (None if layout is None else layout.nodata,)

    def pieces(self) -> Iterator[Piece]:
        rows = _rows(self.width, 1, self._factor)
        for top in range(0, self.height, rows):
            strip = self._image.crop((0, top, self.width, min(self.height, top + rows)))
            yield Piece(0, top, np.asarray(strip).astype(self.dtype)[None])

    def alpha(self) -> None:
        return None


class _GdalSource:
    """Bands of a file that GDAL has opened."""

    def __init__(self, dataset: Any, layout: Layout, options: PixelOptions, factor: int):
        self._dataset, self._factor = dataset, factor
        self.width, self.height = dataset.width, dataset.height
        bands = ChosenBands(dataset, layout, options)
        self._alpha, self._bands, self.channels = bands.alpha, bands.numbers, len(bands.numbers)
        self.dtype, self.nodata = bands.dtype, bands.nodata
        # The bands of a pixel together, or one after the other: so no block is decoded twice.
        self._together = str(dataset.profile.get("interleave", "")).lower() != "band"
        self._block_rows, self._block_width = dataset.block_shapes[self._bands[0] - 1]
        self._require_memory(layout)
        self._kept: list[Piece] | None = None

    def _require_memory(self, layout: Layout) -> None:
        blocks = -(-self.width // self._block_width)
        row_of_blocks = self._block_rows * self._block_width * blocks * self.dtype.itemsize
        decoded = 2 * row_of_blocks * self._dataset.count if self._together else row_of_blocks
        strip = row_of_blocks * (self.channels if self._together else 1)
        pixels = self.width * self.height
        result = 8 * pixels // self._factor**2 + pixels * (self._alpha is not None)
        # A PNG that is interlaced is decoded whole, and so is a tile of JPEG 2000, in 32 bits and with a copy.
        whole = {"PNG": 1, "JPEG2000": 8 // max(1, layout.bits // 8)}.get(layout.format, 0) * layout.block_bytes
        rows = bytes_of_rows((self.width // self._factor, self.height // self._factor))
        require_bytes(decoded + strip + result + whole + rows, f"{self.width} x {self.height} px, {layout},")

    def pieces(self) -> Iterator[Piece]:
        if self._kept is not None:
            yield from self._kept
            return
        small = self.width * self.height * self.channels * self.dtype.itemsize <= _KEPT_BYTES
        kept = []
        for bands, channel in [(self._bands, 0)] if self._together else [([b], c) for c, b in enumerate(self._bands)]:
            for piece in self._read(bands, channel):
                yield piece
                if small:
                    kept.append(piece)
        self._kept = kept if small else None

    def alpha(self) -> Image.Image | None:
        if self._alpha is None:
            return None
        plane = Image.new("L", (self.width, self.height))
        full = 1.0 if self.dtype.kind == "f" else float(np.iinfo(self.dtype).max)
        bits = self._dataset.tags(self._alpha, ns="IMAGE_STRUCTURE").get("NBITS")
        full = float(2 ** int(bits) - 1) if bits and self.dtype.kind == "u" else full
        for piece in self._read([self._alpha], 0):
            plane.paste(Image.fromarray(to_bytes(piece.values[0], None, 0.0, full, False)), (0, piece.top))
        return plane

    def _read(self, bands: list[int], channel: int) -> Iterator[Piece]:
        """Whole rows of blocks at a time, given out in pieces whose tops are multiples of the factor."""
        from rasterio.windows import Window

        row_bytes = self.width * len(bands) * self.dtype.itemsize
        strip_rows = self._block_rows * max(1, _STRIP_BYTES // (self._block_rows * row_bytes))
        piece_rows = _rows(self.width, len(bands), self._factor)
        rest = np.empty((len(bands), 0, self.width), self.dtype)
        top = 0  # of the rest
        for start in range(0, self.height, strip_rows):
            window = Window(0, start, self.width, min(strip_rows, self.height - start))
            values = self._dataset.read(bands, window=window)
            values = np.concatenate([rest, values], axis=1) if rest.shape[1] else values
            last = start + strip_rows >= self.height
            ready = values.shape[1] if last else values.shape[1] // self._factor * self._factor
            for row in range(0, ready, piece_rows):
                yield Piece(channel, top + row, values[:, row : min(ready, row + piece_rows)])
            rest, top = values[:, ready:], top + ready


class ChosenBands:
    """The bands of an open rasterio dataset that are shown: those asked for, those that the file names red, green and
    blue, or the first three.

    Attributes:
        numbers: from 1; three, or one to be shown in grey.
        dtype: of their values.
        nodata: of each, the value that stands for no data.
        alpha: the band of opacity, if there is one.
        colours: the bands whose colours the file names.

    Raises:
        ImageError: a band is requested that the file lacks, or bands of several types or of complex numbers.
    """

    def __init__(self, dataset: Any, layout: Layout, options: PixelOptions):
        self.colours = {colour.name: band for band, colour in zip(dataset.indexes, dataset.colorinterp, strict=True)}
        self.alpha: int | None = self.colours.get("alpha")
        self.numbers = self._numbers(list(dataset.indexes), options)
        types = {dataset.dtypes[band - 1] for band in self.numbers}
        if len(types) > 1 or any(name.startswith("complex") for name in types):
            raise ImageError(f"{layout}: bands of the types {', '.join(sorted(types))} have no common colours")
        self.dtype = np.dtype(types.pop())
        self.nodata: tuple[float | None, ...] = tuple(dataset.nodatavals[band - 1] for band in self.numbers)

    def _numbers(self, bands: list[int], options: PixelOptions) -> list[int]:
        if options.bands is not None:
            _require_bands(options, len(bands))
            return list(options.bands)
        if {"red", "green", "blue"} <= self.colours.keys():
            return [self.colours[name] for name in ("red", "green", "blue")]
        coloured = [band for band in bands if band != self.alpha]
        return coloured[:3] if len(coloured) >= 3 else coloured[:1]


def _require_bands(options: PixelOptions, there: int) -> None:
    """
    Raises:
        ImageError: a band is requested that the file lacks.
    """
    if options.bands is not None and max(options.bands) > there:
        raise ImageError(f"band {max(options.bands)} was requested, and the file has {there}")


def _rows(width: int, channels: int, factor: int) -> int:
    """Rows of a piece: a multiple of the factor."""
    return factor * max(1, _PIECE_VALUES // (width * channels * factor))


@contextmanager
def gdal_dataset(file: BinaryIO, path: Path | None, layout: Layout) -> Iterator[Any]:
    """The file as rasterio opens it; None where rasterio is not installed.

    Raises:
        ImageError: GDAL cannot read it.
    """
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
    except ImportError:
        yield None
        return
    logging.getLogger("rasterio").addHandler(_SILENT)
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
    driver = GDAL_DRIVERS[layout.format]
    with rasterio.Env(**_GDAL_OPTIONS), ExitStack() as stack:
        try:
            if path is not None:
                dataset = stack.enter_context(rasterio.open(path.absolute(), driver=driver))
            else:
                file.seek(0)
                memory = stack.enter_context(rasterio.MemoryFile(file.read()))
                dataset = stack.enter_context(memory.open(driver=driver))
        except RasterioIOError as error:
            if path is not None and not path.exists():
                raise FileNotFoundError(str(path)) from None
            raise ImageError(f"corrupt, or of a kind that cannot be read ({_reason(error, path)})") from None
        try:
            yield dataset
        except RasterioIOError as error:
            raise ImageError(f"corrupt or cut short ({_reason(error.__cause__ or error, path)})") from None


_SILENT = logging.NullHandler()  # what GDAL reports is in the reason of the skip


def _reason(error: BaseException, path: Path | None) -> str:
    text = " ".join(str(error).split())
    return (text if path is None else text.replace(str(path.absolute()), path.name))[:120]


def _upper_bytes(image: Image.Image | None, layout: Layout, options: PixelOptions, factor: int) -> Image.Image:
    """Without rasterio: Pillow's upper 8 of 16 bits, which are the image if it fills their range.

    Raises:
        ImageError: they are not, or Pillow cannot read it.
    """
    needs = f"{layout}: reading them needs rasterio: pip install 'stmine-hf[geo]'"
    known = image is not None and layout.bits == 16 and layout.kind == "unsigned" and not layout.separate
    if image is None or not known or options != PixelOptions():
        raise ImageError(needs)
    image.load()
    histogram = np.array(image.convert("RGB").histogram()).reshape(3, 256).sum(axis=0)
    if np.searchsorted(np.cumsum(histogram), 0.98 * histogram.sum()) < 128:
        raise ImageError(needs)
    return image if factor == 1 else image.reduce(factor)

"""Common parts of the training samples: images read safely, unreadable ones counted, epochs and seeds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from PIL import Image

from ..errors import StmineError
from ..evaluation.reports import undecoded
from ..images import ImageError, PixelOptions, decode_image, image_errors
from .seeding import sample_seed

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

T = TypeVar("T")


class EpochState:
    """The epoch, on which the randomness of a sample depends, and a count of rows that could not be used.

    Both are in shared memory: the main process sets the epoch; worker processes read it and increment the count.

    Args:
        counters: number of cells that count unusable rows.
        dtype: of a cell; bool for one cell per row.
        pixels: how images are read.
    """

    def __init__(self, counters: int, dtype: torch.dtype, pixels: PixelOptions | None = None):
        self.pixels = pixels or PixelOptions()
        self._unreadable = torch.zeros(counters, dtype=dtype).share_memory_()
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def unreadable(self) -> int:
        """Number of rows found unreadable so far."""
        return int(self._unreadable.sum())

    @property
    def epoch(self) -> int:
        """The epoch, counted from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        self._epoch[0] = epoch


class Samples(EpochState, torch.utils.data.Dataset):
    """The samples of an epoch, read on demand from a table of rows.

    The randomness of a sample depends on `(seed, epoch, index)`, so that neither the number of workers nor
    an interruption changes a run. An image that cannot be read is counted in `unreadable` and logged once.

    Args:
        rows: a `datasets.Dataset` of `stmine_hf.load_dataset`.
        seed: seed of the run.
        pixels: how images of more than 8 bits or three bands are converted to RGB.
    """

    unreadable_image = "Skipped {name}: {reason}"  # what is logged
    name_column = "filename"

    def __init__(self, rows: datasets.Dataset, seed: int = 0, pixels: PixelOptions | None = None):
        super().__init__(len(rows), torch.bool, pixels)
        self.rows, self.seed = undecoded(rows), seed

    def sample_seed(self, index: int) -> int:
        """The seed of a sample in this epoch."""
        return sample_seed(self.seed, self.epoch, index)

    def read_image(self, row: int) -> Image.Image | None:
        """The image of a row as RGB; None where there is none, or (logged once) where it cannot be read."""
        if self._unreadable[row]:
            return None
        record = self.rows[row]
        image, reason = read_rgb(record, self.pixels)
        if reason:
            self._unreadable[row] = True
            name = record.get(self.name_column) or f"row {row}"
            logger.warning(self.unreadable_image.format(name=name, reason=reason))
        return image

    def first_readable(self, candidates: Iterable[tuple[int, T]]) -> tuple[int, T, Image.Image]:
        """The first candidate whose image can be read, with its image.

        Args:
            candidates: row numbers, each with data that is returned with it.

        Raises:
            StmineError: there is no such row.
        """
        for row, extra in candidates:
            if (image := self.read_image(row)) is not None:
                return row, extra, image
        raise StmineError("None of the training images can be read; is data_dir the right folder?")


def read_rgb(record: Mapping[str, Any], pixels: PixelOptions) -> tuple[Image.Image | None, str]:
    """The image of a row as RGB, and why it cannot be read; (None, "") where the row has none."""
    if record.get("image") is None:
        return None, ""
    try:
        with image_errors():
            return decode_image(record["image"], pixels), ""
    except ImageError as error:
        return None, str(error)

"""Samples of a stream: rows of unknown number, each seen by one process only."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import datasets
import torch
from datasets.distributed import split_dataset_by_node
from PIL import Image

from ..errors import StmineError
from ..evaluation.reports import row_name, undecoded
from ..images import PixelOptions
from .arguments import ZooTrainingArguments
from .samples import EpochState, read_rgb
from .seeding import sample_seed

logger = logging.getLogger(__name__)


class Streamed(EpochState, torch.utils.data.IterableDataset):
    """The samples of a stream, which restarts when it ends. A subclass makes a sample of a row.

    In each pass over the stream a row goes to one process, and there to one worker. Rows are shuffled within a buffer,
    in each pass differently; all randomness depends on the seed, the epoch, the pass, the process and the position.
    An epoch has `epoch_steps` steps, since the number of rows is unknown. Rows that cannot be used are skipped and
    counted in `unreadable`, each time and in this process.

    Args:
        rows: A stream of `stmine_hf.load_dataset`.
        args: Seed, process, batch size and steps.
        buffer: Number of rows held in memory, from which the next one is drawn.
        pixels: How images are read.

    Raises:
        StmineError: `max_steps` is missing; while iterating, when no row can be used.
    """

    def __init__(
        self,
        rows: datasets.IterableDataset,
        args: ZooTrainingArguments,
        buffer: int = 1000,
        pixels: PixelOptions | None = None,
    ):
        if args.max_steps <= 0:
            raise StmineError("A stream has no length: set max_steps.")
        super().__init__(max(1, args.dataloader_num_workers), torch.int64, pixels)
        self.features = rows.features
        shuffled = undecoded(rows).shuffle(seed=args.seed, buffer_size=buffer)
        self.rows = split_dataset_by_node(shuffled, args.process_index, args.world_size)
        self.seed, self.process, self.batch_size = args.seed, args.process_index, args.train_batch_size
        self.batches = (args.epoch_steps or args.max_steps) * args.gradient_accumulation_steps

    def sample(self, row: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
        """The item for the collator; None for a row that cannot be used."""
        raise NotImplementedError

    @property
    def workers(self) -> int:
        """Number of worker processes that have something to read."""
        return min(len(self._unreadable), self.rows.num_shards)

    def __len__(self) -> int:
        """Number of samples of this process in an epoch."""
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        batches = len(range(worker, self.batches, workers))  # the loader takes them from the workers in turn
        yield from itertools.islice(self._endless(worker), batches * self.batch_size)

    def _endless(self, worker: int) -> Iterator[dict[str, Any]]:
        epoch = self.epoch
        rows = copy.deepcopy(self.rows)  # `datasets` keeps the epoch of a stream in memory that all workers share
        for passage in itertools.count():
            rows.set_epoch(hash((epoch, passage)) % 2**31)
            found = False
            for place, row in enumerate(rows):
                seed = sample_seed(self.seed, epoch, passage, self.process, worker, place)
                item = self.sample(row, seed)
                if item is None:
                    self._unreadable[worker] += 1
                else:
                    found = True
                    yield item
            if not found:
                raise StmineError(f"None of the rows of the stream can be used ({self.unreadable} skipped).")

    def image(self, row: Mapping[str, Any]) -> Image.Image | None:
        """The image of a row as RGB; None where there is none, or (logged) where it cannot be read."""
        image, reason = read_rgb(row, self.pixels)
        if reason:
            logger.warning("Skipped the image of %s: %s", row_name(row, 0), reason)
        return image


def refuse(args: ZooTrainingArguments, *names: str) -> None:
    """Check that settings which need all rows are off.

    Raises:
        StmineError: one of the settings is set, but needs to know all rows.
    """
    for name in names:
        if getattr(args, name):
            raise StmineError(
                f"{name} needs all rows, and a stream has no known length: set either {name} or streaming, not both."
            )

"""Samples of a stream: rows that nobody has counted, each seen by one process only."""

from __future__ import annotations

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
from ..images import ImageError, decode_image, image_errors
from .arguments import ZooTrainingArguments

logger = logging.getLogger(__name__)


class Streamed(torch.utils.data.IterableDataset):
    """The samples of a stream, which begins anew when it ends. A subclass says what becomes of a row.

    In each pass over the stream a row goes to one process, and there to one worker. Rows are shuffled within a buffer,
    in each pass differently; everything random follows from the seed, the epoch, the pass, the process and the place.
    An epoch has `epoch_steps` steps, since nobody knows how many rows there are. Rows that cannot be used are left
    out and counted in `unreadable`.

    Args:
        rows: A stream of `stmine_hf.load_dataset`.
        args: Seed, process, batch size and steps.
        buffer: So many rows are held, of which the next one is drawn.

    Raises:
        StmineError: `max_steps` is missing; while iterating, when no row can be used.
    """

    def __init__(self, rows: datasets.IterableDataset, args: ZooTrainingArguments, buffer: int = 1000):
        if args.max_steps <= 0:
            raise StmineError("A stream has no length: say by max_steps how long to train.")
        self.features = rows.features
        shuffled = undecoded(rows).shuffle(seed=args.seed, buffer_size=buffer)
        self.rows = split_dataset_by_node(shuffled, args.process_index, args.world_size)
        self.seed, self.process, self.batch_size = args.seed, args.process_index, args.train_batch_size
        self.batches = (args.epoch_steps or args.max_steps) * args.gradient_accumulation_steps
        # In shared memory: worker processes write the one and read the other.
        self._bad = torch.zeros(max(1, args.dataloader_num_workers), dtype=torch.int64).share_memory_()
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def sample(self, row: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
        """What the collator takes, None for a row that cannot be used."""
        raise NotImplementedError

    @property
    def workers(self) -> int:
        """Worker processes that have something to read."""
        return min(len(self._bad), self.rows.num_shards)

    @property
    def unreadable(self) -> int:
        """Number of times that a row could not be used, in this process."""
        return int(self._bad.sum())

    def set_epoch(self, epoch: int) -> None:
        self._epoch[0] = epoch

    def __len__(self) -> int:
        """Samples of this process in an epoch."""
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        batches = len(range(worker, self.batches, workers))  # the loader takes them from the workers in turn
        yield from itertools.islice(self._endless(worker), batches * self.batch_size)

    def _endless(self, worker: int) -> Iterator[dict[str, Any]]:
        epoch = int(self._epoch)
        for passage in itertools.count():
            self.rows.set_epoch(hash((epoch, passage)) % 2**31)
            found = False
            for place, row in enumerate(self.rows):
                seed = hash((self.seed, epoch, passage, self.process, worker, place)) % 2**63
                item = self.sample(row, seed)
                if item is None:
                    self._bad[worker] += 1
                else:
                    found = True
                    yield item
            if not found:
                raise StmineError(f"None of the rows of the stream can be used ({self.unreadable} left out).")

    def image(self, row: Mapping[str, Any]) -> Image.Image | None:
        """The image of a row as RGB, or None (and a line in the log) when it cannot be read."""
        try:
            with image_errors():
                return decode_image(row["image"])
        except ImageError as error:
            logger.warning("Skipped the image of %s: %s", row_name(row, 0), error)
            return None


def refuse(args: Any, *names: str) -> None:
    """
    Raises:
        StmineError: one of the settings is set, but needs to know all rows.
    """
    for name in names:
        if getattr(args, name):
            raise StmineError(
                f"{name} needs to know all rows, which a stream does not tell: leave {name} or streaming out."
            )

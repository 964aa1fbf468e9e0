"""What the toy sets share: which numbers are drawn for which split, and the builder that draws them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import datasets

from ..captioned_images import SPLITS
from ..errors import DataFolderError


def share(count: int, split: str) -> range:
    """The numbers of a split: of all below `count`, a sixth is val and another test, the last ones.

    Example:
        >>> [list(share(7, split)) for split in ("train", "val", "test")]
        [[0, 1, 2, 3, 4], [5], [6]]
    """
    held_out = count // 6
    train = count - 2 * held_out
    return {
        "train": range(train),
        "val": range(train, train + held_out),
        "test": range(train + held_out, count),
    }[split]


class DrawnSet(datasets.GeneratorBasedBuilder):
    """Base of the toy sets: drawn, so there is nothing to download. A subclass says what is drawn."""

    VERSION = datasets.Version("1.0.0")  # part of the cache's path: raise it whenever something is drawn differently

    TITLE: str  # in messages
    WRITTEN_BY: str  # the function that writes the set as a folder ...
    LOADS_AS: str  # ... and what set that folder is

    def _numbers(self) -> int:
        """How many numbers are drawn in all.

        Raises:
            DataFolderError: options that cannot be drawn.
        """
        raise NotImplementedError

    def _rows(self, number: int) -> Iterator[tuple[int | str, dict[str, Any]]]:
        """The rows of a number, each with a key that is unique in the set."""
        raise NotImplementedError

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        if self.config.data_dir is not None:
            raise DataFolderError(
                f"{self.TITLE} are drawn, not read: leave data_dir out. A folder that {self.WRITTEN_BY} wrote loads "
                f"as {self.LOADS_AS}"
            )
        count = self._numbers()
        # A list is a list of shards to `datasets`: a stream can then be shuffled and shared out number by number.
        form = list if dl_manager.is_streaming else tuple
        numbers = {split: form(share(count, split)) for split in SPLITS}
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"numbers": some})
            for split, some in numbers.items()
            if some
        ]

    def _generate_examples(self, numbers: Iterable[int]) -> Iterator[tuple[int | str, dict[str, Any]]]:
        for number in numbers:
            yield from self._rows(number)

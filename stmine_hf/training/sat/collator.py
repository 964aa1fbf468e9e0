"""From rows with boxes to SAT training batches: images read when needed, crowds left out, augmentation."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...errors import StmineError
from ...evaluation.reports import undecoded
from ...images import ImageError, decode_image, image_errors
from ..fisvl.transforms import seeded
from ..streamed import Streamed
from .arguments import SatTrainingArguments

logger = logging.getLogger(__name__)

Transform = Callable[[Image.Image, Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]


class BoxedImages(torch.utils.data.Dataset):
    """The samples of an epoch: one an image, images without boxes among them.

    An item is a mapping: `image` (RGB PIL), `boxes` (float `(n, 4)`, xyxy in its pixels), `class_labels` (`(n,)`, of
    the model), `image_id`, `row` (in `rows`) and `seed` (int). Everything random about it follows from
    `(seed, epoch, index)`, so that neither the number of workers nor an interruption changes a run. Crowd regions are
    left out: nobody knows how many objects they are. An image that cannot be read is replaced by the next one that
    can, counted in `unreadable` and named once in the log.

    Args:
        rows: A `datasets.Dataset` of `stmine_hf.load_dataset`.
        names: The data set's categories in the order of its labels.
        label2id: Class of each category of the model by its name.
        seed: Seed of the run.

    Raises:
        StmineError: Categories that the model does not have, no box at all, or images none of which can be read.
    """

    def __init__(self, rows: Any, names: Sequence[str], label2id: Mapping[str, int], seed: int = 0):
        classes = model_classes(names, label2id)
        self.rows = undecoded(rows)
        self.seed = seed
        self.boxes, self.class_labels, crowds = [], [], 0
        for objects in rows["objects"]:
            boxes, labels = boxes_of(objects, classes)
            crowds += len(objects["bbox"]) - len(boxes)
            self.boxes.append(boxes)
            self.class_labels.append(labels)
        if crowds:
            logger.info("%d crowd regions are left out of training.", crowds)
        if not any(map(len, self.boxes)):
            raise StmineError(f"None of the {len(self.boxes)} training images has a box.")
        # In shared memory: worker processes write the one and read the other.
        self._bad = torch.zeros(len(self.boxes), dtype=torch.bool).share_memory_()
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def unreadable(self) -> int:
        """Number of images found unreadable so far."""
        return int(self._bad.sum())

    def set_epoch(self, epoch: int) -> None:
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        for step in range(len(self)):
            row = (index + step) % len(self)
            if (image := self._read(row)) is not None:
                break
        else:
            raise StmineError("None of the training images can be read; is data_dir the right folder?")
        return {
            "image": image,
            "boxes": self.boxes[row],
            "class_labels": self.class_labels[row],
            "image_id": self.rows[row]["image_id"],
            "row": row,
            "seed": hash((self.seed, int(self._epoch), index)) % 2**63,
        }

    def _read(self, row: int) -> Image.Image | None:
        """The image of a row as RGB, or None (and a line in the log, once) when it cannot be read."""
        if self._bad[row]:
            return None
        record = self.rows[row]
        try:
            with image_errors():
                return decode_image(record["image"])
        except ImageError as error:
            self._bad[row] = True
            logger.warning("Skipped %s: %s", record["filename"], error)
            return None


class BoxedStream(Streamed):
    """The samples of `BoxedImages`, without `row`, from a stream; see `Streamed`.

    Args:
        rows, args, buffer: Of `Streamed`.
        names: The data set's categories in the order of its labels.
        label2id: Class of each category of the model by its name.
    """

    def __init__(
        self, rows: Any, args: SatTrainingArguments, buffer: int, names: Sequence[str], label2id: Mapping[str, int]
    ):
        self.classes = model_classes(names, label2id)
        super().__init__(rows, args, buffer)

    def sample(self, row: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
        image = self.image(row)
        if image is None:
            return None
        boxes, labels = boxes_of(row["objects"], self.classes)
        return {"image": image, "boxes": boxes, "class_labels": labels, "image_id": row["image_id"], "seed": seed}


def model_classes(names: Sequence[str], label2id: Mapping[str, int]) -> list[int]:
    """The model's class of each category of a data set, by name.

    Raises:
        StmineError: categories that the model does not have.
    """
    if unknown := [name for name in names if name not in label2id]:
        raise StmineError(
            f"The data set has categories that the model does not have: {', '.join(map(repr, unknown))}; the "
            f"model's are {', '.join(map(repr, label2id))}."
        )
    return [label2id[name] for name in names]


def boxes_of(objects: Mapping[str, Any], classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Boxes `(n, 4)`, xyxy in pixels, and their classes `(n,)`, crowds left out."""
    kept = [i for i, crowd in enumerate(objects["iscrowd"]) if not crowd]
    corner_and_size = torch.tensor([objects["bbox"][i] for i in kept], dtype=torch.float32).reshape(-1, 4)
    boxes = torch.cat([corner_and_size[:, :2], corner_and_size[:, :2] + corner_and_size[:, 2:]], 1)
    return boxes, torch.tensor([classes[objects["category"][i]] for i in kept], dtype=torch.int64)


@dataclass
class SatCollator:
    """Items of `BoxedImages` to a batch of `SatForObjectDetection`.

    Gives `pixel_values (n, 3, H, W)` and `labels`: for each image `class_labels` and `boxes` of what is in sight.

    Args:
        transform: Image, boxes, labels to the model's input; see `transforms_sat.SatTransform`.
    """

    transform: Transform

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        images, labels = [], []
        for item in items:
            with seeded(item["seed"]):
                pixels, target = self.transform(item["image"], item["boxes"], item["class_labels"])
            images.append(pixels)
            labels.append(target)
        return {"pixel_values": torch.stack(images), "labels": labels}


def first_batches(
    samples: torch.utils.data.Dataset, collator: SatCollator, count: int, batch_size: int, seed: int = 0
) -> Iterator[Tensor]:
    """`pixel_values` of `count` batches at most, each image once, the same in every process."""
    loader = torch.utils.data.DataLoader(
        samples,
        batch_size=batch_size,
        shuffle=None if isinstance(samples, Streamed) else True,
        generator=torch.Generator().manual_seed(seed),
        collate_fn=collator,
    )
    for batch in itertools.islice(loader, count):
        yield batch["pixel_values"]

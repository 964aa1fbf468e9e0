"""From rows with boxes to SAT training samples: classes by name, crowd regions skipped."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import StmineError
from ...images import PixelOptions
from ..samples import Samples
from ..streamed import Streamed
from .arguments import SatTrainingArguments

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)


class BoxedImages(Samples):
    """The samples of an epoch: one per image, images without boxes among them.

    An item is a mapping: `image` (RGB PIL), `boxes` (float `(n, 4)`, xyxy in its pixels), `class_labels` (`(n,)`, of
    the model), `image_id`, `row` (in `rows`) and `seed` (int). Crowd regions are skipped, since their number of
    objects is unknown. An image that cannot be read is replaced by the next one that can.

    Args:
        rows: A `datasets.Dataset` of `stmine_hf.load_dataset`.
        names: The data set's categories in the order of its labels.
        label2id: Class of each category of the model by its name.
        seed: Seed of the run.
        pixels: How images are read.

    Raises:
        StmineError: Categories that the model does not have, no box at all, or images none of which can be read.
    """

    def __init__(
        self,
        rows: datasets.Dataset,
        names: Sequence[str],
        label2id: Mapping[str, int],
        seed: int = 0,
        pixels: PixelOptions | None = None,
    ):
        super().__init__(rows, seed, pixels)
        classes = model_classes(names, label2id)
        self.boxes, self.class_labels, crowds = [], [], 0
        for objects in rows["objects"]:
            boxes, labels = boxes_of(objects, classes)
            crowds += len(objects["bbox"]) - len(boxes)
            self.boxes.append(boxes)
            self.class_labels.append(labels)
        if crowds:
            logger.info("%d crowd regions are skipped in training.", crowds)
        if not any(map(len, self.boxes)):
            raise StmineError(f"None of the {len(self.boxes)} training images has a box.")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        following = (((index + step) % len(self), None) for step in range(len(self)))
        row, _, image = self.first_readable(following)
        return {
            "image": image,
            "boxes": self.boxes[row],
            "class_labels": self.class_labels[row],
            "image_id": self.rows[row]["image_id"],
            "row": row,
            "seed": self.sample_seed(index),
        }


class BoxedStream(Streamed):
    """The samples of `BoxedImages`, without `row`, from a stream; see `Streamed`.

    Args:
        rows, args, buffer, pixels: Of `Streamed`.
        names: The data set's categories in the order of its labels.
        label2id: Class of each category of the model by its name.
    """

    def __init__(
        self,
        rows: datasets.IterableDataset,
        args: SatTrainingArguments,
        buffer: int,
        names: Sequence[str],
        label2id: Mapping[str, int],
        pixels: PixelOptions | None = None,
    ):
        self.classes = model_classes(names, label2id)
        super().__init__(rows, args, buffer, pixels)

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
    """Boxes `(n, 4)`, xyxy in pixels, and their classes `(n,)`, crowds skipped."""
    kept = [i for i, crowd in enumerate(objects["iscrowd"]) if not crowd]
    corner_and_size = torch.tensor([objects["bbox"][i] for i in kept], dtype=torch.float32).reshape(-1, 4)
    boxes = torch.cat([corner_and_size[:, :2], corner_and_size[:, :2] + corner_and_size[:, 2:]], 1)
    return boxes, torch.tensor([classes[objects["category"][i]] for i in kept], dtype=torch.int64)

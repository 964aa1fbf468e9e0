"""From posts to MTTV training samples: labels by name, images read when needed."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import datasets
import torch
from torch import Tensor

from ...errors import StmineError
from ...evaluation.reports import undecoded
from ...images import PixelOptions
from ..samples import Samples
from ..streamed import Streamed, refuse
from .arguments import MODALITIES, MttvTrainingArguments

if TYPE_CHECKING:
    from ...evaluation.classification import Features
    from ..rows import Rows

logger = logging.getLogger(__name__)


class Posts(Samples):
    """The samples of an epoch: one per post.

    An item is a mapping: `text` (str), `image` (RGB PIL or None), `features` (a mapping or None), `label` (int, of the
    model), `row` (int, in `rows`), `seed` (int). A post whose image cannot be read is a post without image. Posts of
    unknown label, and those with neither text nor image, are skipped.

    Args:
        rows: a `datasets.Dataset` of `stmine_hf.load_dataset`.
        label2id: index of each label of the model by its name.
        seed: seed of the run.
        image_dropping: chance that a post with text is shown without its image, so that the model learns to do
            without.
        features: visual features that replace the images.
        pixels: how images are read.

    Raises:
        StmineError: the model has other labels, or no post is usable.
    """

    unreadable_image = "Post {name} is used without its image: {reason}"
    name_column = "post_id"

    def __init__(
        self,
        rows: datasets.Dataset,
        label2id: Mapping[str, int],
        seed: int = 0,
        image_dropping: float = 0.0,
        features: Features | None = None,
        pixels: PixelOptions | None = None,
    ):
        super().__init__(rows, seed, pixels)
        self.image_dropping, self.features = image_dropping, features
        self.ids = model_labels(rows, label2id)
        self.texts = [text or "" for text in rows["text"]]
        labels = list(rows["label"])
        known = [i for i, label in enumerate(labels) if label in self.ids]
        self.samples = [i for i in known if self.texts[i].strip() or self._may_have_image(i)]
        for count, what in ((len(labels) - len(known), "without a label"), (len(known) - len(self.samples), "empty")):
            if count:
                logger.warning("%d training posts are skipped: %s.", count, what)
        if not self.samples:
            raise StmineError(f"None of the {len(labels)} training posts has a label and a text or an image.")
        self.labels = torch.tensor([self.ids[labels[i]] for i in self.samples])

    @property
    def lengths(self) -> Tensor:
        """Characters of each sample's text."""
        return torch.tensor([len(self.texts[row]) for row in self.samples])

    @property
    def groups(self) -> Tensor:
        """The group (event, image, ...) of each sample, -1 where the data set has none."""
        groups = torch.tensor(list(self.rows["group"]))
        return groups[self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        seed, row = self.sample_seed(index), self.samples[index]
        shown = not self.texts[row].strip() or random.Random(seed).random() >= self.image_dropping
        return {
            "text": self.texts[row],
            "image": self.read_image(row) if shown and self.features is None else None,
            "features": self._features(row) if shown else None,
            "label": int(self.labels[index]),
            "row": row,
            "seed": seed,
        }

    def _may_have_image(self, row: int) -> bool:
        return self.rows[row].get("image") is not None or self._features(row) is not None

    def _features(self, row: int) -> Mapping[str, Any] | None:
        if self.features is None or (key := self.rows[row]["post_id"]) not in self.features:
            return None
        return self.features.get(key)


class PostStream(Streamed):
    """The samples of `Posts`, without `row`, from a stream; see `Streamed`.

    Args:
        rows, args, buffer, pixels: of `Streamed`.
        label2id: index of each label of the model by its name.
        image_dropping: chance that a post with text is shown without its image.
    """

    def __init__(
        self,
        rows: datasets.IterableDataset,
        args: MttvTrainingArguments,
        buffer: int,
        label2id: Mapping[str, int],
        image_dropping: float = 0.0,
        pixels: PixelOptions | None = None,
    ):
        refuse(args, "class_balance", "group_balance", "released_optimizer")
        self.ids = model_labels(rows, label2id)
        super().__init__(rows, args, buffer, pixels)
        self.image_dropping = image_dropping

    def sample(self, row: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
        text = row["text"] or ""
        dropped = text.strip() and random.Random(seed).random() < self.image_dropping
        image = None if dropped else self.image(row)
        if row["label"] not in self.ids or (not text.strip() and image is None):
            return None
        return {"text": text, "image": image, "features": None, "label": self.ids[row["label"]], "seed": seed}


def model_labels(rows: Rows, label2id: Mapping[str, int]) -> dict[int, int]:
    """Index of a label in the rows to its index in the model, matched by name.

    Raises:
        StmineError: the model has other labels.
    """
    names = rows.features["label"].names
    if set(names) != set(label2id):
        raise StmineError(
            f"The data set's labels are {', '.join(map(repr, names))}, the model's are "
            f"{', '.join(map(repr, label2id))}. Start from a model with the data's labels, or from backbones."
        )
    return {index: label2id[name] for index, name in enumerate(names)}


def keep_modalities(rows: Rows, modalities: str) -> Rows:
    """Rows without their images ("text"), without their texts ("image"), or as they are ("both")."""
    if modalities not in MODALITIES:
        raise StmineError(f"modalities must be one of {', '.join(MODALITIES)}, got {modalities!r}.")
    if modalities == "both":
        return rows
    column, nothing = ("image", None) if modalities == "text" else ("text", "")
    if isinstance(rows, datasets.IterableDataset):
        return undecoded(rows).map(lambda row: {column: nothing}).cast(rows.features)
    if column not in rows.column_names:
        return rows
    return rows.remove_columns(column).add_column(column, [nothing] * len(rows), feature=rows.features[column])

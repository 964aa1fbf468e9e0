"""From posts to MTTV training batches: labels by name, images read when needed, augmentation, order of an epoch."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import StmineError
from ...evaluation.reports import undecoded
from ...images import ImageError, decode_image, image_errors
from ...posts.features import FeatureStore, precompute_features
from ...posts.judging import Post, stack_features
from ..fisvl.transforms import seeded
from ..streamed import Streamed, refuse
from .transforms import ImageTransform

if TYPE_CHECKING:
    from ...evaluation.classification import Features
    from .arguments import MttvTrainingArguments

logger = logging.getLogger(__name__)

MODALITIES = ("both", "text", "image")


class Posts(torch.utils.data.Dataset):
    """The samples of an epoch: one a post.

    An item is a mapping: `text` (str), `image` (RGB PIL or None), `features` (a mapping or None), `label` (int, of the
    model), `row` (int, in `rows`), `seed` (int). Everything random about it follows from `(seed, epoch, index)`, so
    that neither the number of workers nor an interruption changes a run. A post whose image cannot be read is a post
    without image; such images are counted in `unreadable` and named once in the log. Posts of unknown label, and
    those with neither text nor image, are left out.

    Args:
        rows: a `datasets.Dataset` of `stmine_hf.load_dataset`.
        label2id: index of each label of the model by its name.
        seed: seed of the run.
        image_dropping: chance that a post with text is shown without its image, which teaches that state.
        features: visual features that take the place of images.

    Raises:
        StmineError: the model has other labels, or there is not one usable post.
    """

    def __init__(
        self,
        rows: Any,
        label2id: Mapping[str, int],
        seed: int = 0,
        image_dropping: float = 0.0,
        features: Features | None = None,
    ):
        self.rows = undecoded(rows)
        self.seed, self.image_dropping, self.features = seed, image_dropping, features
        self.ids = model_labels(rows, label2id)
        self.texts = [text or "" for text in rows["text"]]
        labels = list(rows["label"])
        known = [i for i, label in enumerate(labels) if label in self.ids]
        self.samples = [i for i in known if self.texts[i].strip() or self._may_have_image(i)]
        for count, what in ((len(labels) - len(known), "without a label"), (len(known) - len(self.samples), "empty")):
            if count:
                logger.warning("%d training posts are left out: %s.", count, what)
        if not self.samples:
            raise StmineError(f"None of the {len(labels)} training posts has a label and a text or an image.")
        self.labels = torch.tensor([self.ids[labels[i]] for i in self.samples])
        # In shared memory: worker processes write the one and read the other.
        self._bad = torch.zeros(len(labels), dtype=torch.bool).share_memory_()
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def unreadable(self) -> int:
        """Number of images found unreadable so far."""
        return int(self._bad.sum())

    @property
    def lengths(self) -> Tensor:
        """Characters of each sample's text."""
        return torch.tensor([len(self.texts[row]) for row in self.samples])

    @property
    def groups(self) -> Tensor:
        """The group (event, image, ...) of each sample, -1 where the data set knows of none."""
        groups = torch.tensor(list(self.rows["group"]))
        return groups[self.samples]

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        seed = hash((self.seed, self.epoch, index)) % 2**63
        row = self.samples[index]
        shown = not self.texts[row].strip() or random.Random(seed).random() >= self.image_dropping
        features = self._features(row) if shown else None
        return {
            "text": self.texts[row],
            "image": self._image(row) if shown and self.features is None else None,
            "features": features,
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

    def _image(self, row: int) -> Image.Image | None:
        """The image of a post as RGB; None, and a line in the log, once, when it cannot be read."""
        stored = None if self._bad[row] else self.rows[row].get("image")
        if stored is None:
            return None
        try:
            with image_errors():
                return decode_image(stored)
        except ImageError as error:
            self._bad[row] = True
            logger.warning("Post %s is shown without its image: %s", self.rows[row]["post_id"], error)
            return None


class PostStream(Streamed):
    """The samples of `Posts`, without `row`, from a stream; see `Streamed`.

    Args:
        rows, args, buffer: of `Streamed`.
        label2id: index of each label of the model by its name.
        image_dropping: chance that a post with text is shown without its image.
    """

    def __init__(
        self,
        rows: Any,
        args: MttvTrainingArguments,
        buffer: int,
        label2id: Mapping[str, int],
        image_dropping: float = 0.0,
    ):
        refuse(args, "class_balance", "group_balance", "released_optimizer")
        self.ids = model_labels(rows, label2id)
        super().__init__(rows, args, buffer)
        self.image_dropping = image_dropping

    def sample(self, row: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
        text = row["text"] or ""
        dropped = text.strip() and random.Random(seed).random() < self.image_dropping
        image = None if dropped or row["image"] is None else self.image(row)
        if row["label"] not in self.ids or (not text.strip() and image is None):
            return None
        return {"text": text, "image": image, "features": None, "label": self.ids[row["label"]], "seed": seed}


def model_labels(rows: Any, label2id: Mapping[str, int]) -> dict[int, int]:
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


def keep_modalities(rows: Any, modalities: str) -> Any:
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


def kept_features(
    folder: str | Path, model: Any, processor: Any, splits: list[Any], *, detector: Any = None, progress: bool = True
) -> FeatureStore:
    """The visual features of posts, found once and kept: those that the folder lacks are found first.

    Args:
        folder: made, or brought up to date; see `stmine_hf.posts.features`.
        model: if it has no visual encoder, the folder is taken as it is.
        processor: the model's.
        splits: the posts.
        detector: finds regions in the images; see `MttvProcessor`.
        progress: show a bar on stderr.

    Raises:
        StmineError: the encoder is trained, so that its features change; or the folder holds those of another one.
    """
    if model.config.vision_config is not None:
        if model.config.train_vision:
            raise StmineError(
                "features are found once, but model_config has train_vision: true; leave out one of them."
            )
        posts = (
            Post(row["post_id"], "", [] if row["image"] is None else [partial(decode_image, row["image"])])
            for rows in splits
            for row in undecoded(rows)
        )
        total = sum(map(len, splits))
        report = precompute_features(
            model, processor, posts, folder, detector=detector, total=total, progress=progress
        )
        logger.info("Visual features in %s: %d posts, %d of them new.", folder, report.total, report.added)
        for skip in report.skipped:
            logger.warning("Post %s is taken without its image: %s", skip.path, skip.reason)
    store = FeatureStore.open(folder)
    store.require(model.config)
    return store


def sample_weights(labels: Tensor, groups: Tensor, class_balance: float, group_balance: float) -> Tensor | None:
    """How often each sample is drawn, relative to the others; None for each once an epoch.

    Args:
        labels: class of each sample.
        groups: group of each sample; each of -1 is a group of its own.
        class_balance: b in [0, 1]: a sample of a class of n weighs n ** -b. At 1 all classes are seen equally often.
        group_balance: the same for groups. A class counts with the weights that its samples have after that, so that
            classes of few large groups are not seen less.

    Example:
        >>> sample_weights(torch.tensor([0, 0, 1]), torch.tensor([-1, -1, -1]), class_balance=1.0, group_balance=0.0)
        tensor([0.5000, 0.5000, 1.0000], dtype=torch.float64)
    """
    if not class_balance and not group_balance:
        return None
    _, member, sizes = groups.unique(return_inverse=True, return_counts=True)
    weights = torch.where(groups < 0, 1, sizes[member]).double() ** -float(group_balance)
    return weights * labels.bincount(weights)[labels] ** -float(class_balance)


class PostSampler(torch.utils.data.Sampler[int]):
    """The order of an epoch: shuffled, or drawn with replacement by weight; batches of like length if wanted.

    The order follows from the seed and the samples' epoch alone: a resumed run goes on in it, and every process of a
    distributed run has the same.

    Args:
        samples: the training posts.
        seed: seed of the run.
        weights: see `sample_weights`; None shuffles.
        batch_size: posts of all processes in a step, to make batches of posts with texts of like length; None leaves
            the batches mixed.
    """

    def __init__(self, samples: Posts, seed: int = 0, weights: Tensor | None = None, batch_size: int | None = None):
        self.samples, self.seed, self.weights, self.batch_size = samples, seed, weights, batch_size
        self.lengths = samples.lengths

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(hash((self.seed, self.samples.epoch)) % 2**63)
        if self.weights is None:
            order = torch.randperm(len(self), generator=generator)
        else:
            order = torch.multinomial(self.weights, len(self), replacement=True, generator=generator)
        if self.batch_size is not None:
            order = by_length(order, self.lengths, self.batch_size, generator)
        return iter(order.tolist())


def by_length(order: Tensor, lengths: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Sort within stretches of 50 batches, then shuffle the batches; a last, smaller batch stays last.

    Padding then costs little, and the batches still differ from epoch to epoch.
    """
    whole = len(order) // batch_size * batch_size
    batches: list[Tensor] = []
    for stretch in order[:whole].split(50 * batch_size):
        batches += stretch[lengths[stretch].argsort(stable=True)].split(batch_size)
    shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    return torch.cat([*shuffled, order[whole:]])


@dataclass
class MttvCollator:
    """Items of `Posts` to a batch of `MttvForSequenceClassification`.

    Gives `input_ids`, `attention_mask (n, T)` and `labels (n,)`; where a post of the batch has an image also
    `pixel_values` and `image_mask` (with a detector also `region_pixel_values` and `region_mask`), or, with features
    found beforehand, `global_features` and `region_features`.

    Args:
        processor: an `MttvProcessor`: text is cut and split as in use.
        transform: augmentation of images; see `transforms_mttv.build_image_transform`.
        detector: finds regions in the images as augmented; see `MttvProcessor`.
        token_dropping: chance that a text loses a given token; at least one stays.
    """

    processor: Any
    transform: ImageTransform | None = None
    detector: Any = None
    token_dropping: float = 0.0

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        images = [self._augmented(item) for item in items]
        # The model takes what is not there at all for zeros, as it takes an image that is masked.
        shown = {"images": images, "detector": self.detector} if any(image is not None for image in images) else {}
        inputs = self.processor(text=[item["text"] for item in items], **shown)
        batch = {**inputs, "labels": torch.tensor([item["label"] for item in items])}
        if self.token_dropping:
            seeds, padding = [item["seed"] for item in items], self.processor.tokenizer.pad_token_id
            batch |= drop_tokens(batch, self.token_dropping, seeds, padding)
        return batch | stack_features([item["features"] for item in items])

    def _augmented(self, item: dict[str, Any]) -> Image.Image | None:
        if item["image"] is None or self.transform is None:
            return item["image"]
        with seeded(item["seed"]):
            return self.transform(item["image"])


def drop_tokens(batch: Mapping[str, Tensor], rate: float, seeds: list[int], padding: int = 0) -> dict[str, Tensor]:
    """Leave each token of a padded batch out with probability `rate`, at least one a text staying.

    Tokens rather than words: a Chinese text has no words to split at, its characters are its tokens.

    Returns:
        `input_ids` and `attention_mask`, padded on the right to the longest text that is left.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    kept = torch.zeros_like(mask)
    for row, seed in enumerate(seeds):
        draws = np.random.default_rng(seed).random(int(mask[row].sum()))
        stays = draws >= min(rate, draws.max(initial=0.0))
        kept[row, mask[row]] = torch.from_numpy(stays)
    order = (~kept).to(torch.int8).argsort(dim=1, stable=True)  # those kept first, in their order
    order = order[:, : max(1, int(kept.sum(dim=1).max()))]
    kept = kept.gather(1, order)
    return {
        "input_ids": ids.gather(1, order).masked_fill(~kept, padding),
        "attention_mask": kept.to(batch["attention_mask"].dtype),
    }

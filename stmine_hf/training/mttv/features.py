"""Visual features of posts: those of a frozen visual encoder are computed once and replace the images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import StmineError
from ...evaluation.reports import undecoded
from ...images import PixelOptions
from ...posts.features import FeatureStore, precompute_features
from ...posts.post import Post, row_image

if TYPE_CHECKING:
    import datasets

    from ...modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ...modeling.mttv.processing_mttv import MttvProcessor
    from ...posts.prediction import RegionDetector

logger = logging.getLogger(__name__)


def kept_features(
    folder: str | Path,
    model: MttvForSequenceClassification,
    processor: MttvProcessor,
    splits: list[datasets.Dataset],
    *,
    detector: RegionDetector | None = None,
    pixels: PixelOptions | None = None,
    progress: bool = True,
) -> FeatureStore:
    """The visual features of posts from a folder; those that it lacks are computed first and added to it.

    Args:
        folder: created, or updated; see `stmine_hf.posts.features`.
        model: if it has no visual encoder, the folder is used unchanged.
        processor: the model's.
        splits: the posts.
        detector: finds regions in the images; see `MttvProcessor`.
        pixels: how to read images of more than 8 bits or more than three bands; posts whose features were computed
            with others are encoded again.
        progress: show a bar on stderr.

    Raises:
        StmineError: the encoder is trained, so that its features change; or the folder holds those of another
            encoder.
    """
    if model.config.vision_config is not None:
        if model.config.train_vision:
            raise StmineError("features are computed once, but model_config has train_vision: true; omit one of them.")
        posts = (
            Post(
                row["post_id"], "", [] if row["image"] is None else [row_image(row["image"], pixels or PixelOptions())]
            )
            for rows in splits
            for row in undecoded(rows)
        )
        total = sum(map(len, splits))
        report = precompute_features(
            model, processor, posts, folder, detector=detector, total=total, progress=progress
        )
        logger.info("Visual features in %s: %d posts, %d of them new.", folder, report.total, report.added)
        for skip in report.skipped:
            logger.warning("Post %s is used without its image: %s", skip.path, skip.reason)
    store = FeatureStore.open(folder)
    store.require(model.config)
    return store

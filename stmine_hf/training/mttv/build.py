"""A training run of MTTV: its data, model, samples and trainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...posts.detectors import load_detector
from ..adapters import add_adapter
from ..fit import OwnSets
from ..parts import Training, image_file
from ..run import Run
from .arguments import MttvDataArguments, MttvModelArguments, MttvTrainingArguments
from .collator import MttvCollator
from .features import kept_features
from .model import build_mttv
from .samples import Posts, PostStream, keep_modalities
from .trainer import MttvTrainer
from .transforms import build_mttv_transform

logger = logging.getLogger(__name__)

_SHOWN = 60  # characters of a post in an example


def build_mttv_trainer(run: Run) -> MttvTrainer:
    """The trainer of a run; `run.train` starts it.

    Raises:
        StmineError: data that cannot be read or used, nothing to start from, or settings that contradict each other.
    """
    model_args, data_args, args = run.model, run.data, run.args

    # Data.
    train_rows, eval_rows = run.load_rows("posts", data_args.max_train_posts, data_args.max_eval_posts)

    # Model and processor.
    model, processor = build_mttv(model_args, train_rows)
    if args.peft:
        resuming = run.checkpoint is not None
        model = add_adapter(model, processor, args, model_args.model_name_or_path, resuming=resuming)
    model.to(memory_format=torch.channels_last)  # convolutions run up to three times as fast on a CPU

    # Training samples: which parts of a post are shown, augmentation, regions, tokens.
    if model.config.vision_config is None and data_args.features is None and data_args.modalities != "text":
        logger.info("The model has no visual encoder, and there are no features: it trains on the texts alone.")
        data_args.modalities = "text"
    train_rows = keep_modalities(train_rows, data_args.modalities)
    eval_rows = None if eval_rows is None else keep_modalities(eval_rows, data_args.modalities)
    detector = load_detector(data_args.detector) if data_args.detector else None
    features, pixels = None, data_args.pixels
    if data_args.features and data_args.modalities != "text":
        with args.main_process_first(desc="computing visual features"):
            wanted = [rows for rows in (train_rows, eval_rows) if rows is not None]
            features = kept_features(data_args.features, model, processor, wanted, detector=detector, pixels=pixels)
    samples: Posts | PostStream
    if data_args.streaming:
        samples = PostStream(
            train_rows, args, data_args.shuffle_buffer, model.config.label2id, data_args.image_dropping, pixels
        )
    else:
        samples = Posts(train_rows, model.config.label2id, args.seed, data_args.image_dropping, features, pixels)
    transform = build_mttv_transform(data_args.image_augmentation)

    return MttvTrainer(
        model=model,
        args=args,
        train_dataset=samples,
        eval_dataset=eval_rows,
        data_collator=MttvCollator(processor, transform, detector, data_args.token_dropping),
        processing_class=processor,
        detector=detector,
        features=features,
    )


def _examples(row: Mapping[str, Any], model: Path) -> list[list[str]]:
    image, text = image_file(row), " ".join((row["text"] or "").split())
    shown = ["--text", text[:_SHOWN]] if text else []
    shown += [] if image is None else ["--image", str(image)]
    return [["classify", *shown, "--model", str(model)]] if shown else []


TRAINING = Training(
    arguments=(MttvModelArguments, MttvDataArguments, MttvTrainingArguments),
    build=build_mttv_trainer,
    own_sets=OwnSets(
        batch=16,
        samples=960,
        settings={
            "attn_implementation": "eager",
            "token_dropping": 0.15,
            "image_dropping": 0.3,
            "image_augmentation": "flip",
            "class_balance": 1.0,
            "group_balance": 0.5,
            "train_sampling_strategy": "group_by_length",
            "weight_decay": 0.01,
            "adam_beta2": 0.98,
            "adam_epsilon": 1e-6,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.1,
            "max_grad_norm": 1.0,
            "metric_for_best_model": "accuracy",
        },
        whole={"learning_rate": 3e-4, "layer_lr_decay": 0.85, "freeze": ["word_embeddings"]},
        adapter={"learning_rate": 3e-3},
        adapter_up_to=0,
    ),
    examples=_examples,
)

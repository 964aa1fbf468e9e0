"""A training run of SAT: its data, model, samples and trainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...data.boxed_images import category_label
from ..adapters import add_adapter
from ..fit import OwnSets
from ..parts import Training, image_file
from ..run import Run
from .arguments import SatDataArguments, SatModelArguments, SatTrainingArguments
from .collator import SatCollator
from .model import build_sat
from .samples import BoxedImages, BoxedStream
from .trainer import SatTrainer
from .transforms import SatTransform, build_augmentation
from .warm_start import first_batches, recalibrate_batchnorm

logger = logging.getLogger(__name__)


def build_sat_trainer(run: Run) -> SatTrainer:
    """The trainer of a run; `run.train` starts it.

    Raises:
        StmineError: data that cannot be read or used, nothing to start from, or settings that contradict each other.
    """
    model_args, data_args, args = run.model, run.data, run.args

    # Data.
    train_rows, eval_rows = run.load_rows("boxes", data_args.max_train_images, data_args.max_eval_images)
    names = category_label(train_rows.features).names

    # Model and processor.
    model, processor = build_sat(model_args, names, data_args.image_size)
    if args.peft:
        resuming = run.checkpoint is not None
        model = add_adapter(model, processor, args, model_args.model_name_or_path, resuming=resuming)
    model.to(memory_format=torch.channels_last)  # convolutions run up to twice as fast on a CPU

    # Training samples: augmentation of images and boxes.
    pixels = data_args.pixels
    samples: BoxedImages | BoxedStream
    if data_args.streaming:
        samples = BoxedStream(train_rows, args, data_args.shuffle_buffer, names, model.config.label2id, pixels)
    else:
        samples = BoxedImages(train_rows, names, model.config.label2id, args.seed, pixels)
    augmentation = build_augmentation(data_args.augmentation, data_args.augmentation_options)
    collator = SatCollator(SatTransform(augmentation, processor, data_args.train_image_size))

    if model_args.recalibrate_batchnorm and not run.checkpoint and not args.peft:  # adapters train on fixed statistics
        few = first_batches(samples, collator, model_args.recalibrate_batchnorm, args.per_device_train_batch_size)
        count = recalibrate_batchnorm(model, few)
        logger.info("%d batch norms have the statistics of %d batches.", count, model_args.recalibrate_batchnorm)

    return SatTrainer(
        model=model,
        args=args,
        train_dataset=samples,
        eval_dataset=eval_rows,
        data_collator=collator,
        processing_class=processor,
    )


def _examples(row: Mapping[str, Any], model: Path) -> list[list[str]]:
    image = image_file(row)
    return [] if image is None else [["detect", str(image), "--model", str(model)]]


TRAINING = Training(
    arguments=(SatModelArguments, SatDataArguments, SatTrainingArguments),
    build=build_sat_trainer,
    own_sets=OwnSets(
        batch=16,
        samples=900,
        settings={
            "augmentation": "mild",
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.1,
            "weight_decay": 0.05,
            "max_grad_norm": 10.0,
        },
        whole={"learning_rate": 2e-3, "recalibrate_batchnorm": 32},
        adapter={"learning_rate": 5e-3},
        adapter_up_to=500,
    ),
    examples=_examples,
)

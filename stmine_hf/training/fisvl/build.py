"""A training run of FISVL: its data, model, samples and trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..adapters import add_adapter
from ..fit import OwnSets
from ..parts import Training, free_path, image_file
from ..run import Run
from .arguments import FisvlDataArguments, FisvlModelArguments, FisvlTrainingArguments
from .collator import FisvlCollator
from .model import build_fisvl
from .samples import CaptionedImages, CaptionedStream
from .trainer import FisvlTrainer
from .transforms import build_fisvl_transform


def build_fisvl_trainer(run: Run) -> FisvlTrainer:
    """The trainer of a run; `run.train` starts it.

    Raises:
        StmineError: data that cannot be read or used, nothing to start from, or settings that contradict each other.
    """
    model_args, data_args, args = run.model, run.data, run.args

    # Data.
    train_rows, eval_rows = run.load_rows("captions", data_args.max_train_images, data_args.max_eval_images)

    # Model and processor.
    model, processor = build_fisvl(model_args, train_rows)
    if args.peft:
        resuming = run.checkpoint is not None
        model = add_adapter(model, processor, args, model_args.model_name_or_path, resuming=resuming)
    model.to(memory_format=torch.channels_last)  # convolutions run up to three times as fast on a CPU

    # Training samples: which captions, word dropping, augmentation, tokens.
    max_words = processor.max_words if processor.clean_captions else None
    pixels = data_args.pixels
    samples: CaptionedImages | CaptionedStream
    if data_args.streaming:
        samples = CaptionedStream(
            train_rows, args, data_args.shuffle_buffer, data_args.captions_per_step, max_words, pixels
        )
    else:
        samples = CaptionedImages(train_rows, data_args.captions_per_step, max_words, args.seed, pixels)
    transform = build_fisvl_transform(data_args.augmentation, processor.image_processor, data_args.train_image_size)

    return FisvlTrainer(
        model=model,
        args=args,
        train_dataset=samples,
        eval_dataset=eval_rows,
        data_collator=FisvlCollator(processor, transform, data_args.deletion_rate),
        processing_class=processor,
    )


def _examples(row: Mapping[str, Any], model: Path) -> list[list[str]]:
    image = image_file(row)
    if image is None:
        return []
    index = str(free_path(Path(f"{model.parent.name}.index")))
    return [
        ["index", str(image.parent), "--model", str(model), "--out", index],
        ["search", index, " ".join(row["captions"][0].split()).lstrip("- ")],
    ]


TRAINING = Training(
    arguments=(FisvlModelArguments, FisvlDataArguments, FisvlTrainingArguments),
    build=build_fisvl_trainer,
    own_sets=OwnSets(
        batch=30,
        samples=1200,
        settings={
            "augmentation": "lite",
            "train_image_size": 160,
            "captions_per_step": "2",
            "deletion_rate": 0.1,
            "vision_lr_mult": 0.5,
            "text_lr_mult": 0.2,
            "weight_decay": 0.05,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.1,
            "max_grad_norm": 1.0,
            "freeze_batchnorm": True,
        },
        whole={"learning_rate": 4e-4},
        shipped={"freeze_vision_stages": 4},  # of its seven
        adapter={"learning_rate": 3e-3},
        adapter_up_to=0,
    ),
    examples=_examples,
)

"""Settings of training FISVL: where the model comes from, the data, the optimization."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import StmineError
from ..arguments import ZooDataArguments, ZooTrainingArguments, dataset_help, mapping_field


@dataclass
class FisvlModelArguments:
    """Where the model comes from: a prepared folder, or backbones to assemble."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A FISVL folder or Hub id to start from (its weights are kept)."}
    )
    vision_backbone: str | None = field(
        default=None, metadata={"help": "Without model_name_or_path: folder or Hub id of the image encoder."}
    )
    conv_backbone: str | None = field(
        default=None, metadata={"help": "Without model_name_or_path: folder or Hub id of the convolutional encoder."}
    )
    text_backbone: str | None = field(
        default=None, metadata={"help": "Without model_name_or_path: folder or Hub id of the text encoder."}
    )
    toy_model: bool = field(
        default=False, metadata={"help": "Start from a tiny random model, vocabulary from the captions (smoke runs)."}
    )
    model_config: dict | str | None = field(
        default=None, metadata={"help": "FisvlConfig fields to set, as a mapping (JSON on the command line)."}
    )

    def __post_init__(self) -> None:
        self.model_config = mapping_field("model_config", self.model_config)
        backbones = [self.vision_backbone, self.conv_backbone, self.text_backbone]
        sources = [self.model_name_or_path is not None, any(backbones), self.toy_model]
        if sum(sources) != 1:
            raise StmineError(
                "Name one source for the model: model_name_or_path, or vision_backbone and text_backbone (and "
                f"conv_backbone), or toy_model: true; found {sum(sources)} of them."
            )


@dataclass
class FisvlDataArguments(ZooDataArguments):
    """Which images and captions, and what happens to them on the way to the model."""

    dataset: str = field(
        default="rsicd",
        metadata={"help": dataset_help("captions")},
    )
    max_train_images: int | None = field(default=None, metadata={"help": "Only N training images, evenly spread."})
    max_eval_images: int | None = field(default=None, metadata={"help": "Only N validation images, evenly spread."})
    augmentation: str = field(
        default="none", metadata={"help": "Training images: rsitmd, rsicd, ucm, sydney (as released), lite or none."}
    )
    train_image_size: int | None = field(
        default=None,
        metadata={
            "help": "Side in pixels of the training images; None: as the processor, which evaluation always uses. "
            "A random crop enlarges objects, so a smaller side than in inference is cheaper and no worse."
        },
    )
    captions_per_step: str = field(
        default="all",
        metadata={
            "help": "all: every caption is a sample (5 x images an epoch, as released); one: a random caption a "
            "image and step; a number k: k captions of an image, which is encoded once."
        },
    )
    deletion_rate: float = field(
        default=0.0, metadata={"help": "Chance of each word of a training caption to be dropped."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.captions_per_step not in ("all", "one") and not (
            self.captions_per_step.isdigit() and int(self.captions_per_step) > 0
        ):
            raise StmineError(
                f"captions_per_step must be 'all', 'one' or a positive number, got {self.captions_per_step!r}."
            )
        if self.train_image_size is not None and self.train_image_size < 1:
            raise StmineError(f"train_image_size must be a number of pixels, got {self.train_image_size}.")
        if not 0.0 <= self.deletion_rate < 1.0:
            raise StmineError(f"deletion_rate must lie in [0, 1), got {self.deletion_rate}.")


@dataclass
class FisvlTrainingArguments(ZooTrainingArguments):
    """`ZooTrainingArguments` with the fields that training FISVL adds.

    `learning_rate` is the rate of a parameter whose multiplier is 1. `per_device_train_batch_size` counts
    samples: pairs with `captions_per_step: all`, images otherwise.
    """

    metric_for_best_model: str = field(default="r_mean", metadata={"help": "Validation metric of the best model."})

    vision_lr_mult: float = field(default=1.0, metadata={"help": "learning_rate multiplier of the image encoders."})
    text_lr_mult: float = field(default=1.0, metadata={"help": "learning_rate multiplier of the text encoder."})
    head_lr_mult: float = field(default=1.0, metadata={"help": "learning_rate multiplier of everything else."})
    released_schedule_length: bool = field(
        default=False,
        metadata={"help": "Schedule over ceil(samples / batch) steps an epoch although the last batch is dropped."},
    )
    gradient_cache_chunk: int = field(
        default=0,
        metadata={
            "help": "Encode a batch N samples at a time: the loss of the whole batch in the memory of N samples, for "
            "a third more work (0: off). Trained batch norms use statistics of N samples."
        },
    )
    freeze_conv: bool = field(
        default=False, metadata={"help": "Freeze the convolutional encoder and its sensing module (as released)."}
    )
    freeze_vision_stages: int = field(
        default=0, metadata={"help": "Freeze the image encoder's embedding and its first N - 1 stages (0: none)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gradient_cache_chunk < 0:
            raise StmineError(f"gradient_cache_chunk must not be negative, got {self.gradient_cache_chunk}.")

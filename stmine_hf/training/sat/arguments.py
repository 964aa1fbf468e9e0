"""Settings of training SAT: where the model comes from, the images with boxes, the optimization."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import StmineError
from ..arguments import ZooDataArguments, ZooTrainingArguments, dataset_help, mapping_field
from .transforms import AUGMENTATIONS, Augmentation, build_augmentation


@dataclass
class SatModelArguments:
    """Where the model comes from. Its classes are always those of the data set.

    One of `model_name_or_path` (design and weights of a folder), `preset` (a named design) and `toy_model`. The latter
    two get the weights of `init_from` that fit.
    """

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": "A SAT folder or Hub id to start from: its design, and its weights where they fit."},
    )
    preset: str | None = field(
        default=None, metadata={"help": "sat or nanodet-m: the named design, with random weights (but see init_from)."}
    )
    toy_model: bool = field(default=False, metadata={"help": "Start from a tiny random model (smoke runs)."})
    init_from: str | None = field(
        default=None,
        metadata={"help": "With preset: folder or Hub id of which every tensor of the same name and shape is taken."},
    )
    model_config: dict | str | None = field(
        default=None, metadata={"help": "SatConfig fields to set, as a mapping (JSON on the command line)."}
    )
    recalibrate_batchnorm: int = field(
        default=0,
        metadata={
            "help": "Measure batch norm statistics over N training batches first, the model's function staying the "
            "same: for weights whose batch norms were folded away, such as converted ones."
        },
    )

    def __post_init__(self) -> None:
        self.model_config = mapping_field("model_config", self.model_config)
        sources = [self.model_name_or_path is not None, self.preset is not None, self.toy_model]
        if sum(sources) != 1:
            raise StmineError(
                "Name one source for the model: model_name_or_path, or preset, or toy_model: true; found "
                f"{sum(sources)} of them."
            )
        if self.init_from is not None and self.model_name_or_path is not None:
            raise StmineError(
                "init_from goes with preset (or toy_model); model_name_or_path brings its own weights, those that fit."
            )
        if self.recalibrate_batchnorm < 0:
            raise StmineError(f"recalibrate_batchnorm must not be negative, got {self.recalibrate_batchnorm}.")


@dataclass
class SatDataArguments(ZooDataArguments):
    """Which images and boxes, and what happens to them on the way to the model."""

    dataset: str = field(
        default="coco_json",
        metadata={"help": dataset_help("boxes")},
    )
    max_train_images: int | None = field(default=None, metadata={"help": "Only N training images, evenly spread."})
    max_eval_images: int | None = field(default=None, metadata={"help": "Only N validation images, evenly spread."})
    image_size: int | None = field(
        default=None,
        metadata={"help": "Longer side in pixels of images in use, a multiple of 32; None: the model's, or 320."},
    )
    train_image_size: int | None = field(
        default=None, metadata={"help": "Side in pixels of the square training canvas, if not image_size."}
    )
    augmentation: str = field(default="none", metadata={"help": f"Training images: {', '.join(AUGMENTATIONS)}."})
    augmentation_options: dict | str | None = field(
        default=None,
        metadata={"help": f"Numbers to change in it, as a mapping: {', '.join(Augmentation.__dataclass_fields__)}."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.augmentation_options = mapping_field("augmentation_options", self.augmentation_options)
        build_augmentation(self.augmentation, self.augmentation_options)  # complains
        for name in ("image_size", "train_image_size"):
            side = getattr(self, name)
            if side is not None and (side < 32 or side % 32):
                raise StmineError(f"{name} must be a multiple of 32 pixels, got {side}.")


@dataclass
class SatTrainingArguments(ZooTrainingArguments):
    """`ZooTrainingArguments` with the fields that training SAT adds."""

    metric_for_best_model: str = field(default="ap", metadata={"help": "Validation metric of the best model."})

    freeze_batchnorm: bool = field(
        default=False, metadata={"help": "Batch norms keep their statistics; their scales and shifts are trained."}
    )
    freeze_backbone_stages: int = field(
        default=0, metadata={"help": "Freeze the stem and the first N - 1 stages, batch norms too (0: none)."}
    )
    backbone_lr_mult: float = field(default=1.0, metadata={"help": "learning_rate multiplier of the backbone."})
    decay_everything: bool = field(
        default=False, metadata={"help": "Weight decay on biases and batch norms too (as in the released code)."}
    )
    lr_milestones: list[float] = field(
        default_factory=list,
        metadata={
            "help": "Epochs at which the learning rate is multiplied by lr_gamma: the released schedule, instead "
            "of lr_scheduler_type."
        },
    )
    lr_gamma: float = field(default=0.1, metadata={"help": "With lr_milestones: factor at each of them."})
    warmup_start: float = field(
        default=0.1, metadata={"help": "With lr_milestones: share of the learning rate at which warm-up begins."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr_milestones and self.max_steps > 0:
            raise StmineError("lr_milestones are epochs: give num_train_epochs, not max_steps.")
        if self.lr_milestones and not 0 < max(self.lr_milestones) < self.num_train_epochs:
            raise StmineError(
                f"lr_milestones {self.lr_milestones} must lie before the last epoch; num_train_epochs is "
                f"{self.num_train_epochs:g}."
            )
        if self.freeze_backbone_stages < 0:
            raise StmineError(f"freeze_backbone_stages must not be negative, got {self.freeze_backbone_stages}.")

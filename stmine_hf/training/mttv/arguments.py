"""Settings of training MTTV: where the model comes from, the posts, the optimization."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import StmineError
from ..arguments import ZooDataArguments, ZooTrainingArguments, dataset_help, mapping_field

MODALITIES = ("both", "text", "image")


@dataclass
class MttvModelArguments:
    """Where the model comes from: a prepared folder, or backbones to assemble."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "An MTTV folder or Hub id to start from (its weights and labels are kept)."}
    )
    text_backbone: str | None = field(
        default=None, metadata={"help": "Without model_name_or_path: folder or Hub id of a BERT."}
    )
    vision_backbone: str | None = field(
        default=None,
        metadata={
            "help": "Beside text_backbone: folder or Hub id of the visual encoder; none: the model takes features."
        },
    )
    toy_model: bool = field(
        default=False, metadata={"help": "Start from a tiny random model, vocabulary from the posts (smoke runs)."}
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "sdpa, eager, ...: how attention is computed; on a CPU eager trains faster."},
    )
    model_config: dict | str | None = field(
        default=None, metadata={"help": "MttvConfig fields to set, as a mapping (JSON on the command line)."}
    )

    def __post_init__(self) -> None:
        self.model_config = mapping_field("model_config", self.model_config)
        sources = [self.model_name_or_path is not None, self.text_backbone is not None, self.toy_model]
        if sum(sources) != 1:
            raise StmineError(
                "Name one source for the model: model_name_or_path, or text_backbone (and vision_backbone), or "
                f"toy_model: true; found {sum(sources)} of them."
            )
        if self.vision_backbone is not None and self.text_backbone is None:
            raise StmineError("vision_backbone goes with text_backbone; the other sources have their visual encoder.")


@dataclass
class MttvDataArguments(ZooDataArguments):
    """Which posts, and what happens to them on the way to the model."""

    dataset: str = field(
        default="weibo",
        metadata={"help": dataset_help("posts")},
    )
    max_train_posts: int | None = field(default=None, metadata={"help": "Only N training posts, evenly spread."})
    max_eval_posts: int | None = field(default=None, metadata={"help": "Only N validation posts, evenly spread."})
    modalities: str = field(default="both", metadata={"help": "both, or only text or image of each post."})
    features: str | None = field(
        default=None,
        metadata={
            "help": "Folder of stored visual features: those of a frozen visual encoder are computed once, here or by "
            "`stmine features mttv`, and replace the images."
        },
    )
    detector: str | None = field(
        default=None,
        metadata={"help": "Folder or Hub id of an object detector that finds the images' regions; none: no regions."},
    )
    token_dropping: float = field(default=0.0, metadata={"help": "Chance of each token of a text to be dropped."})
    image_dropping: float = field(
        default=0.0, metadata={"help": "Chance that a training post with text is shown without its image."}
    )
    image_augmentation: str = field(
        default="none", metadata={"help": "Training images: none, crop, flip (and crop), colour (and both)."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modalities not in MODALITIES:
            raise StmineError(f"modalities must be one of {', '.join(MODALITIES)}, got {self.modalities!r}.")
        for name in ("token_dropping", "image_dropping"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise StmineError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        if self.features is not None and self.streaming:
            raise StmineError("features are computed for all posts before training: omit features or streaming.")
        if self.features is not None and self.image_augmentation != "none":
            raise StmineError(
                f"image_augmentation is {self.image_augmentation!r}, but features are computed from unchanged "
                "images: omit one of them."
            )


@dataclass
class MttvTrainingArguments(ZooTrainingArguments):
    """`ZooTrainingArguments` with the fields that training MTTV adds.

    `learning_rate` is the rate of a parameter whose multiplier is 1.
    """

    # Defaults that differ from those of the other methods.
    dataloader_drop_last: bool = field(default=False, metadata={"help": "Drop the last, smaller training batch."})
    metric_for_best_model: str = field(default="macro_f1", metadata={"help": "Validation metric of the best model."})

    text_lr_mult: float = field(default=1.0, metadata={"help": "learning_rate multiplier of the transformer."})
    vision_lr_mult: float = field(default=1.0, metadata={"help": "learning_rate multiplier of the visual encoder."})
    head_lr_mult: float = field(default=1.0, metadata={"help": "learning_rate multiplier of everything else."})
    released_optimizer: bool = field(
        default=False, metadata={"help": "BertAdam with its linear schedule of fractional length (released code)."}
    )
    plateau_patience: int | None = field(
        default=None,
        metadata={"help": "Lower the rate after more than N evaluations in a row without a better metric."},
    )
    plateau_factor: float = field(default=0.5, metadata={"help": "With plateau_patience: factor on the rate."})
    class_balance: float = field(
        default=0.0,
        metadata={"help": "b in [0, 1]: draw posts of a class of n with weight n ** -b; 1: classes alike."},
    )
    group_balance: float = field(
        default=0.0, metadata={"help": "The same for the data set's groups: posts of one event, or of one image."}
    )
    scaling_tau: float = field(
        default=0.0,
        metadata={"help": "At the end, fit the scalable classifier on validation with this tau (0: do not)."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("class_balance", "group_balance"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise StmineError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")
        if self.scaling_tau and self.peft:
            raise StmineError(
                "scaling_tau fits factors that are not part of an adapter: omit it, or train without peft."
            )
        if self.scaling_tau < 0:
            raise StmineError(f"scaling_tau must not be negative, got {self.scaling_tau}.")
        if self.released_optimizer and self.max_grad_norm:
            raise StmineError(
                f"released_optimizer clips the gradient of each parameter separately, but max_grad_norm is "
                f"{self.max_grad_norm}: set max_grad_norm: 0."
            )
        if self.train_sampling_strategy not in ("random", "group_by_length"):
            raise StmineError(
                f"train_sampling_strategy must be random or group_by_length, got {self.train_sampling_strategy!r}."
            )
        if (self.plateau_patience is not None or self.scaling_tau) and self.eval_strategy == "no":
            raise StmineError("plateau_patience and scaling_tau need validation, but eval_strategy is no.")

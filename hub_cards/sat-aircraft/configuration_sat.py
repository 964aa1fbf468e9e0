"""Configuration of SAT: every size, loss weight and assignment number; NanoDet-m is one preset of it."""

from collections.abc import Sequence
from difflib import get_close_matches
from inspect import signature
from typing import Any

from transformers import PreTrainedConfig

ATTENTIONS = ("none", "eca", "coordinate")
CHANNEL_ORDERS = ("bgr", "rgb")
_SIZES = ("stem_channels", "neck_channels", "attention_reduction", "attention_kernel_size", "reg_max")
LEAST = dict.fromkeys(_SIZES, 1) | {"head_layers": 0, "assigner_topk": 1}

# What each preset changes of the defaults, which are the network of NanoDet-m.
PRESETS: dict[str, dict[str, Any]] = {
    "sat": {
        "stem_channels": 16,
        # Multiples of 16, which runtimes handle at once: near NanoDet-m's 58, 116 and 232, as far as the budget goes.
        "middle_channels": ((48, 64, 64, 64), (96, 112, 112, 112, 112, 112, 112, 112), (176, 192, 176, 192)),
        "head_channels": (96, 80),
    },
    "nanodet-m": {"skip_batches_without_boxes": True},  # as released
}

# The 80 classes of COCO in the order of their (sparse) category ids.
COCO_CLASSES = tuple(
    """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,
bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,
snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,
knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,
dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,
vase,scissors,teddy bear,hair drier,toothbrush""".replace("\n", "").split(",")
)


class SatConfig(PreTrainedConfig):
    """Configuration of [`SatModel`] and [`SatForObjectDetection`].

    The defaults are the network of NanoDet-m: 0.950 M parameters, 342.2 M multiply-adds at 320 x 320 with 80 classes.
    `SatConfig.preset("sat")` is SAT at its published budget: 0.837 M and 307.0 M, the same blocks with fewer channels.

    Args:
        channel_order: order of the colour channels of `pixel_values`, "bgr" (as the released NanoDet) or "rgb". The
            image processor saved beside a model has the same (`SatImageProcessor.for_config`).
        stem_channels: channels of the first convolution.
        stage_channels: channels of the three backbone stages, at strides 8, 16 and 32; even numbers.
        stage_blocks: blocks of each stage, the first of which halves the resolution.
        middle_channels: channels inside the blocks, between their two 1x1 convolutions: for each stage one number, or
            one for each block; None: half of stage_channels, as ShuffleNetV2. Multiples of 16 run fastest.
        neck_channels: channels of the three maps that the neck gives to the head.
        attention: "none", "eca" (one weight for each channel) or "coordinate" (one for each channel and row, one for
            each channel and column), on the neck's maps.
        attention_reduction: the coordinate attention works on neck_channels // attention_reduction channels.
        attention_kernel_size: neighbouring channels that the ECA attention uses; odd.
        head_channels: channels inside the head: one number, or one for each of its head_layers.
        head_layers: depthwise-separable convolutions of the head, for each level its own.
        reg_max: a side of a box is predicted as a distribution over 0 .. reg_max strides.
        leaky_relu_slope: slope of every activation for negative inputs.
        batch_norm_eps: epsilon of batch normalisation.
        batch_norm_momentum: share of a new batch in the running statistics.
        fused: convolutions carry the batch normalisation that followed them ([`SatForObjectDetection.fuse`]).
        class_prior: probability that a class has at first; sets the bias of the class outputs.
        head_init_std: standard deviation of the head's initial weights.
        assigner_topk: nearest points of each level that are candidates for a box.
        assigner_cell_scale: side, in strides, of the square around a point whose IoU with a box counts.
        quality_focal_beta: exponent of the quality focal loss.
        quality_focal_weight: factor of the quality focal loss.
        giou_weight: factor of the GIoU loss.
        distribution_focal_weight: factor of the distribution focal loss.
        skip_batches_without_boxes: as released, a batch in which no point is positive gives loss 0 and no gradient.
            False: it is learned as background.

    Raises:
        ValueError: when two fields contradict each other or a value is out of range.
    """

    model_type = "sat"

    def __init__(
        self,
        channel_order: str = "bgr",
        stem_channels: int = 24,
        stage_channels: tuple[int, ...] = (116, 232, 464),
        stage_blocks: tuple[int, ...] = (4, 8, 4),
        middle_channels: Sequence[int | Sequence[int]] | None = None,
        neck_channels: int = 96,
        attention: str = "none",
        attention_reduction: int = 8,
        attention_kernel_size: int = 5,
        head_channels: int | Sequence[int] = 96,
        head_layers: int = 2,
        reg_max: int = 7,
        leaky_relu_slope: float = 0.1,
        batch_norm_eps: float = 1e-5,
        batch_norm_momentum: float = 0.1,
        fused: bool = False,
        class_prior: float = 0.01,
        head_init_std: float = 0.01,
        assigner_topk: int = 9,
        assigner_cell_scale: float = 5.0,
        quality_focal_beta: float = 2.0,
        quality_focal_weight: float = 1.0,
        giou_weight: float = 2.0,
        distribution_focal_weight: float = 0.25,
        skip_batches_without_boxes: bool = False,
        **kwargs,
    ):
        self.channel_order = channel_order
        self.stem_channels = stem_channels
        self.stage_channels = list(stage_channels)  # as JSON gives them back
        self.stage_blocks = list(stage_blocks)
        self.middle_channels = None if middle_channels is None else [_plain(stage) for stage in middle_channels]
        self.neck_channels = neck_channels
        self.attention = attention
        self.attention_reduction = attention_reduction
        self.attention_kernel_size = attention_kernel_size
        self.head_channels = _plain(head_channels)
        self.head_layers = head_layers
        self.reg_max = reg_max
        self.leaky_relu_slope = leaky_relu_slope
        self.batch_norm_eps = batch_norm_eps
        self.batch_norm_momentum = batch_norm_momentum
        self.fused = fused
        self.class_prior = class_prior
        self.head_init_std = head_init_std
        self.assigner_topk = assigner_topk
        self.assigner_cell_scale = assigner_cell_scale
        self.quality_focal_beta = quality_focal_beta
        self.quality_focal_weight = quality_focal_weight
        self.giou_weight = giou_weight
        self.distribution_focal_weight = distribution_focal_weight
        self.skip_batches_without_boxes = skip_batches_without_boxes
        self._check()
        for name in kwargs:  # transformers stores any keyword, so a misspelt field would be lost silently
            if meant := get_close_matches(name, vars(self), n=1, cutoff=0.85):
                raise ValueError(f"SatConfig: unknown field {name!r}; did you mean {meant[0]!r}?")
        if kwargs.get("num_labels") is None and kwargs.get("id2label") is None:
            kwargs["id2label"] = dict(enumerate(COCO_CLASSES))
        if kwargs.get("id2label") is not None and kwargs.get("label2id") is None:
            kwargs["label2id"] = {name: int(label) for label, name in kwargs["id2label"].items()}
        super().__init__(**kwargs)

    def _check(self) -> None:
        if self.channel_order not in CHANNEL_ORDERS:
            raise ValueError(f"SatConfig: channel_order must be among {CHANNEL_ORDERS}, found {self.channel_order!r}.")
        if self.attention not in ATTENTIONS:
            raise ValueError(f"SatConfig: attention must be among {ATTENTIONS}, found {self.attention!r}.")
        if not len(self.stage_channels) == len(self.stage_blocks) == 3:
            raise ValueError(
                "SatConfig: stage_channels and stage_blocks must name three stages (strides 8, 16, 32), found "
                f"{self.stage_channels} and {self.stage_blocks}."
            )
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"SatConfig: {name} must be at least {least}, found {getattr(self, name)}.")
        if any(channels % 2 for channels in self.stage_channels):
            raise ValueError(
                f"SatConfig: stage_channels must be even, since a block works on half of them; found "
                f"{self.stage_channels}."
            )
        if min(self.stage_blocks) < 1:
            raise ValueError(f"SatConfig: stage_blocks must be at least 1, found {self.stage_blocks}.")
        blocks = [len(stage) for stage in self.block_channels] if self._names_three_stages() else None
        if blocks != self.stage_blocks or min(map(min, self.block_channels)) < 1:
            raise ValueError(
                "SatConfig: middle_channels must name three stages, each by a number or by one for each of its "
                f"stage_blocks ({self.stage_blocks}), or be None; found {self.middle_channels}."
            )
        if len(self.head_widths) != self.head_layers or min(self.head_widths, default=1) < 1:
            raise ValueError(
                f"SatConfig: head_channels must be a number or one for each of the head_layers ({self.head_layers}), "
                f"found {self.head_channels}."
            )
        if self.attention == "coordinate" and self.neck_channels < self.attention_reduction:
            raise ValueError(
                f"SatConfig: attention_reduction ({self.attention_reduction}) leaves nothing of neck_channels "
                f"({self.neck_channels}); take a smaller one."
            )
        if self.attention == "eca" and self.attention_kernel_size % 2 == 0:
            raise ValueError(
                f"SatConfig: attention_kernel_size must be odd, found {self.attention_kernel_size}; an even one has "
                "no middle."
            )
        if not 0 < self.class_prior < 1:
            raise ValueError(f"SatConfig: class_prior must lie in (0, 1), found {self.class_prior}.")

    def to_diff_dict(self) -> dict[str, Any]:
        """What is saved: every field of ours, so that a saved model outlives a change of the defaults.

        The class names too, where transformers would leave them out, being its own two defaults.
        """
        own = [name for name in signature(SatConfig).parameters if name != "kwargs"]
        return {**super().to_diff_dict(), **{name: getattr(self, name) for name in (*own, "id2label", "label2id")}}

    def _names_three_stages(self) -> bool:
        return self.middle_channels is None or len(self.middle_channels) == 3

    @property
    def block_channels(self) -> list[list[int]]:
        """Channels inside every block of each stage."""
        stages = self.middle_channels or [width // 2 for width in self.stage_channels]
        return [
            [stage] * blocks if isinstance(stage, int) else stage
            for stage, blocks in zip(stages, self.stage_blocks, strict=True)
        ]

    @property
    def head_widths(self) -> list[int]:
        """Channels of every layer of the head."""
        widths = self.head_channels
        return [widths] * self.head_layers if isinstance(widths, int) else widths

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between neighbouring points of each level: the stem divides by 4, every stage by 2."""
        return (8, 16, 32)

    @classmethod
    def preset(cls, name: str, **overrides) -> "SatConfig":
        """A named design: "sat" or "nanodet-m".

        Raises:
            ValueError: there is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"SatConfig: expected a preset among {tuple(PRESETS)}, found {name!r}.")
        return cls(**{**PRESETS[name], **overrides})


def _plain(value: int | Sequence[int]) -> int | list[int]:
    """As JSON gives it back."""
    return value if isinstance(value, int) else list(value)


__all__ = ["COCO_CLASSES", "SatConfig"]

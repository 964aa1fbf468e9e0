"""Configuration of MTTV: sizes, tokens and labels; released values as defaults and one preset per data set."""

import copy
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

# Number of global tokens -> grid (rows, columns) that the visual map is pooled to, as released.
GLOBAL_GRIDS = {
    1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2), 5: (5, 1), 6: (3, 2),
    7: (7, 1), 8: (4, 2), 9: (3, 3), 16: (4, 4), 25: (5, 5), 36: (6, 6),
}  # fmt: skip
POOLINGS = ("avg", "max")
SEQUENCE_POOLINGS = ("first", "mean")
SCALING_MODES = ("multiply", "shift")

# Labels by name. Weibo: the official order of the classifier's rows (first appearance in the authors' train.jsonl).
# Fakeddit: the integers of the data set; the authors' order of rows depends on their train.jsonl, which is not public.
PRESETS: dict[str, dict[str, Any]] = {
    "weibo": {"vocab_size": 21128, "regions": 5, "labels": ("fake", "real")},
    "fakeddit_2_way": {"vocab_size": 30522, "regions": 20, "labels": ("fake", "true")},
    "fakeddit_3_way": {
        "vocab_size": 30522,
        "regions": 20,
        "labels": ("true", "fake with true text", "fake with false text"),
    },
    "fakeddit_6_way": {
        "vocab_size": 30522,
        "regions": 20,
        "labels": (
            "true",
            "satire",
            "false connection",
            "imposter content",
            "manipulated content",
            "misleading content",
        ),
    },
}


class MttvConfig(PreTrainedConfig):
    """Configuration of [`MttvModel`] and [`MttvForSequenceClassification`].

    The defaults build the released model for Weibo (62,890,752 parameters without a visual encoder).

    Args:
        text_config: the transformer that reads text and image: a `BertConfig`, its dict, or None for the sizes of
            bert-base-chinese.
        vision_config: a visual encoder inside the model, so that it takes pixels: any transformers vision model, as a
            config or its dict ("resnet" with depths (3, 8, 36, 3) is the released one). None: no encoder; the model
            takes precomputed features.
        num_encoder_layers: layers N of the transformer; `text_config` is cut to its first N.
        num_global_tokens: tokens g of the whole image; one of 1 to 9, 16, 25, 36.
        num_region_tokens: tokens r of detected regions, 0 or more (released: 5 for Weibo, 20 for Fakeddit).
        global_pooling: "avg" or "max": how the visual map becomes the global tokens.
        vision_width: channels of visual features.
        train_vision: False as released: the visual encoder is frozen, in evaluation mode, without gradients.
        attend_missing: True as released: a missing region (or image) is a zero feature, so its token is the bias of
            the projection, and is attended to. False masks these tokens.
        cls_token_id: word that opens the sequence, before the image.
        sep_token_id: word between image and text.
        sequence_pooling: what of the transformer's last layer goes into the pooler: "first" takes the state of [CLS],
            as released; "mean" that of all attended tokens, for encoders pretrained so (E5, MiniLM).
        dropout: probability, everywhere in the transformer; replaces those of `text_config`.
        scaling_mode: what the factors of the scalable classifier do: "multiply" the logits, as released (a negative
            logit then sinks when its factor is above 1), or "shift" them by the factors' logarithms, the corrected
            choice (probabilities are multiplied by the factors and renormalised).
        kwargs: `id2label` and the rest of `PreTrainedConfig`.

    Raises:
        ValueError: when two fields contradict each other or a value is out of range.
    """

    model_type = "mttv"
    # What transformers asks of a composite config: attention settings reach the encoders through these.
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}  # noqa: RUF012

    def __init__(
        self,
        text_config=None,
        vision_config=None,
        num_encoder_layers: int = 6,
        num_global_tokens: int = 5,
        num_region_tokens: int = 5,
        global_pooling: str = "avg",
        vision_width: int = 2048,
        train_vision: bool = False,
        attend_missing: bool = True,
        cls_token_id: int = 101,
        sep_token_id: int = 102,
        sequence_pooling: str = "first",
        dropout: float = 0.1,
        scaling_mode: str = "multiply",
        **kwargs,
    ):
        self.text_config = _sub_config(text_config or {"vocab_size": PRESETS["weibo"]["vocab_size"]}, "bert")
        self.vision_config = None if vision_config is None else _sub_config(vision_config, "resnet")
        self.num_encoder_layers = num_encoder_layers
        self.num_global_tokens = num_global_tokens
        self.num_region_tokens = num_region_tokens
        self.global_pooling = global_pooling
        self.vision_width = vision_width
        self.train_vision = train_vision
        self.attend_missing = attend_missing
        self.cls_token_id = cls_token_id
        self.sep_token_id = sep_token_id
        self.sequence_pooling = sequence_pooling
        self.dropout = dropout
        self.scaling_mode = scaling_mode
        self._check()
        self.text_config.num_hidden_layers = num_encoder_layers
        self.text_config.hidden_dropout_prob = self.text_config.attention_probs_dropout_prob = dropout
        super().__init__(**kwargs)

    def _check(self) -> None:
        text = self.text_config
        if text.model_type != "bert":
            raise ValueError(f"MttvConfig: text_config must be of type 'bert', found {text.model_type!r}.")
        if not 1 <= self.num_encoder_layers <= text.num_hidden_layers:
            raise ValueError(
                f"MttvConfig: num_encoder_layers ({self.num_encoder_layers}) must lie in 1 .. "
                f"text_config.num_hidden_layers ({text.num_hidden_layers}); lower the one or raise the other."
            )
        if text.type_vocab_size < 2:
            raise ValueError("MttvConfig: text_config.type_vocab_size must be at least 2 (text has token type 1).")
        if self.num_global_tokens not in GLOBAL_GRIDS:
            raise ValueError(
                f"MttvConfig: num_global_tokens must be one of {sorted(GLOBAL_GRIDS)}, found {self.num_global_tokens}."
            )
        if self.num_region_tokens < 0:
            raise ValueError(f"MttvConfig: num_region_tokens must be 0 or more, found {self.num_region_tokens}.")
        if self.num_image_tokens + 2 > text.max_position_embeddings:
            raise ValueError(
                f"MttvConfig: num_global_tokens + num_region_tokens + 2 is {self.num_image_tokens + 2}, but "
                f"text_config.max_position_embeddings is {text.max_position_embeddings}; take fewer tokens."
            )
        for name in ("cls_token_id", "sep_token_id"):
            if not 0 <= getattr(self, name) < text.vocab_size:
                raise ValueError(
                    f"MttvConfig: {name} ({getattr(self, name)}) is not in text_config's vocabulary of "
                    f"{text.vocab_size}; set it to the tokenizer's."
                )
        if self.global_pooling not in POOLINGS:
            raise ValueError(f"MttvConfig: global_pooling must be one of {POOLINGS}, found {self.global_pooling!r}.")
        if self.sequence_pooling not in SEQUENCE_POOLINGS:
            raise ValueError(
                f"MttvConfig: sequence_pooling must be one of {SEQUENCE_POOLINGS}, found {self.sequence_pooling!r}."
            )
        if self.scaling_mode not in SCALING_MODES:
            raise ValueError(f"MttvConfig: scaling_mode must be one of {SCALING_MODES}, found {self.scaling_mode!r}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"MttvConfig: dropout must lie in [0, 1), found {self.dropout}.")

    @property
    def num_image_tokens(self) -> int:
        """Global and region tokens, without [CLS] and [SEP]."""
        return self.num_global_tokens + self.num_region_tokens

    @property
    def global_grid(self) -> tuple[int, int]:
        """Rows and columns that the visual map is pooled to."""
        return GLOBAL_GRIDS[self.num_global_tokens]

    @classmethod
    def preset(cls, name: str, **kwargs) -> "MttvConfig":
        """The released configuration for a data set.

        Args:
            name: "weibo", "fakeddit_2_way", "fakeddit_3_way" or "fakeddit_6_way".
            kwargs: fields to change.

        Raises:
            ValueError: no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"MttvConfig: expected a preset among {sorted(PRESETS)}, found {name!r}.")
        preset = PRESETS[name]
        fields = {
            "text_config": {"vocab_size": preset["vocab_size"]},
            "num_region_tokens": preset["regions"],
            "id2label": dict(enumerate(preset["labels"])),
            "label2id": {label: index for index, label in enumerate(preset["labels"])},
        }
        return cls(**{**fields, **kwargs})


def _sub_config(value, default_type: str) -> PreTrainedConfig:
    """A config object of our own from a config or its dict."""
    if isinstance(value, dict):
        value = dict(value)
        return AutoConfig.for_model(value.pop("model_type", default_type), **value)
    value = copy.deepcopy(value)
    value.name_or_path = ""  # often a local folder
    return value


__all__ = ["MttvConfig"]

"""Configuration of FISVL: every size, temperature and loss switch, with the released values as defaults."""

from difflib import get_close_matches

from transformers import AutoConfig, PreTrainedConfig

OBJECTIVES = ("value_guided", "contrastive", "triplet")
TEXT_POOLINGS = ("first", "mean")
_SIZES = ("projection_dim", "graph_steps", "sensing_in_channels", "sensing_channels", "sensing_grid", "sensing_heads")
LEAST = dict.fromkeys(_SIZES, 1) | {"vision_prefix_tokens": 0}


class FisvlConfig(PreTrainedConfig):
    """Configuration of [`FisvlModel`].

    The defaults build the released model (Swin-T 224, ResNet-50, BERT-base, 166 M parameters), except that padding is
    masked; `FisvlConfig.released()` sets that back too.

    Args:
        vision_config: the token encoder: any transformers vision model whose `last_hidden_state` is a sequence of
            tokens (B, N, C) or a feature map (B, C, H, W). A config, its dict, or None for Swin-T.
        conv_config: the convolutional encoder of the fusion path; must give `hidden_states`. None for ResNet-50.
            Must stay None with `fusion=False` or `share_encoder=True`.
        text_config: the text encoder (any transformers text encoder). None for BERT-base.
        fusion: True for the full model; False for the baseline of the paper (vision and text encoder only).
        share_encoder: the fusion path reads `vision_config`'s own feature maps instead of a second encoder. For small
            models: one convolutional network then serves both paths.
        vision_prefix_tokens: tokens before the patches in the vision encoder's output. 0: there is no class token and
            the pooled node is the mean of the patches (Swin, CNNs). 1 or more: the first one is the pooled node (ViT).
        vision_width: channels of the vision encoder's output; None reads `hidden_size` or `hidden_sizes[-1]`.
        conv_width: channels of the conv encoder's output; None as above (and stays None without such an encoder).
        text_pooling: "first" projects the first token ([CLS], as released), "mean" the mean of the unpadded tokens.
        attend_padding: the released code passes no attention mask, so that padding is attended and an embedding
            depends on the batch it was padded with. True reproduces it; False masks the padding.
        projection_dim: width D of the joint embedding, of the graph and of the sensing module.
        graph_steps: number of graph reasoning layers.
        dropout: probability used on the projections and inside the sensing module.
        sensing_stage: index into the conv encoder's `hidden_states` of the map that the sensing module reads
            (0 = ResNet stem after max-pooling, 64 x 56 x 56 at 224 px).
        sensing_in_channels: channels of that map.
        sensing_channels: channels c of the sensing module's filters; it sees 4c channel tokens.
        sensing_grid: side of the grid each channel is pooled to; a channel token has sensing_grid ** 2 values.
        sensing_heads: attention heads of the weighted self-attention.
        temperature_init: initial value of the learned temperature of the contrastive and scene losses.
        center_temperature_init: initial value of the learned temperature of the affiliation loss.
        objective: "value_guided" (paper), "contrastive" (only that term) or "triplet".
        affiliation_weight: factor of the affiliation loss ("center_factor").
        scene_weight: factor of the scene-adaptive loss ("scene_factor").
        scene_loss_epochs: the scene-adaptive loss counts in epochs 0 .. scene_loss_epochs - 1.
        weighted_contrastive_from_epoch: first epoch of the length-weighted contrastive loss.
        scene_beta_inter: growth rate per epoch of the weight of hard negatives from another scene ("beta1").
        scene_beta_intra: the same for hard negatives of the same scene ("beta2"). 0.02 as in the published RSICD
            checkpoint; the released RSICD yaml says -0.001, with which the released loss is zero from epoch 1 on.
        scene_margin: similarity margin ("alpha_m"), compared with scores already divided by the temperature.
        scene_mask_positives: corrected choice; False as released, where a sample's own positive is its "hard
            negative".
        scene_integer_weights: True as released (weights are truncated to integers); False is the corrected choice.
        scene_drop_below_margin: corrected choice; False as released, where scores below the margin count as exp(0).
        one_centre_per_scene: corrected choice of the affiliation loss; False as released, where rows of one scene,
            which share a centre, are pushed apart by identity targets.
        triplet_margin: margin of the triplet loss, in cosine units.
        triplet_hardest: triplet loss over the hardest negative of each row instead of the sum over all.

    Raises:
        ValueError: when two fields contradict each other or a value is out of range.
    """

    model_type = "fisvl"
    # What transformers asks of a composite config: attention settings reach the encoders through these.
    sub_configs = {"vision_config": AutoConfig, "conv_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012

    def __init__(
        self,
        vision_config=None,
        conv_config=None,
        text_config=None,
        fusion: bool = True,
        share_encoder: bool = False,
        vision_prefix_tokens: int = 0,
        vision_width: int | None = None,
        conv_width: int | None = None,
        text_pooling: str = "first",
        attend_padding: bool = False,
        projection_dim: int = 512,
        graph_steps: int = 2,
        dropout: float = 0.2,
        sensing_stage: int = 0,
        sensing_in_channels: int = 64,
        sensing_channels: int = 32,
        sensing_grid: int = 16,
        sensing_heads: int = 8,
        temperature_init: float = 0.07,
        center_temperature_init: float = 0.07,
        objective: str = "value_guided",
        affiliation_weight: float = 1.0,
        scene_weight: float = 1.0,
        scene_loss_epochs: int = 10,
        weighted_contrastive_from_epoch: int = 10,
        scene_beta_inter: float = -0.002,
        scene_beta_intra: float = 0.02,
        scene_margin: float = 0.95,
        scene_mask_positives: bool = False,
        scene_integer_weights: bool = True,
        scene_drop_below_margin: bool = False,
        one_centre_per_scene: bool = False,
        triplet_margin: float = 0.2,
        triplet_hardest: bool = False,
        **kwargs,
    ):
        if conv_config is not None and (share_encoder or not fusion):
            switch = "share_encoder=True" if share_encoder else "fusion=False"
            raise ValueError(
                f"FisvlConfig: {switch} has no second encoder, but conv_config is given; drop one of them."
            )
        if share_encoder and not fusion:
            raise ValueError("FisvlConfig: share_encoder=True needs the fusion path; set fusion=True or drop it.")
        self.vision_config = _encoder_config(vision_config, default_type="swin")
        self.conv_config = None
        if fusion and not share_encoder:
            self.conv_config = _encoder_config(conv_config, default_type="resnet")
        self.text_config = _encoder_config(text_config, default_type="bert")

        self.fusion = fusion
        self.share_encoder = share_encoder
        self.vision_prefix_tokens = vision_prefix_tokens
        self.vision_width = _width(self.vision_config, vision_width, "vision")
        self.conv_width = None if self.conv_config is None else _width(self.conv_config, conv_width, "conv")
        self.text_pooling = text_pooling
        self.attend_padding = attend_padding
        self.projection_dim = projection_dim
        self.graph_steps = graph_steps
        self.dropout = dropout
        self.sensing_stage = sensing_stage
        self.sensing_in_channels = sensing_in_channels
        self.sensing_channels = sensing_channels
        self.sensing_grid = sensing_grid
        self.sensing_heads = sensing_heads
        self.temperature_init = temperature_init
        self.center_temperature_init = center_temperature_init
        self.objective = objective
        self.affiliation_weight = affiliation_weight
        self.scene_weight = scene_weight
        self.scene_loss_epochs = scene_loss_epochs
        self.weighted_contrastive_from_epoch = weighted_contrastive_from_epoch
        self.scene_beta_inter = scene_beta_inter
        self.scene_beta_intra = scene_beta_intra
        self.scene_margin = scene_margin
        self.scene_mask_positives = scene_mask_positives
        self.scene_integer_weights = scene_integer_weights
        self.scene_drop_below_margin = scene_drop_below_margin
        self.one_centre_per_scene = one_centre_per_scene
        self.triplet_margin = triplet_margin
        self.triplet_hardest = triplet_hardest
        self._check()
        for name in kwargs:  # transformers stores any keyword, so a misspelt field would be lost silently
            if meant := get_close_matches(name, vars(self), n=1, cutoff=0.85):
                raise ValueError(f"FisvlConfig: unknown field {name!r}; did you mean {meant[0]!r}?")
        super().__init__(**kwargs)

    def _check(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"FisvlConfig: objective must be one of {OBJECTIVES}, found {self.objective!r}.")
        if self.text_pooling not in TEXT_POOLINGS:
            raise ValueError(f"FisvlConfig: text_pooling must be one of {TEXT_POOLINGS}, found {self.text_pooling!r}.")
        if self.text_pooling == "mean" and self.attend_padding:
            raise ValueError(
                "FisvlConfig: text_pooling='mean' averages the unpadded tokens, which contradicts "
                "attend_padding=True; set attend_padding=False or text_pooling='first'."
            )
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"FisvlConfig: {name} must be at least {least}, found {getattr(self, name)}.")
        if self.fusion and self.projection_dim % self.sensing_heads:
            raise ValueError(
                f"FisvlConfig: projection_dim ({self.projection_dim}) must be a multiple of sensing_heads "
                f"({self.sensing_heads})."
            )
        for name in ("temperature_init", "center_temperature_init"):
            if getattr(self, name) <= 0:
                raise ValueError(f"FisvlConfig: {name} must be positive, found {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"FisvlConfig: dropout must lie in [0, 1), found {self.dropout}.")

    @classmethod
    def released(cls, **kwargs) -> "FisvlConfig":
        """The configuration of the released checkpoints: the defaults, with padding attended."""
        return cls(**{"attend_padding": True, **kwargs})

    @classmethod
    def released_vit(cls, **kwargs) -> "FisvlConfig":
        """The released option `use_swin: False`: ViT-S/16 (384 wide, 12 heads of 32) in place of Swin-T."""
        vit = AutoConfig.for_model(
            "vit", hidden_size=384, num_hidden_layers=12, num_attention_heads=12, intermediate_size=1536,
            layer_norm_eps=1e-6, image_size=224, patch_size=16,
        )  # fmt: skip
        return cls.released(**{"vision_config": vit, "vision_prefix_tokens": 1, **kwargs})


def _encoder_config(value, default_type: str) -> PreTrainedConfig:
    """A config object from a config, its dict, or None (the library's default of `default_type`)."""
    if isinstance(value, dict):
        value = dict(value)
        return AutoConfig.for_model(value.pop("model_type", default_type), **value)
    return AutoConfig.for_model(default_type) if value is None else value


def _width(config: PreTrainedConfig, given: int | None, name: str) -> int:
    """Channels of an encoder's last hidden state."""
    if given is not None:
        return given
    width = getattr(config, "hidden_size", None) or (getattr(config, "hidden_sizes", None) or [None])[-1]
    if width is None:
        raise ValueError(
            f"FisvlConfig: the output width of a {config.model_type!r} encoder is not in its config; set {name}_width "
            "(FisvlModel.from_backbones measures it)."
        )
    return width


__all__ = ["FisvlConfig"]

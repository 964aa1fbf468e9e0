"""FISVL: image-text retrieval for remote sensing.

Zhou et al., "Fine-Grained Information Supplementation and Value-Guided Learning for Remote Sensing Image-Text
Retrieval", IEEE JSTARS 2024; authors' code: https://github.com/zhouzihui2001/FISVL.

Image -> token encoder (Swin-T) -> projected tokens; image -> conv encoder (ResNet-50): its stem feeds the scene
fine-grained sensing module, its last map is pooled and projected; all are nodes of a graph that two reasoning steps
mix; the resulting node of the pooled tokens is added to its input. Text -> BERT -> projected first token.

Equal to the authors' program (see tests/modeling/fisvl) after conversion. What was changed: the encoders are those of
transformers and exchangeable, all widths follow the config, padding is masked unless `attend_padding`, a batch of one
image works. 165,957,884 parameters with the default config.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from .configuration_fisvl import FisvlConfig
from .losses_fisvl import (
    ValueGuidedSchedule,
    affiliation_loss,
    contrastive_loss,
    gather_rows,
    gather_with_grad,
    scene_adaptive_loss,
    triplet_loss,
)


@dataclass
class FisvlOutput(ModelOutput):
    """Output of [`FisvlModel`].

    Args:
        loss (`Tensor` of shape `()`): weighted sum of the terms that count in this epoch.
        loss_dict (`dict[str, Tensor]`): every term, unweighted: `contrastive`, `affiliation`, `scene` or `triplet`.
        logits_per_image (`Tensor` of shape `(images, texts)`): cosine / temperature.
        logits_per_text (`Tensor` of shape `(texts, images)`): the transpose.
        image_embeds (`Tensor` of shape `(images, projection_dim)`): unit length.
        text_embeds (`Tensor` of shape `(texts, projection_dim)`): unit length.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None


class FisvlImageEncoder(nn.Module):
    """Any transformers vision model, read as tokens and, for the sensing module, as one early feature map."""

    def __init__(self, config: PreTrainedConfig, prefix_tokens: int = 0, map_stage: int | None = None):
        super().__init__()
        self.encoder = _new_encoder(config)
        self.prefix_tokens = prefix_tokens
        self.map_stage = map_stage

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns tokens (B, 1 + N, C), the pooled one first, and the feature map (B, C', H', W') of `map_stage`."""
        wants_map = self.map_stage is not None
        outputs = self.encoder(pixel_values, output_hidden_states=wants_map, return_dict=True)
        tokens = outputs.last_hidden_state
        if tokens.ndim == 4:
            tokens = tokens.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)
        if self.prefix_tokens:
            tokens = torch.cat([tokens[:, :1], tokens[:, self.prefix_tokens :]], dim=1)
        else:
            tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        return tokens, outputs.hidden_states[self.map_stage] if wants_map else None


class FisvlWeightedSelfAttention(nn.Module):
    """Self-attention over channel tokens, then one learned weighting of the tokens (paper: WSA)."""

    def __init__(self, config: FisvlConfig):
        super().__init__()
        dim, tokens = config.projection_dim, 4 * config.sensing_channels
        self.heads = config.sensing_heads
        self.dropout = config.dropout
        # The released attention swaps its roles: what it names k, v, q serves as query, key, value. Here the names say
        # what they do; the conversion maps them.
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.merge = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.fusion_weight = nn.Parameter(torch.empty(1, tokens, dim))

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, D)
        batch, tokens, dim = x.shape
        query, key, value = (
            layer(x).view(batch, tokens, self.heads, -1).transpose(1, 2)  # (B, heads, T, D / heads)
            for layer in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        attended = self.merge(attended.transpose(1, 2).reshape(batch, tokens, dim))
        x = self.norm1(x + F.dropout(attended, self.dropout, self.training))
        x = self.norm2(x + F.dropout(self.ffn(x), self.dropout, self.training))
        # Released: W^T X, (D, T) x (T, D), then the mean over its D rows. The mean commutes with the product, which
        # leaves T weights and saves a factor D of work.
        return (self.fusion_weight.mean(dim=2).to(x.dtype) @ x).squeeze(1)  # (1, T) x (B, T, D) -> (B, D)


class FisvlSceneSensing(nn.Module):
    """Scene fine-grained sensing module: an early feature map, filtered at three scales, to one vector.

    The tokens of its attention are *channels*: each one pooled to a grid and embedded.
    """

    def __init__(self, config: FisvlConfig):
        super().__init__()
        channels, grid = config.sensing_channels, config.sensing_grid
        self.reduce = _conv_norm_relu(config.sensing_in_channels, channels, kernel_size=1)
        self.scales = nn.ModuleList(
            [
                _conv_norm_relu(channels, channels, kernel_size=1),
                _conv_norm_relu(channels, channels, kernel_size=3),
                _conv_norm_relu(channels, 2 * channels, kernel_size=5),
            ]
        )
        self.pool = nn.AdaptiveAvgPool2d((grid, grid))
        self.embed = nn.Linear(grid * grid, config.projection_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.attention = FisvlWeightedSelfAttention(config)

    def forward(self, feature_map: Tensor) -> Tensor:  # (B, C', H', W') -> (B, D)
        filtered = self.reduce(feature_map)
        channels = torch.cat(
            [self.pool(scale(filtered)).flatten(2) for scale in self.scales], dim=1
        )  # (B, 4c, grid^2)
        return self.attention(self.dropout(F.relu(self.embed(channels))))


class FisvlGraphLinear(nn.Linear):
    """Starts with Xavier's uniform weights, as released."""


class FisvlGraphReasoning(nn.Module):
    """One step on a fully connected graph: every node becomes a mixture of all nodes.

    As released: unscaled dot products, no residual.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.query = FisvlGraphLinear(dim, dim)
        self.key = FisvlGraphLinear(dim, dim)
        self.update = FisvlGraphLinear(dim, dim)

    def forward(self, nodes: Tensor) -> Tensor:  # (B, nodes, D) -> (B, nodes, D)
        edges = torch.softmax(self.query(nodes) @ self.key(nodes).transpose(1, 2), dim=-1)  # (B, nodes, nodes)
        return F.relu(self.update(edges @ nodes))


class FisvlPreTrainedModel(PreTrainedModel):
    config: FisvlConfig
    config_class = FisvlConfig
    base_model_prefix = "fisvl"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Saves weights, config and, as everywhere in this folder, the code: for each Auto class that opens it."""
        if self._auto_class is not None:
            name = f"{type(self).__module__.rsplit('.', 1)[-1]}.{type(self).__name__}"
            others = getattr(self.config, "auto_map", None) or {}
            self.config.auto_map = {**others, "AutoModel": name, "AutoModelForZeroShotImageClassification": name}
        super().save_pretrained(save_directory, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Called only for modules that own parameters themselves, not for those that merely hold such modules.
        super()._init_weights(module)
        if isinstance(module, FisvlModel):
            init.constant_(module.temperature, self.config.temperature_init)
            init.constant_(module.center_temperature, self.config.center_temperature_init)
        elif isinstance(module, FisvlWeightedSelfAttention):
            init.normal_(module.fusion_weight)
        elif isinstance(module, FisvlGraphLinear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d):  # of the sensing module; the encoders have their own
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class FisvlModel(FisvlPreTrainedModel):
    """FISVL: images and sentences in one space, where nearest neighbours are matches.

    With `config.fusion=False` this is the baseline of the paper: no conv encoder, sensing module or graph.

    Example:

    >>> folder = "hub_cards/fisvl-lite-rsicd"
    >>> model = AutoModel.from_pretrained(folder, trust_remote_code=True)  # doctest: +SKIP
    >>> processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)  # doctest: +SKIP
    >>> inputs = processor(images=image, text=["a harbour", "a forest"], return_tensors="pt")  # doctest: +SKIP
    >>> model(**inputs).logits_per_image.softmax(dim=-1)  # doctest: +SKIP
    """

    def __init__(self, config: FisvlConfig):
        super().__init__(config)
        dim = config.projection_dim
        shared_stage = config.sensing_stage if config.share_encoder else None
        self.vision_encoder = FisvlImageEncoder(config.vision_config, config.vision_prefix_tokens, shared_stage)
        self.vision_proj = nn.Linear(config.vision_width, dim)
        self.text_encoder = _new_encoder(config.text_config)
        if config.attend_padding:  # padding is read as a word then, so its embedding has to train like one
            self.text_encoder.get_input_embeddings().padding_idx = None
        self.text_proj = nn.Linear(config.text_config.hidden_size, dim)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_encoder = None
        if config.fusion:
            if not config.share_encoder:
                self.conv_encoder = FisvlImageEncoder(config.conv_config, map_stage=config.sensing_stage)
            self.conv_proj = nn.Linear(config.conv_width or config.vision_width, dim)
            self.sensing = FisvlSceneSensing(config)
            self.graph = nn.ModuleList([FisvlGraphReasoning(dim) for _ in range(config.graph_steps)])
            self.head_img = nn.Linear(dim, dim)
        # Each is learned where the objective reads it.
        self.temperature = nn.Parameter(torch.tensor(config.temperature_init), config.objective != "triplet")
        self.center_temperature = nn.Parameter(
            torch.tensor(config.center_temperature_init), config.objective == "value_guided"
        )
        self.schedule = ValueGuidedSchedule(
            scene_epochs=config.scene_loss_epochs,
            caption_weights_from=config.weighted_contrastive_from_epoch,
            affiliation_weight=config.affiliation_weight,
            scene_weight=config.scene_weight,
        )
        self.post_init()

    def get_image_features(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """Embeds images.

        Args:
            pixel_values (`Tensor` of shape `(B, 3, H, W)`): as the processor makes them.

        Returns:
            `last_hidden_state` (B, 1 + N, D): the projected tokens, the pooled one first; `pooler_output` (B, D): the
            embedding, of unit length.
        """
        encoded, feature_map = self.vision_encoder(pixel_values)  # (B, 1 + N, C)
        tokens = self.vision_proj(encoded)  # (B, 1 + N, D)
        if self.config.fusion:
            embeds = tokens[:, 0] + self._supplement(pixel_values, tokens, encoded, feature_map)
        else:
            embeds = self.dropout(tokens[:, 0])
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=F.normalize(embeds, dim=-1))

    def _supplement(
        self, pixel_values: Tensor, tokens: Tensor, encoded: Tensor, feature_map: Tensor | None
    ) -> Tensor:  # (B, D)
        """Fine-grained information supplementation: what the graph adds to the pooled token."""
        if self.conv_encoder is not None:
            encoded, feature_map = self.conv_encoder(pixel_values)  # (B, 1 + N', C), (B, C', H', W')
        pooled = self.dropout(self.conv_proj(encoded[:, 0]))  # (B, D)
        local = self.sensing(feature_map)  # (B, D)
        nodes = torch.cat([pooled[:, None], local[:, None], tokens], dim=1)  # (B, 2 + 1 + N, D)
        for step in self.graph:
            nodes = step(nodes)
        return self.dropout(self.head_img(nodes[:, 2]))  # node 2 = the pooled token

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> BaseModelOutputWithPooling:
        """Embeds sentences.

        Args:
            input_ids (`Tensor` of shape `(B, T)`): token ids.
            attention_mask (`Tensor` of shape `(B, T)`, *optional*): 0 = padding. None: nothing is padding.
            token_type_ids (`Tensor` of shape `(B, T)`, *optional*): segment ids of BERT-like encoders.

        Returns:
            `last_hidden_state` (B, T, D): the projected tokens; `pooler_output` (B, D): the embedding, of unit length.
        """
        if self.config.attend_padding:
            attention_mask = None
        extra = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.text_encoder(input_ids, attention_mask=attention_mask, **extra).last_hidden_state  # (B, T, C)
        tokens = self.text_proj(states)  # (B, T, D)
        if self.config.text_pooling == "first":
            pooled = tokens[:, 0]
        else:
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            mask = mask.to(tokens.dtype)[..., None]
            pooled = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        if not self.config.fusion:
            pooled = self.dropout(pooled)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=F.normalize(pooled, dim=-1))

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        image_ids: Tensor | None = None,
        scene_labels: Tensor | None = None,
        caption_weights: Tensor | None = None,
        image_index: Tensor | None = None,
        epoch: int = 0,
        return_loss: bool | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> FisvlOutput | tuple:
        """Embeds images, sentences or both, and compares them.

        Args:
            pixel_values (`Tensor` of shape `(P, 3, H, W)`, *optional*): images.
            input_ids (`Tensor` of shape `(T, L)`, *optional*): sentences; `attention_mask`, `token_type_ids` likewise.
            image_ids (`Tensor` of shape `(T,)`, *optional*): equal ids = one image; the losses need it.
            scene_labels (`Tensor` of shape `(T,)`, *optional*): scene class of each row, for the value-guided losses.
            caption_weights (`Tensor` of shape `(T,)`, *optional*): value of each caption, about 0.7 to 1; None = 1.
            image_index (`Tensor` of shape `(T,)`, *optional*): for each sentence the row of its image; for several
                captions an image. None: row i belongs to row i.
            epoch: counted from 0; says which losses count (`ValueGuidedSchedule`).
            return_loss: compute the loss; None computes it when `image_ids` are given.

        Returns:
            [`FisvlOutput`]; what has no input is None.

        Raises:
            ValueError: neither images nor sentences, or an input that a loss needs is missing.
        """
        if pixel_values is None and input_ids is None:
            raise ValueError("FisvlModel: expected pixel_values, input_ids or both; found neither.")
        image_embeds = text_embeds = logits = loss = loss_dict = None
        if pixel_values is not None:
            image_embeds = self.get_image_features(pixel_values).pooler_output  # (P, D)
        if input_ids is not None:
            text_embeds = self.get_text_features(input_ids, attention_mask, token_type_ids).pooler_output  # (T, D)
        if image_embeds is not None and text_embeds is not None:
            logits = image_embeds @ text_embeds.T / self.temperature.to(image_embeds.dtype)  # (P, T)
        if return_loss or (return_loss is None and image_ids is not None):
            if image_embeds is None or text_embeds is None:
                raise ValueError("FisvlModel: the loss needs pixel_values and input_ids; one of them is missing.")
            pairs = image_embeds if image_index is None else image_embeds[image_index]  # (T, D)
            loss, loss_dict = self.loss_on_embeds(pairs, text_embeds, image_ids, scene_labels, caption_weights, epoch)
        outputs = FisvlOutput(
            loss=loss,
            loss_dict=loss_dict,
            logits_per_image=logits,
            logits_per_text=None if logits is None else logits.T,
            image_embeds=image_embeds,
            text_embeds=text_embeds,
        )
        return outputs.to_tuple() if return_dict is False else outputs

    def loss_on_embeds(
        self,
        image_embeds: Tensor,
        text_embeds: Tensor,
        image_ids: Tensor | None = None,
        scene_labels: Tensor | None = None,
        caption_weights: Tensor | None = None,
        epoch: int = 0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective on the joint batch of all processes.

        Args:
            image_embeds (`Tensor` of shape `(T, D)`): of the image of each sentence, of unit length.
            text_embeds (`Tensor` of shape `(T, D)`): likewise; the other arguments are those of `forward`.

        Returns:
            Its value, and each term, unweighted.
        """
        if len(image_embeds) != len(text_embeds):
            raise ValueError(
                f"FisvlModel: the loss needs as many images as sentences (row i belongs to row i), found "
                f"{len(image_embeds)} and {len(text_embeds)}; give image_index for several captions an image."
            )
        given = {"image_ids": image_ids, "scene_labels": scene_labels, "caption_weights": caption_weights}
        for name, rows in given.items():
            if rows is not None and len(rows) != len(text_embeds):
                raise ValueError(
                    f"FisvlModel: expected {len(text_embeds)} {name}, one for each sentence, found {len(rows)}."
                )
        image_embeds, text_embeds = gather_with_grad(image_embeds), gather_with_grad(text_embeds)  # (B, D)
        image_ids, scene_labels, caption_weights = map(gather_rows, (image_ids, scene_labels, caption_weights))
        config = self.config

        if config.objective == "triplet":
            loss = triplet_loss(image_embeds, text_embeds, config.triplet_margin, config.triplet_hardest)
            return loss, {"triplet": loss}
        if not self.schedule.weighs_captions(epoch) or config.objective == "contrastive":
            caption_weights = None
        contrastive = contrastive_loss(image_embeds, text_embeds, self.temperature, image_ids, caption_weights)
        if config.objective == "contrastive":
            return contrastive, {"contrastive": contrastive}
        if image_ids is None or scene_labels is None:
            raise ValueError(
                "FisvlModel: objective='value_guided' needs image_ids and scene_labels; give them, or set "
                "objective='contrastive' in the config for data without scene labels."
            )
        terms = {
            "contrastive": contrastive,
            "affiliation": affiliation_loss(
                image_embeds,
                text_embeds,
                self.center_temperature,
                scene_labels,
                one_centre_per_scene=config.one_centre_per_scene,
            ),
            "scene": scene_adaptive_loss(
                image_embeds,
                text_embeds,
                self.temperature,
                image_ids,
                scene_labels,
                epoch,
                beta1=config.scene_beta_inter,
                beta2=config.scene_beta_intra,
                margin=config.scene_margin,
                mask_positives=config.scene_mask_positives,
                integer_weights=config.scene_integer_weights,
                drop_below_margin=config.scene_drop_below_margin,
            ),
        }
        factors = self.schedule.factors(epoch)
        counting = (factors[name] * term for name, term in terms.items() if factors[name])
        return sum(counting, start=contrastive.new_zeros(())), terms

    def get_input_embeddings(self) -> nn.Module:
        return self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_encoder.set_input_embeddings(value)

    @classmethod
    def from_backbones(
        cls,
        vision: str | PreTrainedModel,
        text: str | PreTrainedModel,
        conv: str | PreTrainedModel | None = None,
        **config,
    ) -> "FisvlModel":
        """Build a trainable model from pretrained encoders; the parts between them start at random.

        Args:
            vision: token encoder, a loaded transformers model or what `AutoModel.from_pretrained` takes.
            text: text encoder, likewise.
            conv: conv encoder of the fusion path, likewise; not with `share_encoder=True` or `fusion=False`.
            config: fields of [`FisvlConfig`]; widths and the channels of the sensing module are measured if not given.

        Returns:
            [`FisvlModel`] in training mode.

        Raises:
            ValueError: a part is missing or contradicts the config.
        """
        backbones = {
            name: AutoModel.from_pretrained(part) if isinstance(part, str) else part
            for name, part in {"vision": vision, "conv": conv, "text": text}.items()
            if part is not None
        }
        fusion, shared = config.get("fusion", True), config.get("share_encoder", False)
        if fusion and not shared and conv is None:
            raise ValueError(
                "FisvlModel.from_backbones: the fusion path needs a conv encoder; give conv=..., or share_encoder="
                "True to read the vision encoder's maps, or fusion=False for the baseline."
            )
        config.setdefault("vision_width", _measure(backbones["vision"])[0])
        if fusion:
            width, channels = _measure(backbones["vision" if shared else "conv"], config.get("sensing_stage", 0))
            config.setdefault("sensing_in_channels", channels)
            if not shared:
                config.setdefault("conv_width", width)
        for name, part in backbones.items():
            config[f"{name}_config"] = deepcopy(part.config)
            config[f"{name}_config"].name_or_path = ""  # often a local folder
        model = cls(FisvlConfig(**config))
        for name, part in backbones.items():
            own = getattr(model, f"{name}_encoder")
            own = own.encoder if isinstance(own, FisvlImageEncoder) else own
            missing, _ = own.load_state_dict(part.state_dict(), strict=False)  # a dropped pooler is left over
            if missing:
                raise ValueError(f"FisvlModel.from_backbones: {type(part).__name__} lacks {missing[:3]} ...")
        return model.train()


def _conv_norm_relu(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Convolution that steps by its own size, so that windows do not overlap."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride=kernel_size, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _new_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """An encoder at random, without a pooler that has weights: nothing reads it, so it would never be trained."""
    # An encoder that lacks the attention asked for would refuse. So "sdpa" means where there is sdpa (what None means
    # to transformers), and a network without attention heads is not asked.
    if config._attn_implementation == "sdpa" or not hasattr(config, "num_attention_heads"):
        config._attn_implementation = None
    encoder = AutoModel.from_config(config)
    if any(True for _ in (getattr(encoder, "pooler", None) or nn.Identity()).parameters()):
        encoder.pooler = None
    return encoder


@torch.no_grad()
def _measure(encoder: PreTrainedModel, stage: int | None = None) -> tuple[int, int | None]:
    """Channels of an encoder's last hidden state and of the feature map `stage`, from a blank image."""
    size = getattr(encoder.config, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    training = encoder.training
    probe = torch.zeros(1, 3, height, width, dtype=encoder.dtype, device=encoder.device)
    outputs = encoder.eval()(probe, output_hidden_states=stage is not None, return_dict=True)
    encoder.train(training)
    last = outputs.last_hidden_state
    return last.shape[1 if last.ndim == 4 else 2], None if stage is None else outputs.hidden_states[stage].shape[1]


__all__ = ["FisvlModel", "FisvlOutput", "FisvlPreTrainedModel"]

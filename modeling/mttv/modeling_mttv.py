"""MTTV: is a post (text and image) fake?

Wang et al., "Multi-modal transformer using two-level visual features for fake news detection", Applied Intelligence
2022, doi 10.1007/s10489-022-04055-5; authors' code: https://github.com/cqu-wb/MTTV.

Image -> visual map -> pooled to g global tokens; detected regions -> r region tokens; the sequence
[CLS] global .. region .. [SEP] text goes through the first N layers of a BERT, its pooler and a linear classifier.

Equal to the authors' program (see tests/modeling/mttv) after conversion. What was changed: the visual encoder may be
part of the model and any of transformers', all widths follow the config, missing regions and images are defined. The
released classes share words, positions and norm between two embedding modules; here there is one stock BERT, whose
token-type table is made of two. 62,890,752 parameters with the default config.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, BertModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from transformers.utils import ModelOutput

from .configuration_mttv import MttvConfig


@dataclass
class MttvAttribution(ModelOutput):
    """What drove a prediction, in natural log-odds; output of [`MttvForSequenceClassification.attribute`].

    Args:
        target (`Tensor` of shape `(B,)`): the class that is explained.
        words (`Tensor` of shape `(B, T)`): share of each text token; 0 on padding.
        regions (`Tensor` of shape `(B, num_region_tokens)`): share of each region.
        cells (`Tensor` of shape `(B, rows, columns)`): share of each cell of the visual map.
        evidence (`Tensor` of shape `(B,)`): log-odds of the target for this post less those for a post without
            content: the sum of all shares, up to the error of the numerical integral.
    """

    target: Tensor | None = None
    words: Tensor | None = None
    regions: Tensor | None = None
    cells: Tensor | None = None
    evidence: Tensor | None = None


class MttvLinear(nn.Linear):
    """Starts as PyTorch starts it, which the released code leaves in place."""


class MttvTokenTypes(nn.Module):
    """The token-type tables of text and image, looked up as one: the image's ids follow the text's.

    Two parameters as in the released code (one starts as a copy of the other), because its optimizer clips each
    parameter by itself.
    """

    def __init__(self, text_types: int, dim: int):
        super().__init__()
        self.text = nn.Embedding(text_types, dim)
        self.picture = nn.Embedding(2, dim)

    def forward(self, token_type_ids: Tensor) -> Tensor:
        return F.embedding(token_type_ids, torch.cat([self.text.weight, self.picture.weight]))


class MttvVisionEncoder(nn.Module):
    """Any transformers vision model, read as a feature map."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        # An encoder that lacks the attention asked for would refuse. So "sdpa" means where there is sdpa (what None
        # means to transformers), and a network without attention heads is not asked.
        if config._attn_implementation == "sdpa" or not hasattr(config, "num_attention_heads"):
            config._attn_implementation = None
        self.encoder = AutoModel.from_config(config)

    def forward(self, pixel_values: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, C, rows, columns)
        features = self.encoder(pixel_values, return_dict=True).last_hidden_state
        if isinstance(features, (list, tuple)):  # maps of several stages, as of timm's features_only
            features = features[-1]
        if features.ndim == 4:
            return features
        side = math.isqrt(features.shape[1])  # tokens: a square of patches, after class and register tokens
        return features[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))


class MttvPreTrainedModel(PreTrainedModel):
    config: MttvConfig
    config_class = MttvConfig
    base_model_prefix = "mttv"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Saves weights, config and, as everywhere in this folder, the code: for each class that opens it."""
        if self._auto_class is not None:
            # The import takes the pipeline's file along: the copier follows what this file imports.
            from .pipeline_mttv import MttvPipeline

            module = type(self).__module__.rsplit(".", 1)[-1]
            others = getattr(self.config, "auto_map", None) or {}
            own = {"AutoModel": "MttvModel", "AutoModelForSequenceClassification": "MttvForSequenceClassification"}
            self.config.auto_map = {**others, **{auto: f"{module}.{name}" for auto, name in own.items()}}
            self.config.custom_pipelines = {
                MttvPipeline.task_name: {
                    "impl": f"pipeline_mttv.{MttvPipeline.__name__}",
                    "pt": ["AutoModelForSequenceClassification"],
                    "type": "multimodal",
                }
            }
        super().save_pretrained(save_directory, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Called only for modules that own parameters or buffers, not for those that merely hold such modules.
        super()._init_weights(module)
        if isinstance(module, MttvLinear):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                init.uniform_(module.bias, -(module.in_features**-0.5), module.in_features**-0.5)
        elif isinstance(module, MttvForSequenceClassification):
            init.ones_(module.scaling_factors)


class MttvModel(MttvPreTrainedModel):
    """The multi-modal transformer without its classifier: a post in, its pooled state out."""

    _keys_to_ignore_on_load_unexpected = [r"classifier\.weight", "scaling_factors"]  # noqa: RUF012

    def __init__(self, config: MttvConfig):
        super().__init__(config)
        text = config.text_config
        self.vision_encoder = None
        if config.vision_config is not None:
            self.vision_encoder = MttvVisionEncoder(config.vision_config)
        self.global_proj = MttvLinear(config.vision_width, text.hidden_size)
        self.region_proj = MttvLinear(config.vision_width, text.hidden_size)
        self.encoder = BertModel(text)
        self.encoder.embeddings.token_type_embeddings = MttvTokenTypes(text.type_vocab_size, text.hidden_size)
        self.post_init()
        self.train()

    def train(self, mode: bool = True) -> "MttvModel":
        """As usual, but a frozen visual encoder stays frozen: no gradients, and its batch statistics do not change.

        (Loading creates new parameters, which require gradients, and then calls this.)
        """
        super().train(mode)
        if self.vision_encoder is not None and not self.config.train_vision:
            self.vision_encoder.requires_grad_(False).eval()
        return self

    def get_visual_features(
        self,
        pixel_values: Tensor,
        region_pixel_values: Tensor | None = None,
        image_mask: Tensor | None = None,
        region_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Runs all images and all regions of a batch through the visual encoder, together.

        Args:
            pixel_values (`Tensor` of shape `(B, 3, H, W)`): whole images.
            region_pixel_values (`Tensor` of shape `(B, R, 3, H, W)`, *optional*): crops.
            image_mask (`Tensor` of shape `(B,)`, *optional*): 0 = no image. None: all are there.
            region_mask (`Tensor` of shape `(B, R)`, *optional*): 0 = no region. None: all are there.

        Returns:
            Global features (B, C, rows, columns) and region features (B, R, C), or None without regions; zero where
            there is no image or region.

        Raises:
            ValueError: the model has no visual encoder.
        """
        if self.vision_encoder is None:
            raise ValueError(
                "MttvModel: this model has no visual encoder, so it cannot read pixel_values; give global_features "
                "and region_features, or set vision_config (MttvForSequenceClassification.from_backbones)."
            )
        batch = len(pixel_values)
        shown = pixel_values.new_ones(batch, dtype=torch.bool) if image_mask is None else image_mask.bool()
        inputs, cropped = pixel_values[shown], None
        if region_pixel_values is not None:
            cropped = (
                region_pixel_values.new_ones(region_pixel_values.shape[:2], dtype=torch.bool)
                if region_mask is None
                else region_mask.bool()
            )
            inputs = torch.cat([inputs, region_pixel_values[cropped]])
        with torch.set_grad_enabled(self.config.train_vision and torch.is_grad_enabled()):
            # A batch without images needs the map's size, too: one blank image is run.
            maps = self.vision_encoder((inputs if len(inputs) else pixel_values[:1] * 0).to(self.dtype))
        count = int(shown.sum())
        global_features = maps.new_zeros(batch, *maps.shape[1:])
        global_features[shown] = maps[:count]
        if cropped is None:
            return global_features, None
        region_features = maps.new_zeros(*cropped.shape, maps.shape[1])
        region_features[cropped] = maps[count : len(inputs)].mean(dim=(2, 3))
        return global_features, region_features

    def _image_tokens(self, global_features: Tensor, region_features: Tensor) -> Tensor:  # (B, g + r, D)
        pool = F.adaptive_avg_pool2d if self.config.global_pooling == "avg" else F.adaptive_max_pool2d
        cells = pool(global_features, self.config.global_grid).flatten(2).transpose(1, 2)  # (B, g, C), row by row
        return torch.cat([self.global_proj(cells), self.region_proj(region_features)], dim=1)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        region_pixel_values: Tensor | None = None,
        image_mask: Tensor | None = None,
        region_mask: Tensor | None = None,
        global_features: Tensor | None = None,
        region_features: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling | tuple:
        """Reads posts.

        An image comes as pixels (needs a visual encoder) or as features, or not at all.

        Args:
            input_ids (`Tensor` of shape `(B, T)`): text, without special tokens of its own.
            attention_mask (`Tensor` of shape `(B, T)`, *optional*): 0 = padding of the text. None: no padding.
            pixel_values (`Tensor` of shape `(B, 3, H, W)`, *optional*): whole images; with `region_pixel_values`
                (B, R, 3, H, W), `image_mask` (B,) and `region_mask` (B, R) as for `get_visual_features`.
            global_features (`Tensor` of shape `(B, C, rows, columns)`, *optional*): visual map of the whole image.
            region_features (`Tensor` of shape `(B, R, C)`, *optional*): one pooled vector a region, best first. More
                than `num_region_tokens` are cut, fewer are filled up with zeros (a missing region is a zero vector).
            inputs_embeds (`Tensor` of shape `(B, T, D)`, *optional*): word embeddings instead of `input_ids`.
            token_type_ids: ignored: they are built inside.

        Returns:
            `last_hidden_state` (B, 2 + g + r + T, D), [CLS] first and the text last; `pooler_output` (B, D);
            `hidden_states` and `attentions` if asked for.

        Raises:
            ValueError: no text, both pixels and features, pixels without a visual encoder, a text too long.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("MttvModel: expected one of input_ids and inputs_embeds (an empty text is a padded one).")
        if pixel_values is not None:
            if global_features is not None or region_features is not None:
                raise ValueError("MttvModel: expected pixel_values or precomputed features, found both.")
            global_features, region_features = self.get_visual_features(
                pixel_values, region_pixel_values, image_mask, region_mask
            )
        words = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds  # (B, T, D)
        if attention_mask is None:
            attention_mask = torch.ones(words.shape[:2], dtype=torch.long, device=words.device)
        global_features, region_features = self._as_configured(global_features, region_features, words)
        mask = self._image_mask(global_features, region_features, image_mask, region_mask)  # (B, 2 + g + r)
        mask = torch.cat([mask, attention_mask.long()], dim=1)  # (B, 2 + g + r + T)
        encoded = self.encoder(
            inputs_embeds=self._sequence(global_features, region_features, words),  # (B, 2 + g + r + T, D)
            attention_mask=mask,
            position_ids=self._position_ids(words),
            token_type_ids=self._token_type_ids(attention_mask),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        outputs = BaseModelOutputWithPooling(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=self._pooled(encoded, mask),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return outputs.to_tuple() if return_dict is False else outputs

    def _pooled(self, encoded: BaseModelOutputWithPooling, mask: Tensor) -> Tensor:  # (B, D)
        if self.config.sequence_pooling == "first":
            return encoded.pooler_output
        states, mask = encoded.last_hidden_state, mask[..., None].to(encoded.last_hidden_state.dtype)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1)  # [CLS] is always attended to
        return self.encoder.pooler(mean[:, None])

    def _as_configured(
        self, global_features: Tensor | None, region_features: Tensor | None, words: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A map and exactly r regions for each text: zeros for what is missing, of too many regions the first."""
        config, batch = self.config, len(words)
        if global_features is None:
            global_features = words.new_zeros(batch, config.vision_width, *config.global_grid)
        if region_features is None:
            region_features = words.new_zeros(batch, 0, config.vision_width)
        region_features = region_features[:, : config.num_region_tokens]
        region_features = F.pad(region_features, (0, 0, 0, config.num_region_tokens - region_features.shape[1]))
        return global_features.to(words.dtype), region_features.to(words.dtype)

    def _sequence(self, global_features: Tensor, region_features: Tensor, words: Tensor) -> Tensor:
        """[CLS] global .. region .. [SEP] text, before positions and token types (B, 2 + g + r + T, D)."""
        ends = torch.tensor([self.config.cls_token_id, self.config.sep_token_id], device=words.device)
        cls, sep = self.get_input_embeddings()(ends)[:, None, None].expand(2, len(words), 1, -1)
        return torch.cat([cls, self._image_tokens(global_features, region_features), sep, words], dim=1)

    def _image_mask(
        self, global_features: Tensor, region_features: Tensor, image_mask: Tensor | None, region_mask: Tensor | None
    ) -> Tensor:  # (B, 2 + g + r)
        """Attention mask of [CLS], image and [SEP]: all ones as released, or without what is missing."""
        config, batch = self.config, len(global_features)
        ones = torch.ones(batch, 1, dtype=torch.long, device=global_features.device)
        if config.attend_missing:
            return ones.expand(batch, config.num_image_tokens + 2)
        if image_mask is None:
            image_mask = global_features.flatten(1).any(dim=1)
        if region_mask is None:
            region_mask = region_features.any(dim=2)
        else:
            region_mask = region_mask[:, : config.num_region_tokens]
            region_mask = F.pad(region_mask, (0, config.num_region_tokens - region_mask.shape[1]))
        shown = image_mask.long()[:, None].expand(batch, config.num_global_tokens)
        return torch.cat([ones, shown, region_mask.long(), ones], dim=1)

    def _position_ids(self, words: Tensor) -> Tensor:  # (1, 2 + g + r + T)
        """The text counts from 0 again."""
        length, longest = words.shape[1], self.config.text_config.max_position_embeddings
        if length > longest:
            raise ValueError(f"MttvModel: expected at most {longest} text tokens, found {length}; cut the text.")
        image = torch.arange(self.config.num_image_tokens + 2, device=words.device)
        return torch.cat([image, torch.arange(length, device=words.device)])[None]

    def _token_type_ids(self, attention_mask: Tensor) -> Tensor:  # (B, 2 + g + r + T)
        """Image's own table: 0 for [CLS] and global tokens, 1 for regions and [SEP]. Text's: 1, padding 0."""
        config, first = self.config, self.config.text_config.type_vocab_size
        types = [first] * (config.num_global_tokens + 1) + [first + 1] * (config.num_region_tokens + 1)
        image = torch.tensor(types, device=attention_mask.device)
        return torch.cat([image.expand(len(attention_mask), -1), attention_mask.long()], dim=1)

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)


class MttvForSequenceClassification(MttvPreTrainedModel):
    """MTTV with its (scalable) classifier: a post in, a prediction out.

    Example:

    >>> model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)  # doctest: +SKIP
    >>> processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)  # doctest: +SKIP
    >>> inputs = processor(text="...", images=image, return_tensors="pt")  # doctest: +SKIP
    >>> model(**inputs).logits.softmax(dim=-1)  # doctest: +SKIP
    """

    def __init__(self, config: MttvConfig):
        super().__init__(config)
        self.mttv = MttvModel(config)
        self.classifier = MttvLinear(config.text_config.hidden_size, config.num_labels, bias=False)
        self.register_buffer("scaling_factors", torch.ones(config.num_labels))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        region_pixel_values: Tensor | None = None,
        image_mask: Tensor | None = None,
        region_mask: Tensor | None = None,
        global_features: Tensor | None = None,
        region_features: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput | tuple:
        """Classifies posts.

        Args:
            labels (`Tensor` of shape `(B,)`, *optional*): class indices; gives `loss`, the mean cross-entropy.
            The others: see [`MttvModel`].

        Returns:
            `logits` (B, num_labels): in evaluation mode with the factors of the scalable classifier applied (they are
            ones until `fit_scaling_factors`), in training without; `loss`; `hidden_states` and `attentions` if asked
            for.
        """
        outputs = self.mttv(
            input_ids=input_ids,
            attention_mask=attention_mask,
            pixel_values=pixel_values,
            region_pixel_values=region_pixel_values,
            image_mask=image_mask,
            region_mask=region_mask,
            global_features=global_features,
            region_features=region_features,
            inputs_embeds=inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(outputs.pooler_output)  # (B, num_labels)
        if not self.training:
            logits = self._scale(logits)
        result = SequenceClassifierOutput(
            loss=None if labels is None else F.cross_entropy(logits, labels),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return result.to_tuple() if return_dict is False else result

    def _scale(self, logits: Tensor) -> Tensor:
        factors = self.scaling_factors.to(logits.dtype)
        return logits * factors if self.config.scaling_mode == "multiply" else logits + factors.log()

    @torch.no_grad()
    def fit_scaling_factors(self, recalls, tau: float = 1.0, min_recall: float = 0.01) -> Tensor:
        """Sets the factors (1 / recall) ** tau of the scalable classifier, which lift weak classes.

        Args:
            recalls: recall of each class on *validation* data, in label order, each in [0, 1].
            tau: strength; 0 turns scaling off.
            min_recall: lower recalls count as this, so that a class never found has a factor of at most
                (1 / min_recall) ** tau. (The released code divides by zero there.)

        Returns:
            The factors (num_labels,). They are saved with the model.

        Raises:
            ValueError: wrong number of recalls, or values out of range.

        Example:

        >>> model.fit_scaling_factors([0.9, 0.5], tau=1.0)  # doctest: +SKIP
        tensor([1.1111, 2.0000])
        """
        values = torch.as_tensor(recalls, dtype=torch.float64).cpu()
        if values.shape != (self.config.num_labels,):
            raise ValueError(
                f"fit_scaling_factors: expected one recall for each of the {self.config.num_labels} labels, found a "
                f"value of shape {tuple(values.shape)}."
            )
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError(f"fit_scaling_factors: expected recalls from 0 to 1, found {values.tolist()}.")
        if not 0 < min_recall <= 1:
            raise ValueError(f"fit_scaling_factors: expected min_recall in (0, 1], found {min_recall}.")
        self.scaling_factors.copy_(values.clamp(min=min_recall) ** -tau)
        return self.scaling_factors

    def attribute(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        region_pixel_values: Tensor | None = None,
        image_mask: Tensor | None = None,
        region_mask: Tensor | None = None,
        global_features: Tensor | None = None,
        region_features: Tensor | None = None,
        baseline_id: int | None = None,
        target: Tensor | None = None,
        steps: int = 24,
    ) -> MttvAttribution:
        """Attributes a prediction to words, regions and cells of the image, by integrated gradients.

        The path goes straight from a post without content (each word `baseline_id`, all visual features zero, as of
        a missing image) to this post; it explains the log-odds of the target against all other classes.

        Args:
            baseline_id: a token without meaning; the tokenizer's mask token is best. None: [SEP].
            target (`Tensor` of shape `(B,)`, *optional*): classes to explain; None: the predicted ones.
            steps: points on the path; the error of the integral falls with their square.
            The others: see [`MttvModel`].

        Returns:
            [`MttvAttribution`].
        """
        model, config = self.mttv, self.config
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        with torch.no_grad():
            if pixel_values is not None:
                global_features, region_features = model.get_visual_features(
                    pixel_values, region_pixel_values, image_mask, region_mask
                )
            words = model.get_input_embeddings()(input_ids)
            base = config.sep_token_id if baseline_id is None else baseline_id
            start = model.get_input_embeddings()(torch.full_like(input_ids, base))
            global_features, region_features = model._as_configured(global_features, region_features, words)
        # What is missing stays so along the path.
        image_mask = global_features.flatten(1).any(dim=1) if image_mask is None else image_mask
        region_mask = region_features.any(dim=2) if region_mask is None else region_mask
        ends = [global_features, region_features]
        shares = [torch.zeros_like(part) for part in (words, *ends)]

        def log_odds(amount: float) -> tuple[list[Tensor], Tensor]:
            nonlocal target
            parts = [(start + amount * (words - start)).requires_grad_()]
            parts += [(amount * part).detach().requires_grad_() for part in ends]
            logits = self(
                inputs_embeds=parts[0],
                attention_mask=attention_mask,
                global_features=parts[1],
                region_features=parts[2],
                image_mask=image_mask,
                region_mask=region_mask,
            ).logits
            if target is None:
                target = logits.argmax(dim=-1)
            mine = F.one_hot(target, logits.shape[-1]).bool()
            return parts, logits[mine] - logits.masked_fill(mine, -torch.inf).logsumexp(dim=-1)

        with torch.no_grad():
            evidence = log_odds(1.0)[1] - log_odds(0.0)[1]
        with torch.enable_grad():
            for step in range(steps):
                parts, odds = log_odds((step + 0.5) / steps)
                for share, gradient in zip(shares, torch.autograd.grad(odds.sum(), parts), strict=True):
                    share += gradient / steps
        return MttvAttribution(
            target=target,
            words=(shares[0] * (words - start)).sum(dim=-1) * attention_mask,
            regions=(shares[2] * ends[1]).sum(dim=-1),
            cells=(shares[1] * ends[0]).sum(dim=1),
            evidence=evidence,
        )

    def get_input_embeddings(self) -> nn.Module:
        return self.mttv.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.mttv.set_input_embeddings(value)

    @classmethod
    def from_backbones(
        cls, text: str | PreTrainedModel, vision: str | PreTrainedModel | None = None, **config
    ) -> "MttvForSequenceClassification":
        """Build a trainable model from a pretrained BERT and visual encoder, as the released training starts.

        Args:
            text: a loaded `BertModel` or what `BertModel.from_pretrained` takes; its first `num_encoder_layers`
                layers, embeddings and pooler are used. The image's token types start as a copy of the text's.
            vision: visual encoder, likewise for `AutoModel`; None for a model that takes precomputed features.
            config: fields of [`MttvConfig`]; `vision_width` is read from the visual encoder if not given.

        Returns:
            [`MttvForSequenceClassification`] in training mode; projections and classifier start at random.

        Raises:
            ValueError: a part is missing or contradicts the config.
        """
        text = BertModel.from_pretrained(text) if isinstance(text, str) else text
        vision = AutoModel.from_pretrained(vision) if isinstance(vision, str) else vision
        if vision is not None:
            widths = getattr(vision.config, "hidden_sizes", None) or [getattr(vision.config, "hidden_size", None)]
            config.setdefault("vision_width", widths[-1])
        config.setdefault("num_encoder_layers", min(6, text.config.num_hidden_layers))
        configs = {"text_config": text.config, "vision_config": None if vision is None else vision.config}
        model = cls(MttvConfig(**configs, **config))
        weights = text.state_dict()
        types = weights.pop("embeddings.token_type_embeddings.weight")
        for table in ("text", "picture"):
            weights[f"embeddings.token_type_embeddings.{table}.weight"] = types[:2] if table == "picture" else types
        missing, _ = model.mttv.encoder.load_state_dict(weights, strict=False)  # the upper layers are left over
        if missing:
            raise ValueError(f"from_backbones: {type(text).__name__} lacks {missing[:3]} ...")
        if vision is not None and model.mttv.vision_encoder is not None:
            model.mttv.vision_encoder.encoder.load_state_dict(vision.state_dict())
        return model.train()


__all__ = ["MttvAttribution", "MttvForSequenceClassification", "MttvModel", "MttvPreTrainedModel"]

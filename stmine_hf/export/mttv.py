"""MTTV as ONNX: posts of text, image and regions in, class logits out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import StmineError
from ..inference.fixed_pool import FixedPool
from ..modeling.mttv.modeling_mttv import MttvModel
from . import readme
from .parts import CHECKED, Part, PartsReport, export_parts, in_batches

if TYPE_CHECKING:
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor

FILE = "model.onnx"
_TEXTS = (
    "紧急通知，请大家马上转发！", "今日天气晴", "专家说今晚会有大事发生，千万别出门，请扩散给所有亲人和朋友", "a",
    "记者从市交通局获悉，机场附近的公交线路今日上午恢复运营", "", "地震", "road opens again today", "好" * 60, "转发",
)  # fmt: skip


class _Traceable(MttvModel):
    """The same model with sizes taken from shapes, which a trace follows, where Python's `len` would fix them."""

    pool: nn.Module

    def _image_tokens(self, global_features: Tensor, region_features: Tensor) -> Tensor:
        cells = self.pool(global_features).flatten(2).transpose(1, 2)
        return torch.cat([self.global_proj(cells), self.region_proj(region_features)], dim=1)

    def _sequence(self, global_features: Tensor, region_features: Tensor, words: Tensor) -> Tensor:
        ends = torch.tensor([self.config.cls_token_id, self.config.sep_token_id])
        cls, sep = self.get_input_embeddings()(ends)[:, None, None].expand(2, words.shape[0], 1, -1).unbind()
        return torch.cat([cls, self._image_tokens(global_features, region_features), sep, words], dim=1)

    def _as_configured(
        self, global_features: Tensor | None, region_features: Tensor | None, words: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert global_features is not None
        if region_features is None:
            region_features = words.new_zeros(words.shape[0], 0, self.config.vision_width)
        return global_features, region_features

    def _image_mask(
        self, global_features: Tensor, region_features: Tensor, image_mask: Tensor | None, region_mask: Tensor | None
    ) -> Tensor:
        assert image_mask is not None
        ones = torch.ones_like(image_mask)[:, None]
        if self.config.attend_missing:
            return ones.repeat(1, self.config.num_image_tokens + 2)
        shown = image_mask[:, None].repeat(1, self.config.num_global_tokens)
        regions = ones[:, :0] if region_mask is None else region_mask
        return torch.cat([ones, shown, regions, ones], dim=1)

    def _token_type_ids(self, attention_mask: Tensor) -> Tensor:
        config, first = self.config, self.config.text_config.type_vocab_size
        types = [first] * (config.num_global_tokens + 1) + [first + 1] * (config.num_region_tokens + 1)
        image = torch.tensor(types).expand(attention_mask.shape[0], -1)
        return torch.cat([image, attention_mask], dim=1)


class PostGraph(nn.Module):
    """Inputs of the processor -> `logits` (B, labels), the scalable classifier's factors applied.

    Args:
        model: with a visual encoder; a copy of it is kept.
        size: height and width of its images.
    """

    def __init__(self, model: MttvForSequenceClassification, size: tuple[int, int]):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        inner = self.model.mttv
        inner.__class__ = _Traceable
        with torch.no_grad():
            shape = inner.vision_encoder(torch.zeros(1, 3, *size)).shape
        grid = model.config.global_grid
        if model.config.global_pooling == "avg":
            inner.pool = FixedPool((shape[2], shape[3]), grid)
        else:
            inner.pool = _FixedMaxPool((shape[2], shape[3]), grid)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        image_mask: Tensor,
        region_pixel_values: Tensor | None = None,
        region_mask: Tensor | None = None,
    ) -> Tensor:
        encoder, regions = self.model.mttv.vision_encoder, None
        features = encoder(pixel_values) * image_mask[:, None, None, None].float()
        if region_pixel_values is not None and region_mask is not None:
            regions = encoder(region_pixel_values.flatten(0, 1)).mean(dim=(2, 3))
            regions = regions.reshape(-1, region_pixel_values.shape[1], regions.shape[1]) * region_mask[..., None]
        return self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            global_features=features,
            region_features=regions,
            image_mask=image_mask,
            region_mask=region_mask,
        ).logits


class _FixedMaxPool(nn.Module):
    """Adaptive maximum pooling of maps of one known size."""

    def __init__(self, size: tuple[int, int], grid: tuple[int, int]):
        super().__init__()
        self.cuts = [
            [(cell * length // cells, -(-(cell + 1) * length // cells)) for cell in range(cells)]
            for length, cells in zip(size, grid, strict=True)
        ]

    def forward(self, maps: Tensor) -> Tensor:
        rows = [maps[:, :, start:end].amax(dim=2) for start, end in self.cuts[0]]
        cells = [[row[:, :, start:end].amax(dim=2) for start, end in self.cuts[1]] for row in rows]
        return torch.stack([torch.stack(row, dim=2) for row in cells], dim=2)


def export_mttv(model: MttvForSequenceClassification, processor: MttvProcessor, folder: str | Path) -> PartsReport:
    """Write a classifier of posts as ONNX, any number of posts and any length of texts, and compare it with PyTorch.

    Args:
        model: in evaluation mode, with a visual encoder; it is not changed.
        processor: of the model; its tokenizer is saved in the same folder.
        folder: created if missing. An earlier export in it is replaced.

    Returns:
        [`PartsReport`]

    Raises:
        StmineError: a model that reads only precomputed features; also see `export_parts`.
    """
    if model.config.vision_config is None:
        raise StmineError("This model has no visual encoder: expected one that reads images. It cannot be exported.")
    side = dict(processor.image_processor.size)
    size = side["height"], side["width"]
    inputs = _posts(processor, size, model.config.num_region_tokens)
    checks = [{name: value[rows] for name, value in inputs.items()} for rows in in_batches(CHECKED)]
    for batch in checks:  # as long as its longest text
        length = max(1, int(batch["attention_mask"].sum(dim=1).max()))
        batch |= {name: batch[name][:, :length] for name in ("input_ids", "attention_mask")}
    example = {name: value[:2] for name, value in inputs.items()}
    part = Part(FILE, PostGraph(model, size), example, "logits", ("input_ids", "attention_mask"), checks)  # type: ignore[arg-type]
    settings = settings_of(model, processor)
    return export_parts(folder, [part], processor, settings, "mttv.md", readme.title(model, "MTTV"))


def settings_of(model: MttvForSequenceClassification, processor: MttvProcessor) -> dict[str, Any]:
    """The settings of posts and classes that the README's code reads."""
    images, tokenizer = processor.image_processor, processor.tokenizer
    return {
        "names": [model.config.id2label[label] for label in range(model.config.num_labels)],
        "size": [dict(images.size)["height"], dict(images.size)["width"]],
        "resample": int(images.resample),
        "mean": list(images.image_mean),
        "std": list(images.image_std),
        "max_tokens": processor.max_tokens,
        "pad_token_id": tokenizer.pad_token_id or 0,
        "num_regions": model.config.num_region_tokens,
    }


def _posts(processor: MttvProcessor, size: tuple[int, int], regions: int) -> dict[str, Tensor]:
    """Ten posts: some without text, some without image."""
    encoded = processor(
        text=list(_TEXTS), images=[None if number % 3 == 2 else Image.new("RGB", (8, 8)) for number in range(CHECKED)]
    )
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randn(CHECKED, 3, *size, generator=chance) * encoded["image_mask"][:, None, None, None]
    inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    inputs |= {"pixel_values": pixels, "image_mask": encoded["image_mask"]}
    if regions:
        inputs["region_pixel_values"] = torch.randn(CHECKED, regions, 3, *size, generator=chance)
        inputs["region_mask"] = (torch.arange(regions) < torch.arange(CHECKED)[:, None] % (regions + 1)).long()
    return inputs

"""MTTV in other runtimes: posts of text, image and regions in, class logits out."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from PIL import Image
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from ..errors import StmineError
from ..inference import exported
from ..inference.exported import Export, Network
from ..inference.fixed_pool import FixedPool
from ..methods import MTTV
from ..modeling.mttv.modeling_mttv import MttvModel
from . import readme
from .exported import Exported
from .parts import (
    CHECKED,
    Part,
    PartsReport,
    export_parts,
    find_format,
    in_batches,
    open_parts,
    probability_apart,
    require_images,
    ten_of,
)

if TYPE_CHECKING:
    from ..modeling.mttv.modeling_mttv import MttvForSequenceClassification
    from ..modeling.mttv.processing_mttv import MttvProcessor

PART = "model"
_RANGES = 4  # posts of a batch that sets ranges
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


class ExportedMttv(Exported):
    """A classifier of posts in another runtime: called as `MttvForSequenceClassification` is.

    Args:
        export: of the network.
        threads: of the runtime.
    """

    def __init__(self, export: Export, threads: int | None = None):
        files = [path.name for path in sorted(export.folder.iterdir()) if path.suffix in (".onnx", ".bin")]
        super().__init__(export.folder, MTTV.config_class.from_pretrained(export.folder), files, threads)
        self.export = export

    @cached_property
    def _network(self) -> Network:
        return self.export.network(PART, self.threads)

    @property
    def mttv(self) -> NoReturn:
        """
        Raises:
            StmineError: always: the parts of the model cannot be run alone.
        """
        raise StmineError(self._cannot("compute visual features or explain a prediction"))

    def attribute(self, *args: Any, **kwargs: Any) -> NoReturn:
        """
        Raises:
            StmineError: always: an export has no gradients.
        """
        raise StmineError(self._cannot("explain a prediction"))

    def _cannot(self, what: str) -> str:
        return f"{self.name_or_path}: an exported model cannot {what}: use the model that it was made from."

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        region_pixel_values: Tensor | None = None,
        image_mask: Tensor | None = None,
        region_mask: Tensor | None = None,
        **others: Any,
    ) -> SequenceClassifierOutput:
        """Classify posts, as `MttvForSequenceClassification.forward` does without labels.

        Raises:
            StmineError: precomputed features.
        """
        if given := [name for name, value in others.items() if value is not None and name != "token_type_ids"]:
            raise StmineError(self._cannot(f"read {given[0]}"))
        settings, rows = self.export.settings, len(input_ids)
        if pixel_values is None:
            pixel_values, image_mask = torch.zeros(rows, 3, *settings["size"]), torch.zeros(rows, dtype=torch.int64)
        inputs = {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids) if attention_mask is None else attention_mask,
            "pixel_values": pixel_values,
            "image_mask": torch.ones(rows) if image_mask is None else image_mask,
        }
        if regions := settings["num_regions"]:
            crops = torch.zeros(rows, regions, 3, *settings["size"])
            shown = torch.zeros(rows, regions, dtype=torch.int64)
            if region_pixel_values is not None:
                count = min(regions, region_pixel_values.shape[1])
                crops[:, :count] = region_pixel_values[:, :count]
                shown[:, :count] = 1 if region_mask is None else region_mask[:, :count]
            inputs |= {"region_pixel_values": crops, "region_mask": shown}
        floats = ("pixel_values", "region_pixel_values")
        arrays = {name: (one if name in floats else one.long()).numpy() for name, one in inputs.items()}
        return SequenceClassifierOutput(logits=torch.from_numpy(self._network(arrays)[0]))


def export_mttv(
    model: MttvForSequenceClassification,
    processor: MttvProcessor,
    folder: str | Path,
    *,
    format: str = "onnx",
    images: Iterable[Image.Image] = (),
) -> PartsReport:
    """Write a classifier for another runtime, any number of posts and any length of texts, and compare with PyTorch.

    Args:
        model: in evaluation mode, with a visual encoder; it is not changed.
        processor: of the model, saved in the same folder.
        folder: created if missing. An earlier export in it is replaced.
        format: "onnx", "fp16" (ONNX with 16-bit floats), "int8" (ONNX with 8-bit integers) or "openvino".
        images: to compare on; for "int8" needed, to measure the ranges of the visual encoder's activations.

    Returns:
        [`PartsReport`]

    Raises:
        StmineError: an unknown format, no images for int8, a model that reads only precomputed features; also see
            `export_parts`.
    """
    if model.config.vision_config is None:
        raise StmineError("This model has no visual encoder: expected one that reads images. It cannot be exported.")
    given = list(images)
    require_images(find_format(format), given)
    side = dict(processor.image_processor.size)
    size = side["height"], side["width"]
    pixels = torch.cat([processor(text=[""], images=[image])["pixel_values"] for image in given]) if given else None
    inputs = _posts(processor, size, model.config.num_region_tokens, None if pixels is None else ten_of(pixels))
    checks = [{name: value[rows] for name, value in inputs.items()} for rows in in_batches(CHECKED)]
    for batch in checks:  # as long as its longest text
        length = max(1, int(batch["attention_mask"].sum(dim=1).max()))
        batch |= {name: batch[name][:, :length] for name in ("input_ids", "attention_mask")}
    part = Part(
        PART,
        PostGraph(model, size),
        {name: value[:2] for name, value in inputs.items()},
        "logits",
        ("input_ids", "attention_mask"),
        checks,
        probability_apart,
        [] if pixels is None else [_shown(inputs, batch) for batch in pixels.split(_RANGES)],
    )
    return export_parts(
        folder, [part], model, processor, settings_of(model, processor), format=format, template="mttv.md",
        title=readme.title(model, "MTTV"),
    )  # fmt: skip


def _shown(inputs: dict[str, Tensor], pixels: Tensor) -> dict[str, Tensor]:
    """The first posts with these images, and with the same images as regions."""
    own = {name: value[: len(pixels)] for name, value in inputs.items()}
    own |= {"pixel_values": pixels, "image_mask": torch.ones(len(pixels), dtype=torch.int64)}
    if "region_pixel_values" in own:
        own["region_pixel_values"] = pixels[:, None].expand_as(own["region_pixel_values"]).contiguous()
        own["region_mask"] = torch.ones_like(own["region_mask"])
    return own


def open_mttv(folder: str | Path) -> tuple[ExportedMttv, MttvProcessor]:
    """Open a folder that `export_mttv` wrote.

    Raises:
        StmineError: it is damaged, or its runtime is not installed.
    """
    return open_parts(folder, MTTV, ExportedMttv)


def is_exported(folder: str | Path) -> bool:
    """Whether `open_mttv` opens this folder."""
    return exported.is_export(folder, MTTV.name)


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


def _posts(
    processor: MttvProcessor, size: tuple[int, int], regions: int, pixels: Tensor | None = None
) -> dict[str, Tensor]:
    """Ten posts: some without text, some without image. `pixels` (10, 3, H, W) of images; None: noise."""
    encoded = processor(
        text=list(_TEXTS), images=[None if number % 3 == 2 else Image.new("RGB", (8, 8)) for number in range(CHECKED)]
    )
    chance = torch.Generator().manual_seed(0)
    shown = torch.randn(CHECKED, 3, *size, generator=chance) if pixels is None else pixels
    inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    inputs |= {"pixel_values": shown * encoded["image_mask"][:, None, None, None], "image_mask": encoded["image_mask"]}
    if regions:
        noise = torch.randn(CHECKED, regions, 3, *size, generator=chance)
        inputs["region_pixel_values"] = noise if pixels is None else pixels[:, None].expand_as(noise).contiguous()
        inputs["region_mask"] = (torch.arange(regions) < torch.arange(CHECKED)[:, None] % (regions + 1)).long()
    return inputs

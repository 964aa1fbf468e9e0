"""FISVL in other runtimes: its image tower and its text tower as separate files, as a search service needs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from PIL import Image
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from ..errors import StmineError
from ..inference import exported
from ..inference.exported import ALIKE, Export, Network
from ..methods import FISVL
from ..model_identity import weights_digest
from ..search.embedder import Embedder
from ..search.image_graph import ImageTower
from ..search.text_export import TextGraph
from . import readme
from .exported import Exported
from .parts import (
    CHECKED,
    Part,
    PartsReport,
    cosine_apart,
    export_parts,
    find_format,
    in_batches,
    open_parts,
    require_images,
    ten_of,
)

if TYPE_CHECKING:
    from ..modeling.fisvl.modeling_fisvl import FisvlModel
    from ..modeling.fisvl.processing_fisvl import FisvlProcessor

IMAGE, TEXT = "image", "text"
TOWERS = ("both", IMAGE, TEXT)
_SENTENCES = (
    "a plane", "many ships are docked at a port near several buildings", "a river", "green trees beside a road",
    "two baseball fields are next to a playground and a parking lot with many cars in it", "an airport", "",
    "a bridge over a wide river", "dense residential houses with red roofs are arranged neatly on both sides", "sea",
)  # fmt: skip


class ExportedFisvl(Exported):
    """Both towers, or one of them, in another runtime: called as `FisvlModel` is.

    Args:
        export: of the towers.
        threads: of the runtime.
    """

    def __init__(self, export: Export, threads: int | None = None):
        files = [path.name for path in sorted(export.folder.iterdir()) if path.suffix in (".onnx", ".bin")]
        super().__init__(export.folder, FISVL.config_class.from_pretrained(export.folder), files, threads)
        self.export = export

    @cached_property
    def _image(self) -> Network:
        return self.export.network(IMAGE, self.threads)

    @cached_property
    def _text(self) -> Network:
        return self.export.network(TEXT, self.threads)

    def get_image_features(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """(B, 3, H, W) -> `pooler_output` (B, D), unit rows.

        Raises:
            StmineError: the folder has the text tower alone.
        """
        (rows,) = self._image({"pixel_values": pixel_values.numpy()})
        return BaseModelOutputWithPooling(pooler_output=torch.from_numpy(rows))

    def get_text_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutputWithPooling:
        """(B, T) each -> `pooler_output` (B, D), unit rows.

        Raises:
            StmineError: the folder has the image tower alone.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        (rows,) = self._text({"input_ids": input_ids.numpy(), "attention_mask": mask.numpy()})
        return BaseModelOutputWithPooling(pooler_output=torch.from_numpy(rows))

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """
        Raises:
            StmineError: always: an export has no gradients and no loss.
        """
        raise StmineError(
            f"{self.name_or_path}: an exported model embeds images and sentences (get_image_features, "
            "get_text_features); for gradients and losses use the model that it was made from."
        )


def export_fisvl(
    model: FisvlModel,
    processor: FisvlProcessor,
    folder: str | Path,
    *,
    format: str = "onnx",
    tower: str = "both",
    images: Iterable[Image.Image] = (),
) -> PartsReport:
    """Write the towers for another runtime, any number of rows and any length of sentences, and compare with PyTorch.

    Args:
        model: in evaluation mode; it is not changed.
        processor: of the model, saved in the same folder.
        folder: created if missing. An earlier export in it is replaced.
        format: "onnx", "fp16" (ONNX with 16-bit floats), "int8" (ONNX with 8-bit integers) or "openvino".
        tower: "both", "image" or "text".
        images: to compare on; for "int8" needed, to measure the ranges of the image tower's activations.

    Returns:
        [`PartsReport`]

    Raises:
        StmineError: an unknown format or tower, no images for int8; also see `export_parts`.
    """
    if tower not in TOWERS:
        raise StmineError(f"tower: expected one of {', '.join(TOWERS)}, found {tower!r}.")
    side = dict(processor.image_processor.size)
    size = side["height"], side["width"]
    given = list(images)
    parts = []
    if tower != TEXT:
        require_images(find_format(format), given)
        parts.append(_image_part(model, processor, size, given))
    if tower != IMAGE:
        checks = [_tokens(processor, _SENTENCES[rows]) for rows in in_batches(CHECKED)]
        long = ("input_ids", "attention_mask")
        parts.append(
            Part(TEXT, TextGraph(model), _tokens(processor, _SENTENCES[:2]), "text_embeds", long, checks, cosine_apart)
        )
    weights = weights_digest(model)
    if format not in ALIKE:
        weights = blake2b(f"{weights} {format}".encode(), digest_size=16).hexdigest()

    def facts(export: Export) -> dict[str, Any]:
        export.facts["weights"] = weights
        embedder = Embedder((ExportedFisvl(export), processor))  # type: ignore[arg-type]
        found: dict[str, Any] = {"weights": weights, "identity": {**embedder.identity, "source": None}}
        if TEXT in export.parts:
            found["meaningless"] = embedder.meaningless.astype("<f4").tobytes().hex()
        return found

    return export_parts(
        folder, parts, model, processor, settings_of(processor), format=format, template="fisvl.md",
        title=readme.title(model, "FISVL"), facts=facts,
    )  # fmt: skip


def _image_part(
    model: FisvlModel, processor: FisvlProcessor, size: tuple[int, int], images: Sequence[Image.Image]
) -> Part:
    ranges: list[dict[str, Tensor]] = []
    if images:
        ranges = [processor(images=[image], return_tensors="pt") for image in images]
        pixels = ten_of(torch.cat([one["pixel_values"] for one in ranges]))
    else:
        pixels = torch.randn(CHECKED, 3, *size, generator=torch.Generator().manual_seed(0))
    checks = [{"pixel_values": pixels[rows]} for rows in in_batches(CHECKED)]
    graph, example = ImageTower(model, size), {"pixel_values": pixels[:2]}
    return Part(IMAGE, graph, example, "image_embeds", (), checks, cosine_apart, ranges)  # type: ignore[arg-type]


def open_fisvl(folder: str | Path) -> tuple[ExportedFisvl, FisvlProcessor]:
    """Open a folder that `export_fisvl` wrote.

    Raises:
        StmineError: it is damaged, or its runtime is not installed.
    """
    return open_parts(folder, FISVL, ExportedFisvl)


def is_exported(folder: str | Path) -> bool:
    """Whether `open_fisvl` opens this folder."""
    return exported.is_export(folder, FISVL.name)


def settings_of(processor: FisvlProcessor) -> dict[str, Any]:
    """The settings of images and sentences that the README's code reads."""
    images = processor.image_processor
    return {
        "size": [dict(images.size)["height"], dict(images.size)["width"]],
        "resample": int(images.resample),
        "mean": list(images.image_mean),
        "std": list(images.image_std),
        "clean_captions": processor.clean_captions,
        "max_words": processor.max_words,
        "max_tokens": processor.max_tokens,
    }


def _tokens(processor: FisvlProcessor, sentences: Sequence[str]) -> dict[str, Tensor]:
    encoded = processor(text=list(sentences), return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}

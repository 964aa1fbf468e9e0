"""Export SAT: write it for another runtime, compare it with PyTorch, and only then put it in place."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ..checkpoints import read_settings, require_processor_bounds
from ..detect.classes import THRESHOLD
from ..errors import StmineError
from ..inference.exported import MANIFEST, read_manifest, require_undamaged
from ..methods import SAT
from ..modeling.sat.image_processing_sat import SatImageProcessor
from ..outputs import Outputs, require_readable_name, sha256_of
from . import readme
from .exported import CONFIDENT, Differences, ExportedSat, ExportFormat
from .half import HalfFormat
from .int8 import Int8Format
from .ncnn import NcnnFormat
from .onnx import OnnxFormat
from .openvino import OpenvinoFormat
from .suppression import require_suppressed

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection

__all__ = ["FORMATS", "ExportReport", "export_sat", "open_exported"]

FORMATS: dict[str, ExportFormat] = {
    format.name: format for format in (OnnxFormat(), NcnnFormat(), Int8Format(), OpenvinoFormat(), HalfFormat())
}
CHECKED = 10  # inputs of the comparison with PyTorch, at least
_WEIGHTS = {file for format in FORMATS.values() for file in format.files}


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how much it differs from PyTorch on the compared inputs.

    Attributes:
        folder: has the file(s), the config and the image processor.
        format: a name in `FORMATS`.
        file_bytes: of the weights' file(s).
        score_difference, confident_difference, box_difference: see `Differences`.
        inputs: how many inputs were compared.
    """

    folder: Path
    format: str
    file_bytes: int
    score_difference: float
    confident_difference: float
    box_difference: float
    inputs: int


def export_sat(
    model: SatForObjectDetection,
    processor: SatImageProcessor,
    folder: str | Path,
    *,
    format: str = "onnx",
    size: int | tuple[int, int] = 320,
    images: Iterable[Image.Image] = (),
    nms: bool = False,
) -> ExportReport:
    """Write a model for another runtime and compare the two.

    Args:
        model: in evaluation mode; it is not changed.
        processor: its image processor, saved in the same folder.
        folder: created if missing. An earlier export in it is replaced once the new one is there and compared.
        format: "onnx" (any batch, height and width), "ncnn" (one image at one size), "int8" (ONNX with 8-bit
            convolutions), "openvino" (any batch, height and width) or "fp16" (ONNX with 16-bit floats).
        size: height and width, multiples of 32, of the ncnn model and of the compared inputs.
        images: to compare on; for "int8" needed, to measure the ranges of the activations. Without ten of them noise
            is compared, too, in batches of other numbers of rows and of other sizes where the format takes them.
        nms: put the non-maximum suppression into the network, whose thresholds become inputs of it; not for "ncnn".
            `stmine detect` goes on suppressing by itself, with the thresholds it is given.

    Returns:
        [`ExportReport`]

    Raises:
        StmineError: unknown format, a size that is no multiple of 32, no images for int8, a missing package, the
            exported model's answers differ from PyTorch's, or the folder has files of these names that
            this package did not write.
    """
    if format not in FORMATS:
        raise StmineError(f"format: expected one of {', '.join(FORMATS)}, found {format!r}.")
    height, width = (size, size) if isinstance(size, int) else size
    if height < 32 or width < 32 or height % 32 or width % 32:
        raise StmineError(f"size: expected multiples of 32 pixels, found {height} x {width}.")
    chosen = FORMATS[format]
    if nms and not chosen.takes_nms:
        raise StmineError(f"{format} has no suppression of its own: omit --nms; the README has code for it.")
    inputs = [processor(images=image, return_tensors="pt")["pixel_values"] for image in images]
    if chosen.needs_images and not inputs:
        raise StmineError(
            f"{format} needs images like those in use, to measure the ranges of activations: --images DIR"
        )
    require_readable_name(folder)
    with tempfile.TemporaryDirectory() as scratch, Outputs(folder) as outputs:
        outputs.require_free(*chosen.files, MANIFEST, readme.FILE, "config.json", "preprocessor_config.json")
        outputs.require_own_folder(MANIFEST)
        made = Path(scratch)
        settings = settings_of(model, processor, (height, width), nms)
        chosen.write(model, made, inputs, (height, width), settings["max_detections"] if nms else None)
        chosen.describe(made, settings)
        config = model.config.__class__.from_dict({**model.config.to_dict(), "export_size": [height, width]})
        config.save_pretrained(made)
        processor.save_pretrained(made)
        inputs = chosen.comparable(inputs, (height, width))
        inputs += _noise(CHECKED - len(inputs), (height, width), any_size=chosen.any_size)
        exported = chosen.runtime(made)
        differences = compare(model, exported, inputs)
        chosen.require_near(differences)
        if nms:
            _require_suppressed(exported, inputs, format)
        files = sorted(path.name for path in made.iterdir())
        for name in sorted(_WEIGHTS - {*files}):  # of an earlier export in another format
            if name in outputs.written():
                outputs.remove(name)
        manifest = {
            "method": SAT.name,
            "format": format,
            "settings": settings,
            "files": {name: sha256_of(made / name) for name in files},
        }
        _write_readme(made, chosen, readme.title(model, "SAT"), settings)
        for name in (*files, readme.FILE):
            outputs.write(name, partial(shutil.copyfile, made / name))
        outputs.write(MANIFEST, lambda path: path.write_text(json.dumps(manifest, indent=1) + "\n"))
        size_of_files = sum((made / name).stat().st_size for name in chosen.files)
    return ExportReport(Path(folder), format, size_of_files, *differences, sum(map(len, inputs)))


def settings_of(
    model: SatForObjectDetection, processor: SatImageProcessor, input_size: tuple[int, int], nms: bool = False
) -> dict[str, Any]:
    """The settings of images and boxes that an exported network needs; the defaults of `stmine detect`."""
    defaults = signature(processor.post_process_object_detection).parameters
    return {
        "names": [model.config.id2label[label] for label in range(model.config.num_labels)],
        "size": [processor.size["height"], processor.size["width"]],
        "fit": processor.fit,
        "channel_order": processor.channel_order,
        "mean": list(processor.image_mean),
        "std": list(processor.image_std),
        "size_divisor": processor.size_divisor,
        "input_size": list(input_size),
        "strides": list(model.config.strides),
        "threshold": THRESHOLD,
        "nms_iou": defaults["nms_threshold"].default,
        "max_detections": defaults["max_detections"].default,
        **({"nms": True} if nms else {}),
    }


def _noise(rows: int, size: tuple[int, int], *, any_size: bool) -> list[Tensor]:
    """Inputs of noise in batches of one to four rows; of other sizes, too, if any can be compared."""
    chance = torch.Generator().manual_seed(0)
    batches: list[Tensor] = []
    while rows > 0:
        count = min(rows, 1 + len(batches) % 4)
        height, width = (side + 32 * (len(batches) % 3) * any_size for side in size)
        batches.append(torch.randn(count, 3, height, width, generator=chance))
        rows -= count
    return batches


def _require_suppressed(exported: Any, inputs: Iterable[Tensor], format: str) -> None:
    """
    Raises:
        StmineError: the suppression in the network differs from torchvision's for an input.
    """
    for pixel_values in inputs:
        scores = exported(pixel_values).logits.sigmoid().flatten()
        least = float(scores.topk(min(50, len(scores))).values[-1])  # some boxes whatever the model has learned
        for iou in (0.6, 0.3):
            require_suppressed(exported.arrays(pixel_values, least, iou), least, iou, format)


def _write_readme(folder: Path, format: ExportFormat, title: str, settings: dict[str, Any]) -> None:
    readme.write_readme(
        folder,
        "sat.md",
        title=title,
        format=format.name,
        runtime=format.packages[0],
        packages=" ".join((*format.packages, "numpy", "pillow")),
        settings=settings,
    )


def open_exported(folder: str | Path, threads: int | None = None) -> tuple[ExportedSat, SatImageProcessor]:
    """Open a folder that `export_sat` wrote.

    Raises:
        StmineError: there is no exported model in it, it is damaged, or its runtime is not installed.
    """
    folder = Path(folder)
    for format in FORMATS.values():
        if all((folder / name).is_file() for name in format.files):
            if (folder / MANIFEST).is_file():  # version 0.1 wrote none
                require_undamaged(folder, read_manifest(folder))
            try:
                read_settings(folder / "config.json")
                require_processor_bounds(
                    read_settings(folder / "preprocessor_config.json"), "preprocessor_config.json"
                )
                return format.runtime(folder, threads), SatImageProcessor.from_pretrained(folder)
            except StmineError:
                raise
            except Exception as error:  # of transformers and of the runtimes, which have types of their own
                reason = " ".join(str(error).split())[:300]
                raise StmineError(
                    f"{folder}: the exported model cannot be opened ({reason}). Export it again."
                ) from error
    expected = " or ".join(dict.fromkeys(" and ".join(format.files) for format in FORMATS.values()))
    raise StmineError(
        f"{folder}: expected an exported detector ({expected}), found none. Make one: stmine export sat --out FOLDER"
    )


def is_exported(folder: str | Path) -> bool:
    """Whether `open_exported` opens this folder."""
    folder = Path(folder)
    if (folder / MANIFEST).is_file() and read_manifest(folder).get("method", SAT.name) != SAT.name:
        return False
    return any((folder / name).is_file() for name in _WEIGHTS)


@torch.inference_mode()
def compare(model: SatForObjectDetection, exported: ExportedSat, inputs: Iterable[Tensor]) -> Differences:
    """The differences between a model and its export over some inputs."""
    scores = boxes = 0.0
    confident = []
    for pixel_values in inputs:
        ours, theirs = model(pixel_values.to(model.device)), exported(pixel_values)
        probabilities, others = ours.logits.cpu().sigmoid(), theirs.logits.sigmoid()
        difference = (probabilities - others).abs()
        scores = max(scores, float(difference.max()))
        confident.append(difference[~(torch.maximum(probabilities, others) <= CONFIDENT)])  # NaN counts
        shown = probabilities.amax(dim=-1) > 0.05
        if shown.any():
            extent = torch.tensor([*pixel_values.shape[:1:-1]] * 2)
            apart = (ours.pred_boxes.cpu() - theirs.pred_boxes)[shown].abs() * extent
            boxes = max(boxes, float(apart.max()))
    together = torch.cat(confident)
    return Differences(scores, float(together.mean()) if len(together) else 0.0, boxes)

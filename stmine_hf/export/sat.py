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
from ..documents import read_json
from ..errors import StmineError
from ..modeling.sat.image_processing_sat import SatImageProcessor
from ..outputs import Outputs, sha256_of
from . import MANIFEST, readme
from .exported import CONFIDENT, Differences, ExportedSat, ExportFormat
from .int8 import Int8Format
from .ncnn import NcnnFormat
from .onnx import OnnxFormat
from .openvino import OpenvinoFormat

if TYPE_CHECKING:
    from ..modeling.sat.modeling_sat import SatForObjectDetection

__all__ = ["FORMATS", "ExportReport", "export_sat", "open_exported"]

FORMATS: dict[str, ExportFormat] = {
    format.name: format for format in (OnnxFormat(), NcnnFormat(), Int8Format(), OpenvinoFormat())
}
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
) -> ExportReport:
    """Write a model for another runtime and compare the two.

    Args:
        model: in evaluation mode; it is not changed.
        processor: its image processor, saved in the same folder.
        folder: created if missing. An earlier export in it is replaced once the new one is there and compared.
        format: "onnx" (any batch, height and width), "ncnn" (one image at one size), "int8" (ONNX with 8-bit
            convolutions) or "openvino" (any batch, height and width).
        size: height and width, multiples of 32, of the ncnn model and of the compared inputs.
        images: to compare on; for "int8" needed, to measure the ranges of the activations.

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
    inputs = [processor(images=image, return_tensors="pt")["pixel_values"] for image in images]
    if chosen.needs_images and not inputs:
        raise StmineError(
            f"{format} needs images like those in use, to measure the ranges of activations: --images DIR"
        )
    with tempfile.TemporaryDirectory() as scratch, Outputs(folder) as outputs:
        outputs.require_free(*chosen.files, MANIFEST, readme.FILE, "config.json", "preprocessor_config.json")
        outputs.require_own_folder(MANIFEST)
        made = Path(scratch)
        chosen.write(model, made, inputs, (height, width))
        settings = settings_of(model, processor, (height, width))
        chosen.describe(made, settings)
        config = model.config.__class__.from_dict({**model.config.to_dict(), "export_size": [height, width]})
        config.save_pretrained(made)
        processor.save_pretrained(made)
        inputs = chosen.comparable(inputs, (height, width))
        inputs = inputs or [torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))]
        differences = compare(model, chosen.runtime(made), inputs)
        chosen.require_near(differences)
        files = sorted(path.name for path in made.iterdir())
        for name in sorted(_WEIGHTS - {*files}):  # of an earlier export in another format
            if name in outputs.written():
                outputs.remove(name)
        manifest = {
            "format": format,
            "settings": settings,
            "files": {name: sha256_of(made / name) for name in files},
        }
        _write_readme(made, chosen, readme.title(model, "SAT"), settings)
        for name in (*files, readme.FILE):
            outputs.write(name, partial(shutil.copyfile, made / name))
        outputs.write(MANIFEST, lambda path: path.write_text(json.dumps(manifest, indent=1) + "\n"))
        size_of_files = sum((made / name).stat().st_size for name in chosen.files)
    return ExportReport(Path(folder), format, size_of_files, *differences, len(inputs))


def settings_of(
    model: SatForObjectDetection, processor: SatImageProcessor, input_size: tuple[int, int]
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
    }


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
            _require_undamaged(folder)
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
    return any((Path(folder) / name).is_file() for name in _WEIGHTS)


def _require_undamaged(folder: Path) -> None:
    if not (folder / MANIFEST).is_file():
        return
    files = read_json(folder / MANIFEST).get("files")
    if not isinstance(files, dict) or not all(name == Path(name).name for name in files):
        raise StmineError(f"{folder / MANIFEST}: expected the names of files with their checksums: export again.")
    for name, digest in files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            raise StmineError(f"{folder / name} is damaged or was changed: export the model again.")


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

"""Models of several inputs in files of a runtime: written, compared with PyTorch on ten inputs, then put in place."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..checkpoints import read_settings
from ..errors import StmineError
from ..inference.exported import MANIFEST, Export, open_network
from ..inference.onnx_graph import Network, write_graph
from ..inference.scope import Scope
from ..loading import load_processor
from ..outputs import Outputs, require_readable_name, sha256_of
from . import readme
from .exported import require
from .formats import PART_FORMATS, PartFormat
from .onnx import add_metadata

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from ..methods.record import Method

CHECKED = 10  # inputs of the comparison with PyTorch
_SUFFIXES = (".onnx", ".xml", ".bin")


@dataclass(frozen=True)
class Part:
    """A network that becomes one file, or one with its weights beside it.

    Attributes:
        name: of its files, without suffix.
        graph: takes the inputs in their order and returns one tensor.
        inputs: name -> an example, from which the trace is made; two rows of it.
        output: name of the output.
        long: names of the inputs whose second axis has any length, too; the first has any in all of them.
        checks: batches of the same inputs to compare on, of other lengths and numbers of rows.
        apart: outputs of PyTorch and of the export, (N, ...) each -> how far the answers are apart.
        ranges: batches of inputs that set the ranges of 8-bit convolutions.
    """

    name: str
    graph: nn.Module
    inputs: Mapping[str, Tensor]
    output: str
    long: tuple[str, ...]
    checks: Sequence[Mapping[str, Tensor]]
    apart: Callable[[Tensor, Tensor], float]
    ranges: Sequence[Mapping[str, Tensor]] = field(default=(), repr=False)


@dataclass(frozen=True)
class PartsReport:
    """What was written, and how far it is from PyTorch.

    Attributes:
        folder: has the files, config, processor and README.
        format: a name in `PART_FORMATS`.
        file_bytes: of each network's file, with the weights beside it.
        differences: of each network's file, the largest absolute difference of an output value.
        answer_differences: of each network's file: of embeddings 1 less the least cosine, of posts the mean absolute
            difference of a class probability.
        inputs: how many rows were compared.
        float_convolutions: the files of "int8" whose convolutions stay in floats, since integers lost too much.
    """

    folder: Path
    format: str
    file_bytes: dict[str, int]
    differences: dict[str, float]
    answer_differences: dict[str, float]
    inputs: int
    float_convolutions: list[str]


def find_format(name: str) -> PartFormat:
    """
    Raises:
        StmineError: no format of this name for FISVL and MTTV.
    """
    if name not in PART_FORMATS:
        raise StmineError(f"format: expected one of {', '.join(PART_FORMATS)}, found {name!r}.")
    return PART_FORMATS[name]


def export_parts(
    folder: str | Path,
    parts: list[Part],
    model: PreTrainedModel,
    processor: ProcessorMixin,
    settings: dict[str, Any],
    *,
    format: str,
    template: str,
    title: str,
    facts: Callable[[Export], dict[str, Any]] = lambda export: {},
) -> PartsReport:
    """Write the parts of a model with its config, its processor and a README.

    Args:
        folder: created if missing. An earlier export in it is replaced once the new one is there and compared.
        parts: of the model.
        model: whose config is saved.
        processor: saved, too.
        settings: what the README's code reads, in `export.json` and in the metadata of each ONNX file.
        format: a name in `PART_FORMATS`.
        template: of the README.
        title: of the model, for the README.
        facts: the export, as far as it is -> further entries of the manifest.

    Raises:
        StmineError: a package is missing, an exported part differs from PyTorch, or the folder has files of these
            names that this package did not write.
    """
    chosen = find_format(format)
    require("onnx")
    require(chosen.packages[0], "openvino" if chosen.packages[0] == "openvino" else "export")
    require_readable_name(folder)
    with tempfile.TemporaryDirectory() as scratch, Outputs(folder) as outputs:
        made, float_graph = Path(scratch) / "made", Path(scratch) / "float.onnx"
        made.mkdir()
        outputs.require_free(*(f"{part.name}{suffix}" for part in parts for suffix in chosen.suffixes))
        largest: dict[str, float] = {}
        apart: dict[str, float] = {}
        sizes: dict[str, int] = {}
        floats: list[str] = []
        for part in parts:
            file = made / f"{part.name}{chosen.suffixes[0]}"
            axes = {name: {1: "length"} for name in part.long}
            write_graph(part.graph, part.inputs, part.output, float_graph, axes=axes)
            ranges = [_arrays(batch) for batch in part.ranges]
            for given in (ranges, []) if ranges and chosen.needs_images else (ranges,):
                chosen.write(float_graph, file, given)
                if file.suffix == ".onnx":
                    add_metadata(file, settings)
                largest[file.name], apart[file.name] = compare_part(part, open_network(file))
                problem = _too_far(chosen, file.name, largest[file.name], apart[file.name])
                if problem is None:
                    break
            else:
                raise StmineError(problem)
            if ranges and given is not ranges:
                floats.append(file.name)
            sizes[file.name] = sum(file.with_suffix(suffix).stat().st_size for suffix in chosen.suffixes)
        _save_settings(made, model, processor)
        names = sorted(path.name for path in made.iterdir())
        outputs.require_free(*names, MANIFEST, readme.FILE)
        outputs.require_own_folder(MANIFEST)
        manifest: dict[str, Any] = {"method": model.config.model_type, "format": format, "model": title}
        export = Export(made, format, settings, tuple(part.name for part in parts), manifest)
        manifest |= facts(export)
        manifest |= {
            "settings": settings,
            "compared": {"inputs": CHECKED, "largest_difference": largest, "answer_difference": apart},
            "files": {name: sha256_of(made / name) for name in names},
        }
        packages = " ".join((*chosen.packages, "numpy", "pillow", "tokenizers"))
        readme.write_readme(
            made, template, title=title, settings=settings, format=format, runtime=chosen.packages[0],
            packages=packages, parts=export.parts,
        )  # fmt: skip
        for name in outputs.written():  # of an earlier export in another format, or of more parts
            if name not in names and Path(name).suffix in _SUFFIXES:
                outputs.remove(name)
        for name in (*names, readme.FILE):
            outputs.write(name, partial(shutil.copyfile, made / name))
        outputs.write(MANIFEST, lambda path: path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8"))
    return PartsReport(Path(folder), format, sizes, largest, apart, CHECKED, floats)


def _save_settings(made: Path, model: PreTrainedModel, processor: ProcessorMixin) -> None:
    """The config, the processor and the scope of a model, without code."""
    model.config.save_pretrained(made)
    processor.save_pretrained(made)
    # As the processor has just set it: with its truncation and padding.
    processor.tokenizer.backend_tokenizer.save(str(made / "tokenizer.json"))
    for path in [path for path in made.iterdir() if path.suffix in (".py", ".json") and path.name != "tokenizer.json"]:
        if path.suffix == ".py":
            path.unlink()
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("auto_map", None) is not None:
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if scope := Scope.of(model):
        scope.save(made)


def _too_far(format: PartFormat, file: str, largest: float, apart: float) -> str | None:
    """Why an export must not be used; None if its answers are near PyTorch's."""
    advice = "Try another version of the runtime."
    if format.limit is not None and not largest <= format.limit:  # NaN is too far
        found, limit = f"{largest:.2g}", format.limit
    elif not apart <= format.answer_limit:
        found, limit = f"{apart:.2g} in its answers", format.answer_limit
        advice = "Use --format onnx, which keeps 32-bit floats."
        if format.needs_images:
            advice = f"Use more images, like those the model will see. {advice}"
    else:
        return None
    return (
        f"{file}: the {format.name} model differs from PyTorch by {found}, where at most {limit:g} is allowed; it was "
        f"not written. {advice}"
    )


@torch.no_grad()
def compare_part(part: Part, network: Network) -> tuple[float, float]:
    """The largest absolute difference of an output value between PyTorch and the export, and that of the answers."""
    ours = [part.graph(*batch.values()) for batch in part.checks]
    theirs = [torch.from_numpy(network(_arrays(batch))[0]) for batch in part.checks]
    pairs = zip(ours, theirs, strict=True)
    largest = torch.stack([(mine - other).abs().max() for mine, other in pairs]).max()
    return float(largest), part.apart(torch.cat(ours), torch.cat(theirs))


def cosine_apart(ours: Tensor, theirs: Tensor) -> float:
    """1 less the least cosine of two embeddings of the same row."""
    return 1 - float(torch.cosine_similarity(ours.double(), theirs.double(), dim=-1).min())


def probability_apart(ours: Tensor, theirs: Tensor) -> float:
    """The mean absolute difference of a class probability, from logits."""
    return float((ours.softmax(dim=-1) - theirs.softmax(dim=-1)).abs().mean())


def ten_of(pixels: Tensor) -> Tensor:
    """Ten inputs of images (N, 3, H, W); of fewer images some are shifted."""
    return torch.stack([pixels[n % len(pixels)].roll(16 * (n // len(pixels)), dims=-1) for n in range(CHECKED)])


def require_images(format: PartFormat, images: Sequence[Any]) -> None:
    """
    Raises:
        StmineError: the format needs images, and there are none.
    """
    if format.needs_images and not images:
        raise StmineError(
            f"{format.name} needs images like those in use, to measure the ranges of activations: --images DIR, or "
            "--dataset with --data-dir"
        )


def _arrays(batch: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: value.numpy() for name, value in batch.items()}


def in_batches(rows: int) -> Iterator[slice]:
    """Rows in batches of one, two, three and so on, so that every number of rows is tried."""
    starts = [0]
    while starts[-1] < rows:
        starts.append(min(rows, starts[-1] + len(starts)))
    return (slice(*ends) for ends in pairwise(starts))


def open_parts(folder: str | Path, method: Method, model: Callable[[Export], Any]) -> tuple[Any, Any]:
    """Open a folder that `export_parts` wrote.

    Args:
        folder: of the export.
        method: that the export has to be of.
        model: makes the exported model.

    Returns:
        The exported model and its processor.

    Raises:
        StmineError: it is damaged, or its runtime is not installed.
    """
    export = Export.open(folder, method.name)
    try:
        read_settings(export.folder / "config.json")
        return model(export), load_processor(method, str(folder))
    except StmineError:
        raise
    except Exception as error:  # of transformers, which has types of its own
        reason = " ".join(str(error).split())[:300]
        raise StmineError(f"{folder}: the exported model cannot be opened ({reason}). Export it again.") from error

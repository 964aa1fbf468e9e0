"""Models of several inputs as ONNX files: written, compared with PyTorch on ten inputs, and only then put in place."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import StmineError
from ..inference.onnx_graph import write_graph
from ..outputs import Outputs, sha256_of
from . import MANIFEST, readme
from .exported import require
from .onnx import add_metadata

if TYPE_CHECKING:
    from transformers import ProcessorMixin

CHECKED = 10  # inputs of the comparison with PyTorch
LIMIT = 1e-4  # largest difference of any output value to PyTorch


@dataclass(frozen=True)
class Part:
    """A network that becomes one ONNX file.

    Attributes:
        file: its name.
        graph: takes the inputs in their order and returns one tensor.
        inputs: name -> an example, from which the trace is made; two rows of it.
        output: name of the output.
        long: names of the inputs whose second axis has any length, too; the first has any in all of them.
        checks: batches of the same inputs to compare on, of other lengths and numbers of rows.
    """

    file: str
    graph: nn.Module
    inputs: Mapping[str, Tensor]
    output: str
    long: tuple[str, ...]
    checks: list[Mapping[str, Tensor]]


@dataclass(frozen=True)
class PartsReport:
    """What was written, and how far it is from PyTorch.

    Attributes:
        folder: has the files, tokenizer and README.
        format: "onnx".
        file_bytes: of each ONNX file.
        differences: of each ONNX file, the largest absolute difference of an output value.
        inputs: how many rows were compared.
    """

    folder: Path
    format: str
    file_bytes: dict[str, int]
    differences: dict[str, float]
    inputs: int


def export_parts(
    folder: str | Path,
    parts: list[Part],
    processor: ProcessorMixin,
    settings: dict[str, Any],
    template: str,
    name: str,
) -> PartsReport:
    """Write the parts of a model with its tokenizer and a README.

    Args:
        folder: created if missing. An earlier export in it is replaced once the new one is there and compared.
        parts: of the model.
        processor: has a `tokenizer`.
        settings: what the README's code reads, in `export.json` and in the metadata of each file.
        template: of the README.
        name: of the model, for the README.

    Raises:
        StmineError: a package is missing, an exported part differs from PyTorch, or the folder has files of these
            names that this package did not write.
    """
    require("onnx")
    require("onnxruntime")
    names = [*(part.file for part in parts), "tokenizer.json"]
    with tempfile.TemporaryDirectory() as scratch, Outputs(folder) as outputs:
        outputs.require_free(*names, MANIFEST, readme.FILE)
        outputs.require_own_folder(MANIFEST)
        made = Path(scratch)
        processor.tokenizer.backend_tokenizer.save(str(made / "tokenizer.json"))
        differences = {}
        for part in parts:
            write_graph(part.graph, part.inputs, part.output, made / part.file, long=part.long)
            add_metadata(made / part.file, settings)
            differences[part.file] = compare_part(part, made / part.file)
            if not differences[part.file] <= LIMIT:  # NaN is too far
                raise StmineError(
                    f"{part.file}: the ONNX model differs from PyTorch by {differences[part.file]:.2g}, where at most "
                    f"{LIMIT:g} is allowed; it was not written. Try another version of onnxruntime."
                )
        manifest = {
            "format": "onnx",
            "settings": settings,
            "files": {file: sha256_of(made / file) for file in names},
        }
        readme.write_readme(made, template, title=name, settings=settings)
        for file in (*names, readme.FILE):
            outputs.write(file, partial(shutil.copyfile, made / file))
        outputs.write(MANIFEST, lambda path: path.write_text(json.dumps(manifest, indent=1) + "\n"))
        sizes = {part.file: (made / part.file).stat().st_size for part in parts}
    rows = sum(len(next(iter(batch.values()))) for batch in parts[0].checks)
    return PartsReport(Path(folder), "onnx", sizes, differences, rows)


@torch.no_grad()
def compare_part(part: Part, path: Path) -> float:
    """The largest absolute difference of an output value between PyTorch and ONNX Runtime."""
    session = require("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in part.checks:
        ours = part.graph(*batch.values())
        theirs = torch.from_numpy(session.run(None, {name: value.numpy() for name, value in batch.items()})[0])
        largest = max(largest, float((ours - theirs).abs().max()))
    return largest


def in_batches(rows: int) -> Iterator[slice]:
    """Rows in batches of one, two, three and so on, so that every number of rows is tried."""
    starts = [0]
    while starts[-1] < rows:
        starts.append(min(rows, starts[-1] + len(starts)))
    return (slice(*ends) for ends in pairwise(starts))

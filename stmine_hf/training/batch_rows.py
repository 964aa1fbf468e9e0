"""The rows of the training split in a batch, for error reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import write_atomically

ROWS = "training_rows"  # key of a batch; not an input of a model
_NAMES = ("filename", "post_id")  # columns whose value names a row
_NAMED = 3  # rows in a message; the file has all


class WithRows:
    """A collator whose batches also hold `ROWS`: int64 `(n,)`, the `row` of each item, if all items have one."""

    def __init__(self, collator: Callable[[list[Any]], dict[str, Any]]):
        self.collator = collator

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        batch = self.collator(items)
        if all(isinstance(item, Mapping) and "row" in item for item in items):
            batch[ROWS] = torch.tensor([item["row"] for item in items])
        return batch


def is_broken(value: Any) -> bool:
    """Whether this is a tensor that contains infinities or NaNs."""
    return isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all())


def report_batch(
    file: Path, facts: Mapping[str, Any], inputs: Mapping[str, Any], rows: Sequence[int], table: Any
) -> str:
    """Write the rows and inputs of a failed batch to a file.

    Args:
        file: JSON with `facts` and, for each row, its number, its name and whether its inputs are finite. If it cannot
            be written, only the sentence is returned.
        inputs: the batch as passed to the model.
        rows: numbers of its rows in `table`.
        table: the training split.

    Returns:
        A sentence that names the first rows: those with inputs that are not finite, if there are any.
    """
    broken = torch.zeros(len(rows), dtype=torch.bool)
    for value in inputs.values():
        if is_broken(value) and value.ndim and len(value) == len(rows):
            broken |= ~torch.isfinite(value).flatten(1).all(dim=1).cpu()
    batch = [
        {"row": row, "name": _name(table[row]), "finite": not wrong}
        for row, wrong in zip(rows, broken.tolist(), strict=True)
    ]
    text = json.dumps({**facts, "rows": batch}, indent=1, ensure_ascii=False) + "\n"
    with suppress(OSError):
        write_atomically(file, lambda path: path.write_text(text, encoding="utf-8"))
    chosen = [entry for entry in batch if not entry["finite"]] or batch
    named = ", ".join(f"{entry['row']} ({entry['name']})" for entry in chosen[:_NAMED])
    more = f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
    what = "Inputs are not finite already in" if broken.any() else "The batch:"
    return f"{what} training rows {named}{more}; all of the batch is in {file}."


def _name(record: Mapping[str, Any]) -> str:
    return next((str(record[key]) for key in _NAMES if record.get(key) is not None), "no name")

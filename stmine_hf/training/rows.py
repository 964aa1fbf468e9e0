"""The rows that a training script works on: those of a named data set, or of the user's own."""

from __future__ import annotations

import logging
import warnings
from typing import Any, TypeAlias

import datasets

from ..data import read_dataset, take_rows
from ..data.columns import parse_mapping
from ..data.description import finding_lines
from ..data.findings import Findings
from ..data.held_out import with_validation
from ..printing import say
from .arguments import ZooDataArguments, ZooTrainingArguments

Rows: TypeAlias = datasets.Dataset | datasets.IterableDataset
Splits: TypeAlias = datasets.DatasetDict | datasets.IterableDatasetDict

logger = logging.getLogger(__name__)

PLACES = 3  # findings shown of each type; `stmine data describe` shows more


def load_rows(
    kind: str,
    data_args: ZooDataArguments,
    args: ZooTrainingArguments,
    most_train: int | None,
    most_eval: int | None,
    *,
    show: bool = True,
) -> tuple[Rows, Rows | None]:
    """The rows to train on, and those that select the best model.

    One process builds the table of rows, the others then read it from the cache.

    Args:
        kind: captions, posts or boxes.
        data_args: which data set and splits.
        args: whether anything is evaluated.
        most_train, most_eval: maximum numbers of rows.
        show: print how many rows there are, and what was found in the data.

    Returns:
        Both as `stmine_hf.load_dataset` yields them; the second is None where nothing is evaluated.

    Raises:
        StmineError: the data set cannot be read, or has no such split.
    """
    mapping = parse_mapping(data_args.column_mapping)
    options = data_args.dataset_options or {}
    with args.main_process_first(desc="reading the data set"):
        splits, findings = _read(
            data_args.dataset,  # type: ignore[attr-defined]  # each method has its own default
            data_dir=data_args.data_dir,
            kind=kind,
            column_mapping=mapping,
            streaming=data_args.streaming,
            **options,  # type: ignore[arg-type]  # `mapping_field` has made a mapping of it
        )
    if data_args.hold_out is not None:
        splits, held = with_validation(splits, kind, data_args.hold_out)
        if held and show:
            logger.info("%s.", held)
    if show and args.process_index == 0:
        show_findings(splits, findings)
    train_rows = take_rows(splits, data_args.train_split, most_train)
    if args.eval_strategy == "no":
        return train_rows, None
    return train_rows, take_rows(splits, data_args.eval_split, most_eval)


def _read(name: str, **options: Any) -> tuple[Splits, Findings]:
    """As `read_dataset`, without the warning of its findings, which are shown by `show_findings`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        splits, findings = read_dataset(name, **options)
    for one in caught:
        if not (findings.subject and str(one.message).startswith(findings.subject)):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return splits, findings


def show_findings(splits: Splits, findings: Findings) -> None:
    """Print how many rows each split has, and what was skipped, changed or is unusual in the data set."""
    counted = [f"{len(rows):,} {split}" for split, rows in splits.items() if hasattr(rows, "__len__")]
    if counted:
        say(f"Rows: {', '.join(counted)}")
    for line in finding_lines(findings.listed(), PLACES):
        say(line)

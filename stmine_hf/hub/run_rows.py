"""The rows that a training run was trained and evaluated on, from the settings that its repository keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ..cards.settings import data_word
from ..data import BUILDERS, load_dataset
from ..data.columns import parse_mapping
from ..data.held_out import TrainedOn, with_validation
from ..training.identity import RunIdentity
from .repository import PublishError

_OTHER_ROWS = "Give the data as they were; or build without --data-dir, which measures nothing; or train again."
R = TypeVar("R", bound=Any)


class RunRows(NamedTuple):
    """Rows of a split.

    Attributes:
        rows: as `load_dataset` gives them.
        held_out: the run held them out of the rows to train on, as the data set has no such split.
        splits: names of all splits, where it is the user's own data set; of others they are known.
        name: of the user's own data set.
    """

    rows: Any
    held_out: bool = False
    splits: tuple[str, ...] = ()
    name: str | None = None

    def named(self, report: R) -> R:
        """A report on these rows with the name of their split: rows that were held out come from another one.

        The user's own data set goes by the name of its folder or table, not by that of its layout.
        """
        report = replace(report, dataset=self.name) if self.name else report
        return replace(report, split="val") if self.held_out else report


def run_rows(
    settings: dict[str, Any],
    kind: str,
    data_dir: str | Path | None,
    split: str,
    options: dict[str, Any] | None = None,
    run: Path | None = None,
) -> RunRows:
    """The rows of a split; of a run that held out rows, the same ones again.

    Args:
        settings: of the run, without the places of its machine; see `portable_settings`.
        kind: of the rows.
        data_dir: folder of the data set; of the user's own table, that table or its folder.
        split: which the data set has, or that the run made.
        options: of the data set; None: those of the run.
        run: its folder, to check that holding out leaves the rows that it was trained on; None: not checked.

    Raises:
        PublishError: the user's own data are not there, or there is no such split.
        DataError: the run was trained on other rows.
    """
    name, place = str(settings["dataset"]), None if data_dir is None else Path(data_dir)
    if name not in BUILDERS and place is not None:
        file = Path(name).name
        found = [one for one in (place / file, place) if one.name == file and one.exists()]
        if not found:
            raise PublishError(f"{place}: expected the data that the run was trained on, {file}, or its folder.")
        name, place = str(found[0]), None
    options = dict(settings.get("dataset_options") or {} if options is None else options)
    if data_dir is not None and (images := options.get("image_dir")):
        # With the data, as the settings of a published run have its name alone: a folder of that name may be here.
        given = Path(data_dir)
        beside = (given if given.is_dir() else given.parent) / Path(images).name
        if beside.is_dir() or not Path(images).is_dir():
            options["image_dir"] = str(beside)
    if mapping := parse_mapping(settings.get("column_mapping") or []):
        options["column_mapping"] = mapping
    share = settings.get("hold_out")
    if share is None:
        return RunRows(load_dataset(name, data_dir=place, split=split, kind=kind, **options))
    splits, held = with_validation(load_dataset(name, data_dir=place, kind=kind, **options), kind, share)
    if run is not None and held is not None and (identity := RunIdentity.read(run)) is not None:
        TrainedOn.of(settings, identity.data).require_same(splits, _OTHER_ROWS)
    if split not in splits:
        raise PublishError(f"{name}: no split {split}; the run had {', '.join(splits)}.")
    return RunRows(splits[split], held is not None and split == "val", tuple(splits), data_word(settings))

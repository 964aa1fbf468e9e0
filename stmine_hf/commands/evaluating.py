"""What the commands that evaluate share: their options, the rows they name, and the report."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..data import one_of
from ..methods import Method
from ..outputs import require_outputs, require_own_place
from ..printing import print_table, say
from .terminal import builder_options, column_mapping, print_json, prints_only_json, require_folder

DataDirOption = Annotated[Path | None, typer.Option(help="Folder with the data set's files; a toy set needs none.")]
PLACES = 3  # shown of each kind of findings
SplitOption = Annotated[
    str | None,
    typer.Option(
        help="train, val or test; of your own data also all. Default: val. Of your own data without a split val: "
        "test, or all rows; for a model trained on them the held-out ones, which `--split val` takes for every model."
    ),
]


def dataset_option(method: Method) -> Any:
    """`--dataset` of a method: the sets with rows that it is evaluated on."""
    return typer.Option(
        "--dataset",
        "--data",
        help=f"{one_of(method.rows)}. Or your own: a table (CSV, JSONL, Excel, Parquet), a folder, a Hub id.",
    )


class RowsToEvaluate:
    """The rows that the options of a command name; wrong options are refused at once."""

    def __init__(
        self,
        dataset: str,
        data_dir: Path | None,
        split: str | None,
        option: list[str] | None,
        column: list[str] | None,
        reading: dict[str, Any],
        limit: int | None,
    ) -> None:
        self._dataset, self._split, self._limit = dataset, split, limit
        self.findings: Path | None = reading.get("findings")
        self._options = {
            "data_dir": data_dir,
            "column_mapping": column_mapping(column),
            **builder_options(option),
            **reading,
        }

    def require_there(self) -> None:
        """
        Raises:
            DataError: the data are not there.
        """
        from ..data.paths import require_dataset

        require_dataset(self._dataset, self._options["data_dir"])

    def load(self, kind: str, model: str | None) -> Any:
        """The rows; of the user's own data with a line on what was taken for what.

        Args:
            kind: of the rows.
            model: that is scored on them.
        """
        from ..data import BUILDERS, load_dataset
        from ..data.description import finding_lines
        from ..data.held_out import rows_to_score
        from ..data.recognition import read_recognized
        from ..training.own_set import trained_on

        if self._dataset in BUILDERS or self._options["data_dir"] is not None:
            rows = load_dataset(self._dataset, kind=kind, split=self._split or "val", **self._options)
        else:
            options = self._as_trained(model)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what they say is among the findings
                splits, findings, taken = read_recognized(self._dataset, kind, **options)
            for line in finding_lines(findings.listed(), PLACES):
                say(line)
            say(f"Read as {kind}: {'; '.join(taken.taken)}. If that is wrong, say --column.")
            rows, which = rows_to_score(splits, kind, self._split, trained_on=trained_on(model, taken))
            say(f"Rows: {which}.")
        return rows if self._limit is None else rows.select(range(min(self._limit, len(rows))))

    def _as_trained(self, model: str | None) -> dict[str, Any]:
        """The options, and those by which the run of the model read these data; those given now win."""
        from ..training.own_set import ReadBy

        read = ReadBy.of(model, self._dataset)
        if read is None:
            return self._options
        if read.given:
            say(f"Read as in the training of the model: {read.given}. Options given now win.")
        names = {**read.options.get("label_names", {}), **self._options.get("label_names", {})}
        columns = {**read.columns, **self._options["column_mapping"]}
        options = {**read.options, **self._options, "column_mapping": columns}
        return options | ({"label_names": names} if names else {})


def evaluate_and_print(
    method: Method,
    rows: RowsToEvaluate,
    model: str | None,
    device: str | None,
    out: Path | None,
    as_json: bool,
    *,
    files: Sequence[str],
    options: Callable[[Any], dict[str, Any]],
    check: Callable[[Any, dict[int, str]], object] | None = None,
    pixels: tuple[str | None, str | None] = (None, None),
    saving: Mapping[str, Any] | None = None,
) -> None:
    """Evaluate a model, save and print the report.

    Args:
        method: whose model and evaluation.
        rows: to evaluate on.
        model: folder or Hub id.
        device: where the model runs.
        out: folder for the report.
        as_json: print the report as JSON.
        files: what the report may write into `out`.
        options: the loaded model -> options of the evaluation.
        check: called with the rows and the names of the model's classes, before the model is loaded; raises what the
            evaluation would.
        pixels: the stretch and the bands that were asked for.
        saving: options of the report's `save`.
    """
    from ..images import PixelOptions
    from ..loading import labels_of, load_model, require_model

    reading = PixelOptions.parse(*pixels)
    require_folder(out)
    rows.require_there()
    require_model(model, method=method)
    if out and rows.findings:
        require_own_place("--findings", rows.findings, [out / name for name in files])
    if out:
        require_outputs(out, *files)
    with prints_only_json(as_json):
        loaded = rows.load(method.rows, model)
        if check is not None and (names := labels_of(model, method)) is not None:
            check(loaded, names)
        network, processor = load_model(method, model, device=device)
        report = method.evaluate(network, processor, loaded, pixels=reading, progress=not as_json, **options(network))
        if out:
            report.save(out, **(saving or {}))
    if as_json:
        print_json(report.to_dict())
        return
    print_table(report.table())
    if hasattr(report, "class_table"):
        print_table(report.class_table())
    for line in report.hints() if hasattr(report, "hints") else []:
        say(line)
    if out:
        say(f"Written: {', '.join(str(out / name) for name in files if (out / name).exists())}")

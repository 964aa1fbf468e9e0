"""The repositories of MTTV: what a run is measured on, and what it is compared with."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cards.mttv import DATASET, SPLITS
from ..cards.settings import outcome_of, portable_data, portable_settings, portable_start
from ..documents import read_yaml
from ..evaluation.classification import evaluate_posts
from ..files import write_entries
from ..loading import load_mttv
from ..methods import MTTV
from .model_repository import ModelRepository
from .run_rows import RunRows, run_rows

if TYPE_CHECKING:
    from rich.table import Table


class MttvRepository(ModelRepository):
    method = "mttv"
    comparable = {  # noqa: RUF012
        "baselines": "what examples/baseline_weibo.py --split test --out FILE wrote",
        "released": "output folder of a run with the released recipe from the same start",
    }

    def record_training(self, run: Path, settings: dict[str, Any], data_dir: str | Path | None) -> None:
        paths = portable_start(settings) | portable_data(settings, settings["dataset"])
        paths |= {"output_dir": f"outputs/{self.name}"}
        outcome = outcome_of(run)
        if data_dir is not None:
            rows = _load(settings, data_dir, settings.get("train_split", "train"), run).rows
            outcome["train_posts"] = len(rows)
            outcome["train_images"] = len(rows) - rows.with_format("arrow")["image"].null_count
        self.write_round(portable_settings(settings, paths), outcome)

    def measure(self, data_dir: str | Path | None, compare: dict[str, Path], progress: bool) -> list[Table]:
        """Both splits, `results/<split>/` each. Test is measured here alone: build when all choices are final.

        The user's own data need not have a split test, or labels in it.
        """
        tables = []
        model, processor = load_mttv(self.folder)
        present: tuple[str, ...] = SPLITS
        for split in SPLITS:
            if split not in present:
                continue
            found = _load(self.writer.settings, data_dir, split)
            present = found.splits or present
            if found.splits and all(label < 0 for label in found.rows["label"]):
                continue
            report = found.named(evaluate_posts(model, processor, found.rows, progress=progress))
            folder = self.folder / "results" / split
            replace(report, worst=[]).save(folder)  # the sheet of misses would show other people's posts
            command = self.writer.evaluation(split, **_options(self.writer.settings, split))
            self.write_measured(
                folder / "results.json", report.to_dict(), command, model.device, held_out=found.held_out
            )
            tables.append(report.table())
        if "baselines" in compare:
            shutil.copyfile(compare["baselines"], self.folder / "results" / "baselines.json")
        if "released" in compare:
            self._measure_released(compare["released"], data_dir, progress)
        return tables

    def _measure_released(self, run: Path, data_dir: str | Path | None, progress: bool) -> None:
        """Write `results/released.json`: the released recipe from the same start, on the test split."""
        model, processor = load_mttv(run / "best")
        rows = _load(self.writer.settings, data_dir, "test").rows
        report = evaluate_posts(model, processor, rows, progress=progress)
        recipe = read_yaml(run / "config.yaml")
        epochs = {"epochs": recipe["num_train_epochs"], "date": date.today().isoformat()}
        document = epochs | report.to_dict() | {"model": "released recipe"}
        write_entries(self.folder / "results" / "released.json", document)


def _options(settings: dict[str, Any], split: str) -> dict[str, Any]:
    """Options of the data set: val is what the run held out; Weibo's test is its file as it is, without more rows."""
    return {} if (settings["dataset"], split) == (DATASET, "test") else settings.get("dataset_options") or {}


def _load(settings: dict[str, Any], data_dir: str | Path | None, split: str, run: Path | None = None) -> RunRows:
    return run_rows(settings, MTTV.rows, data_dir, split, _options(settings, split), run)

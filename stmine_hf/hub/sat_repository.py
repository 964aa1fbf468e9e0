"""The repositories of SAT: what a run is measured on, and what it is compared with."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cards.own_run import is_own_data
from ..cards.sat import SLICES, SQUASHED, SatCard, data_name
from ..cards.settings import outcome_of, portable_data, portable_settings, portable_start
from ..data import load_dataset
from ..detect.slicing import Slices
from ..documents import read_yaml
from ..evaluation.detection import evaluate_detection
from ..evaluation.detection_budget import budget
from ..files import write_entries
from ..loading import load_sat
from ..methods import SAT
from .model_repository import ModelRepository
from .run_rows import run_rows

if TYPE_CHECKING:
    from rich.table import Table

    from ..modeling.sat.image_processing_sat import SatImageProcessor
    from ..modeling.sat.modeling_sat import SatForObjectDetection

BEST_FOLDER = "best"
OVERLAP = 0.3  # of the slices of scenes


class SatRepository(ModelRepository):
    method = "sat"
    writer: SatCard
    comparable = {  # noqa: RUF012
        "parent": "folder of a NanoDet-m to measure on the same images",
        "benchmark": "what examples/benchmark_sat.py --out FILE wrote, nanodet-m first in it",
        "scenes": "folder of large images with boxes, to measure in slices and, for contrast, as a whole",
    }

    def record_training(self, run: Path, settings: dict[str, Any], data_dir: str | Path | None) -> None:
        if data_dir is not None and is_own_data(settings):
            run_rows(settings, SAT.rows, data_dir, settings.get("train_split", "train"), run=run)
        settings = dict(settings)
        key = "student" if "parent" in settings else "model_name_or_path"
        start = settings.get(key)
        first = Path(start).parent if start else None
        if first is not None and (first / "config.yaml").is_file():
            earlier = read_yaml(first / "config.yaml")
            if "parent" in earlier:  # a distillation, of which this run is the second round, or the training after it
                name = f"{self.name}-first"
                self.write_round(_portable(earlier, name), outcome_of(first), "first_round.yaml", "first_round.json")
                settings[key] = f"outputs/{name}/{BEST_FOLDER}"
        self.write_round(_portable(settings, self.name), outcome_of(run))

    def measure(self, data_dir: str | Path | None, compare: dict[str, Path], progress: bool) -> list[Table]:
        settings, file = self.writer.settings, self.writer.results_file()
        options = settings.get("dataset_options") or {}
        found = run_rows(settings, SAT.rows, data_dir, self.writer.split)
        rows, held_out = found.rows, found.held_out
        model, processor = load_sat(self.folder)
        report = found.named(evaluate_detection(model, processor, rows, progress=progress))
        command = self.writer.evaluation(self.writer.split, **options)
        self.write_measured(file, report.to_dict(), command, model.device, held_out=held_out)
        # The curve alone: the sheet of misses would show other people's photographs.
        report.draw().savefig(file.with_suffix(".png"), dpi=110)
        if "parent" in compare:
            parent, processor = load_sat(compare["parent"])
            beside = evaluate_detection(parent, processor, rows, progress=progress)
            costs = budget(parent.config)._asdict() | {"date": date.today().isoformat()}
            document = costs | beside.to_dict() | {"model": "NanoDet-m"}
            write_entries(self.folder / "results" / "parent.json", document)
        if "benchmark" in compare:
            shutil.copyfile(compare["benchmark"], self.folder / "results" / "benchmark.json")
        tables = [report.table()]
        if "scenes" in compare:
            tables += self._measure_scenes(model, processor, compare["scenes"], progress)
        return tables

    def _measure_scenes(
        self, model: SatForObjectDetection, processor: SatImageProcessor, folder: Path, progress: bool
    ) -> list[Table]:
        rows = load_dataset("coco_json", data_dir=folder, split=self.writer.split)
        side = max(processor.size["height"], processor.size["width"])
        tables = []
        for ending, slices in ((SLICES, Slices(side, OVERLAP)), (SQUASHED, None)):
            report = evaluate_detection(model, processor, rows, slices=slices, progress=progress)
            command = (
                f"stmine evaluate sat --model {self.writer.repo} --dataset coco_json --data-dir data/{folder.name}"
            )
            command += f" --split {self.writer.split}" + (f" --slice {side} --overlap {OVERLAP}" if slices else "")
            file = self.folder / "results" / f"{folder.name}_{self.writer.split}_{ending}.json"
            self.write_measured(file, report.to_dict(), command, model.device)
            tables.append(report.table())
        return tables


def _portable(settings: dict[str, Any], run: str) -> dict[str, Any]:
    """The settings of a run as a user of this package would write them."""
    paths: dict[str, Any] = portable_data(settings, data_name(settings))
    if "parent" in settings:
        parent = Path(settings["parent"])
        teacher = parent.parent.name + f"/{BEST_FOLDER}" if parent.name == BEST_FOLDER else parent.name
        paths |= {"parent": f"outputs/{teacher}", "out": f"outputs/{run}"}
        paths |= {key: [f"data/{Path(folder).name}" for folder in settings[key]] for key in ("more", "images")}
    else:
        paths |= portable_start(settings) | {"output_dir": f"outputs/{run}"}
    return portable_settings(settings, paths)

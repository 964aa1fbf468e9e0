"""The repositories of SAT: the project's small detectors, and any other of the method.

A run is a distillation (`examples/distill_sat.py`) or a training (`examples/train_sat.py`); the card tells which from
the run's settings.
"""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from huggingface_hub import EvalResult, ModelCardData
from PIL import Image

from .. import SatConfig, SatForObjectDetection, SatImageProcessor, load_dataset
from ..cards.settings import outcome_of, portable_data, portable_settings, portable_start
from ..cards.street_drawing import draw_street
from ..data.toy.toy_camouflage import draw_camouflage
from ..detect.detector import Detector
from ..detect.drawing import draw_detections
from ..documents import read_json
from ..evaluation.detection import evaluate_detection
from ..evaluation.reports import write_json
from ..loading import load_sat
from ..training.sat.budget import PUBLISHED_PARAMETERS, budget
from ..training.trainer import BEST_FOLDER
from .model_repository import ModelRepository, departures

if TYPE_CHECKING:
    from rich.table import Table

SPLIT = "val"
IMAGE = "pictures/found.jpg"
THRESHOLD = 0.25  # of the boxes in the image
CAMOUFLAGE = (3, 0.3)  # seed and difficulty of the drawn image of a model that does not know COCO's classes

# Why a field of the config departs from NanoDet-m; the card lists every field that does.
REASONS = {
    "stem_channels": "SAT's budget",
    "stage_channels": "SAT's budget",
    "middle_channels": "SAT's budget; multiples of 16, which runtimes handle at once",
    "head_channels": "SAT's budget",
    "head_middle_channels": "SAT's budget",
    "neck_channels": "SAT's budget",
}

# Data sets of which the project's own cards speak, and their ids on the Hub or, lacking one, names.
SOURCES = {"coco_small": "detection-datasets/coco", "indiscernible": "indiscernible"}
_LABELS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}


class SatRepository(ModelRepository):
    method = "sat"
    converted = "nanodet-m-coco"
    comparable = {  # noqa: RUF012
        "parent": "folder of a NanoDet-m to measure on the same images",
        "benchmark": "what examples/benchmark_sat.py --out FILE wrote, nanodet-m first in it",
    }

    @classmethod
    def load(cls, folder: str | Path) -> tuple[Any, Any]:
        return load_sat(folder, device="cpu")

    @classmethod
    def released(cls) -> tuple[Any, Any]:
        config = SatConfig.preset("nanodet-m")
        with torch.device("meta"):
            return SatForObjectDetection(config), SatImageProcessor.for_config(config)

    def released_facts(self) -> dict[str, Any]:
        return super().released_facts() | {"budget": budget(SatConfig.preset("nanodet-m"))}

    def has_own_card(self) -> bool:
        if not self.settings or self.data not in SOURCES or not self._results().is_file():
            return False
        return budget(SatConfig.from_pretrained(self.folder)).parameters <= PUBLISHED_PARAMETERS

    @property
    def data(self) -> str:
        """The data set of the run: sets in COCO's layout go by the name of their folder."""
        return _data_name(self.settings)

    def write_training(self, run: Path, settings: dict[str, Any], data_dir: str | Path | None) -> None:
        settings = dict(settings)
        key = "student" if "parent" in settings else "model_name_or_path"
        start = settings.get(key)
        first = Path(start).parent if start else None
        if first is not None and (first / "config.yaml").is_file():
            earlier = yaml.safe_load((first / "config.yaml").read_text(encoding="utf-8"))
            if "parent" in earlier:  # a distillation, of which this run is the second round, or the training after it
                name = f"{self.name}-first"
                self.write_round(_portable(earlier, name), outcome_of(first), "first_round.yaml", "first_round.json")
                settings[key] = f"outputs/{name}/{BEST_FOLDER}"
        self.write_round(_portable(settings, self.name), outcome_of(run))

    def measure(self, data_dir: str | Path | None, compare: dict[str, Path], progress: bool) -> list[Table]:
        settings, file = self.settings, self._results()
        options = settings.get("dataset_options") or {}
        rows = load_dataset(settings["dataset"], data_dir=data_dir, split=SPLIT, **options)
        model, processor = load_sat(self.folder)
        report = evaluate_detection(model, processor, rows, progress=progress)
        self.write_measured(file, report.to_dict(), self.evaluation(SPLIT, **options), model.device)
        # The curve alone: the sheet of misses would show other people's photographs.
        report.draw().savefig(file.with_suffix(".png"), dpi=110)
        if "parent" in compare:
            parent, processor = load_sat(compare["parent"])
            beside = evaluate_detection(parent, processor, rows, progress=progress)
            costs = budget(parent.config)._asdict() | {"date": date.today().isoformat()}
            document = costs | beside.to_dict() | {"model": "NanoDet-m"}
            write_json(self.folder / "results" / "parent.json", document)
        if "benchmark" in compare:
            shutil.copyfile(compare["benchmark"], self.folder / "results" / "benchmark.json")
        return [report.table()]

    def draw(self) -> None:
        """What the model finds in a drawn image."""
        model, processor = self.load(self.folder)
        image: Image.Image = draw_street()
        if "bus" not in model.config.label2id:
            image, _ = draw_camouflage(*CAMOUFLAGE, size=416)
        detections = Detector(model, processor, threshold=THRESHOLD)([image])[0]
        larger = image.resize((2 * image.width, 2 * image.height), Image.Resampling.LANCZOS)
        corners = [[2 * value for value in found.box] for found in detections]
        drawn = draw_detections(
            larger,
            [
                found._replace(box=(left, top, right, bottom))
                for found, (left, top, right, bottom) in zip(detections, corners, strict=True)
            ],
        )
        (self.folder / IMAGE).parent.mkdir(exist_ok=True)
        drawn.save(self.folder / IMAGE, quality=85, optimize=True)

    def header(self) -> ModelCardData:
        return ModelCardData(
            language=["en", "zh"],
            license="apache-2.0",
            library_name="transformers",
            pipeline_tag="object-detection",
            metrics=["mean_average_precision"],
            tags=["custom_code", "sat", "nanodet", "object-detection", "lightweight", "camouflaged-object-detection"],
            model_name=self.name,
            eval_results=self.scores() or None,
        )

    def scores(self) -> list[EvalResult]:
        if not self.settings or not self._results().is_file():
            return []
        metrics = read_json(self._results())["metrics"]
        return [
            EvalResult(
                task_type="object-detection",
                task_name="Object detection",
                dataset_type=SOURCES.get(self.data, self.data),
                dataset_name=self.data,
                dataset_split=SPLIT,
                metric_type="mean_average_precision",
                metric_name=label,
                metric_value=round(metrics[key], 4),
            )
            for key, label in _LABELS.items()
        ]

    def facts(self) -> dict[str, Any]:
        model, processor = self.load(self.folder)
        side = processor.size["height"]
        facts = self.shared_facts() | {
            "config": model.config,
            "side": side,
            "points": sum((side // stride) ** 2 for stride in model.config.strides),
            "budget": budget(model.config),
            "people": "person" in model.config.label2id,
        }
        if self.has_own_card():
            results, parent = read_json(self._results()), SatConfig.preset("nanodet-m")
            classes = [row for row in results["by_class"] if row["boxes"]]
            files = {name: self.folder / "results" / f"{name}.json" for name in self.comparable}
            facts |= {name: read_json(file) if file.is_file() else None for name, file in files.items()}
            facts |= {
                "image": IMAGE,
                "threshold": THRESHOLD,
                "distilled": "parent" in self.settings,
                "data": self.data,
                "results": results,
                "results_file": f"results/{self.data}_{SPLIT}",
                "metrics": results["metrics"],
                "classes": sorted(classes, key=lambda row: -1 if row["ap"] is None else row["ap"], reverse=True),
                "rounds": self._rounds(),
                "parent_config": parent,
                "departures": departures(model.config, parent, REASONS, {"id2label", "label2id"}),
                "parent_budget": budget(parent),
            }
        return facts

    def _results(self) -> Path:
        return self.folder / "results" / f"{self.data}_{SPLIT}.json"

    def _rounds(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Settings and outcome of each round of distillation, before a training too."""
        folder = self.folder / "training"
        rounds = [(self.settings, read_json(folder / "results.json"))] if "parent" in self.settings else []
        if (folder / "first_round.yaml").is_file():
            first = yaml.safe_load((folder / "first_round.yaml").read_text(encoding="utf-8"))
            rounds.insert(0, (first, read_json(folder / "first_round.json")))
        return rounds


def _data_name(settings: dict[str, Any]) -> str:
    dataset = settings.get("dataset", "coco_json")
    return Path(settings["data_dir"]).name if dataset == "coco_json" else dataset


def _portable(settings: dict[str, Any], run: str) -> dict[str, Any]:
    """The settings of a run as a user of this package would write them."""
    paths: dict[str, Any] = portable_data(settings, _data_name(settings))
    if "parent" in settings:
        parent = Path(settings["parent"])
        teacher = parent.parent.name + f"/{BEST_FOLDER}" if parent.name == BEST_FOLDER else parent.name
        paths |= {"parent": f"outputs/{teacher}", "out": f"outputs/{run}"}
        paths |= {key: [f"data/{Path(folder).name}" for folder in settings[key]] for key in ("more", "images")}
    else:
        paths |= portable_start(settings) | {"output_dir": f"outputs/{run}"}
    return portable_settings(settings, paths)

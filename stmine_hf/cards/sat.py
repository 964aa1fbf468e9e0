"""The cards of SAT's repositories: the project's small detectors, and any other of the method.

A run is a distillation (`examples/distill_sat.py`) or a training (`examples/train_sat.py`), as its settings show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCardData
from PIL import Image

from .. import SatConfig, SatForObjectDetection, SatImageProcessor
from ..data.toy.toy_camouflage import draw_camouflage
from ..detect.detector import Detector
from ..detect.drawing import draw_detections
from ..documents import read_yaml
from ..evaluation.detection_budget import PUBLISHED_PARAMETERS, budget
from .model import ModelCardWriter, departures, file_word, read_results
from .settings import data_word
from .street_drawing import draw_street

SPLIT = "val"
IMAGE = "images/found.jpg"
THRESHOLD = 0.25  # of the boxes in the image
SLICES, SQUASHED = "in_slices", "as_a_whole"  # end of the name of a measurement on large scenes
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

# Data sets that the project's own cards describe, and their ids on the Hub or, lacking one, names.
SOURCES = {"coco_small": "detection-datasets/coco", "indiscernible": "indiscernible"}
# Credits that the owners of data ask for in cards of models that were trained on them.
CREDITS = {
    "aircraft_slices": (
        "airports of the world in Pleiades images of about 1 m a pixel, from the Airbus Aircrafts Detection Sample "
        "Dataset (credit: Airbus DS, Pleiades; CC BY-NC-SA 4.0, so not for commercial use): 63 scenes for training, "
        "20 for validation, cut by `examples/slice_boxes.py`. Some airports appear at several dates, so the "
        "validation scores are slightly optimistic. None of the images is part of this repository."
    )
}
_LABELS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}


class SatCard(ModelCardWriter):
    method = "sat"
    dataset = "coco_json"
    converted = "nanodet-m-coco"

    @classmethod
    def released(cls) -> tuple[SatForObjectDetection, SatImageProcessor]:
        config = SatConfig.preset("nanodet-m")
        with torch.device("meta"):
            return SatForObjectDetection(config), SatImageProcessor.for_config(config)

    @property
    def split(self) -> str:
        """The split that picked the weights."""
        return str(self.settings.get("eval_split") or SPLIT)

    def released_facts(self) -> dict[str, Any]:
        return super().released_facts() | {"budget": budget(SatConfig.preset("nanodet-m"))}

    def is_own(self) -> bool:
        if not self.settings or self.data not in SOURCES or not self.results_file().is_file():
            return False
        return budget(SatConfig.from_pretrained(self.folder)).parameters <= PUBLISHED_PARAMETERS

    @property
    def data(self) -> str:
        """The data set of the run: sets in COCO's layout go by the name of their folder."""
        return data_name(self.settings)

    def draw(self) -> None:
        """What the model finds in a drawn image."""
        model, processor = self.load()
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
            language=["en", "zh"] if self.is_own() else None if self.own_run() else ["en"],
            license="apache-2.0",
            library_name="transformers",
            pipeline_tag="object-detection",
            metrics=["mean_average_precision"],
            tags=[
                "custom_code",
                "sat",
                "nanodet",
                "object-detection",
                "lightweight",
                *(["camouflaged-object-detection"] if self.is_own() else []),
            ],
            model_name=self.name,
            eval_results=self.scores() or None,
        )

    def scores(self) -> list[EvalResult]:
        if not self.settings or not self.results_file().is_file():
            return []
        metrics = read_results(self.results_file())["metrics"]
        return [
            EvalResult(
                task_type="object-detection",
                task_name="Object detection",
                dataset_type=SOURCES.get(self.data, self.data),
                dataset_name=self.data,
                dataset_split=self.split,
                metric_type="mean_average_precision",
                metric_name=label,
                metric_value=round(metrics[key], 4),
            )
            for key, label in _LABELS.items()
        ]

    def facts(self) -> dict[str, Any]:
        model, processor = self.load()
        side = processor.size["height"]
        facts = self.shared_facts() | {
            "config": model.config,
            "side": side,
            "points": sum((side // stride) ** 2 for stride in model.config.strides),
            "budget": budget(model.config),
            "people": "person" in model.config.label2id,
            "credit": CREDITS.get(self.data) if self.settings else None,
            "scenes": any((self.folder / "results").glob(f"*_{SLICES}.json")),
        }
        if self.is_own():
            results, parent = read_results(self.results_file()), SatConfig.preset("nanodet-m")
            classes = [row for row in results["by_class"] if row["boxes"]]
            files = {name: self.folder / "results" / f"{name}.json" for name in ("parent", "benchmark")}
            facts |= {name: read_results(file) if file.is_file() else None for name, file in files.items()}
            facts |= {
                "image": IMAGE,
                "threshold": THRESHOLD,
                "distilled": "parent" in self.settings,
                "data": self.data,
                "results": results,
                "results_file": f"results/{self.results_file().stem}",
                "metrics": results["metrics"],
                "classes": sorted(classes, key=lambda row: -1 if row["ap"] is None else row["ap"], reverse=True),
                "rounds": self._rounds(),
                "parent_config": parent,
                "departures": departures(model.config, parent, REASONS, {"id2label", "label2id"}),
                "parent_budget": budget(parent),
            }
        return facts

    def results_file(self) -> Path:
        """Of the measurement on the split that picked the weights."""
        return self.folder / "results" / f"{self.data}_{file_word(self.split)}.json"

    def _rounds(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Settings and outcome of each round of distillation, before a training too."""
        folder = self.folder / "training"
        rounds = [(self.settings, read_results(folder / "results.json"))] if "parent" in self.settings else []
        if (folder / "first_round.yaml").is_file():
            first = read_yaml(folder / "first_round.yaml")
            rounds.insert(0, (first, read_results(folder / "first_round.json")))
        return rounds


def data_name(settings: dict[str, Any]) -> str:
    settings = {"dataset": "coco_json", **settings}
    if settings["dataset"] == "coco_json":
        return Path(settings["data_dir"]).name
    return data_word(settings)

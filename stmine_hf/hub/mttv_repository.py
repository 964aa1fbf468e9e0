"""The repositories of MTTV: the project's small model, and any other of the method."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from huggingface_hub import EvalResult, ModelCardData

from .. import MttvConfig, MttvForSequenceClassification, load_dataset
from ..cards.settings import outcome_of, portable_data, portable_settings, portable_start
from ..conversion.mttv import RESNET152, official_config
from ..data.toy.toy_posts import Scene, draw
from ..documents import read_json
from ..evaluation.classification import evaluate_posts
from ..evaluation.reports import with_present_names, write_json
from ..explain import Attribution, explanation_svg
from ..loading import load_mttv
from ..modeling.mttv.pipeline_mttv import MttvPipeline
from ..modeling.mttv.processing_mttv import MttvImageProcessor
from .model_repository import ModelRepository, departures

if TYPE_CHECKING:
    from rich.table import Table

BACKBONE = "tf_efficientnet_lite0"  # whose origin and license the project's own card states
DATASET = "weibo"  # the same
SPLITS = ("val", "test")
IMAGE = "pictures/explained.svg"
# Made up for the image: nobody wrote it, nothing of the kind was drawn at any harbour.
POST = "紧急通知！港口上空出现红色圆形，专家说今晚会掉下来，千万别出门，请大家马上转发！"
SCENE = Scene("red", "circle", 1)

# Why a field of the config departs from the released model; the card lists every field that does.
REASONS = {
    "num_encoder_layers": "size",
    "num_region_tokens": "no detector took part in the training",
    "vision_width": "channels of the visual encoder",
    "attend_missing": "mended: most posts here have no image, and nothing is there to attend to",
    "cls_token_id": "the tokenizer's",
    "sep_token_id": "the tokenizer's",
    "sequence_pooling": "E5 was trained with mean pooling; better on held-out events",
    "dropout": "dropped tokens take its place",
    "scaling_mode": "mended: factors shift the odds; as released they stretch signed logits",
}
TITLES = {"weibo": "Weibo (Jin et al., 2017), as MTTV splits it"}
_SCORES = {"accuracy": ("accuracy", "Accuracy"), "macro_f1": ("f1", "Macro F1"), "ece": ("ece", "Calibration error")}


class MttvRepository(ModelRepository):
    method = "mttv"
    converted = "mttv-weibo"
    comparable = {  # noqa: RUF012
        "baselines": "what examples/baseline_weibo.py --split test --out FILE wrote",
        "released": "output folder of a run with the released recipe from the same start",
    }

    @classmethod
    def load(cls, folder: str | Path) -> tuple[Any, Any]:
        return load_mttv(folder, device="cpu")

    @classmethod
    def released(cls) -> tuple[Any, Any]:
        with torch.device("meta"):
            return MttvForSequenceClassification(official_config(vision_config=RESNET152)), MttvImageProcessor()

    def has_own_card(self) -> bool:
        vision = read_json(self.folder / "config.json")["vision_config"] or {}
        return (
            vision.get("architecture") == BACKBONE
            and self.settings.get("dataset") == DATASET
            and self._results().keys() == {*SPLITS}
        )

    def write_training(self, run: Path, settings: dict[str, Any], data_dir: str | Path | None) -> None:
        settings = {"dataset": DATASET} | settings
        paths = portable_start(settings) | portable_data(settings, settings["dataset"])
        paths |= {"output_dir": f"outputs/{self.name}"}
        outcome = outcome_of(run)
        if data_dir is not None:
            rows = _load(settings, data_dir, settings.get("train_split", "train"))
            outcome["train_posts"] = len(rows)
            outcome["train_images"] = len(rows) - rows.with_format("arrow")["image"].null_count
        self.write_round(portable_settings(settings, paths), outcome)

    def measure(self, data_dir: str | Path | None, compare: dict[str, Path], progress: bool) -> list[Table]:
        """Both splits, `results/<split>/` each. Test is measured here alone: pack when everything is chosen."""
        tables = []
        model, processor = load_mttv(self.folder)
        for split in SPLITS:
            rows = _load(self.settings, data_dir, split)
            report = evaluate_posts(model, processor, rows, progress=progress)
            folder = self.folder / "results" / split
            report.save(folder)
            command = self.evaluation(split, **_options(self.settings, split))
            self.write_measured(folder / "results.json", report.to_dict(), command, model.device)
            tables.append(report.table())
        if "baselines" in compare:
            shutil.copyfile(compare["baselines"], self.folder / "results" / "baselines.json")
        if "released" in compare:
            self._measure_released(compare["released"], data_dir, progress)
        return tables

    def draw(self) -> None:
        """A made-up post with a drawn image, and what moved the verdict on it."""
        model, processor = self.load(self.folder)
        judge = MttvPipeline(model=model, processor=processor)
        image = draw(SCENE, np.random.default_rng(0), size=224)
        attribution = Attribution.from_pipeline(POST, judge({"text": POST, "image": image}, explain=True))
        file = self.folder / IMAGE
        file.parent.mkdir(exist_ok=True)
        file.write_text(explanation_svg(attribution, image), encoding="utf-8")

    def header(self) -> ModelCardData:
        own = self.has_own_card()
        return ModelCardData(
            language=["zh"] if self.settings.get("dataset", DATASET) == DATASET else None,
            license="apache-2.0",
            library_name="transformers",
            pipeline_tag="text-classification",
            base_model=["intfloat/multilingual-e5-small"] if own else None,
            metrics=["accuracy", "f1"],
            tags=["custom_code", "mttv", "fake-news-detection", "multimodal", *(["weibo"] if own else [])],
            model_name=self.name,
            eval_results=self.scores() or None,
        )

    def scores(self) -> list[EvalResult]:
        return [
            EvalResult(
                task_type="text-classification",
                task_name="Fake-news detection",
                dataset_type=results["dataset"],
                dataset_name=TITLES.get(results["dataset"], results["dataset"]),
                dataset_split=split,
                metric_type=kind,
                metric_name=label,
                metric_value=round(results["metrics"][key], 4),
            )
            for split, results in self._results().items()
            for key, (kind, label) in _SCORES.items()
        ]

    def facts(self) -> dict[str, Any]:
        model, processor = self.load(self.folder)
        released = MttvConfig.preset("weibo")
        facts = self.shared_facts() | {
            "config": model.config,
            "released": released,
            "departures": departures(model.config, released, REASONS, {"vision_config", "text_config"}),
            "processor": processor,
            "side": processor.image_processor.size["height"] if processor.image_processor else None,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "post": POST,
        }
        if self.has_own_card():
            files = {name: self.folder / "results" / f"{name}.json" for name in self.comparable}
            facts |= self._results() | {
                "image": IMAGE,
                "others": {name: read_json(file) if file.is_file() else None for name, file in files.items()},
                "factors": model.scaling_factors.tolist(),
            }
        return facts

    def _results(self) -> dict[str, dict[str, Any]]:
        """The measurements by split."""
        files = {split: self.folder / "results" / split / "results.json" for split in SPLITS}
        return {split: with_present_names(read_json(file)) for split, file in files.items() if file.is_file()}

    def _measure_released(self, run: Path, data_dir: str | Path | None, progress: bool) -> None:
        """Write `results/released.json`: the released recipe from the same start, on the test split."""
        model, processor = load_mttv(run / "best")
        report = evaluate_posts(model, processor, _load(self.settings, data_dir, "test"), progress=progress)
        recipe = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        epochs = {"epochs": recipe["num_train_epochs"], "date": date.today().isoformat()}
        document = epochs | report.to_dict() | {"model": "released recipe"}
        write_json(self.folder / "results" / "released.json", document)


def _options(settings: dict[str, Any], split: str) -> dict[str, Any]:
    """Options of the data set: val is what the run held out; Weibo's test is its file as it is, without more rows."""
    return {} if (settings["dataset"], split) == (DATASET, "test") else settings.get("dataset_options") or {}


def _load(settings: dict[str, Any], data_dir: str | Path | None, split: str) -> Any:
    return load_dataset(settings["dataset"], data_dir=data_dir, split=split, **_options(settings, split))

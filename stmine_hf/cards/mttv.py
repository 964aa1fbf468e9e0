"""The cards of MTTV's repositories: the project's small model, and any other of the method."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from huggingface_hub import EvalResult, ModelCardData

from .. import MttvConfig, MttvForSequenceClassification
from ..conversion.mttv import RESNET152, official_config
from ..data.toy.toy_posts import Scene, draw
from ..documents import read_json
from ..explain import Attribution, explanation_svg
from ..modeling.mttv.pipeline_mttv import MttvPipeline
from ..modeling.mttv.processing_mttv import MttvImageProcessor
from .model import BACKBONE, ModelCardWriter, departures, read_results

DATASET = "weibo"  # whose origin and terms the project's own card states
SPLITS = ("val", "test")
IMAGE = "images/explained.svg"
# Made up for the image: it is not a real post and describes no real event.
POST = "紧急通知！港口上空出现红色圆形，专家说今晚会掉下来，千万别出门，请大家马上转发！"
POSTS = ["今天天气不错", "紧急通知,马上转发"]
SCENE = Scene("red", "circle", 1)

# Why a field of the config departs from the released model; the card lists every field that does.
REASONS = {
    "num_encoder_layers": "size",
    "num_region_tokens": "no detector took part in the training",
    "vision_width": "channels of the visual encoder",
    "attend_missing": "corrected: most posts here have no image, and nothing is there to attend to",
    "cls_token_id": "the tokenizer's",
    "sep_token_id": "the tokenizer's",
    "sequence_pooling": "E5 was trained with mean pooling; better on held-out events",
    "dropout": "dropped tokens take its place",
    "scaling_mode": "corrected: factors shift the odds; as released they stretch signed logits",
}
TITLES = {"weibo": "Weibo (Jin et al., 2017), as MTTV splits it"}
_SCORES = {"accuracy": ("accuracy", "Accuracy"), "macro_f1": ("f1", "Macro F1"), "ece": ("ece", "Calibration error")}


class MttvCard(ModelCardWriter):
    method = "mttv"
    dataset = DATASET
    converted = "mttv-weibo"

    @classmethod
    def released(cls) -> tuple[MttvForSequenceClassification, MttvImageProcessor]:
        with torch.device("meta"):
            return MttvForSequenceClassification(official_config(vision_config=RESNET152)), MttvImageProcessor()

    def is_own(self) -> bool:
        vision = read_json(self.folder / "config.json")["vision_config"] or {}
        return (
            vision.get("architecture") == BACKBONE
            and self.settings.get("dataset") == DATASET
            and self._results().keys() == {*SPLITS}
        )

    def draw(self) -> None:
        """A made-up post with a drawn image, and what drove the prediction on it."""
        model, processor = self.load()
        classifier = MttvPipeline(model=model, processor=processor)
        image = draw(SCENE, np.random.default_rng(0), size=224)
        attribution = Attribution.from_pipeline(POST, classifier({"text": POST, "image": image}, explain=True))
        file = self.folder / IMAGE
        file.parent.mkdir(exist_ok=True)
        file.write_text(explanation_svg(attribution, image), encoding="utf-8")

    def header(self) -> ModelCardData:
        own = self.is_own()
        return ModelCardData(
            language=["zh"] if self.settings.get("dataset", DATASET) == DATASET else None,
            license="apache-2.0",
            library_name="transformers",
            pipeline_tag="text-classification",
            base_model=["intfloat/multilingual-e5-small"] if own else None,
            metrics=["accuracy", "f1"],
            tags=[
                "custom_code",
                "mttv",
                *([] if self.own_run() and not {"fake", "real"} <= {*self._labels()} else ["fake-news-detection"]),
                "multimodal",
                *(["weibo"] if own else []),
            ],
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
        model, processor = self.load()
        released = MttvConfig.preset("weibo")
        facts = self.shared_facts() | {
            "config": model.config,
            "released": released,
            "departures": departures(model.config, released, REASONS, {"vision_config", "text_config"}),
            "processor": processor,
            "side": processor.image_processor.size["height"] if processor.image_processor else None,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "post": "what the post says" if self.own_run() else POST,
            "posts": ["what a post says", "and another one"] if self.own_run() else POSTS,
        }
        if self.is_own():
            files = {name: self.folder / "results" / f"{name}.json" for name in ("baselines", "released")}
            facts |= self._results() | {
                "image": IMAGE,
                "others": {name: read_results(file) if file.is_file() else None for name, file in files.items()},
                "factors": model.scaling_factors.tolist(),
            }
        return facts

    def _labels(self) -> list[str]:
        return list(read_json(self.folder / "config.json").get("id2label", {}).values())

    def _results(self) -> dict[str, dict[str, Any]]:
        """The measurements by split."""
        files = {split: self.folder / "results" / split / "results.json" for split in SPLITS}
        return {split: read_results(file) for split, file in files.items() if file.is_file()}

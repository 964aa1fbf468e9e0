"""The cards of FISVL's repositories: the project's small model, and any other of the method."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCardData
from PIL import Image

from .. import FisvlConfig, FisvlModel, ImageIndex
from ..data.toy.toy_scenes import write_scenes
from ..documents import read_json
from ..evaluation.retrieval import SAME_TEXT
from ..modeling.fisvl.processing_fisvl import FisvlImageProcessor
from ..search.present import contact_sheet
from .model import BACKBONE, ModelCardWriter, departures, file_word, read_results
from .settings import data_word

DATASET = "rsicd"  # whose origin and terms the project's own card states
SPLIT = "val"
IMAGE = "images/search.jpg"
SENTENCE = "many planes are parked on the gray ground of an airport"
SCENES = 96  # drawn for the image

# Mean recall in percent on the RSICD test split, as their papers report it.
PUBLISHED = {"VSE++": 10.43, "AMFMN": 16.42, "GaLR": 18.96, "PIR": 24.46, "FISVL": 26.39}
# Why a field of the config departs from the released model; the card lists every field that does.
REASONS = {
    "share_encoder": "one network serves both image paths: half the work",
    "text_pooling": "MiniLM was trained with mean pooling",
    "attend_padding": "corrected: an embedding no longer depends on the batch it is padded with",
    "projection_dim": "size",
    "dropout": "fewer weights to hold back",
    "sensing_stage": "the shared encoder's map with the same stride",
    "sensing_in_channels": "channels of that map",
    "sensing_channels": "size",
    "sensing_heads": "size",
    "one_centre_per_scene": "corrected: rows of one scene are no longer pushed apart",
    "scene_mask_positives": "corrected: an image's own caption is no hard negative of it",
    "scene_integer_weights": "corrected: weights are not truncated to integers",
}
_ENCODERS = {"vision_config", "conv_config", "text_config", "vision_width", "conv_width"}


class FisvlCard(ModelCardWriter):
    method = "fisvl"
    dataset = DATASET
    converted = "fisvl-rsicd"

    @classmethod
    def released(cls) -> tuple[FisvlModel, FisvlImageProcessor]:
        with torch.device("meta"):
            return FisvlModel(FisvlConfig.released()), FisvlImageProcessor()

    def released_facts(self) -> dict[str, Any]:
        return super().released_facts() | {"side": FisvlImageProcessor().size["height"], "published": PUBLISHED}

    def is_own(self) -> bool:
        vision = read_json(self.folder / "config.json")["vision_config"]
        data = self.settings.get("dataset")
        return vision.get("architecture") == BACKBONE and data == DATASET and self.results_file().is_file()

    def draw(self) -> None:
        """The five best of freshly drawn scenes for one sentence."""
        with TemporaryDirectory() as work:
            scenes = write_scenes(Path(work) / "scenes", count=SCENES)
            index = ImageIndex.build(scenes, Path(work) / "index", model=str(self.folder), progress=False)
            sheet = Path(work) / "sheet.png"
            contact_sheet(index.query(SENTENCE, k=5), sheet, title=SENTENCE)
            (self.folder / IMAGE).parent.mkdir(exist_ok=True)
            with Image.open(sheet) as image:
                image.convert("RGB").save(self.folder / IMAGE, quality=85, optimize=True)

    def header(self) -> ModelCardData:
        own = self.is_own()
        return ModelCardData(
            language=None if self.own_run() else ["en"],
            license="apache-2.0",
            library_name="transformers",
            pipeline_tag="zero-shot-image-classification",
            base_model=["sentence-transformers/all-MiniLM-L6-v2"] if own else None,
            datasets=["arampacha/rsicd"] if own else None,
            metrics=["recall"],
            tags=["custom_code", "fisvl", "remote-sensing", "image-text-retrieval", "satellite-imagery"],
            model_name=self.name,
            eval_results=self.scores() or None,
        )

    def scores(self) -> list[EvalResult]:
        if not self.settings or not self.results_file().is_file():
            return []
        results = read_results(self.results_file())
        labels = {"txt": "image-to-text", "img": "text-to-image"}
        scores = []
        for key in sorted(results["metrics"], key=lambda name: not name.endswith("r_mean")):
            side, _, measure = key.removeprefix(SAME_TEXT).rpartition("_")
            label = "Mean recall" if side == "r" else f"{labels[side]} R@{measure.removeprefix('r')}"
            scores.append(
                EvalResult(
                    task_type="image-text-retrieval",
                    task_name="Image-text retrieval",
                    dataset_type="arampacha/rsicd" if results["dataset"] == "rsicd" else results["dataset"],
                    dataset_name=results["dataset"] if self.own_run() else results["dataset"].upper(),
                    dataset_split=results["split"],
                    metric_type="mean_recall" if side == "r" else f"recall_at_{measure.removeprefix('r')}",
                    metric_name=label + (", equal captions count" if key.startswith(SAME_TEXT) else ""),
                    metric_value=round(results["metrics"][key], 2),
                )
            )
        return scores

    def facts(self) -> dict[str, Any]:
        model, processor = self.load()
        size = processor.image_processor.size
        with torch.inference_mode():
            features = model.get_image_features(torch.zeros(1, 3, size["height"], size["width"]))
        facts = self.shared_facts() | {
            "config": model.config,
            "released": FisvlConfig.released(),
            "departures": departures(model.config, FisvlConfig.released(), REASONS, _ENCODERS),
            "processor": processor,
            "side": size["height"],
            "tokens": features.last_hidden_state.shape[1],
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "temperature": model.temperature.item(),
        }
        if self.is_own():
            results = read_results(self.results_file())
            metrics = results["metrics"]
            facts |= {
                "image": IMAGE,
                "sentence": SENTENCE,
                "scenes": SCENES,
                "results": results,
                "metrics": metrics,
                "same_text": {k.removeprefix(SAME_TEXT): v for k, v in metrics.items() if k.startswith(SAME_TEXT)},
                "published": PUBLISHED,
            }
        return facts

    def results_file(self) -> Path:
        """Of the measurement on the split that picked the weights."""
        settings = self.settings
        split = file_word(settings.get("eval_split", SPLIT))
        return self.folder / "results" / f"{data_word(settings)}_{split}.json"

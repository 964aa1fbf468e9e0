"""The repositories of FISVL: the project's small model, and any other of the method."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import EvalResult, ModelCardData
from PIL import Image

from .. import FisvlConfig, FisvlModel, ImageIndex, load_dataset
from ..cards.settings import outcome_of, portable_data, portable_settings, portable_start
from ..data.toy.toy_scenes import write_scenes
from ..documents import read_json
from ..evaluation.retrieval import SAME_TEXT, evaluate_retrieval
from ..loading import load_fisvl
from ..modeling.fisvl.processing_fisvl import FisvlImageProcessor
from ..search.present import contact_sheet
from .model_files import WEIGHTS
from .model_repository import ModelRepository, departures

if TYPE_CHECKING:
    from rich.table import Table

BACKBONE = "tf_efficientnet_lite0"  # whose origin and license the project's own card states
DATASET = "rsicd"  # the same
SPLIT = "val"
IMAGE = "pictures/search.jpg"
SENTENCE = "many planes are parked on the gray ground of an airport"
SCENES = 96  # drawn for the image

# What sentence-transformers reads: a model of one module, whose vectors have unit length already.
_ENCODER = {"method_output_name": "pooler_output"}
SENTENCE_TRANSFORMERS: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {
            "text": {"method": "get_text_features", **_ENCODER},
            "image": {"method": "get_image_features", **_ENCODER},
        },
        "module_output_name": "sentence_embedding",
    },
    "config_sentence_transformers.json": {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"},
}

# Mean recall in percent on the RSICD test split, as their papers report it.
PUBLISHED = {"VSE++": 10.43, "AMFMN": 16.42, "GaLR": 18.96, "PIR": 24.46, "FISVL": 26.39}
# Why a field of the config departs from the released model; the card lists every field that does.
REASONS = {
    "share_encoder": "one network serves both image paths: half the work",
    "text_pooling": "MiniLM was trained with mean pooling",
    "attend_padding": "mended: an embedding no longer depends on the batch it is padded with",
    "projection_dim": "size",
    "dropout": "fewer weights to hold back",
    "sensing_stage": "the shared encoder's map with the same stride",
    "sensing_in_channels": "channels of that map",
    "sensing_channels": "size",
    "sensing_heads": "size",
    "one_centre_per_scene": "mended: rows of one scene are no longer pushed apart",
    "scene_mask_positives": "mended: an image's own caption is no hard negative of it",
    "scene_integer_weights": "mended: weights are not truncated to integers",
}
_ENCODERS = {"vision_config", "conv_config", "text_config", "vision_width", "conv_width"}


class FisvlRepository(ModelRepository):
    method = "fisvl"
    converted = "fisvl-rsicd"

    @classmethod
    def load(cls, folder: str | Path) -> tuple[Any, Any]:
        return load_fisvl(folder, device="cpu")

    @classmethod
    def released(cls) -> tuple[Any, Any]:
        with torch.device("meta"):
            return FisvlModel(FisvlConfig.released()), FisvlImageProcessor()

    def released_facts(self) -> dict[str, Any]:
        return super().released_facts() | {"side": FisvlImageProcessor().size["height"], "published": PUBLISHED}

    def refresh(self, license: str | None = None) -> None:
        if (self.folder / WEIGHTS).is_file():
            for name, settings in SENTENCE_TRANSFORMERS.items():
                (self.folder / name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        super().refresh(license)

    def has_own_card(self) -> bool:
        vision = read_json(self.folder / "config.json")["vision_config"]
        data = self.settings.get("dataset")
        return vision.get("architecture") == BACKBONE and data == DATASET and self._results().is_file()

    def write_training(self, run: Path, settings: dict[str, Any], data_dir: str | Path | None) -> None:
        settings = {"dataset": DATASET} | settings
        paths = portable_start(settings) | portable_data(settings, settings["dataset"])
        paths |= {"output_dir": f"outputs/{self.name}"}
        outcome = outcome_of(run)
        if data_dir is not None:
            rows = _rows(settings, data_dir, settings.get("train_split", "train"))
            outcome["train_images"] = min(len(rows), int(settings.get("max_train_images") or len(rows)))
        self.write_round(portable_settings(settings, paths), outcome)

    def measure(self, data_dir: str | Path | None, compare: dict[str, Path], progress: bool) -> list[Table]:
        settings, file = self.settings, self._results()
        split = settings.get("eval_split", SPLIT)
        model, processor = load_fisvl(self.folder)
        report = evaluate_retrieval(model, processor, _rows(settings, data_dir, split), progress=progress)
        command = self.evaluation(split, **settings.get("dataset_options") or {})
        self.write_measured(file, report.to_dict(), command, model.device)
        report.draw().savefig(file.with_suffix(".png"), dpi=110)
        return [report.table()]

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
        own = self.has_own_card()
        return ModelCardData(
            language=["en"],
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
        if not self.settings or not self._results().is_file():
            return []
        results = read_json(self._results())
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
                    dataset_name=results["dataset"].upper(),
                    dataset_split=results["split"],
                    metric_type="mean_recall" if side == "r" else f"recall_at_{measure.removeprefix('r')}",
                    metric_name=label + (", equal captions count" if key.startswith(SAME_TEXT) else ""),
                    metric_value=round(results["metrics"][key], 2),
                )
            )
        return scores

    def facts(self) -> dict[str, Any]:
        model, processor = self.load(self.folder)
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
        if self.has_own_card():
            results = read_json(self._results())
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

    def _results(self) -> Path:
        settings = self.settings
        return self.folder / "results" / f"{settings.get('dataset')}_{settings.get('eval_split', SPLIT)}.json"


def _rows(settings: dict[str, Any], data_dir: str | Path | None, split: str) -> Any:
    options = settings.get("dataset_options") or {}
    return load_dataset(settings["dataset"], data_dir=data_dir, split=split, **options)

"""The repositories of FISVL: what a run is measured on, and what sentence-transformers needs besides the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cards.files import WEIGHTS
from ..cards.fisvl import SPLIT, FisvlCard
from ..cards.settings import outcome_of, portable_data, portable_settings, portable_start
from ..evaluation.retrieval import evaluate_retrieval
from ..loading import load_fisvl
from ..methods import FISVL
from .model_repository import ModelRepository
from .run_rows import RunRows, run_rows

if TYPE_CHECKING:
    from rich.table import Table

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


class FisvlRepository(ModelRepository):
    method = "fisvl"
    writer: FisvlCard

    def rebuild(self, license: str | None = None, base: str | list[str] | None = None) -> None:
        if (self.folder / WEIGHTS).is_file():
            for name, settings in SENTENCE_TRANSFORMERS.items():
                (self.folder / name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        super().rebuild(license, base)

    def record_training(self, run: Path, settings: dict[str, Any], data_dir: str | Path | None) -> None:
        paths = portable_start(settings) | portable_data(settings, settings["dataset"])
        paths |= {"output_dir": f"outputs/{self.name}"}
        outcome = outcome_of(run)
        if data_dir is not None:
            rows = _rows(settings, data_dir, settings.get("train_split", "train"), run).rows
            outcome["train_images"] = min(len(rows), int(settings.get("max_train_images") or len(rows)))
        self.write_round(portable_settings(settings, paths), outcome)

    def measure(self, data_dir: str | Path | None, compare: dict[str, Path], progress: bool) -> list[Table]:
        settings, file = self.writer.settings, self.writer.results_file()
        split = settings.get("eval_split", SPLIT)
        model, processor = load_fisvl(self.folder)
        found = _rows(settings, data_dir, split)
        report = found.named(evaluate_retrieval(model, processor, found.rows, progress=progress))
        command = self.writer.evaluation(split, **settings.get("dataset_options") or {})
        self.write_measured(file, report.to_dict(), command, model.device, held_out=found.held_out)
        report.draw().savefig(file.with_suffix(".png"), dpi=110)
        return [report.table()]


def _rows(settings: dict[str, Any], data_dir: str | Path | None, split: str, run: Path | None = None) -> RunRows:
    return run_rows(settings, FISVL.rows, data_dir, split, run=run)

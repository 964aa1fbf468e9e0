"""The outline of a model's repository: packed from a run, measured as packed, described by the measurements."""

from __future__ import annotations

import inspect
import os
import platform
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from ..cards.rendering import render
from ..cards.settings import outcome_of
from ..documents import read_json
from ..evaluation.reports import with_present_names, write_json
from .model_files import WEIGHTS, is_halved, write_code, write_license, write_model, write_requirements
from .repository import CARD, ORGANISATION, PublishError, described_files, write_manifest

if TYPE_CHECKING:
    import torch
    from rich.table import Table
    from transformers import PreTrainedConfig

_EVAL_RESULTS = ".eval_results"  # where the Hub looks for scores; `model-index` of the card is its older place


class ModelRepository(ABC):
    """The folder of a model's repository, and what is needed to write it.

    Weights, settings and measurements come in once, by `pack` (from a training run) or `take` (from a folder that the
    Auto classes load). Code, requirements, license, card and the lists of scores and files follow from this package
    and from the folder itself: `refresh` writes them again.

    Args:
        folder: of the repository; made if need be.
        name: of the repository on the Hub; default: the folder's.
    """

    method: ClassVar[str]  # model type, and folder of the templates
    converted: ClassVar[str]  # what READMEs call the folder that `stmine convert` writes
    comparable: ClassVar[dict[str, str]] = {}  # what `pack` can measure or take over beside the model, and as what

    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        self.folder = Path(folder)
        self.name = name or self.folder.name

    # ---- how a repository comes to be ----

    def pack(
        self,
        run: str | Path,
        *,
        data_dir: str | Path | None = None,
        compare: Mapping[str, str | Path] | None = None,
        license: str | None = None,
        progress: bool = True,
    ) -> list[Table]:
        """Turn a training run into the repository, and measure what lies in it.

        Args:
            run: the `output_dir` of a training script: `best/`, `config.yaml` and, once the run is over,
                `results.json`.
            data_dir: folder of the data set that the run was trained on; None measures nothing.
            compare: files or folders by a name of `comparable`.
            license: see `refresh`.
            progress: show a bar while measuring.

        Returns:
            The measured tables, to print.

        Raises:
            StmineError: no run, a name not in `comparable`, weights that do not fit into float16, no data.
        """
        run, beside = Path(run), {key: Path(value) for key, value in (compare or {}).items()}
        if unknown := sorted(beside.keys() - self.comparable.keys()):
            known = "; ".join(f"{name}: {what}" for name, what in self.comparable.items())
            raise PublishError(f"{self.method} has nothing to compare named {', '.join(unknown)} ({known or 'none'}).")
        if beside and data_dir is None:
            raise PublishError("A comparison needs measurements of the model itself: give the data set's folder, too.")
        if not (run / "best").is_dir() or not (run / "config.yaml").is_file():
            raise PublishError(f"{run}: expected a training run with best/ and config.yaml; give its output_dir.")
        settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        model, processor = self.load(run / "best")
        write_model(self.folder, model, processor)
        self.write_training(run, settings, data_dir)
        if (run / "curves.png").is_file():
            shutil.copyfile(run / "curves.png", self.folder / "training" / "curves.png")
        drawn = str(settings.get("dataset")).startswith("toy_")  # such a set has no folder
        tables = self.measure(data_dir, beside, progress) if data_dir or drawn else []
        if self.has_own_card():
            self.draw()
        self.refresh(license)
        return tables

    def take(self, model: str | Path, license: str | None = None) -> None:
        """Make the repository of a folder that the Auto classes load, such as `stmine convert` writes; all float32."""
        write_model(self.folder, *self.load(model), halve=False)
        self.refresh(license)

    def lay_out(self) -> None:
        """Make the repository that waits for weights which only their authors have; its card tells how to fill it."""
        model, preprocessing = self.released()
        model.save_pretrained(self.folder, state_dict={})
        preprocessing.save_pretrained(self.folder)
        self.refresh()

    def refresh(self, license: str | None = None) -> None:
        """Write what follows from this package and the folder's other files; weights and figures stay.

        Args:
            license: id of the license of the weights, such as "cc-by-4.0", where this project's cards do not know it;
                None keeps that of the present card.
        """
        write_code(self.folder, self.method)
        write_requirements(self.folder, *self.packages())
        write_license(self.folder)
        self._write_eval_results()
        (self.folder / CARD).write_text(self.card(license), encoding="utf-8")
        write_manifest(self.folder)

    def card(self, license: str | None = None) -> str:
        """The card. Every figure in it is read from the folder's files."""
        if not (self.folder / WEIGHTS).is_file():
            return render(f"{self.method}/official.md", self.header(), **self.released_facts())
        if self.has_own_card():
            return render(f"{self.method}/published.md", self.header(), **self.facts())
        if license is None and (self.folder / CARD).is_file():
            license = ModelCard.load(self.folder / CARD).data.license
        header = self.header()
        header.license = license or "unknown"
        return render(f"{self.method}/model.md", header, license=header.license, **self.facts())

    # ---- what the methods differ in ----

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path) -> tuple[Any, Any]:
        """The model and its processor, on the CPU, by this package's code."""

    @classmethod
    @abstractmethod
    def released(cls) -> tuple[Any, Any]:
        """The model as its authors released it, without weights (on the meta device), and what prepares images."""

    @abstractmethod
    def has_own_card(self) -> bool:
        """Whether `published.md` speaks of this model: network, data and measurements are those of the project's own.

        Others get `model.md`, which says of any model of the method what its files tell.
        """

    @abstractmethod
    def write_training(self, run: Path, settings: dict[str, Any], data_dir: str | Path | None) -> None:
        """Write `training/`: the settings without this machine's paths, and the outcome."""

    @abstractmethod
    def measure(self, data_dir: str | Path | None, compare: dict[str, Path], progress: bool) -> list[Table]:
        """Write `results/`: what `stmine evaluate` finds for the packed weights, when, on what, and beside what."""

    @abstractmethod
    def draw(self) -> None:
        """Draw the image of the project's own card, without anybody's photograph."""

    @abstractmethod
    def header(self) -> ModelCardData:
        """The metadata of the card."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the templates name."""

    @abstractmethod
    def scores(self) -> list[EvalResult]:
        """What was measured, the figure that sums it up first for each split."""

    # ---- what they share ----

    @property
    def repo(self) -> str:
        return f"{ORGANISATION}/{self.name}"

    @property
    def settings(self) -> dict[str, Any]:
        """Of the training, as `write_training` wrote them; empty for a model that was not trained here."""
        file = self.folder / "training" / "config.yaml"
        return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def shared_facts(self) -> dict[str, Any]:
        """Facts of any model."""
        training = self.folder / "training"
        return {
            "name": self.name,
            "repo": self.repo,
            "settings": self.settings,
            "recipe": (training / "config.yaml").read_text(encoding="utf-8").strip() if self.settings else "",
            "training": {"best": None, "training": None} | outcome_of(training),
            "own": self.own_measurements(),
            "needs": ("torch", "torchvision", "transformers", *self.packages()),
            "files": described_files(self.folder),
            "weights": (self.folder / WEIGHTS).stat().st_size,
            "halved": is_halved(self.folder),
        }

    def released_facts(self) -> dict[str, Any]:
        """What the card of a repository without weights names."""
        model, _ = self.released()
        return {
            "name": self.name,
            "config": model.config,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "converted": self.converted,
            "files": described_files(self.folder),
        }

    def packages(self) -> tuple[str, ...]:
        """What loading needs beyond torch, torchvision, transformers and pillow."""
        encoder = read_json(self.folder / "config.json").get("vision_config") or {}
        return ("timm",) if encoder.get("model_type") == "timm_wrapper" else ()

    def own_measurements(self) -> dict[str, dict[str, Any]]:
        """What `write_measured` put into `results/` about this model, by the file's path without its suffix.

        By whatever name it was published then: the weights are the same.
        """
        files = sorted((self.folder / "results").rglob("*.json"))
        found = {
            file.relative_to(self.folder).with_suffix("").as_posix(): with_present_names(read_json(file))
            for file in files
        }
        return {file: result for file, result in found.items() if {"command", "model"} <= result.keys()}

    def write_measured(self, file: Path, report: dict[str, Any], command: str, device: torch.device) -> None:
        """Write a measurement of the packed weights with what it takes to repeat it."""
        file.parent.mkdir(parents=True, exist_ok=True)
        when = {"command": command, "date": date.today().isoformat(), "hardware": hardware(device)}
        write_json(file, when | report | {"model": self.name})

    def write_round(
        self,
        settings: dict[str, Any],
        outcome: dict[str, Any],
        config: str = "config.yaml",
        result: str = "results.json",
    ) -> None:
        """Write settings and outcome of a training, or of one round of several, into `training/`."""
        folder = self.folder / "training"
        folder.mkdir(exist_ok=True)
        (folder / config).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        write_json(folder / result, outcome)

    def evaluation(self, split: str, **options: Any) -> str:
        """The command that measures on a split of the data that the model was trained on."""
        settings = self.settings
        command = f"stmine evaluate {self.method} --model {self.repo} --dataset {settings['dataset']}"
        command += f" --data-dir {settings['data_dir']}" if "data_dir" in settings else ""
        return command + f" --split {split}" + "".join(f" --option {key}={value}" for key, value in options.items())

    def _write_eval_results(self) -> None:
        """Write `.eval_results/<data set>.yaml` with the figure that sums up each split."""
        shutil.rmtree(self.folder / _EVAL_RESULTS, ignore_errors=True)
        summaries: dict[str, dict[str, EvalResult]] = {}
        for score in self.scores():
            if "/" in score.dataset_type:  # else it is on no Hub
                summaries.setdefault(score.dataset_type, {}).setdefault(str(score.dataset_split), score)
        own = self.own_measurements().values()
        dates = {result["split"]: result["date"] for result in own}
        for dataset, splits in summaries.items():
            entries = [
                EvalResultEntry(
                    dataset_id=dataset,
                    task_id=f"{score.task_type}/{split}",
                    value=score.metric_value,
                    date=dates[split],
                    source_url=f"https://huggingface.co/{self.repo}#measured",
                    notes=f"{score.metric_name}, {score.dataset_name}, {split}",
                )
                for split, score in splits.items()
            ]
            file = self.folder / _EVAL_RESULTS / f"{dataset.partition('/')[2]}.yaml"
            file.parent.mkdir(exist_ok=True)
            text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
            file.write_text(text, encoding="utf-8")


def departures(
    config: PreTrainedConfig, released: PreTrainedConfig, reasons: dict[str, str], encoders: set[str]
) -> list[tuple[str, Any, Any, str]]:
    """Field, released value, this model's value and reason, for each field outside the encoders that differs."""
    names = [name for name in inspect.signature(type(config).__init__).parameters if hasattr(released, name)]
    return [
        (name, getattr(released, name), getattr(config, name), reasons.get(name, ""))
        for name in names
        if name not in encoders and getattr(config, name) != getattr(released, name)
    ]


def hardware(device: torch.device) -> str:
    """What something ran on, as a class of machines."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} {platform.machine()} CPU cores"

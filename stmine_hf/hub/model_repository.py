"""A model's repository: built from a training run, a model folder or a released network, and updated."""

from __future__ import annotations

import os
import platform
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from ..cards.files import WEIGHTS
from ..cards.model import ModelCardWriter, present_of, read_results
from ..documents import read_yaml
from ..files import write_entries
from ..loading import load_model
from ..methods import METHODS
from .merging import load_merged
from .model_files import write_code, write_license, write_model, write_requirements
from .repository import PublishError, write_manifest

if TYPE_CHECKING:
    import torch
    from rich.table import Table

_EVAL_RESULTS = ".eval_results"  # where the Hub looks for scores; `model-index` of the card is its older place
_TABLE_ROWS = "toy_"  # sets that are drawn need no folder to be measured on


class ModelRepository(ABC):
    """The folder of a model's repository.

    Weights, settings and measurements come in once, by `from_run`, `from_model` or `from_release`. Code, requirements,
    license, card and the lists of scores and files follow from this package and from the folder itself: `rebuild`
    writes them again. A subclass for each method holds what differs; the cards are in `cards/`.

    Args:
        folder: of the repository; created if missing.
        repo: id on the Hub; None: as the present card says, else the folder's name.
    """

    method: ClassVar[str]
    comparable: ClassVar[dict[str, str]] = {}  # what `from_run` can measure or copy beside the model, and as what

    def __init__(self, folder: str | Path, repo: str | None = None) -> None:
        self.folder = Path(folder)
        self.writer: ModelCardWriter = METHODS[self.method].card_class(self.folder, repo)
        self.name = self.writer.name

    def from_run(
        self,
        run: str | Path,
        *,
        data_dir: str | Path | None = None,
        compare: Mapping[str, str | Path] | None = None,
        license: str | None = None,
        progress: bool = True,
    ) -> list[Table]:
        """Make the repository of a training run, and measure the weights that are in it.

        Args:
            run: the `output_dir` of a training script: `best/`, `config.yaml` and, once the run is over,
                `results.json`.
            data_dir: folder of the data set that the run was trained on; None measures nothing.
            compare: files or folders by a name of `comparable`.
            license: see `rebuild`.
            progress: show a bar while measuring.

        Returns:
            The measured tables, to print.

        Raises:
            StmineError: no run, an adapter that cannot be merged, a name not in `comparable`, weights that do not fit
                into float16, no data.
        """
        run, beside = Path(run), {key: Path(value) for key, value in (compare or {}).items()}
        if unknown := sorted(beside.keys() - self.comparable.keys()):
            known = "; ".join(f"{name}: {what}" for name, what in self.comparable.items())
            raise PublishError(f"{self.method} has nothing to compare named {', '.join(unknown)} ({known or 'none'}).")
        if beside and data_dir is None:
            raise PublishError("A comparison needs measurements of the model itself: give the data set's folder, too.")
        if not (run / "best").is_dir() or not (run / "config.yaml").is_file():
            raise PublishError(f"{run}: expected a training run with best/ and config.yaml; give its output_dir.")
        settings = self._settings_of(run)
        model, processor = load_merged(METHODS[self.method], str(run / "best"))
        write_model(self.folder, model, processor)
        self.record_training(run, settings, data_dir)
        if (run / "curves.png").is_file():
            shutil.copyfile(run / "curves.png", self.folder / "training" / "curves.png")
        drawn = str(settings["dataset"]).startswith(_TABLE_ROWS)
        tables = self.measure(data_dir, beside, progress) if data_dir or drawn else []
        if self.writer.is_own():
            self.writer.draw()
        self.rebuild(license)
        return tables

    def from_model(self, model: str | Path, license: str | None = None) -> None:
        """Make the repository of a folder that the Auto classes load, such as `stmine convert` writes; all float32."""
        loaded = load_model(METHODS[self.method], model, device="cpu")
        write_model(self.folder, *loaded, halve=False)
        self.rebuild(license, present_of(Path(model), "base_model"))

    def from_release(self) -> None:
        """Make the repository without weights, which only the authors may publish; its card says how to add them."""
        model, preprocessing = self.writer.released()
        model.save_pretrained(self.folder, state_dict={})
        preprocessing.save_pretrained(self.folder)
        self.rebuild()

    def rebuild(self, license: str | None = None, base: str | list[str] | None = None) -> None:
        """Write what follows from this package and the folder's other files; weights and figures stay.

        Args:
            license: id of the license of the weights, such as "cc-by-4.0", where this project's cards do not know it;
                None keeps that of the present card.
            base: Hub id of the model that this one was made from; None: as the settings of the training or the present
                card say.
        """
        use_present_names(self.folder)
        write_code(self.folder, self.method)
        write_requirements(self.folder, *self.writer.packages())
        write_license(self.folder)
        self._write_eval_results()
        self.writer.card(license, base).write(self.folder)
        write_manifest(self.folder)

    @abstractmethod
    def record_training(self, run: Path, settings: dict[str, Any], data_dir: str | Path | None) -> None:
        """Write `training/`: the settings without this machine's paths, and the outcome."""

    @abstractmethod
    def measure(self, data_dir: str | Path | None, compare: dict[str, Path], progress: bool) -> list[Table]:
        """Write `results/`: the scores of the packed weights, with command, date and device, and comparisons."""

    def write_measured(
        self, file: Path, report: dict[str, Any], command: str, device: torch.device, *, held_out: bool = False
    ) -> None:
        """Write a measurement of the packed weights with what it takes to repeat it.

        Args:
            held_out: see `RunRows`.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        when = {"command": command, "date": date.today().isoformat(), "hardware": hardware(device)}
        split = {"split": "val", "held_out": True} if held_out else {}
        write_entries(file, when | report | {"model": self.name} | split)

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
        write_entries(folder / result, outcome)

    def _settings_of(self, run: Path) -> dict[str, Any]:
        """The settings of a run; its `config.yaml` leaves out what is at its default, such as the data set."""
        settings = read_yaml(run / "config.yaml")
        if not isinstance(settings, dict | None):
            raise PublishError(f"{run / 'config.yaml'}: expected `setting: value` lines.")
        return {"dataset": self.writer.dataset} | (settings or {})

    def _write_eval_results(self) -> None:
        """Write `.eval_results/<data set>.yaml` with the figure that sums up each split."""
        shutil.rmtree(self.folder / _EVAL_RESULTS, ignore_errors=True)
        scores = self.writer.scores() if (self.folder / WEIGHTS).is_file() else []
        summaries: dict[str, dict[str, EvalResult]] = {}
        for score in scores:
            if "/" in score.dataset_type:  # else it is not on the Hub
                summaries.setdefault(score.dataset_type, {}).setdefault(str(score.dataset_split), score)
        dates = {result["split"]: result["date"] for result in self.writer.measurements().values()}
        published = "/" in self.writer.repo
        for dataset, splits in summaries.items():
            entries = [
                EvalResultEntry(
                    dataset_id=dataset,
                    task_id=f"{score.task_type}/{split}",
                    value=score.metric_value,
                    date=dates[split],
                    source_url=f"https://huggingface.co/{self.writer.repo}#measured" if published else None,
                    notes=f"{score.metric_name}, {score.dataset_name}, {split}",
                )
                for split, score in splits.items()
            ]
            file = self.folder / _EVAL_RESULTS / f"{dataset.partition('/')[2]}.yaml"
            file.parent.mkdir(exist_ok=True)
            text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
            file.write_text(text, encoding="utf-8")


def use_present_names(folder: Path) -> None:
    """Rename what had another name in version 0.1: the folder of images, and keys of results and settings."""
    if (folder / "pictures").is_dir() and not (folder / "images").exists():
        (folder / "pictures").rename(folder / "images")
    for file in [*(folder / "results").rglob("*.json"), *(folder / "training").glob("*.json")]:
        text = file.read_text(encoding="utf-8")
        if re.search(r'"(\w*pictures\w*|honest_\w+)":', text):
            write_entries(file, read_results(file))
    for file in (folder / "training").glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        present = re.sub(r"(?m)^(\w*)picture(\w*:)", r"\1image\2", text)
        if present != text:
            file.write_text(present, encoding="utf-8")


def hardware(device: torch.device) -> str:
    """What something ran on, as a class of machines."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} {platform.machine()} CPU cores"

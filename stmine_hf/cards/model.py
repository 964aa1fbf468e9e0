"""The card of a model's repository: every figure in it is read from the repository's own files."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from huggingface_hub import EvalResult, ModelCardData
from safetensors import safe_open

from ..documents import read_json, read_text, read_yaml
from ..evaluation.reports import with_present_names
from ..loading import hub_id, load_model
from ..methods import METHODS
from .files import CARD, WEIGHTS, described_files
from .own_run import data_options, is_own_data, own_run
from .rendering import Card
from .settings import outcome_of

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedConfig, PreTrainedModel, ProcessorMixin

BACKBONE = "tf_efficientnet_lite0"  # of the project's own models, whose cards state its origin and license


class ModelCardWriter(ABC):
    """Writes the card of a model's repository; a subclass for each method holds what differs.

    Args:
        folder: of the repository.
        repo: its id on the Hub; None: as the present card says, else the folder's name.
    """

    method: ClassVar[str]  # its name, and the folder of its templates
    dataset: ClassVar[str]  # that a run without the setting was trained on
    converted: ClassVar[str]  # what READMEs call the folder that `stmine convert` writes

    def __init__(self, folder: Path, repo: str | None = None) -> None:
        self.folder = folder
        self.repo = repo or named_id(folder) or folder.name
        self.name = self.repo.rpartition("/")[2]

    def card(self, license: str | None = None, base: str | list[str] | None = None) -> Card:
        """The card that fits what is in the folder.

        Args:
            license: of the weights, by the Hub's id, where this project's cards do not know it; None keeps that of the
                present card.
            base: Hub id of the model that the training started from, where the settings of the training do not name
                it; None keeps that of the present card.
        """
        if not (self.folder / WEIGHTS).is_file():
            return Card(f"{self.method}/official.md", self.header(), self.released_facts())
        if self.is_own():
            return Card(f"{self.method}/published.md", self.header(), self.facts())
        header = self.header()
        header.license = license or present_of(self.folder, "license") or "unknown"
        start = str(self.settings.get("model_name_or_path") or "outputs/")
        known = None if start.startswith("outputs/") else hub_id(start)  # see `portable_start`
        header.base_model = known or base or present_of(self.folder, "base_model")
        if header.base_model:
            header["base_model_relation"] = "finetune"
        return Card(f"{self.method}/model.md", header, self.facts() | {"license": header.license})

    @classmethod
    @abstractmethod
    def released(cls) -> tuple[PreTrainedModel, ProcessorMixin | BaseImageProcessor]:
        """The model as its authors released it, without weights (on the meta device), and what prepares images."""

    @abstractmethod
    def is_own(self) -> bool:
        """Whether `published.md` is about this model: network, data and measurements are those of the project's own.

        Others get `model.md`, which says of any model of the method what its files say.
        """

    @abstractmethod
    def draw(self) -> None:
        """Draw the image of the project's own card, without photographs."""

    @abstractmethod
    def header(self) -> ModelCardData:
        """The metadata of the card."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the templates of a model with weights name."""

    @abstractmethod
    def scores(self) -> list[EvalResult]:
        """What was measured, the figure that sums it up first for each split."""

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

    def shared_facts(self) -> dict[str, Any]:
        """Facts of any model with weights."""
        training = self.folder / "training"
        return {
            "name": self.name,
            "repo": self.repo,
            "settings": self.settings,
            "recipe": read_text(training / "config.yaml").strip() if self.settings else "",
            "training": {"best": None, "training": None} | outcome_of(training),
            "own": self.measurements(),
            "mine": self.own_run(),
            "needs": ("torch", "torchvision", "transformers", *self.packages()),
            "files": described_files(self.folder),
            "weights": (self.folder / WEIGHTS).stat().st_size,
            "halved": is_halved(self.folder),
        }

    def own_run(self) -> dict[str, Any] | None:
        """Facts of a training on the user's own data; None for other models. See `own_run`."""
        if not is_own_data(self.settings):
            return None
        outcome = outcome_of(self.folder / "training")
        return own_run(METHODS[self.method], self.settings, outcome, self.measurements())

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the training, its data set among them; empty for a model that was not trained here."""
        file = self.folder / "training" / "config.yaml"
        return {"dataset": self.dataset} | read_yaml(file) if file.is_file() else {}

    def load(self) -> tuple[Any, Any]:
        """The model and its processor, on the CPU, by this package's code."""
        return load_model(METHODS[self.method], self.folder, device="cpu")

    def packages(self) -> tuple[str, ...]:
        """What loading needs beyond torch, torchvision, transformers and pillow."""
        encoder = read_json(self.folder / "config.json").get("vision_config") or {}
        return ("timm",) if encoder.get("model_type") == "timm_wrapper" else ()

    def measurements(self) -> dict[str, dict[str, Any]]:
        """The measurements of this model in `results/`, by the file's path without its suffix.

        The name under which it was published then does not matter: the weights are the same.
        """
        files = sorted((self.folder / "results").rglob("*.json"))
        found = {file.relative_to(self.folder).with_suffix("").as_posix(): read_results(file) for file in files}
        return {file: result for file, result in found.items() if {"command", "model"} <= result.keys()}

    def evaluation(self, split: str, **options: Any) -> str:
        """The command that measures on a split of the data that the model was trained on."""
        settings = self.settings
        if is_own_data(settings):
            trained_by = outcome_of(self.folder / "training").get("command")
            data = data_options(settings, trained_by)
            return f"stmine evaluate {self.method} --model {self.repo} {data} --split {split}"
        command = f"stmine evaluate {self.method} --model {self.repo} --dataset {settings['dataset']}"
        command += f" --data-dir {settings['data_dir']}" if "data_dir" in settings else ""
        return command + f" --split {split}" + "".join(f" --option {key}={value}" for key, value in options.items())


def read_results(file: Path) -> dict[str, Any]:
    """A document of results, with present names for those of earlier versions."""
    return with_present_names(read_json(file))


def file_word(split: str) -> str:
    """A split, or a slice of one, as a part of a file's name.

    Example:
        >>> file_word("val"), file_word("train[90%:]")
        ('val', 'train_90')
    """
    return re.sub(r"\W+", "_", split).strip("_")


def is_halved(folder: Path) -> bool:
    """Whether weights are stored in float16."""
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        names = weights.keys()
        return any(weights.get_slice(name).get_dtype() == "F16" for name in names)


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


def named_id(folder: Path) -> str | None:
    """The id on the Hub that the present card of a folder gives in its code; None without one."""
    text = read_text(folder / CARD) if (folder / CARD).is_file() else ""
    own = re.search(rf'"([\w][\w.-]*/{re.escape(folder.name)})"', text)
    found = own or re.search(r'(?:model=|"pretrained_model_name_or_path": )"([\w][\w.-]*/[\w.-]+)"', text)
    return found[1] if found else None


def present_of(folder: Path, name: str) -> Any:
    """What the metadata of the card in a folder say; None without a card."""
    from huggingface_hub import ModelCard

    return getattr(ModelCard.load(folder / CARD).data, name, None) if (folder / CARD).is_file() else None

"""Training settings: dataclasses with help, filled from one YAML file and from the command line, the latter winning.

Every value goes through `argparse`, from the file too, so that a type is checked the same way wherever it was written
(YAML alone would read `4e-5` as a string).
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser, TrainingArguments

from ..errors import StmineError


@dataclass
class FisvlModelArguments:
    """Where the model comes from: a prepared folder, or backbones to assemble."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A FISVL folder or Hub id to start from (its weights are kept)."}
    )
    vision_backbone: str | None = field(
        default=None, metadata={"help": "Without model_name_or_path: folder or Hub id of the image encoder."}
    )
    conv_backbone: str | None = field(
        default=None, metadata={"help": "Without model_name_or_path: folder or Hub id of the convolutional encoder."}
    )
    text_backbone: str | None = field(
        default=None, metadata={"help": "Without model_name_or_path: folder or Hub id of the text encoder."}
    )
    toy_model: bool = field(
        default=False, metadata={"help": "Start from a tiny random model, vocabulary from the captions (smoke runs)."}
    )
    model_config: dict | str | None = field(
        default=None, metadata={"help": "FisvlConfig fields to set, as a mapping (JSON on the command line)."}
    )

    def __post_init__(self) -> None:
        self.model_config = _mapping("model_config", self.model_config)
        backbones = [self.vision_backbone, self.conv_backbone, self.text_backbone]
        sources = [self.model_name_or_path is not None, any(backbones), self.toy_model]
        if sum(sources) != 1:
            raise StmineError(
                "Name one source for the model: model_name_or_path, or vision_backbone and text_backbone (and "
                f"conv_backbone), or toy_model: true; found {sum(sources)} of them."
            )


@dataclass
class FisvlDataArguments:
    """Which pictures and captions, and what happens to them on the way to the model."""

    dataset: str = field(
        default="rsicd", metadata={"help": "rsicd, rsitmd, ucm_captions, sydney_captions, toy_scenes."}
    )
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the data set as its authors publish it."})
    dataset_options: dict | str | None = field(
        default=None, metadata={"help": "Further options of stmine_hf.load_dataset, as a mapping (JSON)."}
    )
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    eval_split: str = field(default="val", metadata={"help": "Split that picks the best model; never the test split."})
    max_train_images: int | None = field(default=None, metadata={"help": "Keep the first N training pictures only."})
    max_eval_images: int | None = field(default=None, metadata={"help": "Keep the first N validation pictures only."})
    augmentation: str = field(
        default="none", metadata={"help": "Training pictures: rsitmd, rsicd, ucm, sydney (as released), lite or none."}
    )
    train_image_size: int | None = field(
        default=None,
        metadata={
            "help": "Side in pixels of the training pictures; None: as the processor, which evaluation always uses. "
            "A random crop shows things larger, so a smaller side than in use is cheaper and no worse."
        },
    )
    captions_per_step: str = field(
        default="all",
        metadata={
            "help": "all: every caption is a sample (5 x pictures an epoch, as released); one: a random caption a "
            "picture and step; a number k: k captions of a picture, which is encoded once."
        },
    )
    deletion_rate: float = field(default=0.0, metadata={"help": "Chance that a training caption loses a given word."})

    def __post_init__(self) -> None:
        self.dataset_options = _mapping("dataset_options", self.dataset_options)
        if self.captions_per_step not in ("all", "one") and not (
            self.captions_per_step.isdigit() and int(self.captions_per_step) > 0
        ):
            raise StmineError(
                f"captions_per_step must be 'all', 'one' or a positive number, got {self.captions_per_step!r}."
            )
        if self.train_image_size is not None and self.train_image_size < 1:
            raise StmineError(f"train_image_size must be a number of pixels, got {self.train_image_size}.")
        if not 0.0 <= self.deletion_rate < 1.0:
            raise StmineError(f"deletion_rate must lie in [0, 1), got {self.deletion_rate}.")
        if self.eval_split == "test":
            raise StmineError(
                "eval_split is 'test': the best model would be picked on the pictures that measure it. Use 'val'; "
                "measure on test once, at the end, with `stmine evaluate`."
            )


@dataclass
class FisvlTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with the fields that training FISVL adds and defaults that fit it.

    `learning_rate` is the rate of a parameter whose part has multiplier 1. `per_device_train_batch_size` counts
    samples: pairs with `captions_per_step: all`, pictures otherwise.
    """

    # Defaults that differ from transformers'.
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay false: rows carry pictures."})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Drop the last, smaller training batch."})
    metric_for_best_model: str = field(default="r_mean", metadata={"help": "Validation metric of the best model."})
    greater_is_better: bool = field(default=True, metadata={"help": "Whether a larger metric is better."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint: no, steps or epoch."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Keep this many checkpoints."})
    logging_steps: float = field(default=10, metadata={"help": "Log the mean of every loss term each N steps."})
    report_to: str = field(default="none", metadata={"help": "none, tensorboard, wandb, ..."})

    vision_lr_mult: float = field(default=1.0, metadata={"help": "learning_rate multiplier of the image encoders."})
    text_lr_mult: float = field(default=1.0, metadata={"help": "learning_rate multiplier of the text encoder."})
    head_lr_mult: float = field(default=1.0, metadata={"help": "learning_rate multiplier of everything else."})
    released_schedule_length: bool = field(
        default=False,
        metadata={"help": "Schedule over ceil(samples / batch) steps an epoch although the last batch is dropped."},
    )
    freeze_conv: bool = field(
        default=False, metadata={"help": "Freeze the convolutional encoder and its sensing module (as released)."}
    )
    freeze_vision_stages: int = field(
        default=0, metadata={"help": "Freeze the image encoder's embedding and its first N - 1 stages (0: none)."}
    )
    freeze_batchnorm: bool = field(
        default=False, metadata={"help": "The encoders' batch norms keep their statistics and are not trained."}
    )
    freeze: list[str] = field(
        default_factory=list, metadata={"help": "Regular expressions; parameters whose name one finds are frozen."}
    )
    ema_decay: float = field(
        default=0.0,
        metadata={"help": "Evaluate and keep an exponential mean of the weights with this decay (0: off)."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.ema_decay < 1.0:
            raise StmineError(f"ema_decay must lie in [0, 1), got {self.ema_decay}; 0.999 is a usual value.")
        for name in ("vision_lr_mult", "text_lr_mult", "head_lr_mult"):
            if getattr(self, name) < 0:
                raise StmineError(f"{name} must not be negative, got {getattr(self, name)}.")


def parse_arguments(dataclasses: Sequence[Any], argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Read `--config FILE.yaml [--field value ...]` into one instance of each dataclass.

    Args:
        dataclasses: Argument dataclasses; their fields together are the valid keys of the YAML file.
        argv: Command line without the program's name; `sys.argv[1:]` by default.

    Returns:
        One instance a dataclass, in order. A value on the command line wins over the file's.

    Raises:
        StmineError: Unreadable or malformed file, or an unknown key (the nearest valid one is named).
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser(dataclasses, allow_abbrev=False)
    config = None
    if "--config" in argv:
        at = argv.index("--config")
        if at + 1 == len(argv):
            raise StmineError("--config needs a YAML file after it.")
        config = Path(argv[at + 1])
        del argv[at : at + 2]
    from_file = _yaml_to_argv(_read_yaml(config), _valid_names(dataclasses), config) if config else []
    *parsed, unknown = parser.parse_args_into_dataclasses(from_file + argv, return_remaining_strings=True)
    if unknown:
        name = unknown[0].lstrip("-").split("=")[0]
        raise StmineError(f"Unknown option {unknown[0]!r}.{_did_you_mean(name, _valid_names(dataclasses))}")
    return tuple(parsed)


def save_arguments(path: str | Path, *arguments: Any) -> None:
    """Write the resolved settings as a YAML file that `--config` reads back; fields at their default are left out."""
    resolved: dict[str, Any] = {}
    for group in arguments:
        for item in fields(group):
            value = getattr(group, item.name)
            if item.init and not _is_default(item, value):
                resolved[item.name] = _plain(value)
    Path(path).write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StmineError(f"Cannot read the config {path}: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise StmineError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise StmineError(f"{path} must hold `field: value` lines, found {type(content).__name__}.")
    return content


def _yaml_to_argv(content: dict[str, Any], valid: set[str], path: Path) -> list[str]:
    argv: list[str] = []
    for key, value in content.items():
        if key not in valid:
            raise StmineError(f"{path}: unknown key {key!r}.{_did_you_mean(str(key), valid)}")
        if value is None or value == []:
            continue
        argv.append(f"--{key}")
        if isinstance(value, dict):
            argv.append(json.dumps(value))
        elif isinstance(value, list):
            argv.extend(str(item) for item in value)
        else:
            argv.append(str(value))
    return argv


def _valid_names(dataclasses: Sequence[type]) -> set[str]:
    return {item.name for kind in dataclasses for item in fields(kind) if item.init}


def _mapping(name: str, value: dict | str | None) -> dict[str, Any] | None:
    """A field that the YAML file gives as a mapping and the command line as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise StmineError(f"{name} must be a JSON mapping such as '{{\"size\": 96}}': {error}.") from None
    if value is not None and not isinstance(value, dict):
        raise StmineError(f"{name} must be a mapping of fields to values, got {value!r}.")
    return value


def _did_you_mean(name: str, valid: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(valid), n=1)
    return f" Did you mean {near[0]!r}?" if near else " `--help` lists the valid ones."


def _is_default(item: Field, value: Any) -> bool:
    default = item.default_factory() if item.default_factory is not MISSING else item.default
    return _plain(value) == _plain(default)


def _plain(value: Any) -> Any:
    """Enums to their value, dataclasses to mappings: what YAML can hold."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value

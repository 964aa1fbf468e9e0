"""Training settings: dataclasses with help, filled from one YAML file and the command line, which takes precedence.

Every value is parsed by `argparse`, those of the file too, so that types are checked in the same way
(YAML alone would read `4e-5` as a string).
"""

from __future__ import annotations

import difflib
import itertools
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from ..cards.settings import resolved_arguments
from ..data import one_of
from ..documents import DocumentError, read_yaml
from ..errors import StmineError
from ..files import write_atomically
from ..images import PixelOptions
from .start import start_for_other_data

logger = logging.getLogger(__name__)

# Settings that had another name in config.yaml files and command lines of version 0.1.
FORMER_NAMES = {"picture_augmentation": "image_augmentation", "picture_dropping": "image_dropping"}
# Settings that later versions of transformers write under another name beside the present one.
LATER_NAMES = {"activation_checkpointing": "gradient_checkpointing"}


@dataclass
class ZooTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with the defaults and the further fields that all methods share."""

    # Defaults that differ from transformers'.
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay false: rows carry images."})
    dataloader_drop_last: bool = field(default=True, metadata={"help": "Drop the last, smaller training batch."})
    greater_is_better: bool = field(default=True, metadata={"help": "Whether a larger metric is better."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    eval_on_start: bool = field(
        default=True, metadata={"help": "Evaluate before the first step, too, as the baseline of the training."}
    )
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint: no, steps or epoch."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Keep this many checkpoints."})
    logging_steps: float = field(default=10, metadata={"help": "Log the mean of every loss term each N steps."})
    report_to: str = field(default="none", metadata={"help": "none, tensorboard, wandb, ..."})

    freeze_batchnorm: bool = field(
        default=False, metadata={"help": "Keep the statistics of the encoders' batch norms, and do not train them."}
    )
    freeze: list[str] = field(
        default_factory=list, metadata={"help": "Regular expressions; parameters whose name matches one are frozen."}
    )
    train_only: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Train these parts and freeze the rest, batch norm statistics included: head, and of FISVL and "
            "MTTV vision and text, of SAT backbone and neck."
        },
    )
    layer_lr_decay: float = field(
        default=1.0, metadata={"help": "Each layer of an encoder has this share of the rate of the one above it."}
    )
    epoch_steps: int | None = field(
        default=None,
        metadata={
            "help": "With streaming: steps of an epoch, since the length of a stream is unknown; None: max_steps."
        },
    )
    ema_decay: float = field(
        default=0.0,
        metadata={"help": "Evaluate and save an exponential moving average of the weights with this decay (0: off)."},
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Remove the run that output_dir holds, and start a new one."}
    )
    push_dry_run: bool = field(
        default=False, metadata={"help": "At the end, list the files that push_to_hub would send, and send nothing."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after N evaluations in a row without a better metric."}
    )
    peft: str | None = field(
        default=None,
        metadata={
            "help": "Train an adapter instead of the model: lora, or a JSON or YAML file with a PEFT configuration. "
            "Learning rates five to ten times as high as usual suit low-rank factors."
        },
    )
    lora_rank: int | None = field(default=None, metadata={"help": "Rank of the factors; None: the method's."})
    lora_alpha: int | None = field(
        default=None, metadata={"help": "The factors are scaled by alpha / rank; None: twice the rank."}
    )
    lora_targets: list[str] = field(
        default_factory=list,
        metadata={"help": "Names, or ends of names, of the layers that get factors; none: the method's."},
    )
    quantize_base: str | None = field(
        default=None,
        metadata={
            "help": "With peft: load the encoders' linear layers in 8bit or 4bit (bitsandbytes), which saves memory "
            "and costs time and some accuracy. The adapter works on the base at full precision, too."
        },
    )

    def __post_init__(self) -> None:
        if self.bf16 and self.use_cpu and not cpu_has_bfloat16():
            logger.warning("bf16: this CPU has no bfloat16 instructions and would be slow; using float32 instead.")
            self.bf16: bool = False
        if not torch.accelerator.is_available():
            os.environ["ACCELERATE_USE_CPU"] = "true"  # otherwise several processes would not form a group
        try:
            super().__post_init__()
        except (ValueError, OverflowError, OSError) as error:  # how transformers refuses a setting
            raise StmineError(f"A setting of the run cannot be used: {error}") from error
        if self.fp16 and self.device.type == "cpu":
            raise StmineError("fp16 needs a GPU, this run is on the CPU: use bf16, or neither.")
        if (self.push_to_hub or self.push_dry_run) and not (self.hub_model_id and "/" in self.hub_model_id):
            raise StmineError(f"push_to_hub needs hub_model_id: organisation/name, got {self.hub_model_id!r}.")
        _require_trackers(self.report_to)
        if self.load_best_model_at_end:
            raise StmineError("load_best_model_at_end is not supported: output_dir/best always holds the best model.")
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise StmineError("early_stopping_patience needs validation, but eval_strategy is no.")
        if not 0.0 <= self.ema_decay < 1.0:
            raise StmineError(f"ema_decay must lie in [0, 1), got {self.ema_decay}; 0.999 is a usual value.")
        if not 0.0 < self.layer_lr_decay <= 1.0:
            raise StmineError(f"layer_lr_decay must lie in (0, 1], got {self.layer_lr_decay}.")
        if self.peft and self.train_only:
            raise StmineError("peft and train_only both select what trains: set one of them.")
        if self.peft is None and (self.lora_rank or self.lora_alpha or self.lora_targets):
            raise StmineError("lora_rank, lora_alpha and lora_targets configure an adapter: add peft: lora.")
        if self.quantize_base not in (None, "8bit", "4bit"):
            raise StmineError(f"quantize_base must be 8bit or 4bit, got {self.quantize_base!r}.")
        if self.quantize_base and not self.peft:
            raise StmineError("quantize_base is for adapters, quantized weights cannot be trained: add peft: lora.")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise StmineError(f"lora_rank must be at least 1, got {self.lora_rank}.")
        for item in fields(self):
            if item.name.endswith("_lr_mult") and getattr(self, item.name) < 0:
                raise StmineError(f"{item.name} must not be negative, got {getattr(self, item.name)}.")


@dataclass
class ZooDataArguments:
    """Where the rows come from, for all methods. `dataset` and the numbers of rows are each method's own."""

    data_dir: str | None = field(default=None, metadata={"help": "Folder of the data set as its authors publish it."})
    dataset_options: dict | str | None = field(
        default=None, metadata={"help": "Further options of stmine_hf.load_dataset, as a mapping (JSON)."}
    )
    column_mapping: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Your own data set's columns by what they hold: image=img captions=text (several: "
            "captions=one,two; fields: bbox=objects.box)."
        },
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the rows during training instead of before, for sets larger than the disk: each row goes to "
            "one process. Needs max_steps; see epoch_steps."
        },
    )
    shuffle_buffer: int = field(
        default=1000, metadata={"help": "With streaming: size of the buffer that rows are shuffled in."}
    )
    stretch: str | None = field(
        default=None,
        metadata={
            "help": "Of images of more than 8 bits: the values that become black and white, such as 0,3000, or "
            "percentiles of each image, such as 1%%,99%%; as of stmine index and detect."
        },
    )
    bands: str | None = field(
        default=None,
        metadata={"help": "Bands that become red, green and blue, such as 4,3,2; or one, in grey."},
    )
    train_split: str = field(default="train", metadata={"help": "Split to train on, or a part: train[:90%%]."})
    hold_out: float | None = field(
        default=None,
        metadata={
            "help": "Where the set has no split val: this share of the train rows is held out for it, rows of one "
            "image or event together, the same ones each time."
        },
    )
    eval_split: str = field(
        default="val",
        metadata={"help": "Split that selects the best model, or a part: train[90%%:]; never the test split."},
    )

    def __post_init__(self) -> None:
        self.dataset_options = mapping_field("dataset_options", self.dataset_options)
        PixelOptions.parse(self.stretch, self.bands)  # raises an error for values that cannot be parsed
        if self.hold_out is not None and not 0.0 < self.hold_out < 1.0:
            raise StmineError(f"hold_out must lie in (0, 1), got {self.hold_out}; 0.2 is a usual value.")
        if self.hold_out is not None and self.streaming:
            raise StmineError("hold_out needs all rows, which a stream does not provide: set hold_out or streaming.")
        if self.shuffle_buffer < 1:
            raise StmineError(f"shuffle_buffer must be at least 1, got {self.shuffle_buffer}.")
        if self.eval_split.partition("[")[0] == "test":
            raise StmineError(
                "eval_split is 'test': the best model would be selected on the rows that evaluate it. Use 'val', and "
                "evaluate on test once, at the end, with `stmine evaluate`."
            )

    @property
    def pixels(self) -> PixelOptions:
        """How images are read."""
        return PixelOptions.parse(self.stretch, self.bands)


def _require_trackers(names: Any) -> None:
    """
    Raises:
        StmineError: an unknown tracker of experiments, or one that is not installed.
    """
    known, installed = list(INTEGRATION_TO_CALLBACK), get_available_reporting_integrations()
    for name in [names] if isinstance(names, str) else names or []:
        if name in ("none", "all") or name in installed:
            continue
        if name not in known:
            raise StmineError(f"report_to: expected none, all or one of {', '.join(known)}, found {name!r}.")
        raise StmineError(
            f"report_to: {name} is not installed: pip install {name}. Or leave report_to out: the curves of a run are "
            "in curves.png of its folder."
        )


def dataset_help(kind: str) -> str:
    """Help text of `dataset`: the sets with rows of a kind (captions, posts or boxes)."""
    return f"{one_of(kind)}. Or your own: a table (JSONL, CSV), a folder, or the id of a data set on the Hub."


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has bfloat16 instructions. Emulated, convolutions take several times as long."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def parse_arguments(dataclasses: Sequence[Any], argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Read `--config FILE.yaml [--field value ...]` into one instance of each dataclass.

    Args:
        dataclasses: Argument dataclasses; their fields together are the valid keys of the YAML file.
        argv: Command line without the program's name; `sys.argv[1:]` by default.

    Returns:
        One instance a dataclass, in order. A value on the command line wins over the file's; a data set there brings
        its own folder, options and columns.

    Raises:
        StmineError: Unreadable or malformed file, or an unknown key (the nearest valid one is named).
    """
    argv = _with_present_names(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser(dataclasses, allow_abbrev=False)
    config = None
    if "--config" in argv:
        at = argv.index("--config")
        if at + 1 == len(argv):
            raise StmineError("--config needs a YAML file after it.")
        config = Path(argv[at + 1])
        del argv[at : at + 2]
    content = _read_yaml(config) if config else {}
    if _value_of(argv, "--model_name_or_path") is not None:
        content.pop("model_name_or_path", None)
    content = _for_data_set(_value_of(argv, "--dataset"), content)
    from_file = _yaml_to_argv(content, _valid_names(dataclasses), config)
    try:
        *parsed, unknown = parser.parse_args_into_dataclasses(from_file + argv, return_remaining_strings=True)
    except TypeError as error:  # of a field that is an object, such as accelerator_config
        raise StmineError(f"A setting cannot be used ({' '.join(str(error).split())}).") from error
    if unknown:
        name = unknown[0].lstrip("-").split("=")[0]
        raise StmineError(f"Unknown option {unknown[0]!r}.{_did_you_mean(name, _valid_names(dataclasses))}")
    return tuple(parsed)


def save_arguments(path: str | Path, *arguments: Any) -> None:
    """Write the resolved settings as a YAML file that `--config` reads back."""
    text = yaml.safe_dump(resolved_arguments(*arguments), sort_keys=False)
    write_atomically(Path(path), lambda file: file.write_text(text, encoding="utf-8"))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        path.open("rb").close()
    except OSError as error:
        raise StmineError(f"Cannot read the config {path}: {error.strerror}.") from error
    try:
        content = read_yaml(path)
    except DocumentError as error:
        raise StmineError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise StmineError(f"{path} must hold `field: value` lines, found {type(content).__name__}.")
    both = [name for name, present in FORMER_NAMES.items() if name in content and present in content]
    if both:
        raise StmineError(f"{path}: {both[0]} is the former name of {FORMER_NAMES[both[0]]}, and both are set.")
    return {_present_name(name): value for name, value in content.items()}


def _with_present_names(argv: Sequence[str]) -> list[str]:
    """A command line in which former names of options are replaced by the present ones."""
    words = []
    for word in argv:
        name, equals, value = word.removeprefix("--").partition("=")
        words.append(f"--{_present_name(name)}{equals}{value}" if word.startswith("--") else word)
    return words


def _present_name(name: str) -> str:
    return FORMER_NAMES.get(name, name)


def _value_of(argv: Sequence[str], option: str) -> str | None:
    """The value of an option on the command line."""
    for word, following in itertools.zip_longest(argv, argv[1:]):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _for_data_set(name: str | None, content: dict[str, Any]) -> dict[str, Any]:
    """The settings of a file, without those of its data set alone if another one is given."""
    if name in (None, content.get("dataset")):
        return content
    own = ("data_dir", "dataset_options", "column_mapping")
    kept = {key: value for key, value in content.items() if key not in own}
    if isinstance(start := kept.get("model_name_or_path"), str):
        kept["model_name_or_path"] = start_for_other_data(start)
    return kept


def _yaml_to_argv(content: dict[str, Any], valid: set[str], path: Path | None) -> list[str]:
    argv: list[str] = []
    content = dict(content)
    for later, present in LATER_NAMES.items():
        if later in content and later not in valid and present in valid:
            content[present] = content.pop(later) or content.get(present)  # of both, either switches it on
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


def settings_argv(settings: Mapping[str, Any], dataclasses: Sequence[Any]) -> list[str]:
    """A command line for `parse_arguments` with these settings.

    Raises:
        StmineError: none of the dataclasses has a field of the name.
    """
    return _yaml_to_argv(dict(settings), _valid_names(dataclasses), None)


def _valid_names(dataclasses: Sequence[type]) -> set[str]:
    return {item.name for kind in dataclasses for item in fields(kind) if item.init}


def mapping_field(name: str, value: dict | str | None) -> dict[str, Any] | None:
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

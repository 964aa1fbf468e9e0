"""Training of the three methods: the public names that scripts use.

Importing this package is cheap; a name imports its module on first access.

Example:
    >>> from stmine_hf.training import FisvlTrainer, start_run  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data.boxed_images import category_label as category_label
    from ..evaluation.detection_budget import budget as budget
    from ..posts.detectors import load_detector as load_detector
    from .adapters import add_adapter as add_adapter
    from .ema import WeightEma as WeightEma
    from .fisvl.arguments import FisvlDataArguments as FisvlDataArguments
    from .fisvl.arguments import FisvlModelArguments as FisvlModelArguments
    from .fisvl.arguments import FisvlTrainingArguments as FisvlTrainingArguments
    from .fisvl.build import build_fisvl_trainer as build_fisvl_trainer
    from .fisvl.collator import FisvlCollator as FisvlCollator
    from .fisvl.model import build_fisvl as build_fisvl
    from .fisvl.samples import CaptionedImages as CaptionedImages
    from .fisvl.samples import CaptionedStream as CaptionedStream
    from .fisvl.trainer import FisvlTrainer as FisvlTrainer
    from .fisvl.transforms import build_fisvl_transform as build_fisvl_transform
    from .mttv.arguments import MttvDataArguments as MttvDataArguments
    from .mttv.arguments import MttvModelArguments as MttvModelArguments
    from .mttv.arguments import MttvTrainingArguments as MttvTrainingArguments
    from .mttv.build import build_mttv_trainer as build_mttv_trainer
    from .mttv.collator import MttvCollator as MttvCollator
    from .mttv.features import kept_features as kept_features
    from .mttv.model import build_mttv as build_mttv
    from .mttv.samples import Posts as Posts
    from .mttv.samples import PostStream as PostStream
    from .mttv.samples import keep_modalities as keep_modalities
    from .mttv.toy_model import build_toy_mttv as build_toy_mttv
    from .mttv.trainer import MttvTrainer as MttvTrainer
    from .mttv.transforms import build_mttv_transform as build_mttv_transform
    from .run import Run as Run
    from .run import finish_run as finish_run
    from .run import start_run as start_run
    from .sat.arguments import SatDataArguments as SatDataArguments
    from .sat.arguments import SatModelArguments as SatModelArguments
    from .sat.arguments import SatTrainingArguments as SatTrainingArguments
    from .sat.build import build_sat_trainer as build_sat_trainer
    from .sat.collator import SatCollator as SatCollator
    from .sat.distillation import Views as Views
    from .sat.distillation import distillation_losses as distillation_losses
    from .sat.distillation import teach as teach
    from .sat.model import build_sat as build_sat
    from .sat.samples import BoxedImages as BoxedImages
    from .sat.samples import BoxedStream as BoxedStream
    from .sat.trainer import SatTrainer as SatTrainer
    from .sat.transforms import SatTransform as SatTransform
    from .sat.transforms import build_augmentation as build_augmentation
    from .sat.trimming import TRIMMED as TRIMMED
    from .sat.trimming import trim as trim
    from .sat.trimming import unfuse as unfuse
    from .sat.warm_start import first_batches as first_batches
    from .sat.warm_start import load_matching_weights as load_matching_weights
    from .sat.warm_start import recalibrate_batchnorm as recalibrate_batchnorm
    from .script import run_script as run_script
    from .toy_tokenizer import word_tokenizer as word_tokenizer

_NAMES = {
    "..data.boxed_images": ("category_label",),
    "..posts.detectors": ("load_detector",),
    ".adapters": ("add_adapter",),
    ".ema": ("WeightEma",),
    ".fisvl.arguments": ("FisvlDataArguments", "FisvlModelArguments", "FisvlTrainingArguments"),
    ".fisvl.build": ("build_fisvl_trainer",),
    ".fisvl.collator": ("FisvlCollator",),
    ".fisvl.model": ("build_fisvl",),
    ".fisvl.samples": ("CaptionedImages", "CaptionedStream"),
    ".fisvl.trainer": ("FisvlTrainer",),
    ".fisvl.transforms": ("build_fisvl_transform",),
    ".mttv.arguments": ("MttvDataArguments", "MttvModelArguments", "MttvTrainingArguments"),
    ".mttv.build": ("build_mttv_trainer",),
    ".mttv.collator": ("MttvCollator",),
    ".mttv.features": ("kept_features",),
    ".mttv.model": ("build_mttv",),
    ".mttv.samples": ("Posts", "PostStream", "keep_modalities"),
    ".mttv.toy_model": ("build_toy_mttv",),
    ".mttv.trainer": ("MttvTrainer",),
    ".mttv.transforms": ("build_mttv_transform",),
    ".run": ("Run", "finish_run", "start_run"),
    ".sat.arguments": ("SatDataArguments", "SatModelArguments", "SatTrainingArguments"),
    "..evaluation.detection_budget": ("budget",),
    ".sat.build": ("build_sat_trainer",),
    ".sat.collator": ("SatCollator",),
    ".sat.distillation": ("Views", "distillation_losses", "teach"),
    ".sat.model": ("build_sat",),
    ".sat.samples": ("BoxedImages", "BoxedStream"),
    ".sat.trainer": ("SatTrainer",),
    ".sat.transforms": ("SatTransform", "build_augmentation"),
    ".sat.trimming": ("TRIMMED", "trim", "unfuse"),
    ".sat.warm_start": ("first_batches", "load_matching_weights", "recalibrate_batchnorm"),
    ".script": ("run_script",),
    ".toy_tokenizer": ("word_tokenizer",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

"""A short training of an adapter on a tiny model of each method: for tests of what comes out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from boxed_rows import NAMES, boxed_rows
from helpers import save_tiny_fisvl
from helpers_mttv import save_tiny_mttv
from helpers_sat import save_tiny_sat
from PIL import Image
from post_rows import post_rows
from toy_rows import toy_rows
from transformers import set_seed

from stmine_hf.loading import load_fisvl, load_mttv, load_sat
from stmine_hf.training.adapters import add_adapter
from stmine_hf.training.fisvl.arguments import FisvlTrainingArguments
from stmine_hf.training.fisvl.collator import FisvlCollator
from stmine_hf.training.fisvl.samples import CaptionedImages
from stmine_hf.training.fisvl.trainer import FisvlTrainer
from stmine_hf.training.fisvl.transforms import build_fisvl_transform
from stmine_hf.training.mttv.arguments import MttvTrainingArguments
from stmine_hf.training.mttv.collator import MttvCollator
from stmine_hf.training.mttv.samples import Posts
from stmine_hf.training.mttv.trainer import MttvTrainer
from stmine_hf.training.mttv.transforms import build_mttv_transform
from stmine_hf.training.sat.arguments import SatTrainingArguments
from stmine_hf.training.sat.collator import SatCollator
from stmine_hf.training.sat.samples import BoxedImages
from stmine_hf.training.sat.trainer import SatTrainer
from stmine_hf.training.sat.transforms import SatTransform, build_augmentation

METHODS = ("fisvl", "mttv", "sat")
LOADERS = {"fisvl": load_fisvl, "mttv": load_mttv, "sat": load_sat}
_SAVERS: dict[str, Any] = {
    "fisvl": save_tiny_fisvl,
    "mttv": lambda folder, **config: save_tiny_mttv(folder, attend_missing=False, **config),
    # At the usual 0.01 the head of a random model says nothing of its image, and nothing reaches the factors.
    "sat": lambda folder, **config: save_tiny_sat(folder, head_init_std=0.3, **config),
}
_KINDS: dict[str, Any] = {
    "fisvl": (FisvlTrainer, FisvlTrainingArguments),
    "mttv": (MttvTrainer, MttvTrainingArguments),
    "sat": (SatTrainer, SatTrainingArguments),
}


def save_base(method: str, folder: Path, **config: Any) -> Path:
    """A tiny model, a folder that every door opens."""
    return _SAVERS[method](folder, **config)


def arguments(method: str, folder: Path, **fields: Any) -> Any:
    settings = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
        "peft": "lora",
        **fields,
    }
    return _KINDS[method][1](output_dir=str(folder), **settings)


def adapter_trainer(
    method: str, base: str | Path, folder: Path, resuming: bool = False, start: int = 0, **fields: Any
) -> Any:
    """A trainer over 16 rows of an adapter on the model in `base`; `start` seeds the adapter's first weights."""
    args = arguments(method, folder, **fields)
    set_seed(start)
    model, processor = LOADERS[method](base, device="cpu")
    model = add_adapter(model, processor, args, str(base), resuming=resuming)
    samples: Any
    if method == "fisvl":
        samples, rows = CaptionedImages(toy_rows(16), "one", seed=0), toy_rows(8)
        collator: Any = FisvlCollator(processor, build_fisvl_transform("lite", processor.image_processor), 0.05)
    elif method == "mttv":
        samples, rows = Posts(post_rows(16), model.config.label2id, seed=0), post_rows(8)
        collator = MttvCollator(processor, build_mttv_transform("flip"), token_dropping=0.1)
    else:
        samples, rows = BoxedImages(boxed_rows(16), NAMES, model.config.label2id), boxed_rows(8)
        collator = SatCollator(SatTransform(build_augmentation("mild"), processor))
    return _KINDS[method][0](
        model=model,
        args=args,
        train_dataset=samples,
        eval_dataset=rows,
        data_collator=collator,
        processing_class=processor,
    )


@torch.no_grad()
def answers(model: Any, processor: Any) -> torch.Tensor:
    """What a model says of two fixed images and texts, in evaluation mode."""
    was_training, method = model.training, model.config.model_type
    model.eval()
    images = [Image.new("RGB", (40, 40), colour) for colour in ((200, 30, 60), (20, 160, 90))]
    if method == "fisvl":
        outputs = model(**processor(images=images, text=["a plane", "many green trees"], return_tensors="pt"))
        result = torch.cat([outputs.image_embeds, outputs.text_embeds])
    elif method == "mttv":
        result = model(**processor(images=images, text=["fake a news", "news b"], return_tensors="pt")).logits
    else:
        outputs = model(processor(images=images, return_tensors="pt")["pixel_values"])
        result = torch.cat([outputs.logits, outputs.pred_boxes], dim=-1)
    model.train(was_training)
    return result

"""The three trainers on tiny models and rows, as the tests of training share them; and runs of them in processes.

    python tests/trainers.py METHOD FOLDER FIELDS [still]

trains `METHOD_trainer(FOLDER, **FIELDS)` (JSON), or the still one, and writes its weights and scores to
`FOLDER/rankN.safetensors`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from boxed_rows import NAMES, boxed_rows
from helpers import tiny_fisvl
from helpers_mttv import tiny_mttv
from helpers_sat import tiny_sat
from post_rows import post_rows
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from toy_rows import toy_rows

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
from stmine_hf.training.trainer import ZooTrainer

ROOT = Path(__file__).parents[1]
TWO_PROCESSES = ROOT / "examples" / "accelerate" / "cpu_two_processes.yaml"
SETTINGS = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "save_strategy": "no",
    "eval_strategy": "no",
    "eval_on_start": False,
    "logging_steps": 1,
    "disable_tqdm": True,
    "use_cpu": True,
}
# With these nothing is random, and no process sees what another does not. SGD: AdamW blows the rounding of small
# gradients up.
STILL = {"eval_strategy": "epoch", "optim": "sgd", "freeze_batchnorm": True}


def fisvl_trainer(
    folder: Path, captions_per_step: str = "one", augmentation: str = "lite", rows: Any = None, **fields: Any
) -> FisvlTrainer:
    model, processor = tiny_fisvl()
    return FisvlTrainer(
        model=model.train(),
        args=FisvlTrainingArguments(output_dir=str(folder), **{**SETTINGS, **fields}),
        train_dataset=CaptionedImages(rows or toy_rows(16), captions_per_step, seed=0),
        eval_dataset=toy_rows(8),
        data_collator=FisvlCollator(processor, build_fisvl_transform(augmentation, processor.image_processor), 0.05),
        processing_class=processor,
    )


def mttv_trainer(
    folder: Path,
    augmentation: str = "colour",
    features: Any = None,
    model_fields: dict | None = None,
    rows: Any = None,
    **fields: Any,
) -> MttvTrainer:
    model, processor = tiny_mttv(**{"train_vision": True, "attend_missing": False, **(model_fields or {})})
    rows = rows or post_rows(16, bare=(3,))
    return MttvTrainer(
        model=model.train(),
        args=MttvTrainingArguments(output_dir=str(folder), **{**SETTINGS, **fields}),
        train_dataset=Posts(rows, {"fake": 0, "real": 1}, seed=0, image_dropping=0.1, features=features),
        eval_dataset=post_rows(12),
        data_collator=MttvCollator(processor, build_mttv_transform(augmentation), token_dropping=0.1),
        processing_class=processor,
        features=features,
    )


def sat_trainer(
    folder: Path, augmentation: str = "mild", rows: Any = None, eval_rows: Any = None, **fields: Any
) -> SatTrainer:
    model, processor = tiny_sat()
    return SatTrainer(
        model=model.train(),
        args=SatTrainingArguments(output_dir=str(folder), **{**SETTINGS, "learning_rate": 3e-3, **fields}),
        train_dataset=BoxedImages(rows or boxed_rows(16), NAMES, model.config.label2id),
        eval_dataset=eval_rows or boxed_rows(8),
        data_collator=SatCollator(SatTransform(build_augmentation(augmentation), processor)),
        processing_class=processor,
    )


def still_fisvl_trainer(folder: Path, **fields: Any) -> FisvlTrainer:
    run = fisvl_trainer(folder, augmentation="none", **{**STILL, "learning_rate": 0.01, **fields})
    run.data_collator.deletion_rate = 0.0
    for module in run.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    run.network.sensing.attention.dropout = 0.0
    norms = [module for module in run.network.sensing.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    run._frozen_norms += norms
    return run


def still_mttv_trainer(folder: Path, **fields: Any) -> MttvTrainer:
    run = mttv_trainer(
        folder, "none", model_fields={"dropout": 0.0}, **{**STILL, "learning_rate": 0.01, "group_balance": 0.5},
        **fields,
    )  # fmt: skip
    run.data_collator.token_dropping = 0.0
    return run


def still_sat_trainer(folder: Path, **fields: Any) -> SatTrainer:
    return sat_trainer(folder, "none", **{**STILL, "learning_rate": 0.05, "max_grad_norm": 1, **fields})


TRAINERS = {"fisvl": fisvl_trainer, "mttv": mttv_trainer, "sat": sat_trainer}
STILL_TRAINERS = {"fisvl": still_fisvl_trainer, "mttv": still_mttv_trainer, "sat": still_sat_trainer}


def weights(of: ZooTrainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in of.network.state_dict().items()}


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert not [name for name in left if not torch.equal(left[name], right[name])]


def environment(**more: str) -> dict[str, str]:
    """Of a process that imports what tests import."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def accelerate_launch(config: Path | None = None) -> list[str]:
    """The beginning of a command; without a config one process on the CPU."""
    how = ["--cpu", "--num_processes", "1"] if config is None else ["--config_file", str(config)]
    return [sys.executable, "-m", "accelerate.commands.launch", *how]


def train_in_two_processes(method: str, folder: Path, **fields: Any) -> list[tuple[dict[str, Tensor], dict[str, str]]]:
    """Weights and facts of each process after `still_METHOD_trainer(folder, **fields).train()`."""
    command = [*accelerate_launch(TWO_PROCESSES), __file__, method, str(folder), json.dumps(fields), "still"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = []
    for rank in range(2):
        with safe_open(folder / f"rank{rank}.safetensors", framework="pt") as saved:
            found.append(({name: saved.get_tensor(name) for name in saved.keys()}, saved.metadata()))  # noqa: SIM118
    return found


def main() -> None:
    method, folder, fields, *still = sys.argv[1:]
    run = (STILL_TRAINERS if still else TRAINERS)[method](Path(folder), **json.loads(fields))
    written: list[str] = []
    keep, run._keep_best = run._keep_best, lambda report: (written.append("best"), keep(report))
    untrained = run.evaluate()
    run.train()
    facts = {name: repr(value) for name, value in run.evaluate().items()}
    facts |= {"untrained": json.dumps(untrained)}
    facts |= {"written": json.dumps(written), "world_size": str(run.args.world_size)}
    save_file(weights(run), Path(folder) / f"rank{run.args.process_index}.safetensors", facts)


if __name__ == "__main__":
    main()

"""`transformers.Trainer` with checkpoints that are complete or absent, for models, adapters and mean weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate.utils import gather_object
from torch import nn
from transformers import BaseImageProcessor, PreTrainedModel, ProcessorMixin, Trainer

from ..cards.adapter import has_adapter
from ..errors import StmineError
from .adapters import load_adapter_weights, save_adapter
from .arguments import ZooTrainingArguments
from .checkpoints import (
    UNFINISHED,
    free_space,
    is_write_failure,
    last_checkpoint,
    put_in_place,
    recover_interrupted_save,
    remove_oldest,
)
from .ema import WeightEma

Processor: TypeAlias = ProcessorMixin | BaseImageProcessor

logger = logging.getLogger(__name__)

EMA_FILE = "ema.safetensors"


class CheckpointTrainer(Trainer):
    """A Trainer that writes a checkpoint to a temporary folder and moves it into place when it is complete.

    * A checkpoint that cannot be written is skipped with a warning, and training continues.
    * Weights that are not finite never reach a checkpoint.
    * Of a model with an adapter, only the adapter is saved and loaded.
    * With mean weights (`ema`) a checkpoint contains these, too.
    """

    args: ZooTrainingArguments
    network: PreTrainedModel
    processor: Processor
    ema: WeightEma | None = None
    checkpoint_files: dict[str, str] = {}  # noqa: RUF012  # set by a run: name -> text of further files of a checkpoint
    _folder: str | None = None  # of checkpoints, while one is being written

    def _get_output_dir(self, trial: Any = None) -> str:
        return self._folder or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        output_dir, name = Path(self.args.output_dir or "."), f"checkpoint-{self.state.global_step}"
        if not all(torch.isfinite(parameter).all() for parameter in self.network.parameters()):
            raise StmineError(
                f"The weights are no longer finite after step {self.state.global_step}: this checkpoint is skipped. "
                f"Lower learning_rate (now {self.args.learning_rate:.2g}) and resume from the last checkpoint with "
                "--resume_from_checkpoint auto."
            )
        self.state.best_global_step = None  # the best model is not in a checkpoint, so none is kept for it
        self._folder = str(output_dir / UNFINISHED)
        failure = None
        try:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                for file, text in self.checkpoint_files.items():
                    (output_dir / UNFINISHED / name / file).write_text(text, encoding="utf-8")
        except Exception as error:
            if not is_write_failure(error):
                raise
            failure = str(error)
        finally:
            self._folder = None
        failures = [text for text in gather_object([failure]) if text]  # waits for all processes, too
        if self.args.should_save and not failures:
            put_in_place(output_dir, name)
            remove_oldest(output_dir, self.args.save_total_limit)
        elif self.args.should_save:
            recover_interrupted_save(output_dir)
            logger.warning(
                "Cannot write %s to %s (%s): %s. Training continues; free some space before the next one. The last "
                "complete checkpoint: %s.",
                *(name, output_dir, free_space(output_dir), failures[0], last_checkpoint(output_dir)),
            )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not has_adapter(self.network):
            return super()._save(output_dir, state_dict)
        save_adapter(self.network, self.processor, output_dir or self.args.output_dir or ".", state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if has_adapter(self.network):
            return load_adapter_weights(self.network, resume_from_checkpoint)
        # transformers saves some encoders (Swin) under older names and maps them back in `from_pretrained` alone: the
        # Trainer's plain `load_state_dict(..., strict=False)` would leave those parameters unchanged.
        if not isinstance(self.network, PreTrainedModel):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = type(self.network).from_pretrained(resume_from_checkpoint, dtype=self.network.dtype)
        self.network.load_state_dict(saved.state_dict())

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.ema and self.args.should_save:
            self.ema.save(Path(output_dir) / EMA_FILE)
        super()._save_optimizer_and_scheduler(output_dir)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.ema and checkpoint is not None:
            if (file := Path(checkpoint) / EMA_FILE).is_file():
                self.ema.load(file)
            else:
                logger.warning("%s has no %s: the mean weights start from its weights.", checkpoint, EMA_FILE)
                self.ema.restart()

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Does nothing: the script uploads to the Hub, after training."""

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """See `_push_from_checkpoint`."""

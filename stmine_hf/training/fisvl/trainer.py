"""The trainer of FISVL: the schedule of its losses, the released optimizer groups, retrieval as the evaluation."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from ...errors import StmineError
from ...evaluation.retrieval import RetrievalReport, evaluate_retrieval
from ...modeling.fisvl.modeling_fisvl import FisvlOutput
from ..arguments import ZooTrainingArguments
from ..batch_rows import ROWS
from ..parameters import freeze_batchnorm, freeze_by_name, layer_multipliers
from ..trainer import ZooTrainer
from .arguments import FisvlTrainingArguments
from .gradient_cache import average_gradients, cached_step, split_batch

if TYPE_CHECKING:
    from ...modeling.fisvl.modeling_fisvl import FisvlModel
    from ..rows import Rows


class FisvlTrainer(ZooTrainer):
    """Trains a `FisvlModel` on `CaptionedImages`; see `ZooTrainer`.

    The value-guided schedule of the model gets the epoch. `eval_dataset` are rows of `stmine_hf.load_dataset`;
    retrieval among them is evaluated.
    """

    args: FisvlTrainingArguments
    network: FisvlModel
    scores = {  # noqa: RUF012
        "r_mean": "mean recall",
        "txt_r1": "i→t R@1",
        "txt_r10": "i→t R@10",
        "img_r1": "t→i R@1",
        "img_r10": "t→i R@10",
    }
    scores_label = "validation recall, %"
    parts = {"vision": ["vision_encoder.", "conv_encoder."], "text": ["text_encoder."]}  # noqa: RUF012

    def measure(self, rows: Rows) -> RetrievalReport:
        return evaluate_retrieval(
            self.network,
            self.processor,
            rows,
            batch_size=self.args.per_device_eval_batch_size,
            pixels=self.samples.pixels,
            progress=not self.args.disable_tqdm,
        )

    def model_inputs(self) -> dict[str, Any]:
        return {"epoch": self.current_epoch, "return_loss": True}

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        chunk = self.args.gradient_cache_chunk
        if not chunk:
            return super().training_step(model, inputs, num_items_in_batch)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise StmineError("gradient_cache_chunk works on one process or with DDP, not with FSDP or DeepSpeed.")
        model.train()
        self.keep_norms_frozen()
        inputs = self._prepare_inputs(inputs)
        rows, images = inputs.pop(ROWS, None), inputs.get("image_index")
        labels = [inputs.get(name) for name in ("image_ids", "scene_labels", "caption_weights")]
        share = self.current_gradient_accumulation_steps

        def loss_of(image_embeds: Tensor, text_embeds: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            pairs = image_embeds if images is None else image_embeds[images]
            return self.network.loss_on_embeds(pairs, text_embeds, *labels, epoch=self.current_epoch)

        with self.accelerator.no_sync(model):
            loss, terms, image_embeds, text_embeds = cached_step(
                model,
                self.network,
                list(split_batch(inputs, chunk)),
                loss_of,
                lambda carried: self.accelerator.backward(carried / share),
            )
        found = FisvlOutput(loss=loss, loss_dict=terms, image_embeds=image_embeds, text_embeds=text_embeds)
        self.note_terms(found, inputs, rows)
        if self.args.world_size > 1 and self.accelerator.sync_gradients:
            average_gradients(self.network)
        return loss / share

    def lr_multipliers(self) -> dict[str, float]:
        args, network = self.args, self.network
        multipliers = {"": args.head_lr_mult}
        for part, top in (("vision", args.vision_lr_mult), ("text", args.text_lr_mult)):
            for prefix in self.parts[part]:
                multipliers |= layer_multipliers(network, prefix, args.layer_lr_decay, top)
        return multipliers

    def freeze(self, model: nn.Module, args: ZooTrainingArguments) -> list[nn.Module]:
        assert isinstance(args, FisvlTrainingArguments)
        return apply_freezing(model, args)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        if self.args.released_schedule_length:
            per_epoch = math.ceil(len(self.samples) / self.get_total_train_batch_size(self.args))
            num_training_steps = math.ceil(per_epoch * self.args.num_train_epochs)
        return super().create_scheduler(num_training_steps, optimizer)


def apply_freezing(model: nn.Module, args: FisvlTrainingArguments) -> list[nn.Module]:
    """Freeze what `args` says; returns the batch norms to keep in eval mode."""
    patterns = list(args.freeze)
    if args.freeze_conv:
        patterns += [r"^conv_encoder\.", r"^sensing\."]
    if args.freeze_vision_stages:
        patterns += vision_stage_patterns(model, args.freeze_vision_stages)
    freeze_by_name(model, patterns)
    if not args.freeze_batchnorm:
        return []
    encoders: list[Any] = [model.vision_encoder, model.conv_encoder]  # the sensing module's norms start untrained
    return [norm for encoder in encoders if encoder is not None for norm in freeze_batchnorm(encoder)]


def vision_stage_patterns(model: nn.Module, count: int) -> list[str]:
    """Patterns for the image encoder's first `count` stages, of which the stem (or patch embedding) is the first.

    Knows how transformers and timm name stages: `layers.N`, `stages.N`, `blocks.N` or `layer.N`.

    Raises:
        StmineError: The encoder has fewer stages.
    """
    stage = re.compile(r"^vision_encoder\.(?:\w+\.)*?(?:layers|stages|blocks|layer)\.(\d+)\.")
    names = [name for name, _ in model.named_parameters() if name.startswith("vision_encoder.")]
    found = [(name, match) for name in names if (match := stage.match(name))]
    stages = 1 + len({match[1] for _, match in found})
    if count > stages:
        raise StmineError(f"freeze_vision_stages is {count}, but the image encoder has {stages} (stem included).")
    first_stage = next((at for at, name in enumerate(names) if stage.match(name)), len(names))
    chosen = names[:first_stage] + [name for name, match in found if int(match[1]) < count - 1]
    return [f"^{re.escape(name)}$" for name in chosen]

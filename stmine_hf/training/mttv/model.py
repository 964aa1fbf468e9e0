"""The MTTV model that a run starts from, and its processor."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from ... import MttvConfig, MttvForSequenceClassification, MttvProcessor
from ...loading import load_processor
from ...methods import MTTV
from ...modeling.mttv.processing_mttv import MttvImageProcessor
from ..start import check_fields, starting_from
from .arguments import MttvModelArguments
from .toy_model import build_toy_mttv

if TYPE_CHECKING:
    from ..rows import Rows

logger = logging.getLogger(__name__)


def build_mttv(args: MttvModelArguments, train_rows: Rows) -> tuple[MttvForSequenceClassification, MttvProcessor]:
    """An MTTV model from a folder, from pretrained backbones, or a tiny random one.

    Args:
        args: which of these, and its options.
        train_rows: give a new model its labels, and a tiny one the vocabulary of its texts.

    Returns:
        The model in training mode, and its processor.

    Raises:
        StmineError: there is nothing to start from, or settings contradict each other.
    """
    fields: Any = args.model_config or {}
    check_fields(fields, MttvConfig)
    source = args.model_name_or_path
    with starting_from(source or args.text_backbone, "mttv-lite-weibo", checkpoint=source):
        model, processor = _build(args, train_rows, fields)
        if args.attn_implementation:
            model.set_attn_implementation(args.attn_implementation)
    return model, processor


def _build(args: MttvModelArguments, train_rows: Rows, fields: dict[str, Any]) -> Any:
    labels = train_rows.features["label"].names
    if args.toy_model:
        return build_toy_mttv(train_rows["text"], labels, **fields)
    if args.model_name_or_path:
        known = AutoConfig.from_pretrained(args.model_name_or_path, trust_remote_code=False).label2id
        renamed = set(known) != set(labels)
        if renamed:
            fields = {**fields, "id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
        model = MttvForSequenceClassification.from_pretrained(
            args.model_name_or_path,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=renamed,
            **fields,
        )
        if renamed:
            logger.warning(
                "The labels of the data are %s, those of the start %s: a new classifier with random weights is used.",
                *(", ".join(map(repr, names)) for names in (labels, known)),
            )
            nn.init.kaiming_uniform_(model.classifier.weight, a=math.sqrt(5))  # as the model does
            model.scaling_factors = torch.ones(len(labels))
        return model.train(), load_processor(MTTV, args.model_name_or_path)
    tokenizer = AutoTokenizer.from_pretrained(args.text_backbone, trust_remote_code=False)
    fields = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        **fields,
    }
    backbones: Any = (args.text_backbone, args.vision_backbone)
    model = MttvForSequenceClassification.from_backbones(*backbones, **fields)
    return model, MttvProcessor(MttvImageProcessor(), tokenizer, num_regions=model.config.num_region_tokens)

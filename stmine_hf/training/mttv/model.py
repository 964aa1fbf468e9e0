"""The MTTV model that a run starts from, and its processor."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer

from ... import MttvConfig, MttvForSequenceClassification, MttvProcessor
from ...modeling.mttv.processing_mttv import MttvImageProcessor
from ..start import check_fields, starting_from
from .arguments import MttvModelArguments
from .toy_model import build_toy_mttv


def build_mttv(args: MttvModelArguments, train_rows: Any) -> tuple[MttvForSequenceClassification, MttvProcessor]:
    """An MTTV model from a folder, from pretrained backbones, or a tiny random one.

    Args:
        args: which of them.
        train_rows: whose labels are those of a new model, and whose texts the vocabulary of a tiny one.

    Returns:
        The model in training mode, and its processor.

    Raises:
        StmineError: there is nothing to start from, or settings contradict each other.
    """
    fields: Any = args.model_config or {}
    check_fields(fields, MttvConfig)
    with starting_from(args.model_name_or_path or args.text_backbone, "mttv-lite-weibo"):
        model, processor = _build(args, train_rows, fields)
        if args.attn_implementation:
            model.set_attn_implementation(args.attn_implementation)
    return model, processor


def _build(args: MttvModelArguments, train_rows: Any, fields: dict[str, Any]) -> Any:
    labels = train_rows.features["label"].names
    if args.toy_model:
        return build_toy_mttv(train_rows["text"], labels, **fields)
    if args.model_name_or_path:
        model = MttvForSequenceClassification.from_pretrained(
            args.model_name_or_path, trust_remote_code=False, **fields
        )
        return model.train(), MttvProcessor.from_pretrained(args.model_name_or_path, trust_remote_code=False)
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

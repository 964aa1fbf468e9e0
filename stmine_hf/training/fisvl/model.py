"""The FISVL model that a run starts from, and its processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import AutoTokenizer

from ... import FisvlConfig, FisvlModel, FisvlProcessor
from ...loading import load_processor
from ...methods import FISVL
from ...modeling.fisvl.processing_fisvl import FisvlImageProcessor
from ..start import check_fields, starting_from
from .arguments import FisvlModelArguments
from .toy_model import build_toy_fisvl

if TYPE_CHECKING:
    from ..rows import Rows


def build_fisvl(args: FisvlModelArguments, train_rows: Rows) -> tuple[FisvlModel, FisvlProcessor]:
    """A FISVL model from a folder, from pretrained backbones, or a tiny random one.

    Args:
        args: which of these, and its options.
        train_rows: their captions give a tiny model its vocabulary.

    Returns:
        The model in training mode, and its processor.

    Raises:
        StmineError: there is nothing to start from, or settings contradict each other.
    """
    fields: Any = args.model_config or {}
    check_fields(fields, FisvlConfig)
    source = args.model_name_or_path
    with starting_from(source or args.text_backbone, "fisvl-lite-rsicd", checkpoint=source):
        if args.toy_model:
            captions = (caption for captions in train_rows["captions"] for caption in captions)
            return build_toy_fisvl(captions, **fields)
        if source:
            model = FisvlModel.from_pretrained(source, use_safetensors=True, trust_remote_code=False, **fields)
            return model.train(), load_processor(FISVL, source)
        backbones: Any = (args.vision_backbone, args.text_backbone, args.conv_backbone)
        model = FisvlModel.from_backbones(*backbones, **fields)
        return model, FisvlProcessor(
            FisvlImageProcessor(), AutoTokenizer.from_pretrained(args.text_backbone, trust_remote_code=False)
        )

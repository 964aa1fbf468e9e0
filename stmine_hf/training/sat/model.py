"""The SAT model that a run starts from, and its image processor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig

from ... import SatConfig, SatForObjectDetection, SatImageProcessor
from ...loading import load_processor
from ...methods import SAT
from ..start import check_fields, starting_from
from .arguments import SatModelArguments
from .toy_model import build_toy_sat
from .warm_start import load_matching_weights

logger = logging.getLogger(__name__)


def build_sat(
    args: SatModelArguments, names: Sequence[str], size: int | None = None
) -> tuple[SatForObjectDetection, SatImageProcessor]:
    """A SAT model of the design of a folder, of a preset or a tiny one, with the weights that fit.

    Args:
        args: which of these, and its options.
        names: the data set's categories, which become the classes.
        size: side in pixels of images in inference; None: that of the folder, or 320.

    Returns:
        The model in training mode, and its image processor.

    Raises:
        StmineError: there is nothing to start from, or settings contradict each other.
    """
    fields: Any = args.model_config or {}
    check_fields(fields, SatConfig)
    source = args.model_name_or_path
    given: Any = {"size": {"height": size, "width": size}} if size else {}
    with starting_from(source, "sat-coco-small", checkpoint=source):
        if args.toy_model:
            model = build_toy_sat(names, **fields)
        elif args.preset:
            model = SatForObjectDetection(SatConfig.preset(args.preset, id2label=dict(enumerate(names)), **fields))
        else:
            known = AutoConfig.from_pretrained(str(source), trust_remote_code=False).to_dict()
            classes = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
            model = SatForObjectDetection(SatConfig(**{**known, **classes, **fields}))
        if weights := source or args.init_from:
            logger.info("%s: %s", weights, load_matching_weights(model, weights))
        if source:
            return model.train(), load_processor(SAT, source, **given)
        return model.train(), SatImageProcessor.for_config(model.config, **given)

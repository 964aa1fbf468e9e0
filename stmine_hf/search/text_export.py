"""Write the text tower of a model into the user's cache; see `text_tower`."""

from __future__ import annotations

import copy
import importlib.util
import logging
import tempfile
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..files import LOCK, only_writer, write_atomically, write_json
from ..inference.onnx_graph import write_graph
from ..outputs import sha256_of
from . import text_tower
from .embedding import embed_texts
from .text_tower import GRAPH, INPUTS, MANIFEST, OUTPUT, PROBE_SENTENCE, TOKENIZER, TextTower, sealed

if TYPE_CHECKING:
    from ..modeling.fisvl.modeling_fisvl import FisvlModel
    from ..modeling.fisvl.processing_fisvl import FisvlProcessor

_LIMIT = 1e-4  # largest difference of any value of an embedding to PyTorch
# Of all lengths, with what tokenizers treat specially: other scripts, signs, special tokens, nothing, too many words.
_SENTENCES = (
    PROBE_SENTENCE, "a plane", "", "!?", "many ships are docked at a port near several buildings", "green trees " * 99,
    "机场 附近", "Ünïcode café ½ ﬁ", "a" * 200, "[MASK] [SEP]", "storage-tanks / roads", "🛩️ plane",
    "a\0b\u200d\u3000c",
)  # fmt: skip

logger = logging.getLogger(__name__)


class TextGraph(nn.Module):
    """`input_ids` and `attention_mask` (B, T) -> embeddings (B, D) of unit length."""

    def __init__(self, model: FisvlModel):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        if self.model.config.attend_padding:  # the mask is not read then, and the tracer would drop the input
            input_ids = input_ids + 0 * attention_mask
        return self.model.get_text_features(input_ids, attention_mask).pooler_output


def keep_tower(
    model: FisvlModel, processor: FisvlProcessor, identity: dict[str, Any], meaningless: np.ndarray, folder: Path
) -> bool:
    """Write the text tower of a model into the cache, unless it is there.

    Args:
        model: in evaluation mode; it is not changed.
        processor: of the model.
        identity: of the model, see `Embedder.identity`.
        meaningless: (D,), see `Embedder.meaningless`.
        folder: of the model's files.

    Returns:
        Whether it has been written. It has not if packages are missing, the cache cannot be written, or the tower
        differs from PyTorch.
    """
    if not all(importlib.util.find_spec(package) for package in ("onnx", "onnxruntime")):
        return False
    place: Path | None = None
    try:
        place = text_tower.tower_folder(folder)
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch, only_writer(place):
            made = Path(scratch)
            inputs = {name: processor(text=list(_SENTENCES[:2]), return_tensors="pt")[name] for name in INPUTS}
            write_graph(TextGraph(model), inputs, OUTPUT, made / GRAPH, axes={name: {1: "length"} for name in INPUTS})
            # As the processor has just set it: with its truncation and padding.
            processor.tokenizer.backend_tokenizer.save(str(made / TOKENIZER))
            settings = {
                "identity": identity,
                "meaningless": meaningless.astype("<f4").tobytes().hex(),
                "clean_captions": processor.clean_captions,
                "max_words": processor.max_words,
            }
            _require_equal(TextTower(made, settings, folder), model, processor)
            for name in (GRAPH, TOKENIZER):
                write_atomically(place / name, partial(copyfile, made / name))
            files = {name: sha256_of(made / name) for name in (GRAPH, TOKENIZER)}
            write_json(place / MANIFEST, sealed(settings, files))
        _remove_old(place)
    except Exception as error:  # exporters raise errors of many types, and nothing depends on the cache
        logger.debug("the text tower is not kept in %s: %s", place or "a cache", error)
        return False
    return True


def _require_equal(tower: TextTower, model: FisvlModel, processor: FisvlProcessor) -> None:
    """
    Raises:
        ValueError: the tower reads or embeds sentences differently from the model.
    """
    for sentences in (_SENTENCES, *([one] for one in _SENTENCES)):
        expected = processor(text=list(sentences), return_tensors="np")
        if not all(
            np.array_equal(expected[name], ids) for name, ids in zip(INPUTS, tower.ids(sentences), strict=True)
        ):
            raise ValueError("it reads sentences as other token ids")
    with torch.inference_mode():
        difference = np.abs(tower.texts(_SENTENCES) - embed_texts(model, processor, _SENTENCES).numpy()).max()
    if not difference <= _LIMIT:  # NaN is too far
        raise ValueError(f"it differs from PyTorch by {difference:.2g}")


def _remove_old(kept: Path) -> None:
    """Remove towers from the cache that have not been used for longest."""
    towers = sorted(kept.parent.glob(f"*/{MANIFEST}"), key=lambda file: file.parent.stat().st_mtime, reverse=True)
    for file in [file for file in towers if file.parent != kept][text_tower.MOST_TOWERS - 1 :]:
        for name in (MANIFEST, GRAPH, TOKENIZER, LOCK):
            (file.parent / name).unlink(missing_ok=True)
        file.parent.rmdir()

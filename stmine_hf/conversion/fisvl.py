"""The authors' FISVL checkpoints -> ours.

An authors' checkpoint is a `.pth` file with `{"model": state dict of 768 keys, "config": the training yaml}`. It is
read with `weights_only=True`: nothing in it is executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import FisvlConfig, FisvlModel, FisvlProcessor  # registered: what is saved carries its code
from ..checkpoints import CheckpointError, StoredWeights, check_numbers, require_fitting
from ..errors import StmineError
from ..modeling.fisvl.processing_fisvl import FisvlImageProcessor
from ..outputs import require_apart, write_pretrained
from .official import bert_tokenizer, read_official, require_same_names

# Official name -> ours, first match wins, replaced from the start of the name. "encoder" inside an encoder is where
# transformers keeps its layers.
_NAMES: list[tuple[str, str | Callable[[re.Match], str]]] = [
    (r"temp2$", "center_temperature"),
    (r"temp$", "temperature"),
    (r"(vision_proj|text_proj|conv_proj|head_img|text_encoder)\.", r"\1."),
    (r"img_gcn\.(\d+)\.graph_query_w\.", r"graph.\1.query."),
    (r"img_gcn\.(\d+)\.graph_key_w\.", r"graph.\1.key."),
    (r"img_gcn\.(\d+)\.sim_graph_w\.", r"graph.\1.update."),
    # Swin-T
    (r"vision_encoder\.patch_embed\.proj\.", "vision_encoder.encoder.embeddings.patch_embeddings.projection."),
    (r"vision_encoder\.patch_embed\.norm\.", "vision_encoder.encoder.embeddings.norm."),
    (r"vision_encoder\.norm\.", "vision_encoder.encoder.layernorm."),
    (r"vision_encoder\.layers\.(\d+)\.downsample\.", r"vision_encoder.encoder.encoder.layers.\1.downsample."),
    (
        r"vision_encoder\.layers\.(\d+)\.blocks\.(\d+)\.attn\.relative_position_bias_table$",
        r"vision_encoder.encoder.encoder.layers.\1.blocks.\2."
        "attention.relative_position_bias.relative_position_bias_table",
    ),
    (r"vision_encoder\.layers\.(\d+)\.blocks\.(\d+)\.", r"vision_encoder.encoder.encoder.layers.\1.blocks.\2."),
    # ViT-S/16
    (r"vision_encoder\.cls_token$", "vision_encoder.encoder.embeddings.cls_token"),
    (r"vision_encoder\.pos_embed$", "vision_encoder.encoder.embeddings.position_embeddings"),
    (r"vision_encoder\.blocks\.(\d+)\.", r"vision_encoder.encoder.layers.\1."),
    # scene fine-grained sensing module
    (r"conv_encoder\.loc_fea1\.conv_filter\.", "sensing.reduce."),
    (r"conv_encoder\.loc_fea1\.sfgs\.conv2d_block_11\.", "sensing.scales.0."),
    (r"conv_encoder\.loc_fea1\.sfgs\.conv2d_block_33\.", "sensing.scales.1."),
    (r"conv_encoder\.loc_fea1\.sfgs\.conv2d_block_55\.", "sensing.scales.2."),
    (r"conv_encoder\.loc_fea1\.sfgs\.fc\.linear\.", "sensing.embed."),
    (r"conv_encoder\.loc_fea1\.sfgs\.wsa\.fmp_weight$", "sensing.attention.fusion_weight"),
    # Swapped roles of the released attention: `att(v, k, q)` meets a signature `(k, q, v)`.
    (r"conv_encoder\.loc_fea1\.sfgs\.wsa\.mhatt\.linear_k\.", "sensing.attention.query."),
    (r"conv_encoder\.loc_fea1\.sfgs\.wsa\.mhatt\.linear_v\.", "sensing.attention.key."),
    (r"conv_encoder\.loc_fea1\.sfgs\.wsa\.mhatt\.linear_q\.", "sensing.attention.value."),
    (r"conv_encoder\.loc_fea1\.sfgs\.wsa\.mhatt\.linear_merge\.", "sensing.attention.merge."),
    (r"conv_encoder\.loc_fea1\.sfgs\.wsa\.ffn\.net\.0\.", "sensing.attention.ffn.0."),
    (r"conv_encoder\.loc_fea1\.sfgs\.wsa\.ffn\.net\.3\.", "sensing.attention.ffn.2."),
    (r"conv_encoder\.loc_fea1\.sfgs\.wsa\.(norm[12])\.", r"sensing.attention.\1."),
    # ResNet-50
    (r"conv_encoder\.conv1\.", "conv_encoder.encoder.embedder.embedder.convolution."),
    (r"conv_encoder\.bn1\.", "conv_encoder.encoder.embedder.embedder.normalization."),
    (r"conv_encoder\.layer(\d)\.(\d)\.conv(\d)\.", lambda m: _resnet_block(m, "convolution")),
    (r"conv_encoder\.layer(\d)\.(\d)\.bn(\d)\.", lambda m: _resnet_block(m, "normalization")),
    (r"conv_encoder\.layer(\d)\.(\d)\.downsample\.0\.", lambda m: _resnet_shortcut(m, "convolution")),
    (r"conv_encoder\.layer(\d)\.(\d)\.downsample\.1\.", lambda m: _resnet_shortcut(m, "normalization")),
]
_BLOCK_NAMES = {"norm1.": "layernorm_before.", "norm2.": "layernorm_after.", "attn.proj.": "attention.o_proj."}
_REBUILT = re.compile(r"\.(relative_position_index|attn_mask)$")  # index tables, which transformers computes
_QKV = re.compile(r"(.+\.)attn\.qkv\.(weight|bias)$")


def official_config(**overrides: Any) -> FisvlConfig:
    """The configuration that the released checkpoints load into (padding attended, as released)."""
    return FisvlConfig.released(**overrides)


def config_from_official(official: Mapping[str, Any]) -> FisvlConfig:
    """Our configuration from the training yaml stored in an authors' checkpoint.

    Args:
        official: keys as in the authors' `configs/Retrieval_*.yaml`; absent ones keep the released default.

    Returns:
        FisvlConfig: full model or baseline, Swin-T or ViT-S/16, with the losses of that run.
    """
    names = {
        "embed_dim": "projection_dim",
        "img_gcn_step": "graph_steps",
        "dropout_r": "dropout",
        "temp1": "temperature_init",
        "temp2": "center_temperature_init",
        "center_factor": "affiliation_weight",
        "scene_factor": "scene_weight",
        "beta1": "scene_beta_inter",
        "beta2": "scene_beta_intra",
        "alpha_m": "scene_margin",
    }
    fields = {ours: official[theirs] for theirs, ours in names.items() if theirs in official}
    if official.get("is_baseline"):
        fields["fusion"] = False
    if official.get("use_triplet_loss") and not official.get("use_scene_loss"):
        fields["objective"] = "triplet"
    elif "use_scene_loss" in official and not official["use_scene_loss"]:
        fields["objective"] = "contrastive"
    build = FisvlConfig.released if official.get("use_swin", True) else FisvlConfig.released_vit
    return build(**fields)


def convert_name(official: str) -> str | None:
    """Our name of an official parameter or buffer; None for what transformers computes itself.

    Fused query-key-value tensors are split by [`convert_state_dict`] and have no single name.

    Raises:
        StmineError: the name is not one of FISVL's.
    """
    if _REBUILT.search(official):
        return None
    for pattern, ours in _NAMES:
        match = re.match(pattern, official)
        if match:
            head, tail = match.expand(ours) if isinstance(ours, str) else ours(match), official[match.end() :]
            if ".patch_embeddings." not in head and official.startswith("vision_encoder."):
                for theirs, renamed in _BLOCK_NAMES.items():
                    if tail.startswith(theirs):
                        tail = renamed + tail[len(theirs) :]
            return head + tail
    raise StmineError(f"{official!r} is not a tensor of a FISVL checkpoint; is this file from another model?")


def convert_state_dict(official: Mapping[str, Tensor], config: FisvlConfig) -> dict[str, Tensor]:
    """Renames and splits an authors' state dict so that it loads completely into `FisvlModel(config)`.

    Args:
        official: the 768 tensors of a released checkpoint (its index tables and masks are left out: transformers
            computes them), or those of a baseline or ViT run with a matching config.
        config: e.g. [`official_config`]`()`.

    Returns:
        dict: name -> tensor for `FisvlModel(config).load_state_dict(..., strict=True)`.

    Raises:
        StmineError: a name is foreign, a tensor is missing or has the wrong shape.
    """
    converted: dict[str, Tensor] = {}
    for name, tensor in official.items():
        fused = _QKV.match(name)
        if fused:
            prefix = convert_name(fused[1] + "attn.proj.weight")
            assert prefix is not None
            prefix = prefix.removesuffix("o_proj.weight")
            for part, piece in zip("qkv", torch.atleast_1d(tensor).tensor_split(3), strict=True):
                converted[f"{prefix}{part}_proj.{fused[2]}"] = piece
        elif (ours := convert_name(name)) is not None:
            converted[ours] = tensor
    if not config.fusion or config.objective != "value_guided":  # runs that may have had no use for a temperature
        converted.setdefault("temperature", torch.tensor(config.temperature_init))
        converted.setdefault("center_temperature", torch.tensor(config.center_temperature_init))
    with torch.device("meta"):
        expected = FisvlModel(config).state_dict()
    require_same_names(converted, expected, "Full model, baseline, ViT: a config each.")
    for name, tensor in converted.items():
        if tensor.shape != expected[name].shape:
            raise StmineError(
                f"{name}: expected shape {tuple(expected[name].shape)}, found {tuple(tensor.shape)} in the checkpoint."
            )
    return converted


def convert_checkpoint(checkpoint: str | Path, out: str | Path, *, vocab: str | Path | None = None) -> FisvlModel:
    """Turns an authors' `.pth` file into a folder that the Auto classes load.

    Args:
        checkpoint: the authors' file, e.g. `checkpoint_best.pth`.
        out: folder to write.
        vocab: `vocab.txt` of bert-base-uncased. None looks for the tokenizer on the Hub or in its cache.

    Returns:
        FisvlModel: the converted model, in evaluation mode.

    Raises:
        StmineError: the file is missing, cut short, not a checkpoint, holds other objects than tensors and plain
            values (nothing of it is run), or does not fit; the vocabulary is missing.
    """
    if Path(out).is_file():
        raise StmineError(f"{out}: expected a folder to write to, found a file.")
    inputs = [checkpoint, *([vocab] if vocab else [])]
    require_apart(out, inputs)
    official = read_official(
        Path(checkpoint), "an authors' checkpoint, such as checkpoint_best.pth", "Download it again from the authors."
    )
    if not isinstance(official, Mapping):
        raise StmineError(f"{checkpoint}: expected a dict of tensors, found {type(official).__name__}.")
    weights = official.get("model", official)
    if not isinstance(weights, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise StmineError(f"{checkpoint}: expected a state dict, or a dict with one under 'model'.")
    stored = official.get("config", {}) if "model" in official else {}
    held = StoredWeights(len(weights), sum(tensor.numel() for tensor in weights.values()))
    try:
        if isinstance(stored, dict):
            check_numbers(stored, "config")
            require_fitting(stored, held, "config")
        config, max_tokens = config_from_official(stored), int(stored.get("max_tokens", 47))
    except (AttributeError, TypeError, ValueError, CheckpointError) as error:
        raise StmineError(f"{checkpoint}: the training options stored in it make no model: {error}") from error
    converted = convert_state_dict(weights, config)
    tokenizer = bert_tokenizer(vocab, "bert-base-uncased", config.text_config.vocab_size)
    if len(tokenizer) != config.text_config.vocab_size:
        raise StmineError(
            f"{vocab}: expected vocab.txt of bert-base-uncased ({config.text_config.vocab_size:,} lines), found "
            f"{len(tokenizer):,} word pieces."
        )
    model = FisvlModel(config).eval()
    model.load_state_dict(converted)
    processor = FisvlProcessor(FisvlImageProcessor(), tokenizer, max_tokens=max_tokens)
    write_pretrained(out, [model, processor], inputs=inputs)
    return model


def _resnet_block(match: re.Match, kind: str) -> str:
    stage, block, layer = int(match[1]) - 1, match[2], int(match[3]) - 1
    return f"conv_encoder.encoder.encoder.stages.{stage}.layers.{block}.layer.{layer}.{kind}."


def _resnet_shortcut(match: re.Match, kind: str) -> str:
    return f"conv_encoder.encoder.encoder.stages.{int(match[1]) - 1}.layers.{match[2]}.shortcut.{kind}."

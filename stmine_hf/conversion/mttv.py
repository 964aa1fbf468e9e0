"""The authors' MTTV checkpoints -> ours.

An authors' checkpoint is a `.pt` file with `{"state_dict": 113 tensors, "optimizer": ..., ...}`, or that state dict
alone. It is read with `weights_only=True`: nothing in it is executed. Their `args.pt`, a pickled object, is not read
at all; what it says (data set, labels) is given by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import MttvConfig, MttvForSequenceClassification, MttvProcessor  # registered: saving carries the code along
from ..checkpoints import read_settings
from ..errors import StmineError
from ..modeling.mttv.configuration_mttv import PRESETS
from ..modeling.mttv.processing_mttv import MttvImageProcessor
from ..outputs import require_apart, write_pretrained
from .official import bert_tokenizer, read_official, require_same_names

# Official name -> ours, first match wins, replaced from the start of the name.
_NAMES = [
    (r"scaling_factors$", "scaling_factors"),
    (r"clf\.", "classifier."),
    (r"enc\.img_encoder\.fast\.img_embeddings\.", "mttv.global_proj."),
    (r"enc\.img_encoder\.region\.img_embeddings\.", "mttv.region_proj."),
    (r"enc\.txt_embeddings\.token_type_embeddings\.", "mttv.encoder.embeddings.token_type_embeddings.text."),
    (r"enc\.img_embeddings\.token_type_embeddings\.", "mttv.encoder.embeddings.token_type_embeddings.picture."),
    # Words, positions and norm: one object in two places of the released model.
    (r"enc\.(?:txt|img)_embeddings\.", "mttv.encoder.embeddings."),
    (r"enc\.encoder\.", "mttv.encoder.encoder."),
    (r"enc\.pooler\.", "mttv.encoder.pooler."),
]
# ResNet of torchvision -> ours
_RESNET_NAMES = [
    (r"conv1\.", "embedder.embedder.convolution."),
    (r"bn1\.", "embedder.embedder.normalization."),
    (r"layer(\d)\.(\d+)\.downsample\.0\.", r"encoder.stages.{stage}.layers.\2.shortcut.convolution."),
    (r"layer(\d)\.(\d+)\.downsample\.1\.", r"encoder.stages.{stage}.layers.\2.shortcut.normalization."),
    (r"layer(\d)\.(\d+)\.conv(\d)\.", r"encoder.stages.{stage}.layers.\2.layer.{layer}.convolution."),
    (r"layer(\d)\.(\d+)\.bn(\d)\.", r"encoder.stages.{stage}.layers.\2.layer.{layer}.normalization."),
]
RESNET152: dict[str, Any] = {"model_type": "resnet", "depths": [3, 8, 36, 3]}  # torchvision's, as released


def official_config(name: str = "weibo", **overrides: Any) -> MttvConfig:
    """The configuration that a released checkpoint loads into.

    Args:
        name: "weibo", "fakeddit_2_way", "fakeddit_3_way" or "fakeddit_6_way".
        overrides: fields to change; `vision_config=RESNET152` adds the visual encoder.

    Raises:
        StmineError: no such preset.
    """
    if name not in PRESETS:
        raise StmineError(f"{name!r}: no such MTTV data set; expected one of {', '.join(sorted(PRESETS))}.")
    return MttvConfig.preset(name, **overrides)


def config_from_official(official: Mapping[str, Any]) -> MttvConfig:
    """Our configuration from the authors' command-line arguments.

    Args:
        official: names as in their `train.py`: `task` ("weibo" or "fakeddit"), `label_type` (e.g. "6_way_label"),
            `encoder_layer_num`, `global_image_embeds`, `region_image_embeds`, `img_embed_pool_type`, `img_hidden_sz`,
            `dropout`; absent ones keep the released value of that data set, others are ignored.

    Raises:
        StmineError: the task or a value is unknown.
    """
    task, ways = str(official.get("task", "weibo")), str(official.get("label_type", "label"))
    if task == "fakeddit":
        task = f"fakeddit_{ways.removesuffix('_label')}"
    names = {
        "encoder_layer_num": "num_encoder_layers",
        "global_image_embeds": "num_global_tokens",
        "region_image_embeds": "num_region_tokens",
        "img_embed_pool_type": "global_pooling",
        "img_hidden_sz": "vision_width",
        "dropout": "dropout",
    }
    try:
        return official_config(task, **{names[key]: value for key, value in official.items() if key in names})
    except (TypeError, ValueError) as error:
        raise StmineError(f"the authors' arguments do not make a model: {error}") from error


def convert_name(official: str) -> str:
    """Our name of an official tensor.

    Raises:
        StmineError: the name is not one of MTTV's.
    """
    for pattern, ours in _NAMES:
        if re.match(pattern, official):
            return re.sub(f"^{pattern}", ours, official)
    raise StmineError(f"{official!r} is not a tensor of an MTTV checkpoint; is this file from another model?")


def convert_state_dict(
    official: Mapping[str, Tensor], config: MttvConfig, label_order: Sequence[str | int] | None = None
) -> dict[str, Tensor]:
    """Renames an authors' state dict so that it loads completely into `MttvForSequenceClassification(config)`.

    Args:
        official: the 113 tensors of a released checkpoint; with `scaling_factors` those of its scalable classifier.
        config: e.g. [`official_config`]`("weibo")`. A visual encoder in it is not filled: the authors' checkpoints
            have none (see [`convert_resnet_state_dict`]).
        label_order: label of each official row of the classifier, by name or by index in the config: the order of
            first appearance in the authors' train.jsonl. None keeps the rows as they are.

    Returns:
        dict: name -> tensor for `load_state_dict` of a model without visual encoder (strict).

    Raises:
        StmineError: a name is foreign, a tensor is missing or has the wrong shape, or the label order does not name
            each label once.
    """
    # Of what the released model holds twice the image's copy is read last, there and here.
    names = sorted(official, key=lambda name: name.startswith("enc.img_embeddings."))
    converted = {convert_name(name): official[name] for name in names}
    converted.setdefault("scaling_factors", torch.ones(config.num_labels))
    with torch.device("meta"):
        model = MttvForSequenceClassification(config)
    expected = {name: tensor for name, tensor in model.state_dict().items() if "vision_encoder" not in name}
    require_same_names(converted, expected, "Does num_encoder_layers agree?")
    for name, tensor in converted.items():
        if tensor.shape != expected[name].shape:
            raise StmineError(
                f"{name}: expected shape {tuple(expected[name].shape)}, the checkpoint has {tuple(tensor.shape)}. "
                "Weibo and the kinds of Fakeddit differ in vocabulary and labels; is this the right one?"
            )
    if label_order is not None:
        rows = _official_rows(label_order, config)
        for name in ("classifier.weight", "scaling_factors"):
            converted[name] = converted[name][rows]
    return converted


def convert_resnet_state_dict(official: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Renames the state dict of a torchvision ResNet (50, 101, 152) for transformers' `ResNetModel`.

    Args:
        official: torchvision's tensors; the classifier `fc` is left out.
        prefix: what to put before each name, e.g. "mttv.vision_encoder.encoder.".

    Raises:
        StmineError: a name is not torchvision's.
    """
    converted = {}
    for name, tensor in official.items():
        if name.startswith("fc."):
            continue
        for pattern, ours in _RESNET_NAMES:
            match = re.match(pattern, name)
            if match:
                numbers = [int(group) - 1 for group in match.groups()]
                place = {"stage": numbers[0] if numbers else 0, "layer": numbers[-1] if numbers else 0}
                converted[prefix + match.expand(ours).format(**place) + name[match.end() :]] = tensor
                break
        else:
            raise StmineError(f"{name!r} is not a tensor of a torchvision ResNet.")
    return converted


def convert_checkpoint(
    checkpoint: str | Path,
    out: str | Path,
    config: MttvConfig | str | Path = "weibo",
    *,
    label_order: Sequence[str | int] | None = None,
    vocab: str | Path | None = None,
    resnet: str | Path | None = None,
) -> MttvForSequenceClassification:
    """Turns an authors' `.pt` file into a folder that the Auto classes load.

    Args:
        checkpoint: the authors' file, e.g. `model_best.pt`.
        out: folder to write.
        config: a configuration, the name of a preset, or a JSON file with the authors' arguments (see
            [`config_from_official`]).
        label_order: see [`convert_state_dict`]. None: the rows stay, and since only Weibo's order is public, other
            labels get neutral names (LABEL_0, ...) rather than perhaps wrong ones.
        vocab: `vocab.txt` of bert-base-chinese (Weibo) or bert-base-uncased (Fakeddit). None looks for the tokenizer
            on the Hub or in its cache.
        resnet: torchvision's `resnet152-*.pth`, to make the model read images. None: it takes features.

    Returns:
        MttvForSequenceClassification: the converted model, in evaluation mode.

    Raises:
        StmineError: a file is missing, cut short, of another kind, holds other objects than tensors and plain values
            (nothing of it is run), or does not fit.
    """
    files = (checkpoint, vocab, resnet, config if isinstance(config, Path) else None)
    inputs = [path for path in files if path is not None]
    require_apart(out, inputs)
    if isinstance(config, Path):
        config = config_from_official(_read_arguments(config))
    elif isinstance(config, str):
        config = official_config(config)
    official = _read_tensors(Path(checkpoint), "an authors' checkpoint, such as model_best.pt")
    weights = convert_state_dict(official, config, label_order)
    fields: dict[str, Any] = {}
    if label_order is None and tuple(config.id2label.values()) != PRESETS["weibo"]["labels"]:
        names = [f"LABEL_{row}" for row in range(config.num_labels)]
        fields |= {"id2label": dict(enumerate(names)), "label2id": {name: row for row, name in enumerate(names)}}
    if resnet is not None:
        fields["vision_config"] = RESNET152
        tensors = _read_tensors(Path(resnet), "torchvision's weights, such as resnet152-394f9c45.pth")
        weights |= convert_resnet_state_dict(tensors, "mttv.vision_encoder.encoder.")
    config = MttvConfig.from_dict({**config.to_dict(), **fields})
    model = MttvForSequenceClassification(config)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise StmineError(f"{resnet}: these are not the weights of a ResNet-152.") from error
    tokenizer = _bert_tokenizer(vocab, config)
    processor = MttvProcessor(MttvImageProcessor(), tokenizer, num_regions=config.num_region_tokens)
    write_pretrained(out, [model.eval(), processor], inputs=inputs)
    return model


def _official_rows(label_order: Sequence[str | int], config: MttvConfig) -> list[int]:
    """For each label of the config, its row in the official classifier."""
    indices = [label if isinstance(label, int) else config.label2id.get(label, -1) for label in label_order]
    if sorted(indices) != list(range(config.num_labels)):
        raise StmineError(
            f"label order: expected each of {', '.join(map(str, config.id2label.values()))} once (or its index), "
            f"found {', '.join(map(str, label_order))}."
        )
    return [indices.index(label) for label in range(config.num_labels)]


def _read_arguments(path: Path) -> Mapping[str, Any]:
    try:
        return read_settings(path)
    except (OSError, StmineError) as error:
        raise StmineError(
            f'{path}: expected a JSON file with the authors\' arguments, such as {{"task": "weibo"}} ({error}).'
        ) from error


def _read_tensors(path: Path, what: str) -> Mapping[str, Tensor]:
    official = read_official(path, what, f"Expected {what}.")
    weights = official.get("state_dict", official) if isinstance(official, Mapping) else official
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise StmineError(f"{path}: expected a state dict, or a dict with one under 'state_dict'.")
    return weights


def _bert_tokenizer(vocab: str | Path | None, config: MttvConfig):
    size = config.text_config.vocab_size
    name = {21128: "bert-base-chinese", 30522: "bert-base-uncased"}.get(size, "the authors' BERT")
    tokenizer = bert_tokenizer(vocab, name, size)
    if len(tokenizer) != size:
        raise StmineError(f"{vocab or name}: expected a vocabulary of {size:,} words, found {len(tokenizer):,}.")
    return tokenizer

"""NanoDet-m's checkpoints -> ours. (SAT's own network was never published.)

An official checkpoint is a state dict of 421 tensors under NanoDet's names: a `.safetensors` file, or a `.pth` or
`.ckpt` file that may hold it under "state_dict". The latter is read with `weights_only=True`: nothing in it is
executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import SatConfig, SatForObjectDetection, SatImageProcessor  # registered: what is saved carries its code
from ..checkpoints import MOST_LABELS
from ..errors import StmineError
from ..outputs import require_apart, write_pretrained
from .official import read_official, require_same_names

# Layers of ShuffleNetV2's branches in the order of their official numbers: convolution and normalisation of each.
_LAYERS = {
    "branch1": ["0.convolution", "0.normalization", "1.convolution", "1.normalization"],
    "branch2": [f"{layer}.{part}" for layer in range(3) for part in ("convolution", "normalization")],
}
_NUMBERS = {"branch1": [0, 1, 2, 3], "branch2": [0, 1, 3, 4, 5, 6]}  # activations hold the numbers between
_OURS = {"branch1": "shortcut", "branch2": "branch"}
_TOWER = {  # part of a depthwise-separable convolution -> layer of the tower, within its pair
    "depthwise": (0, "convolution"),
    "dwnorm": (0, "normalization"),
    "pointwise": (1, "convolution"),
    "pwnorm": (1, "normalization"),
}
# Never executed (`share_cls_reg`), or a constant that we compute.
_DROPPED = re.compile(r"head\.(gfl_reg\.\d+\.(weight|bias)|distribution_project\.project)$")


def official_config(preset: str = "nanodet-m", **overrides: Any) -> SatConfig:
    """The configuration that official checkpoints load into: "nanodet-m"."""
    return SatConfig.preset(preset, **overrides)


def convert_name(official: str) -> str | None:
    """Our name of an official parameter or buffer; None for what the model has no use for.

    Raises:
        StmineError: the name is not one of NanoDet-m's.
    """
    if _DROPPED.match(official):
        return None
    if match := re.match(r"backbone\.conv1\.([01])\.(.+)$", official):
        return f"sat.backbone.stem.{('convolution', 'normalization')[int(match[1])]}.{match[2]}"
    if match := re.match(r"backbone\.stage([234])\.(\d+)\.(branch[12])\.(\d+)\.(.+)$", official):
        stage, block, branch, number, tensor = match.groups()
        if int(number) in _NUMBERS[branch]:
            layer = _LAYERS[branch][_NUMBERS[branch].index(int(number))]
            return f"sat.backbone.stages.{int(stage) - 2}.{block}.{_OURS[branch]}.{layer}.{tensor}"
    if match := re.match(r"fpn\.lateral_convs\.(\d)\.conv\.(.+)$", official):
        return f"sat.neck.laterals.{match[1]}.{match[2]}"
    if match := re.match(r"head\.cls_convs\.(\d)\.(\d+)\.(depthwise|pointwise|dwnorm|pwnorm)\.(.+)$", official):
        offset, part = _TOWER[match[3]]
        return f"head.{match[1]}.tower.{2 * int(match[2]) + offset}.{part}.{match[4]}"
    if match := re.match(r"head\.gfl_cls\.(\d)\.(.+)$", official):
        return f"head.{match[1]}.predictor.{match[2]}"
    raise StmineError(f"{official!r} is not a tensor of a NanoDet-m checkpoint; is this file from another model?")


def convert_state_dict(official: Mapping[str, Tensor], config: SatConfig) -> dict[str, Tensor]:
    """Renames an official state dict so that it loads completely into `SatForObjectDetection(config)`.

    Args:
        official: the 421 tensors of NanoDet-m, or those of a variant with a matching config; a prefix "model." (of
            training checkpoints) is allowed. Left out: `head.gfl_reg`, which the official program never executes.
        config: e.g. [`official_config`]`("nanodet-m")`.

    Returns:
        dict: name -> tensor for `SatForObjectDetection(config).load_state_dict(..., strict=True)`.

    Raises:
        StmineError: a name is foreign, a tensor is missing or has the wrong shape.
    """
    names = {name: convert_name(name.removeprefix("model.")) for name in official}
    converted = {ours: official[name] for name, ours in names.items() if ours is not None}
    with torch.device("meta"):
        expected = SatForObjectDetection(config).state_dict()
    require_same_names(converted, expected, "Expected a NanoDet-m of the legacy v0.x kind.")
    for name, tensor in converted.items():
        if tensor.shape != expected[name].shape:
            raise StmineError(
                f"{name}: expected shape {tuple(expected[name].shape)}, found {tuple(tensor.shape)} in the checkpoint."
            )
    return converted


def convert_checkpoint(checkpoint: str | Path, out: str | Path, *, labels: Sequence[str] | None = None) -> SatConfig:
    """Turns an official NanoDet-m file into a folder that the Auto classes load.

    Args:
        checkpoint: the file, `.safetensors`, `.pth` or `.ckpt`.
        out: folder to write.
        labels: names of the classes in the order of the outputs. None: those of COCO if there are 80.

    Returns:
        SatConfig: that of the converted model.

    Raises:
        StmineError: the file is missing, cut short, holds other objects than tensors and plain values (nothing of it
            is run), or does not fit; there are not as many labels as classes.
    """
    require_apart(out, [checkpoint])
    weights = _read_checkpoint(Path(checkpoint))
    config = official_config("nanodet-m", **_classes(weights, labels))
    model = SatForObjectDetection(config)
    model.load_state_dict(convert_state_dict(weights, config))
    write_pretrained(out, [model.eval(), SatImageProcessor.for_config(config)], inputs=[checkpoint])
    return config


def _classes(weights: Mapping[str, Tensor], labels: Sequence[str] | None) -> dict[str, Any]:
    """Config fields for the number of classes that the checkpoint has."""
    predictor = next((tensor for name, tensor in weights.items() if name.endswith("head.gfl_cls.0.weight")), None)
    if predictor is None:
        raise StmineError("the checkpoint has no head.gfl_cls.0.weight; expected a NanoDet-m of the legacy v0.x kind.")
    config = official_config()
    count = predictor.shape[0] - 4 * (config.reg_max + 1)
    if not 0 < count <= MOST_LABELS:
        raise StmineError(f"head.gfl_cls.0.weight has the shape {tuple(predictor.shape)}: {count:,} classes.")
    if labels is not None:
        if len(labels) != count:
            raise StmineError(f"expected {count} labels, one for each class of the checkpoint; found {len(labels)}.")
        return {"id2label": dict(enumerate(labels))}
    return {} if count == config.num_labels else {"num_labels": count}


def _read_checkpoint(path: Path) -> Mapping[str, Tensor]:
    what = "an official checkpoint, such as nanodet_m.ckpt"
    stored = read_official(path, what, "Download it again.", also_safetensors=True)
    weights = stored.get("state_dict", stored) if isinstance(stored, Mapping) else stored
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise StmineError(f"{path}: expected a dict of tensors, or a dict with one under 'state_dict'.")
    return weights

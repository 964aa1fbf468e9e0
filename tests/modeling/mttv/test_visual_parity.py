"""Visual features against the authors' extraction: ResNet-152 on images and regions, and the released detector."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
import torchvision
from deterministic import named_image, named_weight
from helpers_mttv import MTTV_WORDS, tiny_mttv_processor
from PIL import Image
from safetensors.torch import load_file

from stmine_hf import MttvModel
from stmine_hf.conversion.mttv import RESNET152, convert_resnet_state_dict, official_config
from stmine_hf.modeling.mttv.processing_mttv import MttvImageProcessor, MttvProcessor, TorchvisionDetector

FIXTURES = Path(__file__).parents[2] / "fixtures" / "mttv"
VISUAL = json.loads((FIXTURES / "visual.json").read_text())
# The numbers come from Pillow 13; earlier ones round a quarter of image a to the next of 256 levels.
TOLERANCE = 1e-5 if int(PIL.__version__.split(".")[0]) >= 13 else 2e-3


def named_like(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: named_weight(name, tensor.shape, tensor.dtype) for name, tensor in module.state_dict().items()}


def draw(name: str) -> Image.Image:
    (dimensions,) = VISUAL["images"][name].values()
    return Image.fromarray(named_image(*dimensions))


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / "visual.safetensors")


@pytest.fixture(scope="module")
def model() -> MttvModel:
    with torch.device("meta"):
        official = torchvision.models.resnet152()
    assert sum(parameter.numel() for parameter in official.parameters()) == VISUAL["parameters"]["resnet152"]
    small = {"vocab_size": len(MTTV_WORDS), "hidden_size": 12, "intermediate_size": 8}
    model = MttvModel(official_config("weibo", vision_config=RESNET152, text_config=small))
    converted = convert_resnet_state_dict(named_like(official), "vision_encoder.encoder.")
    missing, foreign = model.load_state_dict(converted, strict=False)
    assert not foreign and not [name for name in missing if name.startswith("vision_encoder")]
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a", "b", "a/edge"])
@torch.no_grad()
def test_features_parity(parity, expected, model, name):
    boxes = VISUAL["boxes"][name]
    image = draw(name.split("/")[0])
    processor = MttvProcessor(MttvImageProcessor(), tiny_mttv_processor().tokenizer, num_regions=len(boxes))
    inputs = processor(text="a", images=image, boxes=boxes)
    found = model.get_visual_features(
        inputs.pixel_values, inputs.region_pixel_values, inputs.image_mask, inputs.region_mask
    )
    global_features, region_features = (features[0] for features in found)
    pairs = {"region features": (region_features, expected.get(f"{name}/region_features"))}
    if "/" in name:
        pairs = {"region features at the border": (region_features, expected["a/edge_region_features"])}
    else:
        pairs["visual map"] = (global_features[:16], expected[f"{name}/feature_map.first16"])
        pairs["pooled visual map"] = (global_features.mean(dim=(1, 2)), expected[f"{name}/pooled"])
    for quantity, (ours, theirs) in pairs.items():
        assert ours.shape == theirs.shape
        parity(f"{quantity}, of its maximum", (ours - theirs).abs().max() / theirs.abs().max(), TOLERANCE)


@pytest.mark.slow
@torch.no_grad()
def test_detector_parity(parity, expected):
    """The stock torchvision detector that `TorchvisionDetector` runs is the released one, stage by stage."""
    detector = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    detector.load_state_dict(named_like(detector))
    model = TorchvisionDetector(detector).model
    pixels = torch.from_numpy(np.array(draw("b"))).permute(2, 0, 1) / 255
    batch, _ = model.transform([pixels])
    maps = model.backbone(batch.tensors)
    objectness, deltas = model.rpn.head(list(maps.values()))
    proposals = [torch.tensor(VISUAL["detector proposals"])]
    pooled = model.roi_heads.box_head(model.roi_heads.box_roi_pool(maps, proposals, batch.image_sizes))
    logits, regression = model.roi_heads.box_predictor(pooled)
    ours = {
        "transformed.corner": batch.tensors[0, :, :6, :6],
        "box_head.first64": pooled[:, :64],
        "class_logits": logits,
        "box_regression.first40": regression[:, :40],
    }
    for level, feature_map in maps.items():
        ours[f"fpn{level}.first4_corner8"] = feature_map[0, :4, :8, :8]
    for level, (scores, moves) in enumerate(zip(objectness, deltas, strict=True)):
        ours[f"rpn_objectness{level}.corner6"] = scores[0, :, :6, :6]
        ours[f"rpn_deltas{level}.corner4"] = moves[0, :, :4, :4]
    theirs = {key.split("/", 1)[1]: value for key, value in expected.items() if key.startswith("detector/")}
    assert ours.keys() == theirs.keys()
    for stage, value in theirs.items():
        assert ours[stage].shape == value.shape, stage
        parity(f"detector: {stage}", (ours[stage] - value).abs().max(), 5e-5)


def test_torchvision_detector_gives_regions_best_first():
    class Stub(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            (image,) = images
            assert image.shape == (3, 7, 9) and image.max() <= 1
            return [{"boxes": torch.tensor([[0.0, 0, 1, 1], [0, 0, 9, 7]]), "scores": torch.tensor([0.2, 0.7])}]

    (found,) = TorchvisionDetector(Stub())([Image.new("RGB", (9, 7), "white")])
    assert found.boxes.tolist() == [[0, 0, 9, 7], [0, 0, 1, 1]]

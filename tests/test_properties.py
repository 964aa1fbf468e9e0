"""What holds for any input of processors, boxes, losses, metrics and configs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import tiny_config, tiny_processor
from helpers_mttv import tiny_mttv_config, tiny_mttv_processor
from helpers_sat import tiny_sat_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stmine_hf import SatImageProcessor
from stmine_hf.metrics.classification import class_scores, confusion_matrix
from stmine_hf.metrics.detection import box_ious
from stmine_hf.metrics.retrieval import retrieval_recall
from stmine_hf.modeling.fisvl.losses_fisvl import affiliation_loss, contrastive_loss, triplet_loss
from stmine_hf.modeling.sat.image_processing_sat import place_image
from stmine_hf.modeling.sat.losses_sat import (
    BACKGROUND,
    aligned_iou,
    detection_losses,
    distribution_focal_loss,
    level_points,
    quality_focal_loss,
)

QUICK = settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
MODES = ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16")
PROCESSORS = {
    "fisvl": tiny_processor().image_processor,
    "mttv": tiny_mttv_processor().image_processor,
    "sat": SatImageProcessor(size={"height": 64, "width": 64}),
}
SIDE = st.integers(1, 90)


@pytest.mark.parametrize("method", PROCESSORS)
@QUICK
@given(width=SIDE, height=SIDE, mode=st.sampled_from(MODES), seed=st.integers(0, 99))
def test_an_image_of_any_size_and_mode_becomes_finite_pixels(method, width, height, mode, seed):
    chance = np.random.default_rng(seed)
    if mode in ("I", "F", "I;16"):
        kind = {"I": np.int32, "F": np.float32, "I;16": np.uint16}[mode]
        image = Image.fromarray((chance.random((height, width)) * 255).astype(kind))
    else:
        image = Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
    pixels = PROCESSORS[method](images=image, return_tensors="pt")["pixel_values"]
    assert pixels.dtype == torch.float32 and pixels.shape[:2] == (1, 3) and min(pixels.shape[2:]) >= 32
    assert pixels.isfinite().all() and pixels.abs().max() < 300


@QUICK
@given(height=SIDE, width=SIDE, kind=st.sampled_from(["uint8", "float32", "float64", "bool"]), bad=st.booleans())
def test_an_array_becomes_finite_pixels_or_a_clear_error(height, width, kind, bad):
    array = np.random.default_rng(height).random((height, width, 3)) * (255 if kind == "uint8" else 1)
    array = array.astype(kind)
    if bad and kind.startswith("float"):
        array[0, 0, 0] = np.nan
        with pytest.raises(ValueError, match="finite"):
            PROCESSORS["sat"](images=array, return_tensors="pt", input_data_format="channels_last")
    else:
        found = PROCESSORS["sat"](images=array, return_tensors="pt", input_data_format="channels_last")
        assert found["pixel_values"].isfinite().all()


# ---- boxes ----

_POINT = st.floats(-200, 200, width=32)
_LENGTH = st.floats(0, 100, width=32)
BOXES = st.lists(st.tuples(_POINT, _POINT, _LENGTH, _LENGTH), min_size=1, max_size=5)


def overlap(one, other) -> float:
    """Intersection over union of two xywh boxes, by the book."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    whole = one[2] * one[3] + other[2] * other[3] - shared
    return shared / whole if whole > 0 else 0.0


@QUICK
@given(BOXES, BOXES)
def test_overlaps_are_those_by_the_book(boxes, others):
    found = box_ious(boxes, others)
    assert np.allclose(found, [[overlap(one, other) for other in others] for one in boxes], atol=1e-6)
    assert np.allclose(found, box_ious(others, boxes).T) and (found >= 0).all() and (found <= 1 + 1e-9).all()
    corners = [torch.tensor(rows, dtype=torch.float64) for rows in (boxes, others)]
    corners = [torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:]], dim=-1) for rows in corners]
    ours = aligned_iou(corners[0][:, None], corners[1][None]).numpy()
    large = np.array([one[2] * one[3] for one in boxes])[:, None] > 1e-3
    assert np.allclose(ours, found, atol=1e-6) or not large.all()
    assert np.isfinite(ours).all()


@QUICK
@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.integers(1, 10),
    st.integers(1, 10),
    st.sampled_from(["stretch", "pad"]),
)
def test_boxes_come_back_from_the_input_to_the_image(height, width, rows, columns, fit):
    place = place_image(height, width, 32 * rows, 32 * columns, fit)
    whole = torch.tensor([[0.0, 0.0, 1e6, 1e6]])
    back = place.to_image(whole, height, width)
    assert back.isfinite().all() and (back >= 0).all()
    assert (back[:, 0::2] <= width).all() and (back[:, 1::2] <= height).all()


# ---- losses ----


def unit(rows: int, seed: int, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, 6, generator=generator, dtype=dtype), dim=-1)


@QUICK
@given(st.integers(2, 7), st.integers(0, 99), st.floats(0.01, 2))
def test_losses_of_retrieval_are_finite_and_know_no_order(rows, seed, temperature):
    images, texts = unit(rows, seed), unit(rows, seed + 1)
    scenes, order = torch.arange(rows) // 2, torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    losses = {
        "contrastive": lambda i, t, s: contrastive_loss(i, t, temperature),
        "with ids": lambda i, t, s: contrastive_loss(i, t, temperature, image_ids=s),
        "affiliation": lambda i, t, s: affiliation_loss(i, t, temperature, s),
        "affiliation, centres": lambda i, t, s: affiliation_loss(i, t, temperature, s, one_centre_per_scene=True),
        "triplet": lambda i, t, s: triplet_loss(i, t),
    }
    for name, loss in losses.items():
        value = loss(images, texts, scenes)
        assert value.isfinite() and value > -1e-9, name
        assert torch.allclose(value, loss(images[order], texts[order], scenes[order])), name


def test_gradients_of_the_losses_are_those_of_differences():
    images, texts = unit(4, 0).requires_grad_(), unit(4, 1).requires_grad_()
    scenes = torch.tensor([0, 0, 1, 2])
    assert torch.autograd.gradcheck(lambda i, t: contrastive_loss(i, t, 0.5, image_ids=scenes), (images, texts))


@QUICK
@given(st.integers(0, 99), st.integers(0, 4), st.floats(0.1, 40))
def test_losses_of_detection_are_finite_and_know_no_order(seed, boxes, scale):
    generator = torch.Generator().manual_seed(seed)
    points, strides = level_points([(8, 8), (4, 4)], (8, 16))
    logits = torch.randn(2, len(points), 3, generator=generator) * scale
    distances = torch.randn(2, len(points), 4 * 8, generator=generator) * scale
    corner = torch.rand(boxes, 2, generator=generator) * 50
    truth = torch.cat([corner, corner + torch.rand(boxes, 2, generator=generator) * 14], dim=-1)
    labels = torch.randint(0, 3, (boxes,), generator=generator)
    given_boxes = ([truth, truth[:0]], [labels, labels[:0]])
    found = detection_losses(logits, distances, points, strides, *given_boxes)
    assert all(value.isfinite() and value >= 0 for value in found.values()), found
    turned = detection_losses(logits.flip(0), distances.flip(0), points, strides, *(one[::-1] for one in given_boxes))
    assert all(torch.allclose(value, turned[name], rtol=1e-4, atol=1e-6) for name, value in found.items())
    quality = quality_focal_loss(logits, torch.full(logits.shape[:2], BACKGROUND), logits.new_zeros(logits.shape[:2]))
    assert quality.isfinite() and quality >= 0
    assert (
        distribution_focal_loss(distances[0], torch.rand(len(points), 4, generator=generator) * 6.9).isfinite().all()
    )


# ---- metrics ----


@QUICK
@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 99))
def test_recall_is_that_of_sorting(images, each, seed):
    scores = np.random.default_rng(seed).permutation(images * images * each).reshape(images, -1) / 100
    found = retrieval_recall(scores, texts_per_image=each, ks=(1, 2))
    for k in (1, 2):
        texts = [any(t // each == i for t in np.argsort(-scores[i])[:k]) for i in range(images)]
        pictures = [t // each in np.argsort(-scores[:, t])[:k] for t in range(images * each)]
        assert found[f"txt_r{k}"] == pytest.approx(100 * np.mean(texts))
        assert found[f"img_r{k}"] == pytest.approx(100 * np.mean(pictures))


@QUICK
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_scores_of_classes_are_those_by_the_book(pairs):
    truth, predicted = map(list, zip(*pairs, strict=True))
    scores = class_scores(confusion_matrix(truth, predicted, 4))
    for label in range(4):
        right = sum(t == p == label for t, p in pairs)
        for found, among in ((scores.precision[label], predicted), (scores.recall[label], truth)):
            assert found == pytest.approx(right / among.count(label) if label in among else 0.0)


# ---- configs ----


@pytest.mark.parametrize("make", [tiny_config, tiny_mttv_config, tiny_sat_config])
def test_a_config_comes_back_as_it_was(tmp_path, make):
    config = make()
    config.save_pretrained(tmp_path)
    again = type(config).from_pretrained(tmp_path)
    assert again.to_diff_dict() == config.to_diff_dict()
    assert (
        type(config)(**{k: v for k, v in config.to_dict().items() if k != "model_type"}).to_dict() == config.to_dict()
    )

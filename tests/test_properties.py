"""What holds for any input of processors, boxes, losses, metrics and configs."""

from __future__ import annotations

import math

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
from stmine_hf.metrics.classification import class_scores, classification_scores, confusion_matrix
from stmine_hf.metrics.detection import box_ious
from stmine_hf.metrics.retrieval import retrieval_recall
from stmine_hf.modeling.fisvl.losses_fisvl import affiliation_loss, contrastive_loss, scene_adaptive_loss, triplet_loss
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
TEXTS = {"fisvl": tiny_processor(), "mttv": tiny_mttv_processor()}
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
    fractions = np.random.default_rng(height).random((height, width, 3))
    array = (fractions * (1 if kind == "bool" else 255)).astype(kind)
    if bad and kind.startswith("float"):
        with pytest.raises(ValueError, match="found fractions"):
            PROCESSORS["sat"](images=fractions, return_tensors="pt", input_data_format="channels_last")
        array[0, 0, 0] = np.nan
        with pytest.raises(ValueError, match="finite"):
            PROCESSORS["sat"](images=array, return_tensors="pt", input_data_format="channels_last")
    else:
        found = PROCESSORS["sat"](images=array, return_tensors="pt", input_data_format="channels_last")
        assert found["pixel_values"].isfinite().all()


@pytest.mark.parametrize("method", TEXTS)
@QUICK
@given(text=st.text(max_size=300))
def test_any_text_becomes_ids_of_the_vocabulary(method, text):
    processor = TEXTS[method]
    found = processor(text=[text, "many planes"], return_tensors="pt", padding=True, truncation=True)
    ids, mask = found["input_ids"], found["attention_mask"]
    assert ids.shape == mask.shape == (2, ids.shape[1])
    assert (ids >= 0).all() and (ids < len(processor.tokenizer)).all() and ((mask == 0) | (mask == 1)).all()
    assert mask[0].sum() >= (2 if method == "fisvl" else 0)  # the MTTV model adds its own [CLS] and [SEP]


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


@QUICK
@given(st.integers(8, 500), st.integers(8, 500), st.sampled_from(["stretch", "pad", "letterbox"]), st.integers(0, 99))
def test_boxes_of_an_image_come_back_as_they_were(height, width, fit, seed):
    place = place_image(height, width, 320, 320, fit)
    chance = np.random.default_rng(seed)
    x, y = np.sort(chance.random((2, 2))) * [[width], [height]]
    boxes = torch.tensor([[x[0], y[0], x[1], y[1]]], dtype=torch.float64)
    there = boxes * boxes.new_tensor([place.scale_x, place.scale_y] * 2)
    there += boxes.new_tensor([place.offset_x, place.offset_y] * 2)
    assert torch.allclose(place.to_image(there, height, width), boxes, atol=1e-6)


@QUICK
@given(st.integers(0, 999), st.floats(0.05, 0.9), st.floats(0.2, 0.9), st.integers(1, 30))
def test_detections_are_sorted_apart_and_inside(seed, threshold, nms, most):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(1, 40, 2, generator=generator)
    outputs = {
        "logits": torch.randn(1, 40, 3, generator=generator) * 3,
        "pred_boxes": torch.cat([centres, torch.rand(1, 40, 2, generator=generator) / 2], dim=-1),
        "input_sizes": torch.tensor([[64, 64]]),
    }
    (found,) = PROCESSORS["sat"].post_process_object_detection(outputs, threshold, [(50, 70)], nms, most)
    scores, labels, boxes = found["scores"], found["labels"], found["boxes"]
    assert len(scores) == len(labels) == len(boxes) <= most
    assert (scores > threshold).all() and (scores.diff() <= 0).all()
    assert (boxes >= 0).all() and (boxes[:, 0::2] <= 70).all() and (boxes[:, 1::2] <= 50).all()
    (input_boxes,) = PROCESSORS["sat"].post_process_object_detection(outputs, threshold, None, nms, most)
    overlaps = aligned_iou(input_boxes["boxes"][:, None], input_boxes["boxes"][None])
    same = (labels[:, None] == labels[None]) & ~torch.eye(len(labels), dtype=torch.bool)
    assert (overlaps[same] <= nms + 1e-5).all()
    best = outputs["logits"].sigmoid().max()
    assert (len(scores) > 0) == bool(best > threshold) and (not len(scores) or scores[0] == best)


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
        **{
            f"scene-adaptive, epoch {epoch}": lambda i, t, s, epoch=epoch: scene_adaptive_loss(
                i, t, temperature, torch.arange(len(s)), s, epoch, beta1=-0.1, beta2=0.2, margin=0.95,
                integer_weights=False, drop_below_margin=epoch == 7,
            )
            for epoch in (0, 3, 7)
        },
    }  # fmt: skip
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


@QUICK
@given(st.integers(0, 99), st.integers(1, 6), st.floats(0.1, 5))
def test_losses_of_detection_and_their_gradients_are_those_by_the_book(seed, points, scale):
    """The formulas in float64, where a point and a class are a step each."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(points, 3, generator=generator) * scale).requires_grad_()
    distances = (torch.randn(points, 4 * 8, generator=generator) * scale).requires_grad_()
    labels = torch.randint(-1, 3, (points,), generator=generator)
    quality = torch.rand(points, generator=generator)
    true = torch.rand(points, 4, generator=generator) * 6.9
    found = quality_focal_loss(logits, labels, quality) + distribution_focal_loss(distances, true).sum()
    exact_logits, exact_distances = (one.detach().double().requires_grad_() for one in (logits, distances))
    expected = exact_logits.new_zeros(())
    for point in range(points):
        for label in range(3):
            target = quality[point].double() if labels[point] == label else torch.zeros((), dtype=torch.float64)
            share = exact_logits[point, label].sigmoid()
            entropy = -target * share.log() - (1 - target) * (1 - share).log()
            expected = expected + (target - share).abs() ** 2 * entropy
        for side in range(4):
            shares = exact_distances[point].reshape(4, 8)[side].log_softmax(dim=0)
            below = int(true[point, side])
            above = true[point, side].double() - below
            expected = expected - ((1 - above) * shares[below] + above * shares[below + 1]) / 4
    assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-5)
    found.backward()
    expected.backward()
    for ours, exact in ((logits, exact_logits), (distances, exact_distances)):
        assert torch.allclose(ours.grad.double(), exact.grad, rtol=1e-3, atol=1e-5)


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


@QUICK
@given(st.integers(1, 12), st.integers(2, 4), st.integers(1, 7), st.integers(0, 99), st.floats(0.1, 20))
def test_calibration_and_loss_are_those_by_the_book(rows, labels, bins, seed, scale):
    chance = np.random.default_rng(seed)
    logits, truth = chance.normal(size=(rows, labels)) * scale, chance.integers(0, labels, rows)
    found = classification_scores(logits, truth, [str(label) for label in range(labels)], bins=bins)
    exact = [[math.exp(one - max(row)) for one in row] for row in logits.tolist()]
    shares = [[one / sum(row) for one in row] for row in exact]
    assert found["loss"] == pytest.approx(
        sum(math.log(sum(math.exp(x - row[t]) for x in row)) for row, t in zip(logits.tolist(), truth, strict=True))
        / rows
    )
    assert found["brier"] == pytest.approx(
        sum((p - (k == t)) ** 2 for row, t in zip(shares, truth, strict=True) for k, p in enumerate(row)) / rows
    )
    distance = 0.0
    for number in range(bins):
        inside = [
            (max(row), row.index(max(row)) == t)
            for row, t in zip(shares, truth, strict=True)
            if number / bins < max(row) <= (number + 1) / bins or (number == 0 and max(row) == 0)
        ]
        distance += abs(sum(confidence - right for confidence, right in inside)) / rows
    assert found["ece"] == pytest.approx(distance, abs=1e-9)


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


CONFIGS = {
    "fisvl": (
        tiny_config,
        {"projection_dim": st.integers(1, 32).map(lambda n: 2 * n), "temperature_init": st.floats(0.01, 1)},
    ),
    "mttv": (
        tiny_mttv_config,
        {"num_global_tokens": st.sampled_from([1, 4, 9]), "num_region_tokens": st.integers(1, 9)},
    ),
    "sat": (
        tiny_sat_config,
        {"neck_channels": st.sampled_from([8, 16]), "reg_max": st.integers(1, 16), "head_layers": st.integers(1, 3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", CONFIGS)
@QUICK
@given(data=st.data())
def test_a_config_of_any_values_comes_back_as_it_was(tmp_path_factory, method, data):
    make, fields = CONFIGS[method]
    values = {name: data.draw(one, label=name) for name, one in fields.items()}
    names = data.draw(st.lists(st.text(min_size=1, max_size=9), min_size=2, max_size=5, unique=True), label="labels")
    if method != "fisvl":
        values |= {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    config = make(**values)
    folder = tmp_path_factory.mktemp("config")
    config.save_pretrained(folder)
    again = type(config).from_pretrained(folder)
    assert again.to_diff_dict() == config.to_diff_dict()
    assert {name: getattr(again, name) for name in values} == values

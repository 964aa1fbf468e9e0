"""Assignment and losses of SAT: the official program's numbers, plain loops, and batches that could break them."""

from __future__ import annotations

import doctest
import json
import math
from pathlib import Path

import pytest
import torch
from deterministic import named_tensor, named_weights
from helpers_sat import tiny_sat
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_convert, box_iou

from stmine_hf import SatForObjectDetection
from stmine_hf.conversion.sat import convert_name, convert_state_dict, official_config
from stmine_hf.modeling.sat import losses_sat
from stmine_hf.modeling.sat.losses_sat import BACKGROUND, assign_boxes, detection_losses, level_points

FIXTURES = Path(__file__).parents[2] / "fixtures" / "sat"
CASES = json.loads((FIXTURES / "losses.json").read_text())
PREDICTIONS = CASES["given_predictions"]["predictions"]
POINTS, STRIDES = level_points([(40, 40), (20, 20), (10, 10)], (8, 16, 32))  # of a 320 x 320 input
GIVEN = ("given_predictions", "given_predictions_first_image_without_boxes")
OFFICIAL_NAMES = {"quality_focal": "loss_qfl", "giou": "loss_bbox", "distribution_focal": "loss_dfl"}
WEIGHTS = {"quality_focal": 1.0, "giou": 2.0, "distribution_focal": 0.25}


@pytest.fixture(scope="module")
def gradients() -> dict[str, Tensor]:
    return load_file(FIXTURES / "losses.safetensors")


def boxes_and_labels(case: dict) -> tuple[list[Tensor], list[Tensor]]:
    boxes = [torch.tensor(rows).reshape(-1, 4) for rows in case["boxes"]]
    return boxes, [torch.tensor(rows, dtype=torch.int64) for rows in case["labels"]]


def relative(ours: Tensor | float, theirs: float) -> float:
    return abs(torch.as_tensor(ours).item() - theirs) / abs(theirs)


def compare_losses(parity, name: str, terms: dict[str, Tensor], tolerance: float) -> Tensor:
    """Each term and their weighted sum, relative to the official one."""
    case = CASES[name]
    for ours, theirs in OFFICIAL_NAMES.items():
        parity(f"{ours} loss, {name}, relative", relative(WEIGHTS[ours] * terms[ours], case[theirs]), tolerance)
    total = sum(WEIGHTS[key] * term for key, term in terms.items())
    parity(f"whole loss, {name}, relative", relative(total, case["loss_total"]), tolerance)
    return total


def compare_gradients(parity, name: str, gradient: Tensor, stored: dict[str, Tensor], tolerance: float) -> None:
    """Gradient of the predictions (B, N, 112): norms, the rows of all positive points, every 97th point."""
    case = CASES[name]
    for part, key in ((gradient[..., :80], "grad_norm_cls"), (gradient[..., 80:], "grad_norm_box")):
        parity(f"{key}, {name}, relative", relative(part.norm(), case[key]), 1e-3)  # a float32 sum of 336,000 squares
    rows = torch.cat([gradient[i, image["positive_indices"]] for i, image in enumerate(case["images"])])
    for ours, key in ((rows, "grad_rows_of_positives"), (gradient[:, ::97], "grad_every_97th_point")):
        theirs = stored[f"{name}.{key}"]
        measured = (ours - theirs).abs().max() / theirs.abs().max()
        parity(f"{key}, {name}, of the greatest", measured, tolerance)


@pytest.mark.parametrize("name", CASES)
def test_assignment_parity(parity, name):
    """Exactly the official points, labels and boxes, image by image and as one batch."""
    boxes, labels = boxes_and_labels(CASES[name])
    padded = losses_sat._pad(boxes, labels, torch.device("cpu"))
    assigned, index = assign_boxes(POINTS, STRIDES, *padded)
    for i, image in enumerate(CASES[name]["images"]):
        positive = torch.nonzero(assigned[i] != BACKGROUND).flatten()
        ours = [positive.tolist(), assigned[i, positive].tolist(), index[i, positive].tolist()]
        theirs = [image["positive_indices"], image["positive_labels"], image["positive_gt_index"]]
        wrong = 0 if ours == theirs else len({*zip(*ours, strict=True)} ^ {*zip(*theirs, strict=True)})
        parity("positive points that differ", wrong, 0)
        assert ours == theirs and (assigned[i] == BACKGROUND).sum() == image["n_negative"]
        alone, _ = assign_boxes(POINTS, STRIDES, *losses_sat._pad(boxes[i : i + 1], labels[i : i + 1], "cpu"))
        assert torch.equal(alone[0], assigned[i])


@pytest.mark.parametrize("name", GIVEN)
def test_loss_parity_on_given_predictions(parity, gradients, name):
    raw = named_tensor(PREDICTIONS["name"], PREDICTIONS["shape"])
    predictions = torch.cat([raw[..., :80] - 3, raw[..., 80:]], dim=-1).requires_grad_()
    logits, distance_logits = predictions.split([80, 32], dim=-1)
    terms = detection_losses(logits, distance_logits, POINTS, STRIDES, *boxes_and_labels(CASES[name]))
    compare_losses(parity, name, terms, 1e-5).backward()
    compare_gradients(parity, name, predictions.grad, gradients, 1e-4)
    per_level = CASES[name]["per_level"]
    stored = sum(level["bbox_before_avg_factor"] for level in per_level) / sum(x["weight_sum"] for x in per_level)
    assert 2 * terms["giou"].item() == pytest.approx(stored, rel=1e-5)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_loss_parity_through_the_model(parity, gradients, mode):
    """Losses, gradients of predictions and parameters; in training batch statistics, and where they moved to."""
    name = f"through_model_{mode}"
    case, config = CASES[name], official_config("nanodet-m")
    manifest = json.loads((FIXTURES / "state_dict_manifest.json").read_text())
    model = SatForObjectDetection(config).train(mode == "train")
    official = named_weights(manifest["entries"]) | {"head.distribution_project.project": torch.linspace(0, 7, 8)}
    model.load_state_dict(convert_state_dict(official, config))
    boxes, classes = boxes_and_labels(case)
    labels = [
        {"boxes": box_convert(rows, "xyxy", "cxcywh") / 320, "class_labels": ids}
        for rows, ids in zip(boxes, classes, strict=True)
    ]
    pixel_values = named_tensor(case["input"]["name"], case["input"]["shape"])
    predictions = []
    for level in model.head:
        level.register_forward_hook(lambda module, inputs, output: predictions.append(output))
    outputs = model(pixel_values, labels=labels)
    compare_losses(parity, name, outputs.loss_dict, 1e-4)
    parity(f"model.loss, {name}, relative", relative(outputs.loss, case["loss_total"]), 1e-4)
    for level in predictions:
        level.retain_grad()
    outputs.loss.backward()
    compare_gradients(parity, name, torch.cat([x.grad for x in predictions], dim=1), gradients, 1e-3)
    parameters = dict(model.named_parameters())
    for key, norm in case["parameter_grad_norms"].items():
        parity(f"gradient norms, {mode}, relative", relative(parameters[convert_name(key)].grad.norm(), norm), 1e-3)
    whole = torch.stack([parameter.grad.norm() for parameter in parameters.values()]).norm()
    parity(f"gradient norm of all, {mode}, relative", relative(whole, case["grad_norm_of_all"]), 1e-3)
    assert all(convert_name(key) is None for key in case["parameters_without_gradient"])
    buffers = dict(model.named_buffers())
    for key, moved in case.get("running_stats_after_one_forward", {}).items():
        buffer = buffers[convert_name(key)].double()
        parity("running statistics, norm, relative", relative(buffer.norm(), moved["norm"]), 1e-4)
        parity("running statistics, sum, of the norm", abs(buffer.sum().item() - moved["sum"]) / moved["norm"], 1e-4)


# ---------------------------------------------------------------------------------------------------------------------
# Plain loops.


def loop_assign(boxes: list[list[float]]) -> list[int]:
    """Index of each point's box or -1, written out."""
    best = [(-1.0, -1)] * len(POINTS)
    cells = torch.cat([POINTS - 2.5 * STRIDES[:, None], POINTS + 2.5 * STRIDES[:, None]], dim=1)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        overlaps = box_iou(cells, torch.tensor([[x0, y0, x1, y1]]))[:, 0].tolist()
        candidates = []
        for stride in (8, 16, 32):
            level = [i for i in range(len(POINTS)) if STRIDES[i] == stride]
            level.sort(key=lambda i: math.dist(POINTS[i].tolist(), ((x0 + x1) / 2, (y0 + y1) / 2)))
            candidates += level[:9]
        values = [overlaps[i] for i in candidates]
        mean = sum(values) / len(values)
        threshold = mean + math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
        for i in candidates:
            x, y = POINTS[i].tolist()
            inside = min(x - x0, y - y0, x1 - x, y1 - y) > 0.01
            if overlaps[i] >= threshold and inside and overlaps[i] > best[i][0]:
                best[i] = (overlaps[i], number)
    return [number for _, number in best]


def random_boxes(count: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=draw) * 250
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=draw) ** 2 * 200], dim=1)


@pytest.mark.parametrize("seed", range(3))
def test_assignment_is_that_of_loops(seed):
    boxes = random_boxes(12, seed)
    labels = torch.arange(12)
    assigned, index = assign_boxes(POINTS, STRIDES, boxes[None], labels[None])
    expected = torch.tensor(loop_assign(boxes.tolist()))
    assert torch.equal(assigned[0], expected) and torch.equal(index[0], expected.clamp(min=0))


def test_losses_are_those_of_loops():
    torch.manual_seed(0)
    points, strides = level_points([(8, 8), (4, 4), (2, 2)], (8, 16, 32))
    logits, distance_logits = torch.randn(2, 84, 3), torch.randn(2, 84, 32)
    boxes, labels = [torch.tensor([[4.0, 6.0, 40.0, 50.0]]), torch.zeros(0, 4)], [torch.tensor([2]), torch.zeros(0)]
    terms = detection_losses(logits, distance_logits, points, strides, boxes, labels)
    assigned, _ = assign_boxes(points, strides, *losses_sat._pad(boxes, labels, "cpu"))
    x0, y0, x1, y1 = boxes[0][0].tolist()
    quality_focal = giou_sum = focal_sum = weight_sum = 0.0
    for i in range(2):
        for p in range(84):
            label, targets = int(assigned[i, p]), [0.0] * 3
            if label != BACKGROUND:
                x, y, s = *points[p].tolist(), strides[p].item()
                true = [(x - x0) / s, (y - y0) / s, (x1 - x) / s, (y1 - y) / s]
                rows = distance_logits[i, p].view(4, 8).softmax(dim=1)
                mean = (rows * torch.arange(8)).sum(dim=1).tolist()
                overlap = max(min(mean[0], true[0]) + min(mean[2], true[2]), 0) * max(
                    min(mean[1], true[1]) + min(mean[3], true[3]), 0
                )
                hull = (max(mean[0], true[0]) + max(mean[2], true[2])) * (
                    max(mean[1], true[1]) + max(mean[3], true[3])
                )
                union = (mean[0] + mean[2]) * (mean[1] + mean[3]) + (true[0] + true[2]) * (true[1] + true[3]) - overlap
                targets[label] = overlap / union
                weight = logits[i, p].sigmoid().max().item()
                giou_sum += weight * (1 - overlap / union + (hull - union) / hull)
                for side in range(4):
                    distance = min(true[side], 6.9)
                    low = int(distance)
                    share = distance - low
                    focal_sum -= weight / 4 * ((1 - share) * rows[side, low].log() + share * rows[side, low + 1].log())
                weight_sum += weight
            for c in range(3):
                q = logits[i, p, c].sigmoid().item()
                y = targets[c]
                quality_focal -= (y - q) ** 2 * (y * math.log(q) + (1 - y) * math.log(1 - q))
    positives = int((assigned[0] != BACKGROUND).sum())
    assert positives > 0
    assert terms["quality_focal"].item() == pytest.approx(quality_focal / (positives + 1), rel=1e-5)
    assert terms["giou"].item() == pytest.approx(giou_sum / weight_sum, rel=1e-5)
    assert terms["distribution_focal"].item() == pytest.approx(float(focal_sum) / weight_sum, rel=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Batches that could break them.


def test_filling_and_order_of_the_boxes_do_not_matter():
    boxes, labels = random_boxes(7, 0), torch.arange(7)
    assigned, _ = assign_boxes(POINTS, STRIDES, boxes[None], labels[None])
    order = torch.tensor([3, 6, 0, 5, 1, 2, 4])
    filled = torch.cat([boxes[order], torch.zeros(3, 4)]), torch.cat([labels[order], torch.full((3,), BACKGROUND)])
    again, _ = assign_boxes(POINTS, STRIDES, filled[0][None], filled[1][None])
    assert torch.equal(again, assigned)


NO_BOXES = torch.zeros(0, 4)
HARD_BOXES = {
    "no boxes at all": [NO_BOXES, NO_BOXES],
    "boxes in one image only": [NO_BOXES, torch.tensor([[10.0, 10.0, 60.0, 60.0]])],
    "no area": [torch.tensor([[10.0, 10.0, 10.0, 40.0]]), torch.tensor([[5.0, 5.0, 5.0, 5.0]])],
    "outside": [torch.tensor([[-90.0, -90.0, -20.0, -10.0]]), torch.tensor([[400.0, 10.0, 500.0, 60.0]])],
    "half outside": [torch.tensor([[-50.0, -50.0, 30.0, 30.0]]), torch.tensor([[50.0, 50.0, 400.0, 400.0]])],
    "the whole image": [torch.tensor([[0.0, 0.0, 64.0, 64.0]]), NO_BOXES],
    "one pixel": [torch.tensor([[31.0, 31.0, 32.0, 32.0]]), NO_BOXES],
    "ten equal boxes": [torch.tensor([[8.0, 8.0, 40.0, 40.0]]).repeat(10, 1), NO_BOXES],
    "two hundred boxes": [random_boxes(200, 1) / 4, NO_BOXES],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("skip", [False, True], ids=["", "skipping"])
@pytest.mark.parametrize("case", HARD_BOXES)
def test_hard_boxes_give_finite_losses(case, skip, dtype):
    torch.manual_seed(0)
    points, strides = level_points([(8, 8), (4, 4), (2, 2)], (8, 16, 32))
    logits = torch.randn(2, 84, 3).to(dtype).requires_grad_()
    distance_logits = torch.randn(2, 84, 32).to(dtype).requires_grad_()
    boxes = HARD_BOXES[case]
    labels = [torch.arange(len(rows)) % 3 for rows in boxes]
    terms = detection_losses(logits, distance_logits, points, strides, boxes, labels, skip_without_positives=skip)
    sum(terms.values()).backward()
    assert all(term.shape == () and term.isfinite() and term >= 0 for term in terms.values())
    assert logits.grad.isfinite().all() and distance_logits.grad.isfinite().all()
    assigned, _ = assign_boxes(points, strides, *losses_sat._pad(boxes, labels, "cpu"))
    if (assigned == BACKGROUND).all():
        assert terms["giou"] == terms["distribution_focal"] == 0
        assert (terms["quality_focal"] == 0) == skip == (not logits.grad.any())


def test_extreme_logits_give_finite_losses():
    points, strides = level_points([(8, 8), (4, 4), (2, 2)], (8, 16, 32))
    for value in (-1e4, 1e4):
        logits = torch.full((1, 84, 3), value, requires_grad=True)
        distance_logits = torch.full((1, 84, 32), value)
        boxes, labels = [torch.tensor([[4.0, 6.0, 40.0, 50.0]])], [torch.tensor([1])]
        terms = detection_losses(logits, distance_logits, points, strides, boxes, labels)
        sum(terms.values()).backward()
        assert all(term.isfinite() for term in terms.values()) and logits.grad.isfinite().all()


def test_every_box_of_ordinary_size_gets_a_point():
    boxes = random_boxes(60, 3)
    boxes[:, 2:] = boxes[:, 2:].maximum(boxes[:, :2] + 32)
    for number in range(60):
        assigned, _ = assign_boxes(POINTS, STRIDES, boxes[None, number : number + 1], torch.zeros(1, 1).long())
        assert 1 <= (assigned == 0).sum() <= 27


def test_two_processes_divide_by_the_joint_numbers(monkeypatch):
    """What each process divides by is the mean over processes, so that their mean is the loss of the joint batch."""
    torch.manual_seed(0)
    points, strides = level_points([(8, 8), (4, 4), (2, 2)], (8, 16, 32))
    logits, distance_logits = torch.randn(2, 84, 3), torch.randn(2, 84, 32)
    boxes = [torch.tensor([[4.0, 6.0, 40.0, 50.0]]), torch.tensor([[20.0, 20.0, 60.0, 60.0], [1.0, 1.0, 20.0, 30.0]])]
    labels = [torch.tensor([0]), torch.tensor([1, 2])]
    joint = detection_losses(logits, distance_logits, points, strides, boxes, labels)
    divisors: list[list[Tensor]] = []
    for rank in range(2):
        seen: list[Tensor] = []
        monkeypatch.setattr(losses_sat, "_process_mean", lambda value, seen=seen: seen.append(value) or value)
        detection_losses(logits[[rank]], distance_logits[[rank]], points, strides, [boxes[rank]], [labels[rank]])
        divisors.append(seen)
    means = [torch.stack(pair).mean() for pair in zip(*divisors, strict=True)]
    parts = []
    for rank in range(2):
        left = list(means)
        monkeypatch.setattr(losses_sat, "_process_mean", lambda value, left=left: left.pop(0))
        one = slice(rank, rank + 1)
        parts.append(detection_losses(logits[one], distance_logits[one], points, strides, boxes[one], labels[one]))
    for name, term in joint.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, term)


def test_model_loss_is_the_weighted_sum():
    model, _ = tiny_sat(quality_focal_weight=3.0, giou_weight=0.5, distribution_focal_weight=2.0)
    labels = [{"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]]), "class_labels": torch.tensor([1])}]
    outputs = model(torch.randn(1, 3, 64, 64), labels=labels)
    terms = outputs.loss_dict
    expected = 3 * terms["quality_focal"] + 0.5 * terms["giou"] + 2 * terms["distribution_focal"]
    torch.testing.assert_close(outputs.loss, expected)


def test_docstring_examples():
    results = doctest.testmod(losses_sat)
    assert results.attempted >= 5 and results.failed == 0


def test_quality_focal_loss_is_finite_and_smooth_everywhere():
    """Against torch's binary cross-entropy in double precision: far logits, and zero, where |x| has a corner."""
    logits = torch.tensor([[0.0, -0.0], [200.0, -200.0], [17.0, -17.0], [1e-4, -88.0]], requires_grad=True)
    labels, quality = torch.tensor([0, 1, BACKGROUND, 0]), torch.tensor([0.25, 0.5, 0.0, 1.0])
    exact = logits.detach().double().requires_grad_()
    targets = torch.zeros(4, 2, dtype=torch.float64)
    targets[[0, 1, 3], [0, 1, 0]] = quality[[0, 1, 3]].double()
    scale = (targets - exact.sigmoid()).abs().pow(2)
    expected = (scale * functional.binary_cross_entropy_with_logits(exact, targets, reduction="none")).sum()
    found = losses_sat.quality_focal_loss(logits, labels, quality)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    found.backward(), expected.backward()
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)

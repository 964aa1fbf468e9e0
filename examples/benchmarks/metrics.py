"""Losses and metrics against the released loops, and average precision against pycocotools.

python examples/benchmarks/metrics.py --quick
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from harness import OURS, Comparison, Options, run_group, without
from torch import Tensor
from torch.nn import functional

from stmine_hf.metrics.detection import detection_scores
from stmine_hf.metrics.retrieval import retrieval_ranks
from stmine_hf.modeling.fisvl.losses_fisvl import affiliation_loss, contrastive_loss, scene_adaptive_loss

EPS = 6e-5  # of the released losses


def comparisons(options: Options) -> Iterator[Comparison]:
    yield recall()
    yield losses(90 if options.quick else 270)
    if (row := average_precision(200 if options.quick else 5000)) is not None:
        yield row


# ---- R@k ----


def recall(images: int = 1093, captions: int = 5) -> Comparison:
    """Ranks of all queries, from which R@k follows for every k."""
    texts = images * captions
    # All different: the released sort leaves the order of equal scores to the machine.
    order = np.random.default_rng(0).permutation(images * texts).reshape(images, texts)
    scores = order.astype(np.float32)  # exact: below 2 ** 24

    def loops() -> list[np.ndarray]:
        """As `itm_eval`: a sort for each query, in which each right answer is looked for."""
        of_images, of_texts = np.zeros(images), np.zeros(texts)
        for image, row in enumerate(scores):
            order = np.argsort(row)[::-1]
            best = math.inf
            for text in range(captions * image, captions * (image + 1)):
                best = min(best, np.where(order == text)[0][0])
            of_images[image] = best
        for text, row in enumerate(scores.T):
            order = np.argsort(row)[::-1]
            of_texts[text] = np.where(order == text // captions)[0][0]
        return [of_images, of_texts]

    return Comparison(
        work=f"ranks for R@k, {images:,} x {texts:,}",
        count=images + texts,
        unit="queries",
        ways={"released": loops, OURS: lambda: list(retrieval_ranks(scores, texts_per_image=captions))},
        target=100,
        difference=lambda one, other: max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True)),
        measured="rank",
        conditions="random float32 scores, all different",
    )


# ---- FISVL's losses ----


def losses(pairs: int) -> Comparison:
    """Value and gradient of the value-guided objective of a batch."""
    torch.manual_seed(0)
    image = functional.normalize(torch.randn(pairs, 512), dim=1)
    text = functional.normalize(image + 0.1 * torch.randn(pairs, 512), dim=1)
    ids, labels = torch.arange(pairs) // 2, torch.randint(30, (pairs,))
    released = {"epoch": 5, "beta1": -0.002, "beta2": 0.02, "margin": 0.95}

    def with_gradient(loss_of: Any) -> list[Tensor]:
        leaves = [tensor.clone().requires_grad_() for tensor in (image, text, torch.tensor(0.07))]
        loss = loss_of(*leaves)
        loss.backward()
        return [loss.detach(), *(leaf.grad for leaf in leaves)]

    def ours(image: Tensor, text: Tensor, temperature: Tensor) -> Tensor:
        return (
            contrastive_loss(image, text, temperature, ids)
            + affiliation_loss(image, text, temperature, labels)
            + scene_adaptive_loss(image, text, temperature, ids, labels, **released)
        )

    def loops(image: Tensor, text: Tensor, temperature: Tensor) -> Tensor:
        return (
            loop_contrastive(image, text, temperature, ids)
            + loop_affiliation(image, text, temperature, labels)
            + loop_scene(image, text, temperature, labels, **released)
        )

    return Comparison(
        work=f"FISVL losses and gradients, batch of {pairs}",
        count=pairs,
        unit="pairs",
        ways={"plain loops": lambda: with_gradient(loops), OURS: lambda: with_gradient(ours)},
        target=None if pairs < 270 else 1000,
        difference=lambda one, other: max(
            float((a - b).abs().max() / a.abs().max().clamp(min=1e-12)) for a, b in zip(one, other, strict=True)
        ),
        measured="relative",
        allowed=1e-3,
        conditions="contrastive, affiliation and scene terms at epoch 5 on unit vectors of 512 numbers",
        rounds=1,
    )


def loop_scores(rows: Tensor, columns: Tensor, temperature: Tensor) -> list[list]:
    return [[(row @ column) / temperature for column in columns.unbind()] for row in rows.unbind()]


def loop_cross_entropy(logits: list[list], targets: list[list[float]]) -> Any:
    total: Any = 0.0
    for row, target in zip(logits, targets, strict=True):
        top = max(score.item() for score in row)
        denominator: Any = 0.0
        for score in row:
            denominator = denominator + (score - top).exp()
        for score, share in zip(row, target, strict=True):
            if share:
                total = total - share * (score - top - denominator.log())
    return total / len(logits)


def transpose(matrix: Sequence[Sequence]) -> list[list]:
    return [list(column) for column in zip(*matrix, strict=True)]


def loop_contrastive(image: Tensor, text: Tensor, temperature: Tensor, ids: Tensor) -> Any:
    own, count = ids.tolist(), len(ids)
    targets = [[float(own[i] == own[j]) + EPS for j in range(count)] for i in range(count)]
    targets = [[target / sum(row) for target in row] for row in targets]
    logits = loop_scores(image, text, temperature)
    return (loop_cross_entropy(logits, targets) + loop_cross_entropy(transpose(logits), targets)) / 2


def loop_affiliation(image: Tensor, text: Tensor, temperature: Tensor, labels: Tensor) -> Any:
    scenes, count = labels.tolist(), len(labels)

    def centres(embeds: Tensor) -> Tensor:
        found = []
        for i in range(count):
            centre: Any = 0.0
            weights = 0.0
            for j, embed in enumerate(embeds.unbind()):
                weight = float(scenes[i] == scenes[j]) + EPS
                centre, weights = centre + weight * embed, weights + weight
            found.append(centre / weights)
        return torch.stack(found)

    own = [[float(i == j) for j in range(count)] for i in range(count)]
    to_texts = loop_scores(image, centres(text), temperature)
    to_images = loop_scores(text, centres(image), temperature)
    return (loop_cross_entropy(to_texts, own) + loop_cross_entropy(transpose(to_images), own)) / 2


def loop_scene(
    image: Tensor,
    text: Tensor,
    temperature: Tensor,
    labels: Tensor,
    epoch: int,
    beta1: float,
    beta2: float,
    margin: float,
) -> Any:
    scenes, count = labels.tolist(), len(labels)

    def side(scores: list[list], embeds: Tensor) -> Any:
        hardest = [max(range(count), key=[score.item() for score in row].__getitem__) for row in scores]
        total: Any = 0.0
        for i in range(count):
            exps: list[Any] = []
            denominator: Any = EPS
            for j in range(count):
                score = (embeds[i] @ embeds[hardest[j]]) / temperature
                exps.append(score.exp() if score.item() >= margin else 1.0)
                denominator = denominator + exps[j]
            for j in range(count):
                beta = beta2 if scenes[i] == scenes[hardest[j]] else beta1
                if weight := int(math.exp(beta * epoch)):
                    total = total + exps[j] / denominator * weight
        return total / count

    scores = loop_scores(image, text, temperature)
    return (side(scores, text) + side(transpose(scores), image)) / 2


# ---- average precision ----


def average_precision(images: int, boxes: int = 100, classes: int = 80) -> Comparison | None:
    """The twelve figures of COCO."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        without("pycocotools", "average precision")
        return None
    truth, detections = drawn_boxes(images, boxes, classes)

    def plain() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            annotations = COCO()
            annotations.dataset = {name: [dict(row) for row in rows] for name, rows in truth.items()}
            annotations.createIndex()
            evaluation = COCOeval(annotations, annotations.loadRes([dict(row) for row in detections]), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return [float(value) for value in evaluation.stats]

    return Comparison(
        work=f"average precision, {images:,} images x {boxes} boxes",
        count=images,
        unit="images",
        ways={"pycocotools": plain, OURS: lambda: list(detection_scores(truth, detections).metrics.values())},
        target=1,
        difference=lambda one, other: max(abs(a - b) for a, b in zip(one, other, strict=True)),
        measured="AP",
        allowed=1e-12,
        conditions=f"{classes} classes, 7 boxes an image to be found, of which half of the detections are near",
        rounds=1 if images > 1000 else None,
    )


def drawn_boxes(images: int, boxes: int, classes: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A COCO document and results: half of the detections are near a box and of its class, the others anywhere."""
    random = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        own = np.c_[random.uniform(0, 500, (7, 2)), random.uniform(8, 140, (7, 2))]
        labels = random.integers(1, classes + 1, 7)
        for box, label in zip(own.tolist(), labels.tolist(), strict=True):
            crowd = int(random.random() < 0.02)
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": label, "bbox": box}
            annotations.append(row | {"area": box[2] * box[3], "iscrowd": crowd})
        found = np.c_[random.uniform(0, 500, (boxes, 2)), random.uniform(8, 140, (boxes, 2))]
        kinds, near = random.integers(1, classes + 1, boxes), random.integers(0, 7, boxes // 2)
        found[: boxes // 2] = own[near] + random.normal(0, 6, (boxes // 2, 4))
        found[:, 2:] = found[:, 2:].clip(1)
        kinds[: boxes // 2] = labels[near]
        scores = random.random(boxes)
        for box, label, score in zip(found.tolist(), kinds.tolist(), scores.tolist(), strict=True):
            detections.append({"image_id": image, "category_id": label, "bbox": box, "score": score})
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, classes + 1)]
    truth = {"images": [{"id": image} for image in range(1, images + 1)], "categories": categories}
    return truth | {"annotations": annotations}, detections


if __name__ == "__main__":
    run_group("metrics", comparisons, __doc__)

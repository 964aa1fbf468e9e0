"""Train a SAT model to predict what another one predicts: losses without labels, on any images.

Shapes: B images, N points, C classes, R = reg_max + 1 distances a side. A point counts by the teacher's
confidence: `weights` (B, N), the greatest class probability that the teacher gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from ...modeling.sat.image_processing_sat import SatImageProcessor
from ...modeling.sat.modeling_sat import SatForObjectDetection
from ..seeding import seeded


class Views:
    """Images kept in memory, of which batches of random views are made.

    A view: scaled (1 fits the image into the model's input), mirrored, coloured, normalised, a square cut out of it
    or, where the image is smaller, padded with 0 around it as the image processor pads. A third of the views is
    blended with another one, a third has a rectangle of another one pasted in: a teacher has outputs for any
    image, and a few hundred images have to suffice (Beyer et al., "Knowledge distillation: A good teacher
    is patient and consistent", CVPR 2022).

    Args:
        groups: kinds of images, RGB.
        shares: how often each kind is drawn.
        image_processor: the model's.
        scale: range of the scale.
        mix: share of the views that are blended or pasted into.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Image.Image]],
        shares: Sequence[float],
        image_processor: SatImageProcessor,
        scale: tuple[float, float] = (0.5, 1.4),
        mix: float = 2 / 3,
    ):
        self.mix = mix
        size = (image_processor.size["height"], image_processor.size["width"])
        self.groups = [[v2.functional.pil_to_tensor(shrink(image, max(size))) for image in g] for g in groups]
        self.shares = torch.tensor(shares, dtype=torch.float32)
        self.reverse = image_processor.channel_order == "bgr"
        self.change = v2.Compose(
            [
                v2.ToDtype(torch.float32, scale=True),
                v2.ScaleJitter(size, scale, antialias=False),  # without antialiasing, as the image processor
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.5),
                v2.RandomGrayscale(0.1),
                v2.Normalize(list(image_processor.image_mean), list(image_processor.image_std)),
            ]
        )
        if self.reverse:  # mean and deviation are in the order of the model's channels
            self.change.transforms.insert(-1, v2.Lambda(lambda pixels: pixels.flip(-3)))

    def batch(self, count: int, side: int, seed: int) -> Tensor:
        """`count` views of `side` x `side` pixels, the same for the same seed: (count, 3, side, side)."""
        cut = v2.RandomCrop(side, pad_if_needed=True)
        views = []
        with seeded(seed):
            for kind in torch.multinomial(self.shares, count, replacement=True).tolist():
                group = self.groups[kind]
                image = group[int(torch.randint(len(group), ()))]
                views.append(cut(self.change(image)))
            views = [self._mixed(view, other) for view, other in zip(views, views[1:] + views[:1], strict=True)]
        return torch.stack(views).contiguous(memory_format=torch.channels_last)

    def _mixed(self, view: Tensor, other: Tensor) -> Tensor:
        """The view, perhaps blended with another one or with a rectangle of it pasted in."""
        chance = torch.rand(()).item()
        if chance > self.mix:
            return view
        if chance < self.mix / 2:
            return torch.lerp(view, other, torch.rand(()).item() / 2)
        side = view.shape[-1]
        height, width = (int(side * (0.25 + 0.5 * torch.rand(()).item())) for _ in range(2))
        top, left = (int(torch.randint(side - length + 1, ())) for length in (height, width))
        pasted = view.clone()
        window = (slice(None), slice(top, top + height), slice(left, left + width))
        pasted[window] = other[window]
        return pasted


def shrink(image: Image.Image, side: int) -> Image.Image:
    """The image, its longer side at most 1.4 `side`, which no view exceeds."""
    image = image.copy()
    image.thumbnail((round(1.4 * side), round(1.4 * side)), Image.Resampling.BILINEAR)
    return image


@dataclass
class Lesson:
    """The teacher's outputs for a batch.

    Attributes:
        probabilities (B, N, C): of the classes.
        distributions (B, N, 4, R): of the distances to the four sides.
        maps: of every block of the backbone and of the neck.
    """

    probabilities: Tensor
    distributions: Tensor
    maps: tuple[Tensor, ...]


@torch.no_grad()
def teach(teacher: SatForObjectDetection, pixel_values: Tensor) -> Lesson:
    """The teacher's outputs for images: the mean over each image and its mirror image.

    The mean of the two is a better detector than either. The maps are those of the images themselves.

    Args:
        teacher: in evaluation mode.
        pixel_values (`Tensor` of shape `(B, 3, H, W)`).
    """
    levels, maps = predict(teacher, pixel_values)
    mirrored, _ = predict(teacher, pixel_values.flip(-1))
    classes = teacher.config.num_labels
    probabilities, distributions = [], []
    for straight, mirror in zip(levels, mirrored, strict=True):  # (B, C + 4 R, h, w)
        (scores, sides), (m_scores, m_sides) = (
            (x[:, :classes].sigmoid(), x[:, classes:].unflatten(1, (4, -1)).softmax(dim=2))
            for x in (straight, mirror.flip(-1))
        )
        m_sides = m_sides[:, [2, 1, 0, 3]]  # left is right
        probabilities.append(((scores + m_scores) / 2).flatten(2).permute(0, 2, 1))
        distributions.append(((sides + m_sides) / 2).flatten(3).permute(0, 3, 1, 2))
    return Lesson(torch.cat(probabilities, dim=1), torch.cat(distributions, dim=1), maps)


def predict(model: SatForObjectDetection, pixel_values: Tensor) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """The head's outputs (B, C + 4 R, h, w) of each level, and the maps of every block and of the neck."""
    backbone: Any = model.sat.backbone
    x = backbone.pool(backbone.stem(pixel_values))
    maps, ends = [], []
    for stage in backbone.stages:
        for block in stage:
            x = block(x)
            maps.append(x)
        ends.append(x)
    features = model.sat.neck(tuple(ends))
    heads: Any = model.head
    levels = [level.predictor(level.tower(x)) for level, x in zip(heads, features, strict=True)]
    return levels, (*maps, *features)


def distillation_losses(model: SatForObjectDetection, pixel_values: Tensor, lesson: Lesson) -> dict[str, Tensor]:
    """The three losses of a batch, unweighted: `classes`, `distances`, `maps`.

    Args:
        model: the student.
        pixel_values: those of `lesson`.
        lesson: of [`teach`].
    """
    levels, maps = predict(model, pixel_values)
    outputs = torch.cat([x.flatten(2) for x in levels], dim=2).transpose(1, 2)  # (B, N, C + 4 R)
    classes = model.config.num_labels
    weights = lesson.probabilities.amax(dim=-1)
    return {
        "classes": class_distillation(outputs[..., :classes], lesson.probabilities, weights),
        "distances": distance_distillation(outputs[..., classes:], lesson.distributions, weights),
        "maps": map_distillation(maps, lesson.maps),
    }


def class_distillation(logits: Tensor, probabilities: Tensor, weights: Tensor) -> Tensor:
    """Kullback-Leibler divergence of each class of each point, summed, over the sum of the weights.

    As the detection losses are divided by the number of objects' points, so is this by the teacher's expectation of
    it. Zero where model and teacher agree.

    Args:
        logits (`Tensor` of shape `(B, N, C)`): the student's, before the sigmoid.
        probabilities (`Tensor` of shape `(B, N, C)`): the teacher's.
        weights (`Tensor` of shape `(B, N)`): greatest of them.

    Example:

    >>> p = torch.tensor([[[0.5, 0.1]]])
    >>> class_distillation(torch.logit(p), p, p.amax(-1)).abs() < 1e-6
    tensor(True)
    """
    crossed = F.binary_cross_entropy_with_logits(logits.float(), probabilities, reduction="sum")
    own = F.binary_cross_entropy(probabilities, probabilities, reduction="sum")
    return (crossed - own) / weights.sum().clamp(min=1)


def distance_distillation(distance_logits: Tensor, distributions: Tensor, weights: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the four sides' distributions, summed over sides, weighted mean over points.

    Args:
        distance_logits (`Tensor` of shape `(B, N, 4 R)`): the student's, before the softmax.
        distributions (`Tensor` of shape `(B, N, 4, R)`): the teacher's.
        weights (`Tensor` of shape `(B, N)`): the teacher's confidence in each point.
    """
    found = distance_logits.float().unflatten(-1, (4, -1)).log_softmax(dim=-1)
    divergence = F.kl_div(found, distributions, reduction="none").sum(dim=(-1, -2))  # (B, N)
    return (divergence * weights).sum() / weights.sum().clamp(min=1)


def map_distillation(maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Squared error of each map as a share of its target's variance; the mean over maps."""
    shares = [F.mse_loss(x.float(), y) / y.var() for x, y in zip(maps, targets, strict=True)]
    return torch.stack(shares).mean()

"""Boxes, assignment and losses of SAT: pure functions of one batch.

ATSS (Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection", CVPR 2020) assigns points to
boxes; generalized focal loss (Li et al., NeurIPS 2020) trains scores and distances; GIoU (Rezatofighi
et al., CVPR 2019) trains boxes. All as in NanoDet, https://github.com/RangiLyu/nanodet, whose numbers they give.

Shapes: B images, N points (all levels, row by row), G boxes at most in an image, C classes. Boxes are xyxy in
pixels of the network's input; distances are left, top, right, bottom in strides. Computed in float32, half precision
inputs too.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

BACKGROUND = -1  # label of a point without a box


def level_points(level_sizes: list[tuple[int, int]], strides: tuple[int, ...], device=None) -> tuple[Tensor, Tensor]:
    """Centres of the cells of all levels.

    Args:
        level_sizes: height and width of each level's map.
        strides: pixels between neighbouring points of each level.

    Returns:
        points (N, 2): x, y in pixels of the input; strides (N,).

    Example:

    >>> level_points([(1, 2)], (8,))
    (tensor([[ 4.,  4.],
            [12.,  4.]]), tensor([8., 8.]))
    """
    points, repeated = [], []
    for (height, width), stride in zip(level_sizes, strides, strict=True):
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride
        points.append(torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1))
        repeated.append(torch.full((height * width,), float(stride), device=device))
    return torch.cat(points), torch.cat(repeated)


def expected_distances(distance_logits: Tensor) -> Tensor:
    """Means of the four distributions over 0 .. reg_max: (..., 4 (reg_max + 1)) -> (..., 4), in strides."""
    distributions = distance_logits.float().unflatten(-1, (4, -1)).softmax(dim=-1)
    values = torch.arange(distributions.shape[-1], device=distributions.device, dtype=distributions.dtype)
    return (distributions * values).sum(dim=-1)


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Points (..., 2) and distances (..., 4) in one unit -> xyxy boxes (..., 4)."""
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def aligned_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of xyxy boxes of broadcastable shapes (..., 4), element by element; 0 for empty boxes.

    Example:

    >>> aligned_iou(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]]))
    tensor([0.3333, 0.0000])
    """
    left_top = torch.maximum(boxes[..., :2], others[..., :2])
    right_bottom = torch.minimum(boxes[..., 2:], others[..., 2:])
    overlap = (right_bottom - left_top).clamp(min=0).prod(dim=-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) + (others[..., 2:] - others[..., :2]).prod(dim=-1)
    return overlap / (areas - overlap).clamp(min=1e-6)


@torch.no_grad()
def assign_boxes(
    points: Tensor, strides: Tensor, boxes: Tensor, labels: Tensor, *, topk: int = 9, cell_scale: float = 5.0
) -> tuple[Tensor, Tensor]:
    """ATSS: assign points to each box, with a threshold that adapts to the box.

    Candidates of a box are, on every level, the `topk` points nearest to its centre. Of these, positive are those
    inside the box (by more than 0.01 px) whose cell, a square of `cell_scale` strides around the point, has an IoU
    with the box of at least mean + standard deviation of the candidates' IoUs. A point claimed by several boxes goes
    to the one of greatest IoU. So a box gets at most `levels x topk` points and a point at most one box.

    Args:
        points (`Tensor` of shape `(N, 2)`): centres, pixels.
        strides (`Tensor` of shape `(N,)`): level of each point, ascending.
        boxes (`Tensor` of shape `(B, G, 4)`): xyxy, pixels; images with fewer boxes are filled up.
        labels (`Tensor` of shape `(B, G)`): class of each box, `BACKGROUND` for filling.
        topk: candidates of each level.
        cell_scale: side of a cell in strides.

    Returns:
        labels (B, N): class of each point's box or `BACKGROUND`; index (B, N): which of the G boxes (0 at background).
    """
    batch, most = labels.shape
    if most == 0:
        shape = (batch, len(points))
        return labels.new_full(shape, BACKGROUND), labels.new_zeros(shape)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2  # (B, G, 2)
    distances = (centres[:, :, None] - points).pow(2).sum(dim=-1).sqrt()  # (B, G, N)
    _, level_lengths = torch.unique_consecutive(strides, return_counts=True)
    candidates, start = [], 0
    for length in level_lengths.tolist():
        nearest = distances[..., start : start + length].topk(min(topk, length), largest=False).indices
        candidates.append(nearest + start)
        start += length
    candidate = torch.cat(candidates, dim=-1)  # (B, G, K)
    at = points[candidate]  # (B, G, K, 2)
    reach = (strides[candidate] * (cell_scale / 2))[..., None]
    overlaps = aligned_iou(torch.cat([at - reach, at + reach], dim=-1), boxes[:, :, None])  # (B, G, K)
    threshold = overlaps.mean(dim=-1, keepdim=True) + overlaps.std(dim=-1, keepdim=True)
    depth = torch.cat([at - boxes[:, :, None, :2], boxes[:, :, None, 2:] - at], dim=-1).amin(dim=-1)
    positive = (overlaps >= threshold) & (depth > 0.01) & (labels != BACKGROUND)[..., None]

    claims = torch.full_like(distances, -1.0).scatter(-1, candidate, overlaps.masked_fill(~positive, -1.0))
    greatest, index = claims.max(dim=1)  # (B, N)
    assigned = labels.gather(1, index)
    return assigned.masked_fill(greatest < 0, BACKGROUND), index.masked_fill(greatest < 0, 0)


def quality_focal_loss(logits: Tensor, labels: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """Quality focal loss, summed: `|y - sigmoid(s)| ** beta * BCE(s, y)` for every point and class.

    y is the quality of the point's box for its class, 0 for all other classes and for background.

    Args:
        logits (`Tensor` of shape `(..., C)`): class scores before the sigmoid.
        labels (`Tensor` of shape `(...)`): class of each point or `BACKGROUND`.
        quality (`Tensor` of shape `(...)`): IoU of predicted and true box, 0 to 1; unused at background.
        beta: exponent.

    Returns:
        `Tensor`: scalar >= 0.

    Example:

    >>> logits = torch.zeros(2, 3)
    >>> round(quality_focal_loss(logits, torch.tensor([1, -1]), torch.tensor([0.5, 0.0])).item(), 4)  # 5/4 log 2
    0.8664
    """
    logits = logits.float()
    classes = torch.arange(logits.shape[-1], device=logits.device)
    targets = torch.where(labels[..., None] == classes, quality[..., None].float(), 0.0)
    scale = (targets - logits.sigmoid()).abs().pow(beta)
    # F.binary_cross_entropy_with_logits, whose log1p takes a multiple of the time of exp and log on a CPU.
    size = logits.abs()
    cross_entropy = size / 2 + (0.5 - targets) * logits + (1 + (-size).exp()).log()
    return (scale * cross_entropy).sum()


def distribution_focal_loss(distance_logits: Tensor, distances: Tensor) -> Tensor:
    """Distribution focal loss: cross-entropy with the two whole numbers around a distance, weighted by nearness.

    Args:
        distance_logits (`Tensor` of shape `(P, 4 (reg_max + 1))`): four distributions before the softmax.
        distances (`Tensor` of shape `(P, 4)`): true distances in strides, 0 <= distance < reg_max.

    Returns:
        `Tensor` of shape `(P,)`: mean over the four sides.

    Example:

    >>> distribution_focal_loss(torch.zeros(1, 32), torch.full((1, 4), 2.5))  # log 8
    tensor([2.0794])
    """
    logits = distance_logits.float().unflatten(-1, (4, -1)).flatten(0, 1)  # (4P, reg_max + 1)
    values = distances.flatten()
    below = values.long()
    above_share = values - below
    low, high = (F.cross_entropy(logits, side, reduction="none") for side in (below, below + 1))
    return (low * (1 - above_share) + high * above_share).unflatten(0, (-1, 4)).mean(dim=-1)


def detection_losses(
    logits: Tensor,
    distance_logits: Tensor,
    points: Tensor,
    strides: Tensor,
    boxes: list[Tensor],
    labels: list[Tensor],
    *,
    topk: int = 9,
    cell_scale: float = 5.0,
    beta: float = 2.0,
    skip_without_positives: bool = False,
) -> dict[str, Tensor]:
    """The three losses of a batch, unweighted.

    The quality focal loss is divided by the number of positive points (an image without any counts as one). The two
    box losses are means over the positive points, each weighted by its greatest class probability, so that confident
    predictions are placed most carefully. Both divisors are means over processes.

    Args:
        logits (`Tensor` of shape `(B, N, C)`): class scores before the sigmoid.
        distance_logits (`Tensor` of shape `(B, N, 4 (reg_max + 1))`): distributions before the softmax.
        points (`Tensor` of shape `(N, 2)`): as [`level_points`] gives them; `strides` (N,) likewise.
        boxes: for each image (n, 4), xyxy in pixels of the input; n may be 0.
        labels: for each image (n,), 0 .. C - 1.
        topk: see [`assign_boxes`]; `cell_scale` likewise.
        beta: see [`quality_focal_loss`].
        skip_without_positives: as released, a batch without any positive point gives 0 and no gradient.

    Returns:
        dict: `quality_focal`, `giou`, `distribution_focal`: scalars.
    """
    logits, distance_logits = logits.float(), distance_logits.float()
    padded_boxes, padded_labels = _pad(boxes, labels, logits.device)
    assigned, index = assign_boxes(
        points, strides, padded_boxes, padded_labels, topk=topk, cell_scale=cell_scale
    )  # (B, N)
    image, point = torch.nonzero(assigned != BACKGROUND, as_tuple=True)  # (P,) each
    targets = padded_boxes[image, index[image, point]] / strides[point, None]  # (P, 4)  strides from here on
    centres = points[point] / strides[point, None]  # (P, 2)
    predicted = distances_to_boxes(centres, expected_distances(distance_logits[image, point]))  # (P, 4)

    quality = logits.new_zeros(assigned.shape)
    quality[image, point] = aligned_iou(predicted.detach(), targets)
    positives = (assigned != BACKGROUND).sum(dim=1).clamp(min=1).sum().to(logits.dtype)
    quality_focal = quality_focal_loss(logits, assigned, quality, beta) / _process_mean(positives).clamp(min=1)

    weights = logits.detach()[image, point].sigmoid().amax(dim=-1)  # (P,)
    divisor = _process_mean(weights.sum())
    reg_max = distance_logits.shape[-1] // 4 - 1
    true_distances = torch.cat([centres - targets[:, :2], targets[:, 2:] - centres], dim=-1).clamp(0, reg_max - 0.1)
    giou = generalized_box_iou_loss(predicted, targets, reduction="none")  # (P,)
    distribution_focal = distribution_focal_loss(distance_logits[image, point], true_distances)  # (P,)
    losses = {
        "quality_focal": quality_focal,
        "giou": (giou * weights).sum() / divisor.clamp(min=1e-12),
        "distribution_focal": (distribution_focal * weights).sum() / divisor.clamp(min=1e-12),
    }
    if skip_without_positives:
        return {name: torch.where(divisor > 0, loss, loss * 0) for name, loss in losses.items()}
    return losses


def _pad(boxes: list[Tensor], labels: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Lists of (n, 4) and (n,) -> (B, G, 4) and (B, G), filled with zeros and `BACKGROUND`."""
    flat = [box.to(device, torch.float32).reshape(-1, 4) for box in boxes]
    classes = [label.to(device, torch.int64).reshape(-1) for label in labels]
    return (
        torch.nn.utils.rnn.pad_sequence(flat, batch_first=True),
        torch.nn.utils.rnn.pad_sequence(classes, batch_first=True, padding_value=BACKGROUND),
    )


def _process_mean(value: Tensor) -> Tensor:
    """Mean of a scalar over processes, so that N processes train as one on the joint batch."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


__all__ = [
    "BACKGROUND",
    "aligned_iou",
    "assign_boxes",
    "detection_losses",
    "distances_to_boxes",
    "distribution_focal_loss",
    "expected_distances",
    "level_points",
    "quality_focal_loss",
]

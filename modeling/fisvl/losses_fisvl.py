"""Losses of FISVL: pure functions of the embeddings of one (joint) batch, the schedule that says when each counts,
and the gathering of a batch that is spread over processes.

Zhou et al., "Fine-Grained Information Supplementation and Value-Guided Learning for Remote Sensing Image-Text
Retrieval", IEEE JSTARS 2024; authors' code: https://github.com/zhouzihui2001/FISVL (`FISVL-pytorch/models/fisvl.py`).

By default every function computes what the released code computes, since the published numbers came from it. Where
the released code departs from its own evident intent, the docstring says so and one keyword corrects it.

Shapes: row i of `image_embeds` (B, D) and row i of `text_embeds` (B, D) are an image and its caption, both of unit
length. Every function returns a scalar. Half-precision embeddings are multiplied and summed in float32, also under
autocast; float64 stays float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

EPS = (
    6e-5  # the released code's one epsilon: leaked to every wrong pair of a target, and added to softmax denominators
)


def contrastive_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    temperature: float | Tensor,
    image_ids: Tensor | None = None,
    caption_weights: Tensor | None = None,
) -> Tensor:
    """Symmetric image-text contrastive loss; with `caption_weights`, the length-weighted contrastive loss.

    `S_ij = w_j <image_i, text_j> / temperature`, `Y_ij = ([id_i = id_j] + EPS) / sum_j ([id_i = id_j] + EPS)` and
    `loss = (CE(S, Y) + CE(S^T, Y)) / 2`, where `CE(S, Y) = -mean_i sum_j Y_ij log softmax(S)_ij`. The weight
    multiplies the *logit* of text j (columns in image -> text, rows in text -> image), not its loss: the logits of a
    short, uninformative caption are flattened.

    Args:
        image_embeds (`Tensor` of shape `(B, D)`): unit length.
        text_embeds (`Tensor` of shape `(B, D)`): unit length.
        temperature: the learned `temp` of the release, starts at 0.07.
        image_ids (`Tensor` of shape `(B,)`, *optional*): rows with equal ids show one image, and all its captions
            in the batch are positives. Without ids row i's only positive is i, and no epsilon leaks.
        caption_weights (`Tensor` of shape `(B,)`, *optional*): `w_j`, 0.5 to 1 in the release (field `length` of its
            annotations). Float64 weights make the loss float64.

    Returns:
        `Tensor`: scalar >= 0; `log(B)` when all scores are equal.

    Example:

    >>> embeds = torch.eye(2)
    >>> round(contrastive_loss(embeds, embeds, temperature=1.0).item(), 4)  # log(1 + 1/e)
    0.3133
    >>> round(contrastive_loss(embeds, embeds, temperature=1.0, image_ids=torch.tensor([7, 7])).item(), 4)
    0.8133
    >>> round(contrastive_loss(embeds, embeds, 1.0, caption_weights=torch.tensor([1.0, 0.5])).item(), 4)
    0.3937
    """
    logits = _scores(image_embeds, text_embeds)  # (B, B)  images x texts
    if caption_weights is not None:
        logits = logits * caption_weights
    logits = logits / temperature
    if image_ids is None:
        targets = torch.arange(len(logits), device=logits.device)
    else:
        targets = _equal(image_ids).to(logits.dtype) + EPS
        targets = targets / targets.sum(dim=1, keepdim=True)  # (B, B)  rows sum to 1; symmetric before that
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def affiliation_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    temperature: float | Tensor,
    scene_labels: Tensor,
    *,
    one_centre_per_scene: bool = False,
) -> Tensor:
    """Affiliation loss: an image belongs near the centre of its scene's texts, a text near that of its images.

    `M_ij = [scene_i = scene_j] + EPS`, centres `c_i = sum_j M_ij e_j / sum_j M_ij` (one for each row, of texts `ct`
    and of images `cv`), `A_ij = <image_i, ct_j> / temperature`, `B_ij = <text_i, cv_j> / temperature` and
    `loss = (CE(A, identity) + CE(B^T, identity)) / 2`.

    Two peculiarities of the release are kept by default. Samples of one scene share a centre (up to the epsilon leaked
    from other scenes) and yet each has to pick its own copy out of them, so the loss has a floor above 0: `log n` for
    n samples of one scene. And the second term is transposed: it asks each image centre for its text among all texts.

    Args:
        image_embeds (`Tensor` of shape `(B, D)`): unit length.
        text_embeds (`Tensor` of shape `(B, D)`): unit length.
        temperature: the learned `temp2` of the release, starts at 0.07.
        scene_labels (`Tensor` of shape `(B,)`): scene class of each row.
        one_centre_per_scene: corrects both: exact means, a softmax over the *scenes* present on either side (the
            copies of a centre count once), the target being the row's own scene. The floor is then 0.

    Returns:
        `Tensor`: scalar >= 0. In the release each process averages its own rows only, so the value depends on the
        number of processes; on gathered rows (`gather_with_grad`) it does not.

    Example:

    >>> embeds, scenes = torch.eye(3), torch.tensor([0, 0, 1])
    >>> round(affiliation_loss(embeds, embeds, 0.07, scenes).item(), 4)  # two rows share one centre: 2/3 log 2
    0.4624
    >>> round(affiliation_loss(embeds, embeds, 0.07, scenes, one_centre_per_scene=True).item(), 4)
    0.0005
    """
    same_scene = _equal(scene_labels).to(torch.promote_types(image_embeds.dtype, torch.float32))
    members = same_scene if one_centre_per_scene else same_scene + EPS
    members = members / members.sum(dim=1, keepdim=True)  # (B, B)  each row averages over its scene
    to_text_centres = _scores(image_embeds, _scores(members, text_embeds.T)) / temperature  # (B, B)  images x centres
    to_image_centres = _scores(text_embeds, _scores(members, image_embeds.T)) / temperature  # (B, B)  texts x centres
    own = torch.arange(len(same_scene), device=same_scene.device)
    if not one_centre_per_scene:
        return (F.cross_entropy(to_text_centres, own) + F.cross_entropy(to_image_centres.T, own)) / 2
    # log-sum-exp over scenes = over rows, each divided by the number of rows that hold a copy of its centre
    copies = same_scene.sum(dim=1).log()
    losses = F.cross_entropy(to_text_centres - copies, own) + F.cross_entropy(to_image_centres - copies, own)
    return losses / 2 - copies.mean()


def scene_adaptive_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    temperature: float | Tensor,
    image_ids: Tensor,
    scene_labels: Tensor,
    epoch: int,
    *,
    beta1: float,
    beta2: float,
    margin: float,
    mask_positives: bool = False,
    integer_weights: bool = True,
    drop_below_margin: bool = False,
) -> Tensor:
    """Scene-adaptive loss: push each sample from the hardest negatives of the batch, harder within its own scene.

    Image -> text side, with `S = images texts^T / temperature`:
    `h(j) = argmax_k S_jk` is the hardest negative of row j; `L_ij = <text_i, text_h(j)> / temperature`;
    `E_ij = exp(L_ij)`, or `exp(0)` where `L_ij < margin`; `P_ij = E_ij / (sum_j E_ij + EPS)`;
    `W_ij = int(exp(beta2 epoch))` (intra-class) if `scene_i = scene_h(j)`, else `int(exp(beta1 epoch))` (inter-class);
    `side = mean_i sum_j P_ij W_ij`. The other side has images for texts and `S^T` for `S`; the loss is their mean.

    Three departures of the released code from its evident intent are kept by default; one keyword corrects each:

    * Positives are meant to be excluded from the argmax, but never are: as training goes on, the "hardest negative" is
      a sample's own caption. `mask_positives=True` excludes every pair with equal `image_ids` (a row without any
      negative then takes row 0).
    * The weights are cut to integers. A negative beta therefore gives weight 0 from epoch 1 on, a positive one gives 1
      until `beta epoch` reaches log 2; at epoch 0 both are 1 and the loss is 1 whatever the embeddings. With the
      released RSICD configuration (both betas negative) the loss is exactly 0 in epochs 1 to 9.
      `integer_weights=False` keeps the fractions.
    * Scores below the margin become score 0, which is still `exp(0) = 1` in the softmax.
      `drop_below_margin=True` takes them out of it.

    Args:
        image_embeds (`Tensor` of shape `(B, D)`): unit length.
        text_embeds (`Tensor` of shape `(B, D)`): unit length.
        temperature: shared with the contrastive loss (`temp` of the release).
        image_ids (`Tensor` of shape `(B,)`): equal ids = one image. Used with `mask_positives` only.
        scene_labels (`Tensor` of shape `(B,)`): scene class of each row.
        epoch: counted from 0.
        beta1: growth per epoch of the inter-class weight; -0.002 (RSICD) or -0.0015 (RSITMD) in the release.
        beta2: growth per epoch of the intra-class weight; -0.001 (RSICD file) or 0.02 (its checkpoint, RSITMD).
        margin: `alpha_m`, compared with scores already divided by the temperature; 0.95 to 2 in the release.
        mask_positives: see above.
        integer_weights: see above.
        drop_below_margin: see above.

    Returns:
        `Tensor`: scalar between 0 and the greater weight.

    Example:

    >>> embeds = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), dim=1)
    >>> ids, scenes = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1])
    >>> released = dict(beta1=-0.002, beta2=0.02, margin=0.95)
    >>> [round(scene_adaptive_loss(embeds, embeds, 1.0, ids, scenes, e, **released).item(), 4) for e in (0, 5)]
    [1.0, 0.7174]
    >>> args = (embeds, embeds, 1.0, ids, scenes, 5)
    >>> round(scene_adaptive_loss(*args, **released, mask_positives=True).item(), 4)
    0.6667
    >>> round(scene_adaptive_loss(*args, **released, integer_weights=False).item(), 4)
    1.0726
    >>> round(scene_adaptive_loss(*args, **released, drop_below_margin=True).item(), 4)
    1.0
    """
    weights = [math.exp(beta1 * epoch), math.exp(beta2 * epoch)]
    inter_class, intra_class = (float(int(weight)) for weight in weights) if integer_weights else weights
    logits = _scores(image_embeds, text_embeds) / temperature  # (B, B)  images x texts
    if mask_positives:
        logits = logits.masked_fill(_equal(image_ids), -math.inf)

    def side(logits: Tensor, embeds: Tensor) -> Tensor:
        hardest = logits.argmax(dim=1)  # (B,)
        scores = _scores(embeds, embeds[hardest]) / temperature  # (B, B)  rows x hardest negatives
        shares = _shares(scores, margin, drop_below_margin)  # (B, B)  rows sum to less than 1
        same_scene = scene_labels[:, None] == scene_labels[hardest]
        return torch.where(same_scene, intra_class * shares, inter_class * shares).sum(dim=1).mean()

    return (side(logits, text_embeds) + side(logits.T, image_embeds)) / 2


def triplet_loss(image_embeds: Tensor, text_embeds: Tensor, margin: float = 0.2, hardest: bool = False) -> Tensor:
    """Hinge loss with each pair's cosine above those of its negatives by `margin` (as in VSE++).

    With cosines `S`: `sum_{i != j} [margin + S_ij - S_ii]_+ + [margin + S_ij - S_jj]_+`; with `hardest`, the greatest
    term of each row (first kind) and of each column (second kind) instead of the sum. As in the release the result is
    a sum over the batch, not a mean, and a second caption of the same image counts as a negative.

    Args:
        image_embeds (`Tensor` of shape `(B, D)`): unit length.
        text_embeds (`Tensor` of shape `(B, D)`): unit length.
        margin: in cosine, 0 to 2.
        hardest: only the hardest negative of each image and of each text (`max_violation` of the release).

    Returns:
        `Tensor`: scalar >= 0; 0 for a single pair.

    Example:

    >>> embeds = torch.eye(3)
    >>> [round(triplet_loss(embeds, embeds, margin=1.5, hardest=h).item(), 4) for h in (False, True)]
    [6.0, 3.0]
    """
    scores = _scores(image_embeds, text_embeds)  # (B, B)  images x texts
    matching = scores.diag()
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    text_costs = (margin + scores - matching[:, None]).clamp(min=0).masked_fill(own, 0)  # wrong texts for an image
    image_costs = (margin + scores - matching[None, :]).clamp(min=0).masked_fill(own, 0)  # wrong images for a text
    if hardest:
        text_costs, image_costs = text_costs.max(dim=1).values, image_costs.max(dim=0).values
    return text_costs.sum() + image_costs.sum()


@dataclass(frozen=True)
class ValueGuidedSchedule:
    """Which losses count in which epoch (counted from 0): value-guided learning.

    First the hardest negatives separate the scenes (epochs 0 to 9), then informative captions count more: from epoch
    10 the contrastive loss is length-weighted and the scene-adaptive loss no longer counts. The affiliation loss
    always counts. Defaults are the released numbers (20 epochs in all).

    Example:

    >>> schedule = ValueGuidedSchedule()
    >>> schedule.factors(9), schedule.weighs_captions(9)
    ({'contrastive': 1.0, 'affiliation': 1.0, 'scene': 1.0}, False)
    >>> schedule.factors(10), schedule.weighs_captions(10)
    ({'contrastive': 1.0, 'affiliation': 1.0, 'scene': 0.0}, True)
    """

    scene_epochs: int = 10  # the scene-adaptive loss counts in this many first epochs
    caption_weights_from: int = 10  # first epoch of the length-weighted contrastive loss
    affiliation_weight: float = 1.0  # `center_factor` of the release
    scene_weight: float = 1.0  # `scene_factor` of the release

    def factors(self, epoch: int) -> dict[str, float]:
        """Factor of each term of the loss in this epoch, by its name in the log."""
        return {
            "contrastive": 1.0,
            "affiliation": self.affiliation_weight,
            "scene": self.scene_weight if epoch < self.scene_epochs else 0.0,
        }

    def weighs_captions(self, epoch: int) -> bool:
        """Whether the contrastive loss is the length-weighted one in this epoch."""
        return epoch >= self.caption_weights_from


def gather_with_grad(tensor: Tensor) -> Tensor:
    """Rows of all processes, in order of rank, such that N processes train exactly as one on the joint batch.

    Every process computes the whole loss on the joint batch, so its gradient with respect to the gathered rows is
    complete. Going back, these N gradients are summed and each process takes its own rows: N times the gradient, which
    the *average* over processes that DistributedDataParallel (also FSDP, DeepSpeed) takes of the parameters' gradients
    turns into that of one process. Parameters used after gathering (temperatures) have the whole gradient on each
    process, and the average of equals is itself.

    The release differs in two ways. Its backward pass takes the own rows without summing, so behind
    DistributedDataParallel the encoders get 1/N of the gradient (the temperatures all of it). And its affiliation
    loss averages centres over the rows of one process before it gathers them, so its value depends on N.

    Each process must call this equally often and in the same order. Batches may differ in length. Without a process
    group, or in a group of one, the tensor itself is returned.

    Args:
        tensor (`Tensor` of shape `(B_rank, ...)`): equal in all but the first dimension on all processes.

    Returns:
        `Tensor` of shape `(sum of B_rank, ...)`.
    """
    return _GatherRows.apply(tensor) if _world_size() > 1 else tensor


def gather_rows(tensor: Tensor | None) -> Tensor | None:
    """As `gather_with_grad`, without gradient: for image ids, scene labels, caption weights. None stays None.

    Ids must distinguish images across processes: use the data set's, not positions in the local batch.
    """
    return tensor if tensor is None or _world_size() == 1 else _all_gather(tensor.detach())[0]


def _scores(rows: Tensor, columns: Tensor) -> Tensor:
    """`rows @ columns.T`, (M, D) x (N, D) -> (M, N), in float32 or better, whatever autocast would do."""
    dtype = torch.promote_types(torch.promote_types(rows.dtype, columns.dtype), torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        return rows.to(dtype) @ columns.to(dtype).T


def _equal(ids: Tensor) -> Tensor:
    return ids[:, None] == ids[None, :]  # (B, B) bool


def _shares(scores: Tensor, margin: float, drop_below_margin: bool) -> Tensor:
    """`E / (sum of the row's E + EPS)` with `E = exp(score)`; below the margin `E = exp(0)`, or 0 if dropped."""
    scores = scores.masked_fill(scores < margin, -math.inf if drop_below_margin else 0.0)
    # EPS in the denominator = one more column whose score is log(EPS): a softmax, so no temperature makes it overflow
    return F.softmax(F.pad(scores, (0, 1), value=math.log(EPS)), dim=1)[:, :-1]


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _all_gather(tensor: Tensor) -> tuple[Tensor, list[int]]:
    """Rows of all processes and how many came from each; shorter batches travel padded to the longest."""
    count = torch.tensor([len(tensor)], device=tensor.device)
    counts = [torch.empty_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    sizes = torch.cat(counts).tolist()
    padding = tensor.new_zeros(max(sizes) - len(tensor), *tensor.shape[1:])
    padded = torch.cat([tensor, padding])
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]), sizes


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        gathered, sizes = _all_gather(tensor)
        start = sum(sizes[: dist.get_rank()])
        ctx.own = slice(start, start + len(tensor))
        return gathered

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)  # sum over processes
        return grad[ctx.own]

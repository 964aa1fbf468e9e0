"""SAT: a detector for hard-to-see objects on a phone-sized budget, and NanoDet-m, its parent, by configuration.

Zhang et al., "An Enhanced Light Object Detection for Indiscernible Object in the Special Scene", Journal of
Engineering Research 2022; https://github.com/zhangquanyou/SAT; NanoDet: https://github.com/RangiLyu/nanodet.

Image -> ShuffleNetV2 -> maps at strides 8, 16, 32 -> light path aggregation (1x1 convolutions and sums) [->
attention] -> one light head per level -> class scores and, for each side of a box, a distribution over distances.

Equal to the official NanoDet-m after conversion (see tests/modeling/sat). SAT itself was published without its
network: its authors say "a small trimming of NanoDet" with 0.84 M parameters and 0.65 B operations at 320 x 320. The
preset `sat` is a *reconstruction* within that budget: all of NanoDet-m's blocks, narrower inside, and a thinner stem.
836,816 parameters; `nanodet-m` has 950,036. Attention on the neck's maps (ECA, or coordinate attention of Hou et al.,
CVPR 2021) is one field away; on two data sets it did not help reliably (examples/compare_sat_networks.py).
"""

import copy
import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_sat import SatConfig
from .losses_sat import detection_losses, distances_to_boxes, expected_distances, level_points


@dataclass
class SatModelOutput(ModelOutput):
    """Output of [`SatModel`].

    Args:
        last_hidden_state (`Tensor` of shape `(B, neck_channels, H / 32, W / 32)`): the coarsest map.
        feature_maps (`tuple` of three `Tensor`): what the head reads, at strides 8, 16, 32.
        backbone_maps (`tuple` of three `Tensor`): what the backbone gives the neck, at the same strides.
    """

    last_hidden_state: Tensor | None = None
    feature_maps: tuple[Tensor, ...] | None = None
    backbone_maps: tuple[Tensor, ...] | None = None


@dataclass
class SatObjectDetectionOutput(ModelOutput):
    """Output of [`SatForObjectDetection`]. N points: every cell of the three levels, row by row, finest level first.

    Args:
        loss (`Tensor` of shape `()`): weighted sum of the terms.
        loss_dict (`dict[str, Tensor]`): every term, unweighted: `quality_focal`, `giou`, `distribution_focal`.
        logits (`Tensor` of shape `(B, N, classes)`): class scores before the sigmoid; several classes may hold.
        pred_boxes (`Tensor` of shape `(B, N, 4)`): cx, cy, w, h as shares of the input (padding included), float32,
            clipped to it.
        distance_logits (`Tensor` of shape `(B, N, 4 (reg_max + 1))`): distributions of the distances from a point to
            the left, top, right, bottom side in strides, before the softmax.
        input_sizes (`Tensor` of shape `(B, 2)`): height and width of `pixel_values`, by which
            `SatImageProcessor.post_process_object_detection` finds the image in its padding.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    pred_boxes: Tensor | None = None
    distance_logits: Tensor | None = None
    input_sizes: Tensor | None = None


class SatHeadConv(nn.Conv2d):
    """A convolution that starts with small weights (`config.head_init_std`)."""


class SatPredictor(SatHeadConv):
    """The last convolution of the head: every class starts as improbable as `config.class_prior`."""


class SatGate(nn.Conv2d):
    """A convolution that starts as zero, and what it gates as the identity."""


class SatStridedDepthwise(nn.Conv2d):
    """A depthwise convolution with a stride, in 32-bit floats on CPUs: its gradients take ten times as long in 16."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


class SatConvLayer(nn.Module):
    """Convolution, batch normalisation and, by default, leaky ReLU."""

    def __init__(
        self,
        config: SatConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        activate: bool = True,
        conv_class: type[nn.Conv2d] = nn.Conv2d,
    ):
        super().__init__()
        if depthwise and stride > 1:
            conv_class = SatStridedDepthwise
        self.convolution = conv_class(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=in_channels if depthwise else 1,
            bias=config.fused,
        )
        self.normalization = (
            nn.Identity()
            if config.fused
            else nn.BatchNorm2d(out_channels, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)
        )
        self.activation = nn.LeakyReLU(config.leaky_relu_slope, inplace=True) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.normalization(self.convolution(x)))

    def fuse(self) -> None:
        """Moves the batch normalisation into the convolution; the module has to be in evaluation mode."""
        if isinstance(self.normalization, nn.BatchNorm2d):
            self.convolution = nn.utils.fuse_conv_bn_eval(self.convolution, self.normalization)
            self.normalization = nn.Identity()


class SatShuffleBlock(nn.Module):
    """ShuffleNetV2 block: one half of the channels is processed, the other passes, then both are interleaved.

    With stride 2 both halves are made from all channels.
    """

    def __init__(self, config: SatConfig, in_channels: int, middle_channels: int, out_channels: int, stride: int):
        super().__init__()
        half = out_channels // 2
        self.shortcut = None
        if stride == 2:
            self.shortcut = nn.Sequential(
                SatConvLayer(config, in_channels, in_channels, 3, stride, depthwise=True, activate=False),
                SatConvLayer(config, in_channels, half),
            )
        self.branch = nn.Sequential(
            SatConvLayer(config, in_channels if stride == 2 else half, middle_channels),
            SatConvLayer(config, middle_channels, middle_channels, 3, stride, depthwise=True, activate=False),
            SatConvLayer(config, middle_channels, half),
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H / stride, W / stride)
        passed, worked = x.chunk(2, dim=1) if self.shortcut is None else (self.shortcut(x), x)
        halves = passed, self.branch(worked)
        last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        if self.training and last and x.device.type in ("cpu", "cuda"):  # others may have no `channel_shuffle`
            return torch.channel_shuffle(torch.cat(halves, dim=1), 2)  # as below, with channels last in memory
        return torch.stack(halves, dim=2).flatten(1, 2)  # channel by channel from each half


class SatBackbone(nn.Module):
    """ShuffleNetV2: stem to stride 4, then three stages that halve the resolution each."""

    def __init__(self, config: SatConfig):
        super().__init__()
        self.stem = SatConvLayer(config, 3, config.stem_channels, kernel_size=3, stride=2)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        before = config.stem_channels
        for width, middles in zip(config.stage_channels, config.block_channels, strict=True):
            first = SatShuffleBlock(config, before, middles[0], width, stride=2)
            others = [SatShuffleBlock(config, width, middle, width, stride=1) for middle in middles[1:]]
            self.stages.append(nn.Sequential(first, *others))
            before = width

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        x = self.pool(self.stem(pixel_values))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)  # (B, C_l, H / s, W / s) for s = 8, 16, 32


class SatChannelAttention(nn.Module):
    """ECA (Wang et al., CVPR 2020): a factor for each channel from the means of its neighbours.

    The factor is 2 sigmoid(.) rather than sigmoid(.), so that zero weights are the identity: what was learned without
    attention is kept, and the gates start where they learn fastest.
    """

    def __init__(self, config: SatConfig):
        super().__init__()
        size = config.attention_kernel_size
        self.gate = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        means = x.mean(dim=(2, 3))[:, None]  # (B, 1, C)
        return x * (2 * self.gate(means).sigmoid()).transpose(1, 2)[..., None]


class SatCoordinateAttention(nn.Module):
    """Coordinate attention: a factor for each channel and row times one for each channel and column.

    Faint but long structures keep their position, which a mean over the whole map loses. Factors as in
    [`SatChannelAttention`].
    """

    def __init__(self, config: SatConfig):
        super().__init__()
        channels = config.neck_channels
        squeezed = channels // config.attention_reduction
        self.squeeze = SatConvLayer(config, channels, squeezed, activate=False)
        self.row_gate = SatGate(squeezed, channels, kernel_size=1)
        self.column_gate = SatGate(squeezed, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        height, width = x.shape[2:]
        rows = x.mean(dim=3, keepdim=True)  # (B, C, H, 1)
        columns = x.mean(dim=2, keepdim=True).transpose(2, 3)  # (B, C, W, 1)
        squeezed = F.hardswish(self.squeeze(torch.cat([rows, columns], dim=2)))  # (B, c, H + W, 1)
        rows, columns = squeezed.split([height, width], dim=2)
        row_factor = 2 * self.row_gate(rows).sigmoid()  # (B, C, H, 1)
        column_factor = 2 * self.column_gate(columns).sigmoid().transpose(2, 3)  # (B, C, 1, W)
        return x * row_factor * column_factor


ATTENTION_CLASSES = {"eca": SatChannelAttention, "coordinate": SatCoordinateAttention}


class SatNeck(nn.Module):
    """Path aggregation without any convolution but the three that bring all maps to one width."""

    def __init__(self, config: SatConfig):
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, config.neck_channels, 1) for width in config.stage_channels)
        attention = ATTENTION_CLASSES.get(config.attention)
        self.attention = nn.ModuleList(nn.Identity() if attention is None else attention(config) for _ in range(3))

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        fine, middle, coarse = (lateral(x) for lateral, x in zip(self.laterals, maps, strict=True))
        middle = middle + _twice(coarse)
        fine = fine + _twice(middle)
        middle = middle + F.avg_pool2d(fine, 2)
        coarse = coarse + F.avg_pool2d(middle, 2)
        return tuple(attend(x) for attend, x in zip(self.attention, (fine, middle, coarse), strict=True))


class SatHeadLevel(nn.Module):
    """Depthwise-separable convolutions of one level and the 1x1 convolution to classes and distances."""

    def __init__(self, config: SatConfig):
        super().__init__()
        widths = [config.neck_channels, *config.head_widths]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [
                SatConvLayer(config, before, before, 3, depthwise=True, conv_class=SatHeadConv),
                SatConvLayer(config, before, after, conv_class=SatHeadConv),
            ]
        self.tower = nn.Sequential(*layers)
        self.predictor = SatPredictor(widths[-1], config.num_labels + 4 * (config.reg_max + 1), kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, H W, classes + 4 (reg_max + 1))
        return self.predictor(self.tower(x)).flatten(2).transpose(1, 2)


class SatPreTrainedModel(PreTrainedModel):
    config: SatConfig
    config_class = SatConfig
    base_model_prefix = "sat"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    accepts_loss_kwargs = False

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """Saves weights, config and, as everywhere in this folder, the code: for each Auto class that opens it."""
        if self._auto_class is not None:
            module = type(self).__module__.rsplit(".", 1)[-1]
            others = getattr(self.config, "auto_map", None) or {}
            self.config.auto_map = {
                **others,
                "AutoModel": f"{module}.SatModel",
                "AutoModelForObjectDetection": f"{module}.SatForObjectDetection",
            }
        super().save_pretrained(save_directory, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Called only for modules that own parameters themselves, not for those that merely hold such modules.
        super()._init_weights(module)
        config = self.config
        if isinstance(module, SatHeadConv):
            init.normal_(module.weight, std=config.head_init_std)
        elif isinstance(module, (SatGate, nn.Conv1d)):
            init.zeros_(module.weight)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, a=config.leaky_relu_slope, nonlinearity="leaky_relu")
        if isinstance(module, SatPredictor):
            bias = torch.zeros(module.out_channels)
            bias[: config.num_labels] = math.log(config.class_prior / (1 - config.class_prior))
            init.copy_(module.bias, bias)

    def fuse(self):
        """Moves every batch normalisation into the convolution before it: the same outputs, faster.

        In place and for good, in evaluation mode; `config.fused` is set, so that the fused model saves and loads.

        Returns:
            The model itself.
        """
        self.eval()
        config = copy.deepcopy(self.config)  # others may share it
        config.fused = True
        for module in self.modules():
            if isinstance(module, SatConvLayer):
                module.fuse()
            elif isinstance(module, SatPreTrainedModel):
                module.config = config
        return self


class SatModel(SatPreTrainedModel):
    """Backbone and neck: an image to three feature maps."""

    def __init__(self, config: SatConfig):
        super().__init__(config)
        self.backbone = SatBackbone(config)
        self.neck = SatNeck(config)
        self.post_init()

    def forward(self, pixel_values: Tensor, return_dict: bool | None = None, **kwargs) -> SatModelOutput | tuple:
        """Extracts features.

        Args:
            pixel_values (`Tensor` of shape `(B, 3, H, W)`): as the image processor makes them, H and W multiples of
                32.

        Returns:
            [`SatModelOutput`]

        Raises:
            ValueError: the size is not a multiple of 32.
        """
        height, width = pixel_values.shape[-2:]
        if height % 32 or width % 32 or not height or not width:
            raise ValueError(
                f"SAT: expected pixel_values whose height and width are multiples of 32, found {height} x {width}; "
                "SatImageProcessor pads images to such a size."
            )
        backbone_maps = self.backbone(pixel_values)
        feature_maps = self.neck(backbone_maps)
        outputs = SatModelOutput(feature_maps[-1], feature_maps, backbone_maps)
        return outputs.to_tuple() if return_dict is False else outputs


class SatForObjectDetection(SatPreTrainedModel):
    """SAT or, by its configuration, NanoDet-m: an image to boxes.

    Example:

    >>> model = AutoModelForObjectDetection.from_pretrained(folder, trust_remote_code=True)  # doctest: +SKIP
    >>> processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)  # doctest: +SKIP
    >>> outputs = model(**processor(image, return_tensors="pt"))  # doctest: +SKIP
    >>> sizes = [(image.height, image.width)]  # doctest: +SKIP
    >>> processor.post_process_object_detection(outputs, threshold=0.4, target_sizes=sizes)  # doctest: +SKIP
    """

    def __init__(self, config: SatConfig):
        super().__init__(config)
        self.sat = SatModel(config)
        self.head = nn.ModuleList(SatHeadLevel(config) for _ in config.strides)
        # By the name of this class transformers would choose the loss of DETR.
        self.loss_function = detection_losses
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: list[dict[str, Tensor]] | None = None,
        return_dict: bool | None = None,
        pixel_mask: Tensor | None = None,
        **kwargs,
    ) -> SatObjectDetectionOutput | tuple:
        """Detects objects.

        Args:
            pixel_values (`Tensor` of shape `(B, 3, H, W)`): as the image processor makes them (colours in
                `config.channel_order`, normalised); H and W multiples of 32.
            labels: for each image `class_labels` (n,) and `boxes` (n, 4): cx, cy, w, h as shares of the input,
                padding included; n may be 0. With them the loss is computed.
            pixel_mask (`Tensor` of shape `(B, H, W)`): 1 where the input of an image would end if it were alone, from
                the upper left; only that part of each image is used, so that its detections do not
                depend on the others. Without effect where there are labels, whose boxes count in the whole input.

        Returns:
            [`SatObjectDetectionOutput`]; of an image with fewer points than others of the batch, the last `logits` are
            the lowest number there is and its `pred_boxes` empty.

        Raises:
            ValueError: the size is not a multiple of 32, labels and images differ in number, or a box is no box, or
                there is no such class.
        """
        if pixel_mask is not None and labels is None and not pixel_mask.all():
            outputs = self._each_in_its_part(pixel_values, pixel_mask)
            return outputs.to_tuple() if return_dict is False else outputs
        maps = self.sat(pixel_values).feature_maps
        predictions = torch.cat([level(x) for level, x in zip(self.head, maps, strict=True)], dim=1)
        logits, distance_logits = predictions.split([self.config.num_labels, 4 * (self.config.reg_max + 1)], dim=-1)

        points, strides = level_points([x.shape[-2:] for x in maps], self.config.strides, predictions.device)
        boxes = distances_to_boxes(points, expected_distances(distance_logits) * strides[:, None])  # (B, N, 4)  pixels
        height, width = pixel_values.shape[-2:]
        extent = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
        pred_boxes = box_convert((boxes / extent).clamp(0, 1), "xyxy", "cxcywh")

        loss = loss_dict = None
        if labels is not None:
            self._check_labels(labels, len(pixel_values))
            true_boxes = [box_convert(row["boxes"].to(extent).reshape(-1, 4), "cxcywh", "xyxy") for row in labels]
            classes = [row["class_labels"] for row in labels]
            loss, loss_dict = self._loss(
                logits, distance_logits, points, strides, [rows * extent for rows in true_boxes], classes
            )
        outputs = SatObjectDetectionOutput(
            loss=loss,
            loss_dict=loss_dict,
            logits=logits,
            pred_boxes=pred_boxes,
            distance_logits=distance_logits,
            input_sizes=torch.tensor([height, width], device=boxes.device).expand(len(pixel_values), 2),
        )
        return outputs.to_tuple() if return_dict is False else outputs

    def _each_in_its_part(self, pixel_values: Tensor, pixel_mask: Tensor) -> SatObjectDetectionOutput:
        """Images of one size at a time, without the padding beyond it."""
        heights, widths = (pixel_mask.any(dim).sum(-1).tolist() for dim in (2, 1))
        groups: dict[tuple[int, int], list[int]] = {}
        for image, size in enumerate(zip(heights, widths, strict=True)):
            groups.setdefault(size, []).append(image)
        parts = [(rows, self(pixel_values[rows, :, :h, :w].contiguous())) for (h, w), rows in groups.items()]
        points = max(part.logits.shape[1] for _, part in parts)
        joined = SatObjectDetectionOutput(
            input_sizes=torch.tensor([heights, widths], device=pixel_values.device).T.contiguous()
        )
        for name in ("logits", "pred_boxes", "distance_logits"):
            like = parts[0][1][name]
            rest = torch.finfo(like.dtype).min if name == "logits" else 0.0
            joined[name] = like.new_full((len(pixel_values), points, like.shape[-1]), rest)
            for rows, part in parts:
                joined[name][rows, : part[name].shape[1]] = part[name]
        return joined

    def _check_labels(self, labels: list[dict[str, Tensor]], images: int) -> None:
        if len(labels) != images:
            raise ValueError(f"SAT: expected labels for {images} images, found {len(labels)}.")
        for number, row in enumerate(labels):
            if len(row["boxes"]) != len(row["class_labels"]) or not row["boxes"].isfinite().all():
                raise ValueError(
                    f"SAT: expected a finite box for each class label, found {row['boxes'].tolist()} for "
                    f"{row['class_labels'].tolist()} (image {number} of the batch)."
                )
        found = torch.cat([row["class_labels"] for row in labels])
        if len(found) and not 0 <= found.min() <= found.max() < self.config.num_labels:
            raise ValueError(
                f"SAT: expected class_labels from 0 to {self.config.num_labels - 1}, found {int(found.min())} to "
                f"{int(found.max())}; category ids of a COCO file have to be mapped to 0..N-1 first."
            )

    def _loss(self, logits, distance_logits, points, strides, boxes, classes) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the losses, and each of them, unweighted."""
        config = self.config
        terms = self.loss_function(
            logits,
            distance_logits,
            points,
            strides,
            boxes,
            classes,
            topk=config.assigner_topk,
            cell_scale=config.assigner_cell_scale,
            beta=config.quality_focal_beta,
            skip_without_positives=config.skip_batches_without_boxes,
        )
        factors = {
            "quality_focal": config.quality_focal_weight,
            "giou": config.giou_weight,
            "distribution_focal": config.distribution_focal_weight,
        }
        return torch.stack([factors[name] * term for name, term in terms.items()]).sum(), terms


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


__all__ = ["SatForObjectDetection", "SatModel", "SatModelOutput", "SatObjectDetectionOutput", "SatPreTrainedModel"]

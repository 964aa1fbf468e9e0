"""Image processor of SAT: images of any mode to tensors; outputs to boxes in the pixels of those images."""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import batched_nms, box_convert
from transformers import BatchFeature
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_transforms import group_images_by_shape, reorder_images
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

FITS = ("pad", "letterbox", "stretch")
MAX_CANDIDATES = 10_000  # best (point, class) pairs of an image that the suppression considers


class Placement(NamedTuple):
    """Where an image lies in the network's input: x -> scale_x x + offset_x, y likewise, on a canvas of this size."""

    scale_y: float
    scale_x: float
    offset_y: float
    offset_x: float
    height: int
    width: int

    def to_image(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """xyxy boxes of the input -> of the image (height x width), clipped to it."""
        offset = boxes.new_tensor([self.offset_x, self.offset_y] * 2)
        scale = boxes.new_tensor([self.scale_x, self.scale_y] * 2)
        extent = boxes.new_tensor([width, height] * 2)
        return ((boxes - offset) / scale).clamp(min=0).minimum(extent)


def place_image(height: int, width: int, target_height: int, target_width: int, fit: str) -> Placement:
    """The official geometry: no half-pixel shift, whole pixels cut off, centre on centre.

    Args:
        height: of the image, in pixels; width likewise.
        target_height: size to fit the image in; target_width likewise.
        fit: "pad", "letterbox" or "stretch", see [`SatImageProcessor`].

    Example:

    >>> place_image(333, 500, 320, 320, "pad")[3:]  # 333 / 500 x 320 = 213.12, cut off to 213
    (0.0900900900900865, 213, 320)
    """
    if fit == "stretch":
        return Placement(target_height / height, target_width / width, 0.0, 0.0, target_height, target_width)
    by_height = width / height < target_width / target_height
    ratio = target_height / height if by_height else target_width / width
    if fit == "pad":
        target_height, target_width = max(1, int(ratio * height)), max(1, int(ratio * width))
        by_height = width / height < target_width / target_height
        ratio = target_height / height if by_height else target_width / width
    offset_y, offset_x = target_height / 2 - ratio * height / 2, target_width / 2 - ratio * width / 2
    return Placement(ratio, ratio, offset_y, offset_x, target_height, target_width)


def warp(images: Tensor, place: Placement) -> Tensor:
    """Bilinear samples without antialiasing, black outside: what OpenCV's warp gives, up to one grey level.

    Args:
        images (`Tensor` of shape `(..., H, W)`): uint8 or floating point.
        place: where they go.

    Returns:
        `Tensor` of shape `(..., place.height, place.width)`: float32; of uint8 images whole numbers.
    """
    whole = not images.is_floating_point()
    for dim, size, scale, offset in (
        (-2, place.height, place.scale_y, place.offset_y),
        (-1, place.width, place.scale_x, place.offset_x),
    ):
        length = images.shape[dim]
        positions = (np.arange(size) - offset) / scale
        low = np.floor(positions)
        share = positions - low
        mixed = []
        for index, weight in ((low, 1 - share), (low + 1, share)):
            weight = np.where((index >= 0) & (index < length), weight, 0.0).astype(np.float32)
            weights = torch.from_numpy(weight).to(images.device)
            places = torch.from_numpy(index.clip(0, length - 1).astype(np.int64)).to(images.device)
            if dim == -2:
                taken, weights = images.index_select(dim, places).float(), weights[:, None]
            else:  # several times as fast as `index_select` is along the last axis
                taken = images.gather(dim, places.expand(*images.shape[:-1], size))
            mixed.append(taken.mul_(weights))
        images = mixed[0].add_(mixed[1])
    return images.round_() if whole else images


def check_colors(images, do_rescale: bool, rescale_factor: float) -> None:
    """Refuses images that would silently be black, white or nothing: arrays or tensors as a processor has them.

    Raises:
        ValueError: no pixels, NaN or infinity; or, if values are still to be divided by 255, fractions up to 1 or
            values far from 0 to 255.
    """
    divides = do_rescale and abs(rescale_factor * 255 - 1) < 1e-3
    for number, image in enumerate(images, start=1):
        if 0 in image.shape:
            raise ValueError(f"image {number}: expected one with pixels, found one of the shape {tuple(image.shape)}.")
        kind = str(image.dtype)
        if kind.endswith("uint8"):
            continue
        values = image.float() if kind.startswith("torch") else image  # PyTorch has no minimum of uint16
        low, high = float(values.min()), float(values.max())
        if not -np.inf < low <= high < np.inf:
            raise ValueError(f"image {number}: expected finite values, found NaN or infinity.")
        if divides and low >= -1 and high <= 1 and "float" in kind and bool((values % 1 != 0).any()):
            raise ValueError(
                f"image {number}: expected colors from 0 to 255, found fractions up to {high:g}: multiply by 255, "
                "or give do_rescale=False."
            )
        if divides and (low < -255 or high > 510):
            raise ValueError(f"image {number}: expected colors from 0 to 255, found values from {low:g} to {high:g}.")


def to_rgb(image: Image.Image) -> Image.Image:
    """An 8-bit RGB image from a PIL image of any mode.

    Animations give their first frame, transparency becomes white, 16- and 32-bit greys and floats are stretched
    linearly from their own darkest to their own brightest value (sensors use 10 to 14 of the 16 bits). NaN, the usual
    mark for no data, is black. EXIF does not turn it here, since boxes count in the pixels that an image has: whoever
    opens a file turns it upright first, as pipelines and transformers' `load_image` do.
    """
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        known = values[np.isfinite(values)]
        low, high = (known.min(), known.max()) if known.size else (0, 0)
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
        values = (values - low) * (255 / (high - low)) if high > low else np.clip(values, 0, 255)
        image = Image.fromarray(np.round(values).astype(np.uint8))
    if image.mode in ("La", "RGBa"):  # colours multiplied by their opacity
        image = image.convert(image.mode.replace("a", "A"))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


class SatImageProcessorKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """Options of [`SatImageProcessor`] beyond those of every image processor."""

    fit: str | None
    channel_order: str | None
    size_divisor: int | None


class SatImageProcessor(TorchvisionBackend):
    """Warps images as NanoDet does, batched, and turns predictions into boxes.

    Args:
        size (`dict`): `height` and `width` that an image is fitted in, in pixels.
        fit (`str`): "pad" keeps the aspect ratio and pads right and bottom with 0 *after* normalisation (released
            evaluation); "letterbox" keeps it too, the image in the middle of `size`, black around it *before*
            normalisation (released training of NanoDet-m); "stretch" squashes the image to `size`.
        channel_order (`str`): "bgr" or "rgb": order of the colours in `pixel_values`, `image_mean` and `image_std`. As
            `SatConfig.channel_order` of the model.
        size_divisor (`int`): the input is padded to a multiple of it.
        do_pad (`bool`, *optional*): True pads every image to `size`, whatever its shape, so that inputs can always be
            put together, in a batch or by a pipeline; `pixel_mask` says which part the model uses, so that no
            detection depends on the batch. False leaves each image at the size it needs, all of them the same.
            Default: True for a list of images, False for a single one.

    Returns `pixel_values` (B, 3, H, W) and `pixel_mask` (B, H, W), which is 1 where the input would end if its image
    were alone.

    Example:

    >>> processor = SatImageProcessor(size={"height": 416, "width": 416})
    >>> processor(Image.new("RGB", (640, 480)), return_tensors="pt")["pixel_values"].shape
    torch.Size([1, 3, 320, 416])
    """

    valid_kwargs = SatImageProcessorKwargs
    resample = PILImageResampling.BILINEAR  # the only one `warp` has
    size = {"height": 320, "width": 320}  # noqa: RUF012
    fit = "pad"
    channel_order = "bgr"
    size_divisor = 32
    image_mean = (103.53 / 255, 116.28 / 255, 123.675 / 255)
    image_std = (57.375 / 255, 57.12 / 255, 58.395 / 255)
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_pad = None
    model_input_names = ["pixel_values", "pixel_mask"]  # noqa: RUF012

    @classmethod
    def for_config(cls, config, **overrides) -> "SatImageProcessor":
        """The processor that belongs to a [`SatConfig`]: colours in its order."""
        if config.channel_order == "rgb":
            overrides = {"image_mean": cls.image_mean[::-1], "image_std": cls.image_std[::-1], **overrides}
        return cls(**{"channel_order": config.channel_order, **overrides})

    def _standardize_kwargs(self, fit: str | None = None, channel_order: str | None = None, **kwargs) -> dict:
        if fit not in FITS:
            raise ValueError(f"SatImageProcessor: fit must be among {FITS}, found {fit!r}.")
        if channel_order not in ("bgr", "rgb"):
            raise ValueError(f"SatImageProcessor: channel_order must be 'bgr' or 'rgb', found {channel_order!r}.")
        kwargs = super()._standardize_kwargs(**kwargs)
        if not (kwargs["size"].height and kwargs["size"].width):
            raise ValueError(f"SatImageProcessor: size must have 'height' and 'width', found {kwargs['size']}.")
        return {**kwargs, "fit": fit, "channel_order": channel_order}

    def preprocess(self, images, *args, do_pad: bool | None = None, **kwargs) -> BatchFeature:
        several = isinstance(images, (list, tuple)) or getattr(images, "ndim", 3) > 3
        if several and not len(images):
            raise ValueError("SatImageProcessor: expected at least one image, found none.")
        if do_pad is None:
            do_pad = several if self.do_pad is None else self.do_pad
        return super().preprocess(images, *args, do_pad=do_pad, **kwargs)

    def process_image(self, image, do_convert_rgb=None, **kwargs) -> Tensor:
        if do_convert_rgb and isinstance(image, Image.Image):
            image = to_rgb(image)
        if 0 in (image.size if isinstance(image, Image.Image) else image.shape):
            shape = image.size if isinstance(image, Image.Image) else tuple(image.shape)
            raise ValueError(f"SatImageProcessor: expected an image with pixels, found one of the shape {shape}.")
        return super().process_image(image, do_convert_rgb=do_convert_rgb, **kwargs)

    def _preprocess(
        self,
        images: list[Tensor],
        do_resize: bool,
        size: SizeDict,
        fit: str,
        channel_order: str,
        size_divisor: int,
        do_pad: bool,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean,
        image_std,
        disable_grouping: bool | None,
        return_tensors,
        **kwargs,
    ) -> BatchFeature:
        check_colors(images, do_rescale, rescale_factor)
        groups, places = group_images_by_shape(images, disable_grouping=disable_grouping)
        for shape, stacked in groups.items():
            if do_resize:
                stacked = warp(
                    stacked, place_image(stacked.shape[-2], stacked.shape[-1], size.height, size.width, fit)
                )
            if channel_order == "bgr":
                stacked = stacked.flip(-3)
            groups[shape] = self.rescale_and_normalize(
                stacked, do_rescale, rescale_factor, do_normalize, image_mean, image_std
            )
        ready = reorder_images(groups, places)
        needed = [[-(-side // size_divisor) * size_divisor for side in x.shape[-2:]] for x in ready]
        whole = [-(-side // size_divisor) * size_divisor for side in (size.height, size.width)]
        height, width = whole if do_pad and do_resize else map(max, zip(*needed, strict=True))
        if not do_pad and any(one != [height, width] for one in needed):
            shapes = " and ".join(f"{one[0]} x {one[1]}" for one in sorted(map(list, {*map(tuple, needed)})))
            raise ValueError(
                f"SatImageProcessor: these images need inputs of {shapes}; omit do_pad or process each alone."
            )
        mask = torch.zeros(len(ready), height, width, dtype=torch.int64, device=ready[0].device)
        for row, (own_height, own_width) in zip(mask, needed, strict=True):
            row[:own_height, :own_width] = 1
        padded = ready[0].new_zeros(len(ready), ready[0].shape[0], height, width)
        for row, x in enumerate(ready):
            padded[row, :, : x.shape[-2], : x.shape[-1]] = x
        return BatchFeature({"pixel_values": padded, "pixel_mask": mask}, tensor_type=return_tensors)

    def post_process_object_detection(
        self,
        outputs,
        threshold: float = 0.5,
        target_sizes: Tensor | list[tuple[int, int]] | None = None,
        nms_threshold: float = 0.6,
        max_detections: int = 100,
        **placement,
    ) -> list[dict[str, Tensor]]:
        """Turns the outputs of [`SatForObjectDetection`] into detections.

        Every class of a point above the threshold is a candidate; of two boxes of one class whose IoU is above
        `nms_threshold`, the one with the lower score is dropped.

        Args:
            outputs: what the model returned.
            threshold: minimum score, exclusive.
            target_sizes: (height, width) of each image as it was given to the processor; None gives boxes in pixels
                of the network's input.
            nms_threshold: IoU of two boxes of one class, above which one is dropped.
            max_detections: best ones of an image that are kept.
            placement: `size`, `fit` or `do_resize`, if the images were processed with others than the processor's.

        Returns:
            list of dict, one for each image: `scores` (n,), descending; `labels` (n,); `boxes` (n, 4), xyxy.

        Raises:
            ValueError: sizes and images differ in number.
        """
        logits, pred_boxes, input_sizes = outputs["logits"], outputs["pred_boxes"], outputs["input_sizes"]
        if target_sizes is not None and len(target_sizes) != len(logits):
            raise ValueError(
                f"SatImageProcessor: expected a target size for each of {len(logits)} images, "
                f"found {len(target_sizes)}."
            )
        results = []
        for i in range(len(logits)):
            scores = logits[i].float().sigmoid()  # (N, classes)
            point, label = torch.nonzero(scores > threshold, as_tuple=True)
            score = scores[point, label]
            if len(score) > MAX_CANDIDATES:
                score, best = score.topk(MAX_CANDIDATES)
                point, label = point[best], label[best]
            height, width = input_sizes[i].tolist()
            boxes = box_convert(pred_boxes[i][point].float(), "cxcywh", "xyxy")
            boxes = boxes * boxes.new_tensor([width, height, width, height])
            kept = batched_nms(boxes, score, label, nms_threshold)[:max_detections]
            boxes = boxes[kept]
            if target_sizes is not None:
                image = [int(side) for side in target_sizes[i]]
                boxes = self._placement(*image, **placement).to_image(boxes, *image)
            results.append({"scores": score[kept], "labels": label[kept], "boxes": boxes})
        return results

    def _placement(self, height: int, width: int, size=None, fit=None, do_resize=None) -> Placement:
        """Where `_preprocess` puts an image of this size."""
        if not (self.do_resize if do_resize is None else do_resize):
            return Placement(1.0, 1.0, 0.0, 0.0, height, width)
        size = self.size if size is None else size
        return place_image(height, width, size["height"], size["width"], fit or self.fit)


__all__ = ["SatImageProcessor", "place_image", "to_rgb", "warp"]

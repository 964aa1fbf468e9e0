"""Processor of MTTV: raw posts in, tensors out; and detectors of regions in images."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForObjectDetection, BatchFeature, ProcessorMixin
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling


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


def crop_region(image: Image.Image, box: Sequence[float] | np.ndarray) -> Image.Image:
    """Cuts a region out of an image as released: corners truncated toward zero, black past the border.

    Args:
        image: RGB image.
        box: left, top, right, bottom in its pixels. A box of no area, or outside, gives a black image.

    Raises:
        ValueError: not four finite numbers, or right of left / bottom above top.
    """
    if len(box) != 4 or not all(math.isfinite(edge) for edge in box):
        raise ValueError(f"expected a box of four finite numbers (left, top, right, bottom), found {list(box)}.")
    left, top, right, bottom = (int(edge) for edge in box)
    if right < left or bottom < top:
        raise ValueError(f"expected a box as (left, top, right, bottom), found {list(box)}: its corners are swapped.")
    # A crop far larger than the image is black but for the image: limit it to what is visible at 224 px.
    width, height = image.size
    left, right = max(left, -16 * width), min(right, 17 * width)
    top, bottom = max(top, -16 * height), min(bottom, 17 * height)
    if right <= left or bottom <= top:
        return Image.new("RGB", (1, 1))
    return image.crop((left, top, right, bottom))


@dataclass
class Regions:
    """Regions of one image, best first: boxes (N, 4) as left, top, right, bottom in its pixels; scores (N,)."""

    boxes: np.ndarray
    scores: np.ndarray


class TorchvisionDetector:
    """Regions by a torchvision detector, as released: one image at a time, whatever the class.

    Args:
        model: e.g. `torchvision.models.detection.fasterrcnn_resnet50_fpn(weights="DEFAULT")`, the released choice.
    """

    def __init__(self, model: torch.nn.Module):
        self.model = model.eval()

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> list[Regions]:
        """Finds regions in RGB images."""
        device = next(self.model.parameters()).device
        found = []
        for image in images:
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(device) / 255
            output = self.model([pixels])[0]
            found.append(_best_first(output["boxes"], output["scores"]))
        return found


class TransformersDetector:
    """Regions by any transformers object detector.

    Args:
        model: from `AutoModelForObjectDetection`.
        image_processor: its `AutoImageProcessor`.
        threshold: lowest score kept (0.05: that of the released detector).
        batch_size: images run together.
    """

    def __init__(self, model, image_processor, threshold: float = 0.05, batch_size: int = 8):
        self.model, self.image_processor = model.eval(), image_processor
        self.threshold, self.batch_size = threshold, batch_size

    @classmethod
    def from_pretrained(cls, name: str, threshold: float = 0.05, batch_size: int = 8, **kwargs):
        """Loads a detector.

        Args:
            name: folder or Hub id of a model for `AutoModelForObjectDetection`.
            threshold: see the class; `batch_size` likewise.
            kwargs: for both `from_pretrained`, e.g. `revision` or `trust_remote_code`.
        """
        model = AutoModelForObjectDetection.from_pretrained(name, **kwargs)
        return cls(model, AutoImageProcessor.from_pretrained(name, **kwargs), threshold, batch_size)

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> list[Regions]:
        """Finds regions in RGB images."""
        found = []
        for first in range(0, len(images), self.batch_size):
            batch = list(images[first : first + self.batch_size])
            inputs = self.image_processor(images=batch, return_tensors="pt").to(self.model.device)
            sizes = [(image.height, image.width) for image in batch]
            outputs = self.image_processor.post_process_object_detection(
                self.model(**inputs), threshold=self.threshold, target_sizes=sizes
            )
            found += [_best_first(output["boxes"], output["scores"]) for output in outputs]
        return found


def _best_first(boxes: torch.Tensor, scores: torch.Tensor) -> Regions:
    scores, order = scores.float().cpu().sort(descending=True, stable=True)
    return Regions(boxes.float().cpu()[order].reshape(-1, 4).numpy(), scores.numpy())


class MttvImageProcessor(PilBackend):
    """Squashes an image to a square and normalises it: PIL bilinear and ImageNet statistics, as released."""

    resample = PILImageResampling.BILINEAR
    size = {"height": 224, "width": 224}  # noqa: RUF012
    image_mean = (0.485, 0.456, 0.406)
    image_std = (0.229, 0.224, 0.225)
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def convert_to_rgb(self, image, input_data_format=None):
        if isinstance(image, Image.Image):
            return np.array(to_rgb(image))
        return super().convert_to_rgb(image, input_data_format=input_data_format)

    def _preprocess(self, images, do_rescale=True, rescale_factor=1 / 255, **kwargs) -> BatchFeature:
        check_colors(images, do_rescale, rescale_factor)
        return super()._preprocess(images, do_rescale=do_rescale, rescale_factor=rescale_factor, **kwargs)


class MttvProcessor(ProcessorMixin):
    """Image processor and tokenizer of MTTV as one object: it reads posts.

    Args:
        image_processor: a [`MttvImageProcessor`] (or any image processor).
        tokenizer: the tokenizer of the BERT.
        num_regions (`int`): regions kept of a post; the model's `num_region_tokens`.
        max_tokens (`int`): word pieces kept of a text (released: 127).

    Example:

    >>> processor(text="...", images=image, detector=detector, return_tensors="pt").keys()  # doctest: +SKIP
    ['input_ids', 'attention_mask', 'pixel_values', 'image_mask', 'region_pixel_values', 'region_mask']
    """

    def __init__(self, image_processor=None, tokenizer=None, num_regions=5, max_tokens=127, **kwargs):
        self.num_regions = num_regions
        self.max_tokens = max_tokens
        super().__init__(image_processor, tokenizer, **kwargs)

    def __call__(
        self,
        text=None,
        images=None,
        boxes=None,
        detector=None,
        return_boxes=False,
        return_tensors="pt",
        padding=True,
        **kwargs,
    ) -> BatchFeature:
        """Prepares posts.

        Args:
            text: one text or a list; None or "" is a post without text.
            images: one per text: a PIL image of any mode, None (a post without image) or a list of images. Of
                several images the first gives the global tokens; regions are the best of all images.
            boxes: regions found before, one array-like (N, 4) per text, best first: left, top, right, bottom in pixels
                of the image (the first of several).
            detector: finds the regions if there are no boxes: a function from a list of RGB images to a list of
                [`Regions`], such as [`TorchvisionDetector`] or [`TransformersDetector`]. Neither boxes nor detector:
                a post without regions.
            return_boxes: also return the boxes of the regions.
            return_tensors: "pt" or "np".
            padding: True pads to the longest text of the batch.

        Returns:
            `input_ids` and `attention_mask` (B, T). With images also `pixel_values` (B, 3, H, W) and `image_mask`
            (B,); with boxes or a detector also `region_pixel_values` (B, num_regions, 3, H, W) and `region_mask`
            (B, num_regions), and `region_boxes` (B, num_regions, 5) if asked for: number of the image in the post,
            left, top, right, bottom. Masks are 0 where there is no image or region.

        Raises:
            ValueError: no post, texts and images that do not pair up, an image that cannot be read, or a bad box.
        """
        texts, posts = _paired(text, images)
        features = dict(self._tokens(texts, padding))
        if images is not None:
            features.update(self._image(posts, **kwargs))
            if boxes is not None or detector is not None:
                regions = self._regions(posts, boxes, detector, **kwargs)
                if not return_boxes:
                    del regions["region_boxes"]
                features.update(regions)
        elif boxes is not None:
            raise ValueError("MttvProcessor: boxes are given without images; they are cut out of the images.")
        return BatchFeature(features, tensor_type=return_tensors)

    def _tokens(self, texts: list[str], padding) -> dict[str, np.ndarray]:
        encoded = self.tokenizer(
            [as_released(text) for text in texts],
            add_special_tokens=False,
            truncation=True,
            max_length=self.max_tokens,
            return_token_type_ids=False,
        )
        # Padded apart: a tokenizer keeps how it pads, so that calls with and without it would disturb each other
        # where threads share one.
        width = self.max_tokens if padding == "max_length" else None
        encoded = self.tokenizer.pad(encoded, padding=padding, max_length=width, verbose=False)
        if not any(len(row) for row in encoded["input_ids"]):  # tensors of no width break exporters and collators
            blank = np.zeros((len(texts), 1), dtype=np.int64)
            return {"input_ids": blank + (self.tokenizer.pad_token_id or 0), "attention_mask": blank}
        return {name: np.asarray(encoded[name], dtype=np.int64) for name in ("input_ids", "attention_mask")}

    def _image(self, posts: list[list[Image.Image]], **kwargs) -> dict[str, np.ndarray]:
        blank = Image.new("RGB", (1, 1))
        pixels = self.image_processor([post[0] if post else blank for post in posts], return_tensors="np", **kwargs)
        mask = np.array([bool(post) for post in posts], dtype=np.int64)
        shown = mask[:, None, None, None].astype(np.float32)
        return {"pixel_values": pixels["pixel_values"] * shown, "image_mask": mask}

    def _regions(self, posts: list[list[Image.Image]], boxes, detector, **kwargs) -> dict[str, np.ndarray]:
        if boxes is None:
            chosen = _detected(posts, detector)
        else:
            if len(posts) == 1 and len(boxes) and np.ndim(boxes[0]) == 1 and len(boxes[0]):
                boxes = [boxes]  # those of the one post, as they are
            if len(boxes) != len(posts):
                raise ValueError(f"MttvProcessor: expected boxes for {len(posts)} posts, found {len(boxes)}.")
            chosen = [[(0, box) for box in own] if post else [] for post, own in zip(posts, boxes, strict=True)]
        height, width = self.image_processor.size["height"], self.image_processor.size["width"]
        pixels = np.zeros((len(posts), self.num_regions, 3, height, width), dtype=np.float32)
        mask = np.zeros((len(posts), self.num_regions), dtype=np.int64)
        places = np.zeros((len(posts), self.num_regions, 5), dtype=np.float32)
        for row, (post, regions) in enumerate(zip(posts, chosen, strict=True)):
            crops = [crop_region(post[number], box) for number, box in regions[: self.num_regions]]
            if crops:
                pixels[row, : len(crops)] = self.image_processor(crops, return_tensors="np", **kwargs)["pixel_values"]
                mask[row, : len(crops)] = 1
                places[row, : len(crops)] = [(number, *box) for number, box in regions[: self.num_regions]]
        return {"region_pixel_values": pixels, "region_mask": mask, "region_boxes": places}

    @property
    def model_input_names(self) -> list[str]:
        return [
            "input_ids", "attention_mask", "pixel_values", "image_mask", "region_pixel_values", "region_mask",
        ]  # fmt: skip


def _detected(posts: list[list[Image.Image]], detector) -> list[list[tuple[int, np.ndarray]]]:
    """The regions of each post over all its images, best first, as (number of the image, box)."""
    found = iter(detector([image for post in posts for image in post]))
    chosen = []
    for post in posts:
        scored = []
        for number, _ in enumerate(post):
            regions = next(found)
            scored += [(score, number, box) for score, box in zip(regions.scores, regions.boxes, strict=True)]
        scored.sort(key=lambda region: -region[0])  # stable: ties stay in the order of the images
        chosen.append([(number, box) for _, number, box in scored])
    return chosen


_SPECIAL = re.compile(r"\[(?:UNK|SEP|PAD|CLS|MASK)\]")


def as_released(text: str) -> str:
    """A text of which the tokenizer makes the released word pieces.

    A literal "[SEP]" (or [CLS], ...) was a special token only where it stood alone, between blanks or Chinese
    characters; transformers' tokenizers see one anywhere. In lower case it is no special token, and no other word.
    """

    def alone(place: int) -> bool:
        return not 0 <= place < len(text) or text[place].isspace() or is_chinese(text[place])

    return _SPECIAL.sub(lambda m: m[0] if alone(m.start() - 1) and alone(m.end()) else m[0].lower(), text)


def is_chinese(character: str) -> bool:
    """A character that is a word by itself to BERT's tokenizers."""
    code = ord(character)
    return (
        0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x2FA1F
    )


def _paired(text, images) -> tuple[list[str], list[list[Image.Image]]]:
    """Texts and, for each, its images in RGB."""
    if text is None and images is None:
        raise ValueError("MttvProcessor: expected text, images or both; found neither.")
    single = isinstance(text, str) or (text is None and not isinstance(images, (list, tuple)))
    if text is None:
        texts = [""] * (1 if single else len(images))
    else:
        texts = [text] if single else ["" if one is None else one for one in text]
    for one in texts:
        if not isinstance(one, str):
            raise ValueError(f"MttvProcessor: expected texts to be strings, found {type(one).__name__}.")
    posts: list[Any] = [None] * len(texts)
    if images is not None:
        posts = [images] if single and not (isinstance(images, (list, tuple)) and len(images) == 1) else list(images)
    if len(posts) != len(texts):
        raise ValueError(
            f"MttvProcessor: expected an image (or None) for each of the {len(texts)} texts, found {len(posts)}."
        )
    if not texts:
        raise ValueError("MttvProcessor: expected at least one post, found an empty list.")
    several = [post if isinstance(post, (list, tuple)) else [post] for post in posts]
    return texts, [[_readable(image) for image in post if image is not None] for post in several]


def _readable(image) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise ValueError(
            f"MttvProcessor: expected a PIL image, found {type(image).__name__}; open it with Image.open."
        )
    try:
        image.load()
        return to_rgb(image)
    except (OSError, SyntaxError, ValueError) as error:
        name = getattr(image, "filename", "") or "an image"
        raise ValueError(f"MttvProcessor: {name} cannot be read ({error}); omit it or pass None.") from error


__all__ = [
    "MttvImageProcessor",
    "MttvProcessor",
    "Regions",
    "TorchvisionDetector",
    "TransformersDetector",
    "as_released",
    "crop_region",
    "to_rgb",
]

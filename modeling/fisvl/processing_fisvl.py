"""Processor of FISVL: images of any mode and sentences of any length to tensors."""

import numpy as np
from PIL import Image
from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling

from .inputs_fisvl import clean_caption, clean_sentence, to_rgb


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


class FisvlImageProcessor(PilBackend):
    """Squashes an image to a square and normalises it: PIL bicubic, as the released evaluation."""

    resample = PILImageResampling.BICUBIC
    size = {"height": 224, "width": 224}  # noqa: RUF012
    image_mean = (0.48145466, 0.4578275, 0.40821073)
    image_std = (0.26862954, 0.26130258, 0.27577711)
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def convert_to_rgb(self, image, **kwargs):
        return np.array(to_rgb(image)) if isinstance(image, Image.Image) else super().convert_to_rgb(image, **kwargs)

    def _preprocess(self, images, do_rescale=True, rescale_factor=1 / 255, **kwargs) -> BatchFeature:
        check_colors(images, do_rescale, rescale_factor)
        return super()._preprocess(images, do_rescale=do_rescale, rescale_factor=rescale_factor, **kwargs)


class FisvlProcessor(ProcessorMixin):
    """Image processor and tokenizer of FISVL as one object.

    Args:
        image_processor: a [`FisvlImageProcessor`] (or any image processor).
        tokenizer: the text encoder's tokenizer.
        clean_captions (`bool`): clean sentences with [`clean_caption`], as in training.
        max_words (`int`): words kept of a sentence when cleaning.
        max_tokens (`int`): tokens kept of a sentence, special ones included.

    Example:

    >>> processor(images=[image], text=["a harbour"], return_tensors="pt").keys()  # doctest: +SKIP
    ['pixel_values', 'input_ids', 'attention_mask']
    """

    def __init__(
        self, image_processor=None, tokenizer=None, clean_captions=True, max_words=30, max_tokens=47, **kwargs
    ):
        self.clean_captions = clean_captions
        self.max_words = max_words
        self.max_tokens = max_tokens
        super().__init__(image_processor, tokenizer, **kwargs)

    def __call__(
        self,
        images=None,
        text=None,
        return_tensors="pt",
        padding=True,
        truncation=True,
        max_length=None,
        **kwargs,
    ) -> BatchFeature:
        """Prepares images, sentences or both.

        Args:
            images: one image or a list: PIL images of any mode; arrays or tensors of values 0 to 255, their three
                channels first or last.
            text: one sentence or a list. Blank ones (or only punctuation) become an empty sequence, so that rows keep
                their place.
            return_tensors: "pt" or "np".
            padding: True pads to the longest sentence of the batch, "max_length" to `max_length`.
            truncation: cut sentences to `max_length` tokens.
            max_length: None for the processor's `max_tokens`.
            kwargs: options of the image processor, such as `size`; or options by modality as transformers' processors
                take them: `text_kwargs`, `images_kwargs`, `common_kwargs`.

        Returns:
            `pixel_values` (B, 3, H, W); `input_ids` and `attention_mask` (B, T).

        Raises:
            ValueError: neither images nor sentences, or something else than text among the sentences.
            TypeError: an unknown option.
        """
        if images is None and text is None:
            raise ValueError("FisvlProcessor: expected images, text or both; found neither.")
        text_options = {"padding": padding, "truncation": truncation, "max_length": max_length or self.max_tokens}
        text_options |= kwargs.pop("text_kwargs", {})
        image_options = kwargs.pop("images_kwargs", {})
        return_tensors = kwargs.pop("common_kwargs", {}).get("return_tensors", return_tensors)
        for other in ("audio_kwargs", "videos_kwargs"):  # transformers gives those of every modality
            kwargs.pop(other, None)
        if images is None and kwargs:
            raise TypeError(f"FisvlProcessor: unknown options {', '.join(sorted(kwargs))}.")
        features = {}
        if images is not None:
            features.update(self.image_processor(images, return_tensors=return_tensors, **image_options, **kwargs))
        if text is not None:
            sentences = [text] if isinstance(text, str) else list(text)
            if not sentences or not all(isinstance(sentence, str) for sentence in sentences):
                raise ValueError(f"FisvlProcessor: text must be one sentence or a list of them, found {text!r:.80}.")
            if self.clean_captions:
                sentences = [clean_sentence(sentence, self.max_words) for sentence in sentences]
            features.update(
                self.tokenizer(
                    sentences,
                    return_token_type_ids=False,
                    return_tensors=return_tensors,
                    **text_options,
                )
            )
        return BatchFeature(features)

    @property
    def model_input_names(self) -> list[str]:
        return ["pixel_values", "input_ids", "attention_mask"]


__all__ = ["FisvlImageProcessor", "FisvlProcessor", "clean_caption", "to_rgb"]

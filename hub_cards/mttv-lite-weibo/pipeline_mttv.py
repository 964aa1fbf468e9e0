"""Pipeline of MTTV: raw posts in, predictions out, on request with an explanation and an image of it."""

from pathlib import Path
from typing import Any

import torch
from PIL import ExifTags, Image, ImageDraw, ImageOps
from transformers import Pipeline

from .processing_mttv import TransformersDetector, as_released, is_chinese, to_rgb

TASK = "fake-news-detection"
METHODS = ("occlusion", "integrated_gradients")  # of explaining a prediction
# Parts ranked by it and then removed move the prediction as much as those ranked by integrated gradients where they
# are words, and twice as much where they are cells of the image (40 validation posts of Weibo).
DEFAULT_METHOD = "occlusion"
GRID = 4  # rows and columns of the cells that occlusion hides one by one
_VARIANTS = 64  # of a post, run together
_IMAGES = ("pixel_values", "image_mask", "region_pixel_values", "region_mask")


class MttvPipeline(Pipeline):
    """Classifies posts: `pipeline("fake-news-detection", model=folder, trust_remote_code=True)`.

    Example:

    >>> classify = pipeline("fake-news-detection", model=folder, trust_remote_code=True)  # doctest: +SKIP
    >>> classify({"text": "...", "image": "photo.jpg"})  # doctest: +SKIP
    {'label': 'fake', 'score': 0.93, 'scores': {'fake': 0.93, 'real': 0.07}}
    >>> classify({"text": "...", "image": "photo.jpg"}, explain=True)["words"]  # doctest: +SKIP
    [{'word': '...', 'start': 0, 'end': 3, 'weight': 0.41}, ...]
    """

    task_name = TASK
    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False

    def __init__(self, *args, detector=None, **kwargs):
        """The arguments of every pipeline, and a `detector` of regions.

        Args:
            detector: see `MttvProcessor`; or folder or Hub id of a model for `AutoModelForObjectDetection`. None:
                posts whose `boxes` are not given have no regions.
        """
        super().__init__(*args, **kwargs)
        self.detector = TransformersDetector.from_pretrained(detector) if isinstance(detector, str) else detector

    def __call__(self, inputs: Any = None, **kwargs: Any):
        """Classifies one post or a list.

        Args:
            inputs: a post or a list of posts: a text, or a dict with `text`, `image` (a path, a PIL image, a list of
                these, or None) and `boxes` (regions found before), each of which may be missing. Images are turned
                upright as their EXIF says; all boxes, given or found, count in the pixels of the upright image.
            explain (`bool` or `str`, defaults to False): also return what drove the prediction. "occlusion" removes
                each word, cell and region in turn; "integrated_gradients" is
                [`MttvForSequenceClassification.attribute`]; True is "occlusion".
            steps (`int`, defaults to 24): precision of the integrated gradients.
            batch_size (`int`, defaults to 1): posts run together.

        Returns:
            A dict (or a list of them) with `label`, `score` and `scores` by label. With `explain`, also `method` and,
            in natural log-odds for (above 0) or against the label: `words` (parts of the text: `word`, `start`, `end`,
            `weight`), `regions` (number of the `image` in the post, `box` in its pixels, `weight`), `cells` (rows of
            a grid over the first image). By integrated gradients also `evidence`: their sum, up to the error of
            the integral. By occlusion words and regions also have `without`: the label's probability without them;
            and `without_image` is that without all images (None for a post that would be empty).

        Raises:
            ValueError: not a post, an image that cannot be read, or an unknown method.
        """
        if inputs is None:
            post = {key: kwargs.pop(key) for key in ("text", "image", "boxes") if key in kwargs}
            return super().__call__(post, **kwargs)
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, explain: bool | str | None = None, steps: int | None = None):
        method = DEFAULT_METHOD if explain is True else explain or None
        if method not in (None, *METHODS):
            raise ValueError(f"{TASK}: explain: expected True, False, {' or '.join(METHODS)}, found {explain!r}.")
        forward = {} if steps is None else {"steps": steps}
        return {}, forward if explain is None else {**forward, "method": method}, {}

    def preprocess(self, inputs) -> dict[str, Any]:
        post = {"text": inputs} if isinstance(inputs, str) else inputs
        if not isinstance(post, dict) or set(post) - {"text", "image", "boxes"}:
            found = sorted(map(str, post)) if isinstance(post, dict) else type(post).__name__
            raise ValueError(f"{TASK}: expected a text or a dict with text, image and boxes, found {found}.")
        text, image, boxes = post.get("text") or "", post.get("image"), post.get("boxes")
        reads_pixels = self.model.config.vision_config is not None
        if image is not None and not reads_pixels:
            raise ValueError(
                f"{TASK}: this model has no visual encoder; it classifies text (or precomputed features)."
            )
        options: dict[str, Any] = {}
        if reads_pixels:  # the same tensors for every post, whatever it has, so that posts make batches
            images = [
                _opened(one) for one in (image if isinstance(image, (list, tuple)) else [image]) if one is not None
            ]
            if boxes is None and self.detector is None:
                boxes = []
            options = {"images": [images], "detector": self.detector, "return_boxes": True}
            options["boxes"] = None if boxes is None else [boxes]
        encoded = dict(self.processor(text=[text], **options))
        return {**encoded, "text": [text]}

    def _forward(self, inputs, method: str | None = None, steps: int = 24) -> dict[str, Any]:
        own = {name: inputs.pop(name) for name in ("text", "region_boxes", "region_mask") if name in inputs}
        if "region_mask" in own:
            inputs["region_mask"] = own["region_mask"]
        outputs = {**own, "probabilities": self.model(**inputs).logits.float().softmax(dim=-1)}
        if method == "integrated_gradients":
            baseline = self.processor.tokenizer.mask_token_id
            found = self.model.attribute(**inputs, baseline_id=baseline, steps=steps)
            outputs |= {name: getattr(found, name).float() for name in ("words", "regions", "cells", "evidence")}
        elif method == "occlusion":
            # Of a batch of one the text comes as [text], of more as [[text], [text], ...], and so must what goes out.
            texts = own["text"] if isinstance(own["text"][0], list) else [own["text"]]
            occluded = [[self._occlude(text, inputs, row)] for row, (text,) in enumerate(texts)]
            outputs["occluded"] = occluded if isinstance(own["text"][0], list) else occluded[0]
        return outputs

    def postprocess(self, outputs) -> dict[str, Any]:
        probabilities = outputs["probabilities"][0].tolist()
        labels = [self.model.config.id2label[index] for index in range(len(probabilities))]
        best = max(range(len(labels)), key=probabilities.__getitem__)
        result = {
            "label": labels[best],
            "score": probabilities[best],
            "scores": dict(zip(labels, probabilities, strict=True)),
        }
        if "occluded" in outputs:
            words, regions, cells, without_image = outputs["occluded"][0]
            result |= {"method": "occlusion", "words": words, "cells": cells, "without_image": without_image}
            result["regions"] = [
                {**place, **moved} for place, moved in zip(self._regions(outputs), regions, strict=True)
            ]
        elif "words" in outputs:
            result |= {"method": "integrated_gradients", "words": self._words(outputs["text"][0], outputs["words"][0])}
            weights = outputs["regions"][0].tolist()
            result["regions"] = [
                {**place, "weight": weights[number]} for number, place in enumerate(self._regions(outputs))
            ]
            result["cells"] = outputs["cells"][0].tolist()
            result["evidence"] = float(outputs["evidence"][0])
        return result

    def _regions(self, outputs) -> list[dict[str, Any]]:
        """Boxes of the regions that the model saw; they come before the filling."""
        count = int(outputs["region_mask"][0].sum()) if "region_mask" in outputs else 0
        places = outputs["region_boxes"][0][:count].tolist() if count else []
        return [{"image": int(number), "box": box} for number, *box in places]

    def _words(self, text: str, weights: torch.Tensor) -> list[dict[str, Any]]:
        """Word pieces of one word count together; the text that was cut away has no weight and is not listed."""
        words, first = [], 0
        for start, end, pieces in word_spans(self.processor, text):
            weight = float(weights[first : first + pieces].sum())
            words.append({"word": text[start:end], "start": start, "end": end, "weight": weight})
            first += pieces
        return words

    @torch.no_grad()
    def _occlude(self, text: str, inputs: dict[str, torch.Tensor], row: int) -> tuple[Any, ...]:
        """Classifies the post of one row repeatedly, each time without one of its words, cells or regions.

        A word is removed from the text, a cell is painted in the image's mean color, a region is missing.

        Returns:
            Words and regions, the rows of cells, and the label's probability without the images (or None).
        """
        spans = word_spans(self.processor, text)
        read = text[: spans[-1][1]] if spans else ""  # else what was cut away would come in where a word goes
        images = {name: inputs[name][row : row + 1] for name in _IMAGES if name in inputs}
        shown = bool(images) and bool(images["image_mask"][0])
        maps, regions, count = self._visual_variants(images) if shown else (None, None, 0)
        cells = 0 if maps is None else len(maps) - 1
        texts = [read, *(read[:start] + read[end:] for start, end, _ in spans), *[read] * (cells + count)]
        if shown and read.strip():
            texts.append(read)  # without any image
        numbers = torch.arange(len(texts))
        words, last = len(spans), 1 + len(spans) + cells + count
        logits = []
        for first in range(0, len(texts), _VARIANTS):
            part = numbers[first : first + _VARIANTS]
            encoded = self.processor(text=[texts[number] for number in part]).to(self.model.device)
            visual: dict[str, torch.Tensor] = {}
            if maps is not None:
                cell = torch.where((part > words) & (part <= words + cells), part - words, 0)
                visual["global_features"] = maps[cell] * (part < last)[:, None, None, None].to(maps)
                visual["image_mask"] = (part < last).to(maps.device)
            if regions is not None:
                gone, place = (part - 1 - words - cells)[:, None], torch.arange(regions.shape[1])[None]
                lacks = (gone >= 0) & (gone < count)
                kept = (place < count - lacks.long()) & (part < last)[:, None]
                moved_up = (place + (lacks & (place >= gone)).long()).clamp(max=regions.shape[1] - 1)
                visual["region_features"] = regions[0, moved_up] * kept[:, :, None].to(regions)
                visual["region_mask"] = kept.to(regions.device)
            logits.append(self.model(**encoded, **visual).logits.double())
        odds = torch.cat(logits)
        mine = int(odds[0].argmax())
        others = odds[:, [label for label in range(odds.shape[1]) if label != mine]]
        evidence = odds[:, mine] - others.logsumexp(dim=-1)
        weights, without = (evidence[0] - evidence).tolist(), evidence.sigmoid().tolist()
        moved = [{"weight": weights[n], "without": without[n]} for n in range(len(texts))]
        return (
            [
                {"word": text[start:end], "start": start, "end": end, **moved[1 + number]}
                for number, (start, end, _) in enumerate(spans)
            ],
            moved[1 + words + cells : last],
            [weights[first : first + GRID] for first in range(1 + words, 1 + words + cells, GRID)],
            without[last] if len(texts) > last else None,
        )

    def _visual_variants(self, images: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None, int]:
        """Features of a post's image, and of it without each cell; features of its regions; how many these are."""
        pixels = images["pixel_values"]  # (1, 3, H, W)
        variants = pixels.repeat(1 + GRID * GRID, 1, 1, 1)
        edges = [[round(side * edge / GRID) for edge in range(GRID + 1)] for side in pixels.shape[2:]]
        mean = pixels.mean(dim=(2, 3))[0, :, None, None]
        for cell in range(GRID * GRID):
            top, left = edges[0][cell // GRID :], edges[1][cell % GRID :]
            variants[1 + cell, :, top[0] : top[1], left[0] : left[1]] = mean
        model = self.model.mttv
        maps = model.get_visual_features(variants.to(model.dtype))[0]
        if "region_mask" not in images:
            return maps, None, 0
        return maps, model.get_visual_features(**images)[1], int(images["region_mask"].sum())

    def save_pretrained(self, save_directory, **kwargs) -> None:
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)


def word_spans(processor: Any, text: str) -> list[tuple[int, int, int]]:
    """The words that the model reads of a text: start and end in the text, and of how many tokens each is made.

    Pieces of one word of a script that writes words apart are joined, and so are pieces that share characters (some
    tokenizers begin a text with one that stands for a blank). What is cut away at the end is not listed.

    Args:
        processor: a [`MttvProcessor`].
        text: any text.
    """
    encoded = processor.tokenizer(
        as_released(text), add_special_tokens=False, truncation=True, max_length=processor.max_tokens,
        return_offsets_mapping=True,
    )  # fmt: skip
    words: list[tuple[int, int, int]] = []
    for start, end in encoded["offset_mapping"]:
        begin, before, pieces = words[-1] if words else (0, 0, 0)
        if words and (start == end or start < before or (start == before and _inside_a_word(text, start))):
            words[-1] = begin, max(before, end), pieces + 1
        else:
            words.append((start, end, 1))
    return words


def draw_regions(image: Image.Image, result: dict[str, Any], strongest: float | None = None) -> Image.Image:
    """Draws what drove a prediction on the image: red supports the label, blue opposes it.

    Args:
        image: the image that was classified, the first of several.
        result: the output of the pipeline with `explain`.
        strongest: weight that gets the full color; by default the greatest of all words, regions and cells.

    Returns:
        An image of the same size, upright, with the grid's cells tinted and the regions framed.
    """
    canvas = to_rgb(_upright(image)).copy()
    if strongest is None:
        weights = [part["weight"] for name in ("words", "regions") for part in result.get(name, ())]
        strongest = max(map(abs, sum(result["cells"], weights)), default=0.0) or 1.0
    if result["cells"]:
        tint = Image.new("RGBA", (len(result["cells"][0]), len(result["cells"])))
        for row, weights in enumerate(result["cells"]):
            for column, weight in enumerate(weights):
                tint.putpixel((column, row), (*color_of(weight), round(170 * min(1.0, abs(weight) / strongest))))
        tint = tint.resize(canvas.size, Image.Resampling.NEAREST)
        canvas.paste(tint.convert("RGB"), mask=tint.getchannel("A"))
    drawing, line = ImageDraw.Draw(canvas), max(2, min(canvas.size) // 100)
    for region in result["regions"]:
        left, top, right, bottom = region["box"]
        if region["image"] == 0 and right > left and bottom > top:
            drawing.rectangle((left, top, right, bottom), outline=color_of(region["weight"]), width=line)
            drawing.text((left + line + 2, top + line + 1), f"{region['weight']:+.2f}", fill="white", stroke_width=1,
                         stroke_fill="black")  # fmt: skip
    return canvas


def color_of(weight: float) -> tuple[int, int, int]:
    """Red for what supports the label, blue for what opposes it: distinct to the color-blind, too."""
    return (214, 39, 40) if weight > 0 else (31, 119, 180)


def _opened(image: Any) -> Image.Image:
    if isinstance(image, (str, Path)):
        try:
            image = Image.open(image)
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"{image}: cannot be read as an image ({error}); omit it or pass None.") from error
    return _upright(image) if isinstance(image, Image.Image) else image


def _upright(image: Image.Image) -> Image.Image:
    """As every viewer shows it."""
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # nonsense in the EXIF block says nothing about the pixels
        return image


def _inside_a_word(text: str, place: int) -> bool:
    """Between two letters or digits of a script that writes words apart."""
    return place > 0 and all(one.isalnum() and not is_chinese(one) for one in text[place - 1 : place + 1])


__all__ = ["DEFAULT_METHOD", "METHODS", "TASK", "MttvPipeline", "color_of", "draw_regions", "word_spans"]

"""Pipeline of MTTV: raw posts in, verdicts with their reasons out; and two ways to draw the reasons."""

import base64
import html
import io
from pathlib import Path
from typing import Any

import torch
from PIL import ExifTags, Image, ImageDraw, ImageOps
from transformers import Pipeline

from .processing_mttv import TransformersDetector, as_released, is_chinese, to_rgb

TASK = "fake-news-detection"


class MttvPipeline(Pipeline):
    """Judges posts: `pipeline("fake-news-detection", model=folder, trust_remote_code=True)`.

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
        """Takes the arguments of every pipeline, and a `detector` of regions.

        Args:
            detector: see `MttvProcessor`; or folder or Hub id of a model for `AutoModelForObjectDetection`. None:
                posts whose `boxes` are not given have no regions.
        """
        super().__init__(*args, **kwargs)
        self.detector = TransformersDetector.from_pretrained(detector) if isinstance(detector, str) else detector

    def __call__(self, inputs: Any = None, **kwargs: Any):
        """Judges one post or a list.

        Args:
            inputs: a post or a list of posts: a text, or a dict with `text`, `image` (a path, a PIL image, a list of
                these, or None) and `boxes` (regions found before), each of which may be missing. Images are turned
                upright as their EXIF says; all boxes, given or found, count in the pixels of the upright image.
            explain (`bool`, defaults to False): also say what moved the verdict.
            steps (`int`, defaults to 24): precision of the explanation.
            batch_size (`int`, defaults to 1): posts run together.

        Returns:
            A dict (or a list of them) with `label`, `score` and `scores` by label. With `explain`, also, in natural
            log-odds for (above 0) or against the verdict: `words` (parts of the text: `word`, `start`, `end`,
            `weight`), `regions` (number of the `image` in the post, `box` in its pixels, `weight`), `cells` (rows of
            the first image's grid) and `evidence` (their sum, but for the error of the integral).

        Raises:
            ValueError: a post of another kind, or an image that cannot be read.
        """
        if inputs is None:
            post = {key: kwargs.pop(key) for key in ("text", "image", "boxes") if key in kwargs}
            return super().__call__(post, **kwargs)
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, explain: bool | None = None, steps: int | None = None):
        forward = {key: value for key, value in (("explain", explain), ("steps", steps)) if value is not None}
        return {}, forward, {}

    def preprocess(self, inputs) -> dict[str, Any]:
        post = {"text": inputs} if isinstance(inputs, str) else inputs
        if not isinstance(post, dict) or set(post) - {"text", "image", "boxes"}:
            found = sorted(map(str, post)) if isinstance(post, dict) else type(post).__name__
            raise ValueError(f"{TASK}: expected a text or a dict with text, image and boxes, found {found}.")
        text, image, boxes = post.get("text") or "", post.get("image"), post.get("boxes")
        reads_pixels = self.model.config.vision_config is not None
        if image is not None and not reads_pixels:
            raise ValueError(f"{TASK}: this model has no visual encoder; it judges texts (or precomputed features).")
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

    def _forward(self, inputs, explain: bool = False, steps: int = 24) -> dict[str, Any]:
        own = {name: inputs.pop(name) for name in ("text", "region_boxes", "region_mask") if name in inputs}
        if "region_mask" in own:
            inputs["region_mask"] = own["region_mask"]
        outputs = {**own, "probabilities": self.model(**inputs).logits.float().softmax(dim=-1)}
        if explain:
            baseline = self.processor.tokenizer.mask_token_id
            found = self.model.attribute(**inputs, baseline_id=baseline, steps=steps)
            outputs |= {name: getattr(found, name).float() for name in ("words", "regions", "cells", "evidence")}
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
        if "words" not in outputs:
            return result
        result["words"] = self._words(outputs["text"][0], outputs["words"][0])
        result["regions"] = []
        if "region_mask" in outputs:
            places, weights = outputs["region_boxes"][0].tolist(), outputs["regions"][0].tolist()
            for (number, *box), weight, shown in zip(places, weights, outputs["region_mask"][0], strict=False):
                if shown:
                    result["regions"].append({"image": int(number), "box": box, "weight": weight})
        result["cells"] = outputs["cells"][0].tolist()
        result["evidence"] = float(outputs["evidence"][0])
        return result

    def _words(self, text: str, weights: torch.Tensor) -> list[dict[str, Any]]:
        """Word pieces of one word count together; the text that was cut away has no weight and is not listed."""
        words, first = [], 0
        for start, end, pieces in word_spans(self.processor, text):
            weight = float(weights[first : first + pieces].sum())
            words.append({"word": text[start:end], "start": start, "end": end, "weight": weight})
            first += pieces
        return words

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


def draw_regions(image: Image.Image, result: dict[str, Any]) -> Image.Image:
    """Draws what moved a verdict on the image: red speaks for it, blue against it, stronger means more.

    Args:
        image: the image that was judged, the first of several.
        result: the answer of the pipeline with `explain=True`.

    Returns:
        An image of the same size, upright, with the grid's cells tinted and the regions framed.
    """
    canvas = to_rgb(_upright(image)).copy()
    regions = [region for region in result["regions"] if region["image"] == 0]
    strongest = _strongest([weight for row in result["cells"] for weight in row])
    rows, columns = len(result["cells"]), len(result["cells"][0])
    tint = Image.new("RGBA", (columns, rows))
    for row, weights in enumerate(result["cells"]):
        for column, weight in enumerate(weights):
            tint.putpixel((column, row), (*_colour(weight), round(150 * abs(weight) / strongest)))
    canvas.paste(tint.resize(canvas.size, Image.Resampling.NEAREST).convert("RGB"), mask=_alpha(tint, canvas.size))
    drawing, line = ImageDraw.Draw(canvas), max(2, min(canvas.size) // 100)
    for region in regions:
        left, top, right, bottom = region["box"]
        if right > left and bottom > top:
            drawing.rectangle((left, top, right, bottom), outline=_colour(region["weight"]), width=line)
            drawing.text((left + line + 2, top + line + 1), f"{region['weight']:+.2f}", fill="white", stroke_width=1,
                         stroke_fill="black")  # fmt: skip
    return canvas


def explanation_html(text: str, result: dict[str, Any], image: Image.Image | None = None) -> str:
    """A page, complete in itself, that shows verdict, shaded words and the drawn image.

    Args:
        text: the text that was judged.
        result: the answer of the pipeline with `explain=True`.
        image: the image that was judged, if any.
    """
    strongest, parts, place = _strongest([word["weight"] for word in result["words"]]), [], 0
    for word in result["words"]:
        shade = "{},{},{}".format(*_colour(word["weight"])) + f",{0.65 * abs(word['weight']) / strongest:.2f}"
        parts.append(html.escape(text[place : word["start"]]))
        parts.append(
            f'<span style="background:rgba({shade})" title="{word["weight"]:+.3f}">'
            f"{html.escape(text[word['start'] : word['end']])}</span>"
        )
        place = word["end"]
    parts.append(html.escape(text[place:]))
    scores = ", ".join(f"{html.escape(label)} {score:.1%}" for label, score in result["scores"].items())
    figure = ""
    if image is not None:
        file = io.BytesIO()
        draw_regions(image, result).save(file, "PNG")
        encoded = base64.b64encode(file.getvalue()).decode()
        figure = f'<p><img src="data:image/png;base64,{encoded}" alt="the image, with what moved the verdict"></p>'
    return (
        '<!doctype html><html><head><meta charset="utf-8"><title>'
        f"{html.escape(result['label'])}</title><style>body{{font:18px/1.7 sans-serif;max-width:46em;margin:2em auto;"
        "padding:0 1em}img{max-width:100%}.text{white-space:pre-wrap}</style></head><body>"
        f"<h1>{html.escape(result['label'])} ({result['score']:.1%})</h1><p>{scores}</p>"
        f'<p class="text">{"".join(parts)}</p>{figure}'
        "<p><small>Red speaks for the verdict, blue against it; stronger means more.</small></p></body></html>\n"
    )


def _opened(image: Any) -> Image.Image:
    if isinstance(image, (str, Path)):
        try:
            image = Image.open(image)
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"{image}: cannot be read as an image ({error}); leave it out or pass None.") from error
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


def _strongest(weights: list[float]) -> float:
    return max(map(abs, weights), default=0.0) or 1.0


def _colour(weight: float) -> tuple[int, int, int]:
    return (214, 39, 40) if weight > 0 else (31, 119, 180)


def _alpha(tint: Image.Image, size: tuple[int, int]) -> Image.Image:
    return tint.getchannel("A").resize(size, Image.Resampling.NEAREST)


__all__ = ["TASK", "MttvPipeline", "draw_regions", "explanation_html", "word_spans"]

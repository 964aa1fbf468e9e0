"""Where in a picture the words of a sentence match: FISVL's patch tokens against the sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import normalize

from ..search.embedding import embed_texts

SIZE = 320  # pixels a side at which the picture is read: more patches than at the size of the search


def heat_of(model: Any, processor: Any, picture: Image.Image, sentence: str) -> np.ndarray:
    """(n, n) float32 in 0 to 1: how well each part of the picture matches."""
    text = embed_texts(model, processor, [sentence])[0]  # (D,)
    pixels = processor(images=[picture], return_tensors="pt", size={"height": SIZE, "width": SIZE})["pixel_values"]
    with torch.inference_mode():
        tokens = model.get_image_features(pixels.to(model.device)).last_hidden_state[0, 1:].float().cpu()  # (N, D)
    side = round(len(tokens) ** 0.5)
    heat = (normalize(tokens, dim=-1) @ text).reshape(side, side)
    return ((heat - heat.min()) / (heat.max() - heat.min()).clamp(min=1e-6)).numpy()


def overlay(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """The picture in its own size, warm where the heat is near 1 and darkened where it is near 0."""
    smooth = Image.fromarray(np.round(255 * heat).astype(np.uint8)).resize(picture.size, Image.Resampling.BICUBIC)
    amount = np.asarray(smooth, np.float32)[..., None] / 255  # (H, W, 1)
    shown = np.asarray(picture.convert("RGB"), np.float32)
    dark, warm = 0.45 * shown, 0.45 * shown + 0.55 * np.array([255, 90, 20], np.float32)
    mixed = np.where(amount < 0.5, dark + 2 * amount * (shown - dark), shown + (2 * amount - 1) * (warm - shown))
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))

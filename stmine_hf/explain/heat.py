"""Where in an image the words of a sentence match: FISVL's patch tokens against the sentence.

The model was trained to compare whole images with sentences, never parts. But the embedding of an image starts as the
mean of its patch tokens, so these lie in the same space. All of them are near to any sentence about overhead images;
the map shows how much nearer they are to this one than to ordinary ones.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..search.embedding import embed_texts

if TYPE_CHECKING:
    from ..modeling.fisvl.modeling_fisvl import FisvlModel
    from ..modeling.fisvl.processing_fisvl import FisvlProcessor

# Images are read larger than for a search, so that there are more patches; two sizes whose patches lie apart.
_LARGER = (5 / 3, 7 / 3)
_STEP = 32  # pixels; sizes are multiples of it, as encoders expect
_GRID = 28  # cells a side of a map
# The heat at which a part glows fully, if no part of the image has more: half of the images with a sentence of
# their own exceed 0.33 somewhere, half of those with the sentence of another kind of place stay below 0.12.
_FULL = 0.25
# What overhead images show, in the words of such captions. What all of it has in common does not distinguish places.
_ORDINARY = (
    "an airport with planes", "a river", "green trees", "a piece of green farmland",
    "many buildings in a residential area", "a port with ships", "a bridge over a river", "a baseball field",
    "a parking lot with cars", "a beach", "a desert", "storage tanks", "a railway station", "a stadium",
    "a playground", "a pond", "mountains", "a square", "a church", "an industrial area", "a viaduct", "bare land",
    "a school", "a resort", "a commercial area",
)  # fmt: skip


class HeatMaps:
    """Maps of where sentences match, by one model.

    Args:
        model: a [`FisvlModel`].
        processor: its processor.
    """

    def __init__(self, model: FisvlModel, processor: FisvlProcessor):
        self._model, self._processor = model, processor
        native = processor.image_processor.size["height"]
        self._sides = sorted({max(1, round(larger * native / _STEP)) * _STEP for larger in _LARGER})

    @cached_property
    def _ordinary(self) -> Tensor:  # (D,)
        return embed_texts(self._model, self._processor, _ORDINARY).mean(dim=0)

    def __call__(self, image: Image.Image, sentence: str) -> np.ndarray:
        """(28, 28) float32 over the image squashed to a square: its cosine with the sentence, less ordinary ones.

        Below 0: the part is more like other places. Around 0.3: it matches the sentence.
        """
        direction = embed_texts(self._model, self._processor, [sentence])[0] - self._ordinary  # (D,)
        maps = [
            F.interpolate(
                (self._patches(image, side) @ direction)[None, None],
                size=(_GRID, _GRID),
                mode="bicubic",
                align_corners=False,
            )
            for side in self._sides
        ]
        return torch.cat(maps).mean(dim=(0, 1)).numpy()

    @torch.inference_mode()
    def _patches(self, image: Image.Image, side: int) -> Tensor:
        """(n, n, D) unit vectors of the patches, row by row."""
        size = {"height": side, "width": side}
        pixels = self._processor(images=[image], return_tensors="pt", size=size)["pixel_values"]  # (1, 3, side, side)
        tokens = self._model.get_image_features(pixels.to(self._model.device)).last_hidden_state[0, 1:]  # (n * n, D)
        count = round(len(tokens) ** 0.5)
        return F.normalize(tokens.float().cpu(), dim=-1).reshape(count, count, -1)


def glowing(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """The image in its own size, orange where the sentence matches and grey where it does not.

    An image in which nothing matches stays grey: the scale does not stretch to make something glow.
    """
    share = np.clip(heat / max(_FULL, float(heat.max())), 0, 1)
    smooth = Image.fromarray(np.round(255 * share).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    glow = np.asarray(smooth, np.float32)[..., None] / 255  # (H, W, 1)
    shown = np.asarray(image.convert("RGB"), np.float32)
    coloured = np.clip(1.6 * glow, 0, 1)  # from grey to the image's own colours, then to orange and yellow
    base = coloured * shown + (1 - coloured) * 0.6 * shown.mean(axis=-1, keepdims=True)
    warm = np.array([255, 60, 0], np.float32) + np.clip(2 * glow - 1, 0, 1) * np.array([0, 150, 40], np.float32)
    cover = 0.6 * np.clip((glow - 0.3) / 0.7, 0, 1)
    return Image.fromarray(((1 - cover) * base + cover * warm).clip(0, 255).astype(np.uint8))

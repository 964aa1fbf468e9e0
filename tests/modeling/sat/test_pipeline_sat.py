"""`pipeline("object-detection")` of transformers, with images of several shapes in a batch."""

from __future__ import annotations

import pytest
import torch
from deterministic import named_image
from helpers_sat import confident_sat
from PIL import Image
from transformers import AutoImageProcessor, pipeline

SHAPES = [(100, 200), (200, 100), (50, 50), (100, 200), (1, 300), (333, 500)]  # height, width


@pytest.mark.parametrize("fit", ["pad", "letterbox", "stretch"])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 6])
def test_a_batch_gives_what_each_image_gives(tmp_path, fit, batch_size):
    model, processor = confident_sat()
    processor.fit = fit
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    detect = pipeline("object-detection", model=model, image_processor=AutoImageProcessor.from_pretrained(tmp_path))
    images = [Image.fromarray(named_image(height, width, n)) for n, (height, width) in enumerate(SHAPES)]
    together = detect(images, batch_size=batch_size, threshold=0.4)
    assert len(together) == len(images)
    for image, found in zip(images, together, strict=True):
        expected = detect(image, threshold=0.4)
        assert len(found) == len(expected) and expected
        for one, other in zip(found, expected, strict=True):
            assert one["label"] == other["label"] and one["score"] == pytest.approx(other["score"], abs=1e-4)
            corners = torch.tensor([list(box["box"].values()) for box in (one, other)])
            assert (corners[0] - corners[1]).abs().max() <= 1  # whole pixels, cut off

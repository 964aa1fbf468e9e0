"""Heat maps: they are meaningful with the shipped model, and stay cold where nothing matches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_fisvl
from PIL import Image

from stmine_hf.data.toy.toy_scenes import draw_scene
from stmine_hf.explain.heat import HeatMaps, glowing
from stmine_hf.loading import load_fisvl

SHIPPED = Path(__file__).parents[3] / "hub_cards" / "fisvl-lite-rsicd"
KINDS = {
    "airport": "many planes are parked on the gray ground of an airport",
    "river": "a winding river runs between green trees",
    "storagetanks": "many white storage tanks",
    "baseballfield": "a baseball field beside green grass",
}


@pytest.fixture(scope="module")
def shipped() -> HeatMaps:
    if not (SHIPPED / "model.safetensors").is_file():
        pytest.skip("needs the shipped checkpoint: no hub_cards/fisvl-lite-rsicd/model.safetensors in this checkout")
    return HeatMaps(*load_fisvl(SHIPPED))


def test_the_heat_is_where_the_scene_is(shipped):
    """Four scenes in one image, sentences about two: by chance a quarter of the heat would lie in its quarter."""
    quarters = [(0, 0), (192, 0), (0, 192), (192, 192)]
    mosaic = Image.new("RGB", (384, 384))
    for kind, place in zip(KINDS, quarters, strict=True):
        mosaic.paste(draw_scene(kind, 904, 192)[0], place)
    shares = []
    for sentence, (left, top) in list(zip(KINDS.values(), quarters, strict=True))[1:3]:
        heat = shipped(mosaic, sentence).clip(min=0)
        row, column = top * len(heat) // 384, left * len(heat) // 384
        shares.append(heat[row : row + 14, column : column + 14].sum() / heat.sum())
    assert np.mean(shares) > 0.6, shares


def test_an_image_of_something_else_stays_cold(shipped):
    image = draw_scene("desert", 5, 192)[0]
    matching, foreign = (shipped(image, text) for text in ("a piece of yellow desert", KINDS["airport"]))
    assert matching.max() > 0.18 > 0.12 > foreign.max()
    assert not coloured(glowing(image, foreign)) > coloured(glowing(image, matching))


def coloured(image: Image.Image) -> float:
    """How far from grey an image is on average."""
    return float(np.ptp(np.asarray(image, float), axis=-1).mean())


def test_the_glow_has_the_size_of_the_image_and_lies_where_the_heat_does():
    image = Image.new("RGB", (60, 90), (40, 90, 160))
    heat = np.full((28, 28), -0.2, np.float32)
    heat[:, 14:] = 0.4
    glow = glowing(image, heat)
    assert glow.size == image.size
    left, right = np.asarray(glow)[:, :20], np.asarray(glow)[:, 40:]
    assert np.ptp(left, axis=-1).max() == 0, "grey where nothing matches"
    assert (right[..., 0] > 150).all() and (right[..., 2] < 100).all(), "orange where it does"


def test_a_small_model_gives_a_map_of_any_image():
    maps = HeatMaps(*tiny_fisvl())
    found = maps(Image.effect_noise((50, 31), 80), "many planes")
    assert found.shape == (28, 28) and np.isfinite(found).all() and np.ptp(found) > 0
    assert np.abs(found - maps(Image.effect_noise((50, 31), 80), "green trees")).max() > 1e-4

"""The three image processors read an image of any mode alike."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from stmine_hf.modeling.fisvl.processing_fisvl import FisvlImageProcessor
from stmine_hf.modeling.fisvl.processing_fisvl import to_rgb as fisvl_to_rgb
from stmine_hf.modeling.mttv.processing_mttv import MttvImageProcessor
from stmine_hf.modeling.mttv.processing_mttv import to_rgb as mttv_to_rgb
from stmine_hf.modeling.sat.image_processing_sat import SatImageProcessor
from stmine_hf.modeling.sat.image_processing_sat import to_rgb as sat_to_rgb

IMAGES = runpy.run_path(str(Path(__file__).parent / "fisvl" / "test_processing_fisvl.py"))["IMAGES"]
SIZE = {"height": 32, "width": 32}
PROCESSORS = {
    "fisvl": FisvlImageProcessor(size=SIZE),
    "mttv": MttvImageProcessor(size=SIZE),
    "sat": SatImageProcessor(size=SIZE, fit="stretch"),
}


def test_one_function_in_three_files():
    """Each folder stands alone on the Hub, so each has a copy."""
    checks = {inspect.getsource(inspect.getmodule(type(one)).check_colors) for one in PROCESSORS.values()}
    assert len(checks) == 1
    assert inspect.getsource(fisvl_to_rgb) == inspect.getsource(mttv_to_rgb) == inspect.getsource(sat_to_rgb)


@pytest.mark.parametrize("method", PROCESSORS)
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_of_any_mode_is_what_it_looks_like(method, name):
    image, processor = IMAGES[name][0], PROCESSORS[method]
    found = processor(image, return_tensors="np")["pixel_values"]
    expected = processor(fisvl_to_rgb(image), return_tensors="np")["pixel_values"]
    assert found.shape == (1, 3, 32, 32) and np.isfinite(found).all()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("method", PROCESSORS)
def test_boxes_count_in_the_pixels_that_an_image_has(method, tmp_path):
    """No processor turns an image behind its user's back; whoever opens a file does, and then the tag is gone."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.radial_gradient("L").crop((0, 0, 120, 80)).convert("RGB").save(tmp_path / "lying.png", exif=exif)
    image, processor = Image.open(tmp_path / "lying.png"), PROCESSORS[method]
    stored = processor(image, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(stored, processor(np.asarray(image), return_tensors="np")["pixel_values"])
    upright = processor(ImageOps.exif_transpose(image), return_tensors="np")["pixel_values"]
    assert np.abs(stored - upright).max() > 0.1


COLORS = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
NO_COLORS = {
    "no pixels": (COLORS[:0], "with pixels"),
    "no width": (COLORS[:, :0], "with pixels"),
    "PIL without height": (Image.new("RGB", (7, 0)), "with pixels"),
    "NaN": (np.full((20, 30, 3), np.nan, np.float32), "finite values"),
    "one infinity": (np.where(COLORS == 9, np.inf, COLORS), "finite values"),
    "0 to 1": (COLORS / 255, "fractions up to 1: multiply by"),
    "0 to 1 in half precision": ((COLORS / 255).astype(np.float16), "fractions up to 1: multiply by"),
    "-1 to 1": (COLORS / 127.5 - 1, "fractions up to 1"),
    "16 bits": (COLORS.astype(np.int32) * 257, "found values from 0 to 65535"),
    "below zero": (COLORS.astype(np.int16) - 500, "found values from -500"),
}


@pytest.mark.parametrize("method", PROCESSORS)
@pytest.mark.parametrize("name", NO_COLORS)
def test_what_would_silently_be_another_image_is_refused(method, name):
    image, message = NO_COLORS[name]
    with pytest.raises(ValueError, match=message):
        PROCESSORS[method]([COLORS, image] if name != "PIL without height" else image, return_tensors="np")


@pytest.mark.parametrize("method", PROCESSORS)
def test_fractions_are_taken_where_nothing_is_to_be_divided(method):
    found = PROCESSORS[method](COLORS / 255, do_rescale=False, return_tensors="np")["pixel_values"]
    assert np.abs(found - PROCESSORS[method](COLORS, return_tensors="np")["pixel_values"]).max() < 0.03


@pytest.mark.parametrize("method", PROCESSORS)
def test_other_depths_are_taken_with_their_own_factor(method):
    processor = PROCESSORS[method]
    expected = processor(COLORS, do_resize=False, return_tensors="np", **odd(method))["pixel_values"]
    for image, factor in ((COLORS.astype(np.int32) * 257, 1 / 65535), (COLORS / 255, 1.0)):
        found = processor(image, do_resize=False, rescale_factor=factor, return_tensors="np", **odd(method))
        assert np.abs(found["pixel_values"] - expected).max() < 1e-4


def odd(method):
    return {"size_divisor": 1, "do_pad": False} if method == "sat" else {}


def test_an_array_of_16_bits_is_taken_where_its_values_fit():
    found = PROCESSORS["sat"](COLORS.astype(np.uint16), return_tensors="np")["pixel_values"]
    assert np.abs(found - PROCESSORS["sat"](COLORS, return_tensors="np")["pixel_values"]).max() < 0.03


def test_a_tensor_with_a_gradient_is_padded():
    image = torch.from_numpy(COLORS.transpose(2, 0, 1).copy()).float().requires_grad_()
    found = PROCESSORS["sat"](image, return_tensors="pt")["pixel_values"]
    assert found.shape == (1, 3, 32, 32)

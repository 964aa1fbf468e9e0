"""Augmentation of posts' images."""

import numpy as np
import pytest
import torch
from PIL import Image

from stmine_hf.errors import StmineError
from stmine_hf.training.mttv.transforms import build_mttv_transform


def columns(image: Image.Image) -> np.ndarray:
    return np.array(image)[0, :, 0].astype(int)


RAMP = Image.fromarray(np.broadcast_to(np.arange(100, dtype=np.uint8)[None, :, None], (60, 100, 3)).copy())


def test_none_is_none():
    assert build_mttv_transform("none") is None


@pytest.mark.parametrize("name", ["crop", "flip"])
def test_crops_keep_half_the_area_and_the_resolution(name):
    transform = build_mttv_transform(name)
    sizes, mirrored = set(), 0
    for seed in range(40):
        torch.manual_seed(seed)
        image = transform(RAMP)
        assert 0.45 * 6000 < image.width * image.height <= 6000
        assert (abs(np.diff(columns(image))) == 1).all()  # neighbours stay neighbours: nothing was resized
        sizes.add(image.size)
        mirrored += columns(image)[0] > columns(image)[-1]
    assert len(sizes) > 10
    assert 8 < mirrored < 32 if name == "flip" else not mirrored


def test_colours_move_only_with_colour():
    grey = Image.new("RGB", (50, 50), (60, 60, 60))
    torch.manual_seed(0)
    assert set(np.unique(build_mttv_transform("flip")(grey))) == {60}
    assert set(np.unique(build_mttv_transform("colour")(grey))) != {60}


def test_an_image_of_one_pixel_passes():
    assert build_mttv_transform("colour")(Image.new("RGB", (1, 1))).size == (1, 1)


def test_an_unknown_name_is_explained():
    with pytest.raises(StmineError, match="'lite'; choose one of none, crop, flip, colour"):
        build_mttv_transform("lite")

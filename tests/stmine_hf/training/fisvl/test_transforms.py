"""The augmentation presets: shapes and ranges, seeds, and the magnitude of every operation."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from deterministic import named_image
from PIL import Image, ImageEnhance, ImageOps

from stmine_hf.errors import StmineError
from stmine_hf.training.fisvl.transforms import (
    PRESETS,
    GridMask,
    LiteAugment,
    RandAugment,
    apply_operation,
    build_fisvl_transform,
)
from stmine_hf.training.seeding import seeded

PROCESSOR = SimpleNamespace(
    size={"height": 64, "width": 64}, image_mean=[0.48, 0.45, 0.40], image_std=[0.26, 0.26, 0.27]
)


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(named_image(90, 120, 3))


@pytest.mark.parametrize("name", PRESETS)
def test_preset_gives_a_normalised_image_that_follows_the_seed(name, image):
    transform = build_fisvl_transform(name, PROCESSOR)

    def run(seed: int) -> torch.Tensor:
        with seeded(seed):
            return transform(image)

    out = run(1)
    assert out.shape == (3, 64, 64) and out.dtype == torch.float32
    # (0 - mean) / std and (1 - mean) / std, with room for the unclipped colour change of `lite`
    assert out.min() > -4 and out.max() < 5
    assert torch.equal(out, run(1))
    assert (name == "none") == torch.equal(out, run(2))


@pytest.mark.parametrize("name", PRESETS)
def test_training_images_may_be_smaller_than_the_processors(name, image):
    assert build_fisvl_transform(name, PROCESSOR, 48)(image).shape == (3, 48, 48)


def test_the_seed_leaves_no_trace():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1):
        torch.rand(7)
    assert torch.equal(torch.rand(3), expected)


def test_an_unknown_preset_is_refused():
    with pytest.raises(StmineError, match=r"'rsidc'.*rsicd"):
        build_fisvl_transform("rsidc", PROCESSOR)


def test_none_is_what_the_processor_does(image):
    from helpers import tiny_processor

    processor = tiny_processor(size=64)
    expected = processor(images=image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(build_fisvl_transform("none", processor.image_processor)(image), expected)


@pytest.mark.parametrize(
    "operation, sign, row, column",
    [  # where level 10 takes the bright pixel of row 20, column 10
        ("TranslateX", 1, 20, 20),  # 10 pixels
        ("TranslateX", -1, 20, 0),
        ("TranslateY", 1, 30, 10),
        ("ShearX", 1, 20, 16),  # slope 0.3: 0.3 * 20
        ("ShearX", -1, 20, 4),
        ("ShearY", 1, 23, 10),  # 0.3 * 10
    ],
)
def test_moves_go_as_far_as_released(operation, sign, row, column):
    image = torch.zeros(3, 50, 50, dtype=torch.uint8)
    image[:, 20, 10] = 255
    moved = apply_operation(image, operation, level=10, sign=sign)[0]
    moved = torch.where(moved == 128, 0, moved)  # the grey shown at the border
    assert divmod(int(moved.argmax()), 50) == (row, column)


def test_a_move_shows_grey_at_the_border():
    moved = apply_operation(torch.zeros(3, 50, 50, dtype=torch.uint8), "TranslateX", level=7)
    assert (moved[:, :, :7] == 128).all() and (moved[:, :, 7:] == 0).all()


def test_rotation_is_three_degrees_a_level_counter_clockwise():
    image = torch.zeros(3, 101, 101, dtype=torch.uint8)
    image[:, 49:52, 89:92] = 255  # 40 px right of the centre
    turned = apply_operation(image, "Rotate", level=7)[0].float()
    turned[turned == 128] = 0
    ys, xs = torch.meshgrid(torch.arange(101.0) - 50, torch.arange(101.0) - 50, indexing="ij")
    angle = math.degrees(math.atan2(-float((turned * ys).sum()), float((turned * xs).sum())))
    assert angle == pytest.approx(21, abs=0.5)


@pytest.mark.parametrize(
    "operation, pil",
    [
        ("Identity", lambda image: image),
        ("AutoContrast", ImageOps.autocontrast),
        ("Equalize", ImageOps.equalize),
        ("Brightness", lambda image: ImageEnhance.Brightness(image).enhance(0.1 + 1.8 * 0.7)),
        ("Sharpness", lambda image: ImageEnhance.Sharpness(image).enhance(0.1 + 1.8 * 0.7)),
    ],
)
def test_tones_change_as_in_pil(operation, pil, image):
    # Half contrast first, so that autocontrast and equalize have something to do.
    pixels = torch.from_numpy(np.array(image) // 2 + 40).permute(2, 0, 1)
    expected = np.array(pil(Image.fromarray(pixels.permute(1, 2, 0).numpy())))
    got = apply_operation(pixels, operation, level=7).permute(1, 2, 0).numpy()
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1


def test_half_of_the_draws_are_carried_out():
    policy = RandAugment(num_ops=2, level=7, prob=0.5)
    image = torch.from_numpy(named_image(24, 24, 1)).permute(2, 0, 1)
    with seeded(0):
        unchanged = sum(torch.equal(policy(image), image) for _ in range(1000))
    # Unchanged: neither draw is carried out, or those that are, are Identity: (0.5 + 0.5 / 10)^2.
    assert unchanged / 1000 == pytest.approx(0.55**2, abs=0.05)


def test_grid_mask_blacks_out_squares_between_bars():
    image = torch.ones(3, 224, 224)
    with seeded(0):
        masks = torch.stack([GridMask(prob=1.0)(image) for _ in range(100)])
        idle = sum(torch.equal(GridMask()(image), image) for _ in range(500))
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(masks[:, 0], masks[:, 2])
    # Bars of 0.4 of the period both ways leave 0.6^2 black.
    assert float(1 - masks.mean()) == pytest.approx(0.36, abs=0.03)
    assert idle / 500 == pytest.approx(0.2, abs=0.05)


def test_lite_turns_images_all_eight_ways():
    corner = np.zeros((64, 64, 3), dtype=np.uint8)
    corner[:8, :24] = 255  # at the top, longer left than wide
    transform = LiteAugment((64, 64), [0.0] * 3, [1.0] * 3, scale=(1.0, 1.0), jitter=0.0)
    with seeded(0):
        outs = [transform(Image.fromarray(corner)) for _ in range(200)]
    whole = [out for out in outs if abs(float(out.mean()) - 192 / 4096) < 0.002]  # crops that kept the whole square
    assert len({tuple((out[0] > 0.5).flatten().tolist()) for out in whole}) == 8


def test_lite_without_jitter_only_normalises(image):
    transform = LiteAugment((64, 64), [0.5, 0.4, 0.3], [0.2, 0.3, 0.4], jitter=0.0)
    pixels = torch.from_numpy(named_image(64, 64, 2))
    expected = (pixels.permute(2, 0, 1) / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor(
        [0.2, 0.3, 0.4]
    )[:, None, None]
    torch.testing.assert_close(transform._jitter_and_normalise(pixels), expected, atol=1e-5, rtol=0)


def test_lite_jitter_keeps_grey_grey():
    grey = torch.full((8, 8, 3), 100, dtype=torch.uint8)
    out = LiteAugment((8, 8), [0.0] * 3, [1.0] * 3)._jitter_and_normalise(grey)
    assert torch.allclose(out, out[0, 0, 0].expand_as(out), atol=1e-6)
    assert 0.8 * 100 / 255 <= float(out.mean()) <= 1.2 * 100 / 255

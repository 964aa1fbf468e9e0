"""Augmentation of images with boxes: boxes stay on what they surround, the numbers are NanoDet's, seeds decide."""

import colorsys

import numpy as np
import pytest
import torch
from deterministic import named_image
from PIL import Image
from torchvision import tv_tensors
from torchvision.ops import box_convert

from stmine_hf import SatImageProcessor
from stmine_hf.errors import StmineError
from stmine_hf.training.sat.transforms import (
    AUGMENTATIONS,
    Augmentation,
    RandomColours,
    RandomPlacement,
    SatTransform,
    build_augmentation,
)
from stmine_hf.training.seeding import seeded

PLAIN = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}  # pixels stay between 0 and 1


def processor(side: int = 96, **overrides) -> SatImageProcessor:
    return SatImageProcessor(size={"height": side, "width": side}, **{**PLAIN, **overrides})


def white_box(box: tuple[int, int, int, int], height: int = 60, width: int = 90) -> Image.Image:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "recipe",
    [
        Augmentation(),
        Augmentation(scale=(0.6, 1.4), stretch=(0.8, 1.2), flip=0.5),
        Augmentation(scale=(1, 2), translate=0.8, flip=0.5),
    ],
    ids=["fitted", "scaled", "moved"],
)
def test_boxes_stay_on_what_they_surround(recipe):
    """Against the pixels: the box of what is white after the augmentation."""
    transform = SatTransform(recipe, processor())
    generator = np.random.default_rng(0)
    cut, gone = 0, 0
    for seed in range(60):
        left, top = (int(generator.integers(0, most)) for most in (70, 45))
        box = (left, top, left + int(generator.integers(6, 90 - left)), top + int(generator.integers(6, 60 - top)))
        with seeded(seed):
            pixels, target = transform(white_box(box), torch.tensor([box], dtype=torch.float32), torch.tensor([3]))
        ys, xs = (pixels[0] > 0.5).nonzero(as_tuple=True)
        if not len(target["boxes"]):
            gone += 1
            assert len(xs) == 0 or min(xs.max() - xs.min(), ys.max() - ys.min()) <= 2
            continue
        assert target["class_labels"].tolist() == [3]
        found = box_convert(target["boxes"], "cxcywh", "xyxy")[0] * 96
        assert found.min() >= 0 and found.max() <= 96
        if len(xs):
            white = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert (found - white).abs().max() <= 1.1, (seed, found, white)
            cut += bool(found.min() == 0 or found.max() == 96)
    assert (gone > 10 and cut > 10) if recipe.translate else gone == 0  # the test saw all that can happen


def test_none_fits_the_image_in_the_middle_as_the_letterbox_does():
    image = Image.fromarray(named_image(60, 90, 4))
    transform = SatTransform(build_augmentation("none"), processor(channel_order="rgb"))
    pixels, target = transform(image, torch.tensor([[0.0, 0.0, 90.0, 60.0]]), torch.tensor([0]))
    box = box_convert(target["boxes"], "cxcywh", "xyxy")[0] * 96
    torch.testing.assert_close(box, torch.tensor([0.0, 16.0, 96.0, 80.0]), atol=0.6, rtol=0)
    expected = processor(fit="letterbox", channel_order="rgb")(image, return_tensors="pt")["pixel_values"][0]
    inside = (pixels - expected)[:, 20:76, 4:92].abs()  # resized half a pixel apart, see `place_image`
    assert inside.mean() < 0.05 and expected[:, 20:76].std() > 0.1


def test_colours_come_in_the_order_and_normalised_as_in_use():
    image = Image.new("RGB", (64, 64), (255, 128, 0))
    for order in ("bgr", "rgb"):
        mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
        used = processor(64, channel_order=order, image_mean=mean, image_std=std)
        pixels, _ = SatTransform(build_augmentation("none"), used)(image, torch.zeros(0, 4), torch.zeros(0).long())
        torch.testing.assert_close(pixels, used(image, return_tensors="pt")["pixel_values"][0], atol=1e-6, rtol=0)


def test_an_image_without_boxes_stays_without():
    transform = SatTransform(build_augmentation("nanodet_m"), processor())
    for boxes in (torch.zeros(0, 4), torch.zeros(0)):
        _, target = transform(Image.new("RGB", (50, 40)), boxes, torch.zeros(0, dtype=torch.int64))
        assert target["boxes"].shape == (0, 4) and target["class_labels"].shape == (0,)


def test_what_is_left_of_a_box_below_a_pixel_goes():
    transform = SatTransform(build_augmentation("none"), processor(96))
    boxes = torch.tensor([[10.0, 10.0, 10.5, 40.0], [10.0, 10.0, 14.0, 40.0]])
    _, target = transform(Image.new("RGB", (96, 96)), boxes, torch.tensor([0, 1]))
    assert target["class_labels"].tolist() == [1]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_seed_decides(name):
    transform = SatTransform(build_augmentation(name), processor(64))
    image, boxes = Image.fromarray(named_image(50, 70, 1)), torch.tensor([[5.0, 5.0, 60.0, 40.0]])

    def run(seed: int):
        with seeded(seed):
            pixels, target = transform(image, boxes, torch.tensor([1]))
        return torch.cat([pixels.flatten(), target["boxes"].flatten()])

    assert torch.equal(run(1), run(1))
    assert (name == "none") == torch.equal(run(1), run(2))


def test_scale_and_shift_reach_as_far_as_released():
    """An image that fills the canvas: its size in the canvas is the scale, its centre the shift."""
    step = RandomPlacement((200, 200), AUGMENTATIONS["nanodet_m"])
    image = tv_tensors.Image(torch.zeros(3, 400, 400, dtype=torch.uint8))
    scales, shifts = [], []
    with seeded(0):
        for _ in range(2000):
            window = step.make_params([image])
            scales.append(400 / window["width"])
            centre = (window["left"] + window["width"] / 2 - 200) / 400  # as a share of the image
            shifts.append(-centre * scales[-1])
            assert window["height"] == window["width"]
    scales, shifts = torch.tensor(scales), torch.tensor(shifts)
    assert 0.595 < scales.min() < 0.62 and 1.38 < scales.max() < 1.405
    assert 0.18 < shifts.max() < 0.21 and -0.21 < shifts.min() < -0.18
    for values, idle in ((scales, 1.0), (shifts, 0.0)):  # each in one image of two
        assert ((values - idle).abs() < 0.004).float().mean() == pytest.approx(0.5, abs=0.05)


def test_stretching_changes_the_aspect_ratio():
    step = RandomPlacement((96, 96), build_augmentation("none", {"stretch": (0.8, 1.2)}))
    image = tv_tensors.Image(torch.zeros(3, 300, 300, dtype=torch.uint8))
    with seeded(0):
        windows = [step.make_params([image]) for _ in range(500)]
    ratios = torch.tensor([window["width"] / window["height"] for window in windows])
    assert 0.66 < ratios.min() < 0.75 and 1.35 < ratios.max() < 1.51


def test_half_of_the_images_are_mirrored():
    transform = SatTransform(build_augmentation("none", {"flip": 0.5}), processor(64))
    image, boxes = white_box((0, 0, 8, 8), 64, 64), torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    with seeded(0):
        lefts = [float(transform(image, boxes, torch.tensor([0]))[1]["boxes"][0, 0]) for _ in range(200)]
    assert set(lefts) == {4 / 64, 60 / 64}
    assert lefts.count(60 / 64) / 200 == pytest.approx(0.5, abs=0.12)


def test_colour_steps_are_those_of_the_recipe():
    """Added and multiplied as they stand; the saturation as in HSV, against Python's own."""
    torch.manual_seed(0)
    image = tv_tensors.Image(torch.rand(3, 4, 5))
    step = RandomColours(Augmentation(brightness=0.2, contrast=(0.6, 1.4), saturation=(0.5, 1.2)))
    out = step.transform(image, {"added": 0.1, "factor": 0.5, "saturation": 1.0})
    torch.testing.assert_close(out.as_subclass(torch.Tensor), (image.as_subclass(torch.Tensor) + 0.1) * 0.5)
    out = step.transform(image, {"added": 0.0, "factor": 1.0, "saturation": 0.6})
    for y in range(4):
        for x in range(5):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[:, y, x].tolist())
            expected = colorsys.hsv_to_rgb(hue, 0.6 * saturation, value)
            torch.testing.assert_close(out[:, y, x].as_subclass(torch.Tensor), torch.tensor(expected))
    with seeded(0):
        drawn = [step.make_params([]) for _ in range(1000)]
    for name, idle, bounds in (
        ("added", 0.0, (-0.2, 0.2)),
        ("factor", 1.0, (0.6, 1.4)),
        ("saturation", 1.0, (0.5, 1.2)),
    ):
        values = torch.tensor([params[name] for params in drawn])
        assert (values == idle).float().mean() == pytest.approx(0.5, abs=0.06)
        assert values.min() == pytest.approx(bounds[0], abs=0.02)
        assert values.max() == pytest.approx(bounds[1], abs=0.02)


def test_mistakes_are_named():
    with pytest.raises(StmineError, match=r"'nanodet'.*nanodet_m"):
        build_augmentation("nanodet")
    with pytest.raises(StmineError, match="no number scales; it has scale"):
        build_augmentation("mild", {"scales": [1, 2]})
    for wrong in ([1.2, 0.8], 0.8, [0, 1]):
        with pytest.raises(StmineError, match="scale must be two factors"):
            build_augmentation("mild", {"scale": wrong})
    with pytest.raises(StmineError, match=r"flip must lie in \[0, 1\]"):
        build_augmentation("mild", {"flip": 1.5})
    with pytest.raises(StmineError, match="multiple of 32"):
        SatTransform(build_augmentation("none"), processor(64), side=100)

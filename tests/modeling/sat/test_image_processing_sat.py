"""SatImageProcessor: boxes survive the way there and back, batches of any images, every kind of file."""

from __future__ import annotations

import doctest
import json

import numpy as np
import pytest
import torch
from deterministic import named_image
from helpers_sat import confident_sat, tiny_sat
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert
from transformers import AutoImageProcessor

from stmine_hf import SatConfig, SatImageProcessor
from stmine_hf.modeling.sat import image_processing_sat
from stmine_hf.modeling.sat.image_processing_sat import FITS, place_image, warp

SIZES = [(320, 320), (333, 500), (500, 333), (1, 1), (1, 700), (700, 1), (31, 33), (97, 641)]  # height, width


def loop_warp(image: np.ndarray, place) -> np.ndarray:
    """One pixel at a time (H, W); outside is black."""
    height, width = image.shape
    out = np.zeros((place.height, place.width))
    for y in range(place.height):
        for x in range(place.width):
            v, u = (y - place.offset_y) / place.scale_y, (x - place.offset_x) / place.scale_x
            top, left = int(np.floor(v)), int(np.floor(u))
            for row, down in ((top, 1 - (v - top)), (top + 1, v - top)):
                for column, right in ((left, 1 - (u - left)), (left + 1, u - left)):
                    if 0 <= row < height and 0 <= column < width:
                        out[y, x] += down * right * image[row, column]
    return out


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("height, width", [(17, 40), (40, 17), (9, 9), (1, 30)])
def test_warp_is_that_of_loops(height, width, fit):
    image = named_image(height, width, 1)[..., 0]
    place = place_image(height, width, 24, 24, fit)
    expected = loop_warp(image, place)
    given = torch.from_numpy(image).float()
    exact = warp(given, place)
    assert torch.equal(given, torch.from_numpy(image).float())  # as it was
    torch.testing.assert_close(exact, torch.from_numpy(expected).float(), atol=1e-3, rtol=0)
    whole = warp(torch.from_numpy(image), place)
    assert torch.equal(whole, exact.round())


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("height, width", SIZES)
def test_a_box_survives_the_round_trip(height, width, fit):
    """The whole image and a box in it: where the pixels go, from there back to the image."""
    place = place_image(height, width, 320, 320, fit)
    boxes = torch.tensor([[0.0, 0.0, width, height], [0.25 * width, 0.5 * height, 0.75 * width, height]])
    there = torch.empty_like(boxes)
    there[:, ::2] = boxes[:, ::2] * place.scale_x + place.offset_x
    there[:, 1::2] = boxes[:, 1::2] * place.scale_y + place.offset_y
    torch.testing.assert_close(place.to_image(there, height, width), boxes, atol=1e-3, rtol=1e-5)
    pixel_values = SatImageProcessor(fit=fit)(Image.new("RGB", (width, height), "white"))["pixel_values"]
    assert pixel_values.shape[-2] % 32 == pixel_values.shape[-1] % 32 == 0
    assert pixel_values.shape[-2] >= place.height and pixel_values.shape[-1] >= place.width
    assert max(pixel_values.shape[-2:]) <= 320


def found(pixel_values: Tensor, boxes: Tensor, labels: list[int], classes: int = 4) -> dict[str, Tensor]:
    """Outputs of a model that sees exactly these boxes, xyxy in pixels of the input."""
    height, width = pixel_values.shape[-2:]
    logits = torch.full((1, len(boxes), classes), -9.0)
    logits[0, range(len(boxes)), labels] = torch.linspace(3, 1, len(boxes))
    shares = box_convert(boxes / torch.tensor([width, height] * 2), "xyxy", "cxcywh")[None]
    return {"logits": logits, "pred_boxes": shares, "input_sizes": torch.tensor([[height, width]])}


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [{"height": 320, "width": 320}, {"height": 64, "width": 160}, None])
def test_a_bright_square_is_found_where_it_is(fit, size):
    image = np.zeros((120, 200, 3), np.uint8)
    image[40:80, 50:150] = 255
    options = {"fit": fit} | ({"do_resize": False} if size is None else {"size": size})
    for processor, placement in ((SatImageProcessor(**options), {}), (SatImageProcessor(), options)):
        pixel_values = processor(image, return_tensors="pt", **placement)["pixel_values"]
        ys, xs = torch.nonzero(pixel_values[0, 0] > 0, as_tuple=True)
        box = torch.tensor([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]]).float()
        outputs = found(pixel_values, box, [1])
        (result,) = processor.post_process_object_detection(outputs, target_sizes=[(120, 200)], **placement)
        step = 1.5 * 200 / 64 if size and size["height"] == 64 else 1.5  # a pixel of the input and a bit
        torch.testing.assert_close(result["boxes"], torch.tensor([[50.0, 40.0, 150.0, 80.0]]), atol=step, rtol=0)
        assert result["labels"].tolist() == [1]


def test_colours_and_padding():
    image = Image.new("RGB", (40, 20), (255, 128, 0))
    bgr = SatImageProcessor(size={"height": 64, "width": 64})(image, return_tensors="pt")["pixel_values"]
    assert bgr.shape == (1, 3, 32, 64) and bgr.dtype == torch.float32
    mean, std = torch.tensor([103.53, 116.28, 123.675]), torch.tensor([57.375, 57.12, 58.395])
    torch.testing.assert_close(bgr[0, :, 5, 5], (torch.tensor([0.0, 128, 255]) - mean) / std)
    rgb_processor = SatImageProcessor.for_config(SatConfig(channel_order="rgb"), size={"height": 64, "width": 64})
    rgb = rgb_processor(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(rgb, bgr.flip(1))
    tall = SatImageProcessor(size={"height": 64, "width": 64})(Image.new("RGB", (10, 64)), return_tensors="pt")
    assert tall["pixel_values"].shape == (1, 3, 64, 32) and not tall["pixel_values"][..., 10:].any()
    boxed = SatImageProcessor(size={"height": 64, "width": 64}, fit="letterbox")(image, return_tensors="pt")
    assert boxed["pixel_values"].shape == (1, 3, 64, 64)
    torch.testing.assert_close(boxed["pixel_values"][0, :, 0, 0], -mean / std)


def test_a_batch_is_its_images_padded_to_the_largest():
    images = [Image.fromarray(named_image(h, w, seed)) for seed, (h, w) in enumerate([(60, 90), (90, 60), (60, 90)])]
    processor = SatImageProcessor(size={"height": 96, "width": 96})
    batch = processor(images, return_tensors="pt")["pixel_values"]
    assert batch.shape == (3, 3, 96, 96)
    for row, image in zip(batch, images, strict=True):
        alone = processor(image, return_tensors="pt")["pixel_values"][0]
        assert torch.equal(row[:, : alone.shape[1], : alone.shape[2]], alone)
        assert not row[:, alone.shape[1] :].any() and not row[:, :, alone.shape[2] :].any()
    arrays = processor([np.asarray(image) for image in images], return_tensors="pt")["pixel_values"]
    tensors = processor([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in images], return_tensors="np")
    assert torch.equal(arrays, batch) and np.array_equal(tensors["pixel_values"], batch.numpy())


SHAPES = [(60, 90), (90, 60), (60, 90), (96, 96), (20, 90), (7, 5)]


@torch.no_grad()
def test_what_is_found_does_not_depend_on_the_batch():
    model, processor = confident_sat()
    images = [Image.fromarray(named_image(h, w, seed)) for seed, (h, w) in enumerate(SHAPES)]

    def detections(images):
        outputs = model(**processor(images, return_tensors="pt"))
        sizes = [(image.height, image.width) for image in images]
        return outputs, processor.post_process_object_detection(outputs, threshold=0.4, target_sizes=sizes)

    outputs, together = detections(images)
    for number, image in enumerate(images):
        single = model(**processor(image, return_tensors="pt"))
        size = [(image.height, image.width)]
        (alone,) = processor.post_process_object_detection(single, threshold=0.4, target_sizes=size)
        (listed,) = detections([image])[1]
        assert len(alone["scores"])
        assert outputs.input_sizes[number].tolist() == single.input_sizes[0].tolist()
        for name, expected in alone.items():
            torch.testing.assert_close(together[number][name], expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(listed[name], expected, atol=1e-4, rtol=1e-4)


def test_lists_come_in_one_size_that_the_others_do_not_change():
    processor = SatImageProcessor(size={"height": 96, "width": 70})
    images = [Image.fromarray(named_image(h, w, seed)) for seed, (h, w) in enumerate(SHAPES)]
    together = processor(images, return_tensors="pt")
    assert together["pixel_values"].shape == (6, 3, 96, 96) and together["pixel_mask"].shape == (6, 96, 96)
    for image, pixels, mask in zip(images, together["pixel_values"], together["pixel_mask"], strict=True):
        listed, alone = processor([image], return_tensors="pt"), processor(image, return_tensors="pt")
        assert torch.equal(listed["pixel_values"][0], pixels) and torch.equal(listed["pixel_mask"][0], mask)
        height, width = alone["pixel_values"].shape[-2:]
        assert alone["pixel_mask"].all() and mask.sum() == height * width and mask[:height, :width].all()
        padded = processor(image, return_tensors="pt", do_pad=True)["pixel_values"]
        assert torch.equal(padded[0], pixels)
    with pytest.raises(ValueError, match=r"need inputs of .* omit do_pad"):
        processor(images, do_pad=False)
    same = processor(images[:1] * 2, do_pad=False, return_tensors="pt")["pixel_values"]
    assert same.shape == (2, 3, 64, 96)


@pytest.mark.parametrize(
    "images, message",
    [
        ([], "at least one image, found none"),
        (np.zeros((0, 8, 8, 3), np.uint8), "at least one image, found none"),
        (np.zeros((0, 5, 3), np.uint8), "an image with pixels, found one of the shape .0, 5, 3."),
        (np.zeros((5, 0, 3), np.uint8), "an image with pixels"),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 0, 8)], "an image with pixels"),
        (Image.new("RGB", (0, 7)), "an image with pixels, found one of the shape .0, 7."),
        (np.full((8, 8, 3), np.nan, np.float32), "finite values, found NaN or infinity"),
        ([torch.zeros(3, 8, 8), torch.full((3, 8, 8), torch.inf)], "finite values, found NaN or infinity"),
    ],
    ids=["no list", "no batch", "no height", "no width", "one of two", "PIL", "NaN", "infinity"],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        SatImageProcessor()(images, return_tensors="pt")


GREY = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint16) * 100
KINDS = {
    "grey": Image.fromarray((GREY // 100).astype(np.uint8)),
    "16-bit grey": Image.fromarray(GREY),
    "float": Image.fromarray(GREY.astype(np.float32)),
    "one bit": Image.fromarray(GREY > 4000),
    "palette": Image.new("RGB", (50, 40), "red").convert("P"),
    "transparent": Image.new("RGBA", (50, 40), (255, 0, 0, 0)),
    "grey, transparent": Image.new("LA", (50, 40), (9, 0)),
    "CMYK": Image.new("CMYK", (50, 40)),
    "one pixel": Image.new("RGB", (1, 1), "white"),
    "a line": Image.new("RGB", (5000, 1)),
}


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_kind_of_image_is_searched(kind):
    model, processor = tiny_sat()
    image = KINDS[kind]
    outputs = model(**processor(image, return_tensors="pt"))
    size = (image.height, image.width)
    (result,) = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[size])
    assert len(result["scores"]) and result["scores"].isfinite().all()
    assert (result["boxes"] >= 0).all() and (result["boxes"] <= torch.tensor([size[1], size[0]] * 2)).all()


def test_transparency_is_white_and_16_bits_are_stretched():
    white = SatImageProcessor()(KINDS["transparent"], return_tensors="pt")["pixel_values"]
    assert torch.equal(
        white, SatImageProcessor()(Image.new("RGB", (50, 40), "white"), return_tensors="pt").pixel_values
    )
    dark, bright = (
        x for x in SatImageProcessor(do_normalize=False)(KINDS["16-bit grey"])["pixel_values"][0].aminmax()
    )
    assert dark == 0 and bright > 0.99


def test_suppression_keeps_classes_apart_and_the_best_first():
    boxes = torch.tensor([[0.0, 0, 20, 20], [1, 1, 21, 21], [0, 0, 20, 20], [30, 30, 50, 50], [30, 30, 49, 44]])
    outputs = found(torch.zeros(1, 3, 64, 64), boxes, [0, 0, 1, 0, 0])
    processor = SatImageProcessor()
    (result,) = processor.post_process_object_detection(outputs)
    assert result["labels"].tolist() == [0, 1, 0]
    torch.testing.assert_close(result["boxes"], boxes[[0, 2, 3]], atol=1e-4, rtol=0)
    assert (result["scores"].diff() <= 0).all()
    (loose,) = processor.post_process_object_detection(outputs, nms_threshold=0.9, max_detections=4)
    assert len(loose["scores"]) == 4
    (none,) = processor.post_process_object_detection(outputs, threshold=0.99)
    assert none["boxes"].shape == (0, 4) and none["labels"].shape == (0,)


def test_more_candidates_than_are_looked_at(monkeypatch):
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [45, 45, 60, 60]])
    outputs = found(torch.zeros(1, 3, 64, 64), boxes, [0, 1, 2])
    monkeypatch.setattr(image_processing_sat, "MAX_CANDIDATES", 2)
    (result,) = SatImageProcessor().post_process_object_detection(outputs)
    assert result["labels"].tolist() == [0, 1]


def test_several_images_have_sizes_of_their_own():
    one = found(torch.zeros(1, 3, 64, 64), torch.tensor([[0.0, 0, 32, 32]]), [2])
    both = {name: torch.cat([tensor, tensor]) for name, tensor in one.items()}
    processor = SatImageProcessor(size={"height": 64, "width": 64})
    results = processor.post_process_object_detection(both, target_sizes=torch.tensor([[64, 64], [128, 128]]))
    assert [result["boxes"][0, 2].item() for result in results] == pytest.approx([32, 64], abs=1e-3)
    with pytest.raises(ValueError, match="expected a target size for each of 2 images, found 1"):
        processor.post_process_object_detection(both, target_sizes=[(64, 64)])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fit": "crop"}, "fit must be among .*found 'crop'"),
        ({"channel_order": "gbr"}, "channel_order must be 'bgr' or 'rgb', found 'gbr'"),
        ({"size": {"shortest_edge": 320}}, "size must have 'height' and 'width'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SatImageProcessor(**options)
    with pytest.raises(ValueError, match=message):
        SatImageProcessor()(Image.new("RGB", (8, 8)), **options)


def test_saving_and_loading(tmp_path):
    processor = SatImageProcessor(size={"height": 416, "width": 352}, fit="letterbox", channel_order="rgb")
    processor.save_pretrained(tmp_path)
    for again in (SatImageProcessor.from_pretrained(tmp_path), AutoImageProcessor.from_pretrained(tmp_path)):
        assert again.to_dict() == processor.to_dict() and again.fit == "letterbox"
        image = Image.fromarray(named_image(50, 80, 3))
        ours, theirs = again(image, return_tensors="pt"), processor(image, return_tensors="pt")
        assert torch.equal(ours["pixel_values"], theirs["pixel_values"])
    stored = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert stored["auto_map"] == {"AutoImageProcessor": "image_processing_sat.SatImageProcessor"}
    assert (tmp_path / "image_processing_sat.py").is_file()


def test_docstring_examples():
    results = doctest.testmod(image_processing_sat)
    assert results.attempted >= 3 and results.failed == 0

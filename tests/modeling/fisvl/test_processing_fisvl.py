"""FisvlProcessor and its image processor: any image, any text, and the released caption cleaning."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_processor
from PIL import Image

from stmine_hf import FisvlProcessor
from stmine_hf.modeling.fisvl.processing_fisvl import FisvlImageProcessor, clean_caption, to_rgb

FIXTURES = Path(__file__).parents[2] / "fixtures" / "fisvl"
CAPTIONS = json.loads((FIXTURES / "text_preprocessing.json").read_text())["pre_caption"]


@pytest.fixture(scope="module")
def processor() -> FisvlProcessor:
    return tiny_processor()


# ---------------------------------------------------------------------------------------------------------------------
# Text.


@pytest.mark.parametrize("case", CAPTIONS, ids=[f"{number}" for number in range(len(CAPTIONS))])
def test_caption_cleaning_parity(case):
    if "result" in case:
        assert clean_caption(case["caption"], case["max_words"]) == case["result"]
    else:
        with pytest.raises(ValueError, match="nothing is left"):
            clean_caption(case["caption"], case["max_words"])


def test_blank_text_keeps_its_row(processor):
    blank = ["", " ", ".", "\n\t", "...!?", "-/-"]
    inputs = processor(text=[*blank, "a plane"])
    assert inputs["input_ids"].shape == (len(blank) + 1, 4)
    assert inputs["attention_mask"].sum(dim=1).tolist() == [2] * len(blank) + [4]  # [CLS] [SEP], then padding
    assert (inputs["input_ids"][: len(blank), :2] == inputs["input_ids"][0, :2]).all()


def test_one_sentence_is_a_list_of_one(processor):
    one, many = processor(text="a plane"), processor(text=("a plane",))
    assert torch.equal(one["input_ids"], many["input_ids"]) and one["input_ids"].shape == (1, 4)
    assert set(one) == {"input_ids", "attention_mask"}  # nothing of images, no token_type_ids


BOLD = "".join(chr(0x1D400 + ord(letter) - ord("A") - 6) for letter in "plane")  # mathematical bold letters


@pytest.mark.parametrize(
    "text", ["停机场上有许多飞机", "много самолётов", "✈️🏝️🛰️", BOLD, "\x00\u200b\ud7ff", "<person>"]
)
def test_any_writing_gives_tokens(processor, text):
    ids = processor(text=text)["input_ids"]
    assert ids.shape[0] == 1 and ids.max() < len(processor.tokenizer)


def test_look_alike_letters_are_read(processor):
    assert torch.equal(processor(text=BOLD)["input_ids"], processor(text="plane")["input_ids"])


@pytest.mark.parametrize("clean", [True, False])
def test_long_text_is_cut(clean):
    processor = tiny_processor()
    processor.clean_captions = clean
    ids = processor(text="plane " * 10_000)["input_ids"]
    assert ids.shape == (1, 2 + processor.max_words if clean else processor.max_tokens)
    assert ids[0, -1] == processor.tokenizer.sep_token_id


def test_cleaning_can_be_switched_off():
    processor = tiny_processor()
    cleaned = processor(text="a plane.")["input_ids"]
    processor.clean_captions = False
    assert processor(text="a plane.")["input_ids"].shape[1] == cleaned.shape[1] + 1  # the full stop


def test_length_options(processor):
    text = ["plane", "a plane near the airport"]
    assert processor(text=text, padding="max_length")["input_ids"].shape == (2, processor.max_tokens)
    assert processor(text=text, padding="max_length", max_length=9)["input_ids"].shape == (2, 9)
    assert processor(text=text, max_length=4)["input_ids"].shape == (2, 4)


@pytest.mark.parametrize("text", [[], [None], [3], [["a", "plane"]], b"plane"])
def test_what_is_no_text_is_refused(processor, text):
    with pytest.raises(ValueError, match="text must be one sentence or a list"):
        processor(text=text)


def test_options_that_nothing_takes_are_refused(processor):
    with pytest.raises(ValueError, match="found neither"):
        processor()
    with pytest.raises(TypeError, match="unknown options crop, sise"):
        processor(text="plane", sise=3, crop=True)
    with pytest.raises(TypeError, match="sise"):
        processor(images=Image.new("RGB", (8, 8)), sise=3)


# ---------------------------------------------------------------------------------------------------------------------
# Images.


def halves(mode: str, left, right) -> Image.Image:
    """An image of two halves, 16 x 8."""
    image = Image.new(mode, (16, 8), right)
    image.paste(left, (0, 0, 8, 8))
    return image


def palette_with_transparency() -> Image.Image:
    image = halves("RGB", "black", "red").quantize(2)
    hole = image.getpixel((0, 0))
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=hole)
    return Image.open(stream)


def animation() -> Image.Image:
    stream = io.BytesIO()
    frames = [halves("RGB", "white", "black"), halves("RGB", "blue", "blue")]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    image = Image.open(stream)
    image.seek(1)
    return image


def opaque_left(mode: str) -> Image.Image:
    """Black where it is opaque."""
    image = Image.new("L", (16, 8), 0).convert(mode)
    image.putalpha(halves("L", 255, 0))
    return image


def floats(*values: float) -> Image.Image:
    return Image.fromarray(np.repeat(np.asarray(values, dtype=np.float32), 4)[None].repeat(8, axis=0))


def sixteen_bits(left: int, right: int) -> Image.Image:
    return Image.fromarray(np.array([[left] * 8 + [right] * 8] * 8, dtype=np.uint16))


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
IMAGES = {  # image, colour of its left end, of its right end
    "RGB": (halves("RGB", "red", "white"), RED, WHITE),
    "1": (halves("1", 0, 1), BLACK, WHITE),
    "L": (halves("L", 0, 255), BLACK, WHITE),
    "LA, clear on white": (halves("LA", (0, 255), (0, 0)), BLACK, WHITE),
    "La": (halves("LA", (0, 255), (0, 0)).convert("La"), BLACK, WHITE),
    "P": (halves("RGB", "red", "white").quantize(2), RED, WHITE),
    "P, one colour transparent": (palette_with_transparency(), WHITE, RED),
    "PA": (opaque_left("PA"), BLACK, WHITE),
    "RGBA, clear on white": (halves("RGBA", (255, 0, 0, 255), (255, 0, 0, 0)), RED, WHITE),
    "RGBA, half clear": (halves("RGBA", (255, 0, 0, 255), (0, 0, 0, 51)), RED, (204, 204, 204)),
    "RGBa": (halves("RGBA", (255, 0, 0, 255), (255, 0, 0, 0)).convert("RGBa"), RED, WHITE),
    "CMYK": (halves("CMYK", (0, 255, 255, 0), (0, 0, 0, 0)), RED, WHITE),
    "YCbCr": (halves("RGB", "black", "white").convert("YCbCr"), BLACK, WHITE),
    "HSV": (halves("RGB", "red", "white").convert("HSV"), RED, WHITE),
    "I;16, 12 bits used": (sixteen_bits(1000, 4095), BLACK, WHITE),
    "I;16, of one value": (sixteen_bits(4095, 4095), WHITE, WHITE),
    "I": (halves("I", -70_000, 70_000), BLACK, WHITE),
    "F": (floats(0.25, 0.25, 0.75, 0.75), BLACK, WHITE),
    "F, no data": (floats(np.nan, 200.0, 240.0, 300.0), BLACK, WHITE),
    "F, nothing but no data": (floats(np.nan, np.nan), BLACK, BLACK),
    "F, infinite": (floats(-np.inf, 1.0, 2.0, np.inf), BLACK, WHITE),
    "animation, first frame": (animation(), WHITE, BLACK),
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_mode_becomes_rgb(processor, name):
    image, left, right = IMAGES[name]
    rgb = to_rgb(image)
    assert rgb.mode == "RGB" and rgb.size == image.size
    ends = np.array([rgb.getpixel((0, 4)), rgb.getpixel((rgb.width - 1, 4))])
    np.testing.assert_allclose(ends, [left, right], atol=1)
    pixels = processor(images=image)["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32) and pixels.dtype == torch.float32 and pixels.isfinite().all()


def test_no_data_does_not_squeeze_the_contrast():
    grey = np.asarray(to_rgb(IMAGES["F, no data"][0]))[0, :, 0]
    assert grey[[0, 5, 9, 15]].tolist() == [0, 0, 102, 255]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (33, 31)])
def test_any_shape_is_squashed_to_the_square(processor, size):
    image = Image.new("RGB", size, (255, 0, 0))
    pixels = processor(images=image)["pixel_values"]
    mean, std = torch.tensor(FisvlImageProcessor.image_mean), torch.tensor(FisvlImageProcessor.image_std)
    red = (torch.tensor([1.0, 0.0, 0.0]) - mean) / std
    torch.testing.assert_close(pixels, red[None, :, None, None].expand(1, 3, 32, 32), atol=1e-5, rtol=0)


def test_arrays_and_tensors_equal_the_image(processor):
    values = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    expected = processor(images=Image.fromarray(values))["pixel_values"]
    first = np.ascontiguousarray(values.transpose(2, 0, 1))
    for same in (values, first, torch.tensor(values), torch.tensor(first), torch.tensor(first)[None], [values]):
        assert torch.equal(processor(images=same)["pixel_values"], expected)


def test_list_of_images_of_different_sizes_and_modes(processor):
    images = [image for image, *_ in IMAGES.values()]
    together = processor(images=images)["pixel_values"]
    assert together.shape == (len(images), 3, 32, 32)
    assert torch.equal(together[3:4], processor(images=images[3])["pixel_values"])


def test_size_is_an_option_of_the_call_and_of_the_processor():
    image = Image.new("RGB", (50, 40))
    size = {"height": 48, "width": 40}
    assert tiny_processor()(images=image, size=size)["pixel_values"].shape == (1, 3, 48, 40)
    assert FisvlImageProcessor(size=size)(image, return_tensors="pt")["pixel_values"].shape == (1, 3, 48, 40)
    assert FisvlImageProcessor()(image, return_tensors="pt")["pixel_values"].shape == (1, 3, 224, 224)


# ---------------------------------------------------------------------------------------------------------------------
# Both, and files.


def test_images_and_sentences_together(processor):
    inputs = processor(images=[Image.new("L", (9, 9))] * 2, text=["a plane"], return_tensors="np")
    assert list(inputs) == processor.model_input_names
    assert all(isinstance(values, np.ndarray) for values in inputs.values())
    assert len(inputs["pixel_values"]) == 2 and len(inputs["input_ids"]) == 1
    plain = processor(images=Image.new("L", (9, 9)), text="a plane", return_tensors=None)
    assert isinstance(plain["input_ids"], list)


def test_own_options_survive_saving(tmp_path):
    processor = tiny_processor(size=40)
    processor.clean_captions, processor.max_words, processor.max_tokens = False, 7, 9
    processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    processor.save_pretrained(tmp_path / "once")
    again = FisvlProcessor.from_pretrained(tmp_path / "once")
    assert (again.clean_captions, again.max_words, again.max_tokens) == (False, 7, 9)
    assert isinstance(again.image_processor, FisvlImageProcessor)
    again.save_pretrained(tmp_path / "twice")
    once, twice = ((tmp_path / folder / "processor_config.json").read_text() for folder in ("once", "twice"))
    assert once == twice
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    ours, theirs = (p(images=image, text="A plane, near the sea.") for p in (processor, again))
    assert ours["pixel_values"].shape == (1, 3, 40, 40)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)

"""Text and images as the authors' program prepares them; and every post there is, however odd."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import threading
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from deterministic import named_image
from helpers_mttv import tiny_mttv, tiny_mttv_processor
from PIL import Image
from safetensors.torch import load_file
from transformers import BatchFeature, BertTokenizer

from stmine_hf.modeling.mttv.pipeline_mttv import word_spans
from stmine_hf.modeling.mttv.processing_mttv import (
    MttvImageProcessor,
    MttvProcessor,
    Regions,
    TransformersDetector,
    as_released,
    crop_region,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "mttv"
DATASET = json.loads((FIXTURES / "dataset.json").read_text())
VISUAL = json.loads((FIXTURES / "visual.json").read_text())


def vocabulary(name: str, shared_data: Path) -> Path:
    path = shared_data.parent / "weights" / f"{name}-vocab" / "vocab.txt"
    if not path.is_file():
        pytest.skip(
            f"needs the published vocabulary of {name}: no {path.relative_to(shared_data.parent)} beside the data"
        )
    assert hashlib.sha256(path.read_bytes()).hexdigest() == DATASET["vocabularies"][name]
    return path


@pytest.fixture(scope="module")
def chinese(shared_data) -> MttvProcessor:
    return MttvProcessor(MttvImageProcessor(), BertTokenizer(vocab=str(vocabulary("bert-base-chinese", shared_data))))


@pytest.fixture(scope="module")
def weibo(shared_data) -> dict[str, list[str]]:
    folder = shared_data / "fake_news" / "weibo_text"
    if not folder.is_dir():
        pytest.skip(f"needs the Weibo posts: no fake_news/weibo_text in {shared_data}")
    lines = {split: (folder / f"{split}.jsonl").read_text(encoding="utf-8") for split in ("train", "dev", "test")}
    return {split: [json.loads(line)["text"] for line in text.splitlines()] for split, text in lines.items()}


def ids(processor: MttvProcessor, texts: list[str], cut: int | None = None) -> list[list[int]]:
    processor = MttvProcessor(processor.image_processor, processor.tokenizer, max_tokens=cut or 10_000)
    encoded = processor(text=texts)
    return [row[mask.bool()].tolist() for row, mask in zip(encoded.input_ids, encoded.attention_mask, strict=True)]


def test_made_up_texts_parity(parity, chinese):
    cases = DATASET["chinese made up"]
    wrong = sum(own != case["ids"] for own, case in zip(ids(chinese, [c["text"] for c in cases]), cases, strict=True))
    parity("made-up Chinese texts with other ids", wrong, 0)


def test_english_texts_parity(parity, shared_data):
    tokenizer = BertTokenizer(vocab=str(vocabulary("bert-base-uncased", shared_data)))
    cases = DATASET["english"]
    found = ids(MttvProcessor(MttvImageProcessor(), tokenizer), [case["text"] for case in cases])
    wrong = sum(own != case["ids"] for own, case in zip(found, cases, strict=True))
    parity("English texts with other ids", wrong, 0)


def test_real_texts_parity(parity, chinese, weibo):
    cases = DATASET["chinese real"]
    found = ids(chinese, [weibo["test"][case["line"]] for case in cases])
    parity("real texts with other ids", sum(a != b["ids"] for a, b in zip(found, cases, strict=True)), 0)
    cut = DATASET["chinese cut"]
    assert chinese.max_tokens == 127
    (found,) = ids(chinese, [weibo["test"][cut["line"]]], cut=127)
    parity("the longest real text, cut", int(found != cut["ids"]), 0)


@pytest.mark.slow
def test_all_real_texts_parity(parity, chinese, weibo, shared_data):
    """The released tokenizer is BERT's first, in plain Python; it lives on in transformers, beside the fast one."""
    legacy = pytest.importorskip("transformers.models.bert.tokenization_bert_legacy")
    lines = vocabulary("bert-base-chinese", shared_data).read_text(encoding="utf-8").split("\n")
    numbers = {line.strip(): number for number, line in enumerate(lines)}
    special = [f"[{name}]" for name in ("UNK", "SEP", "PAD", "CLS", "MASK")]
    words = legacy.BasicTokenizer(do_lower_case=True, never_split=special)
    pieces = legacy.WordpieceTokenizer(numbers, "[UNK]")
    texts = [text for split in weibo.values() for text in split]
    texts += [f"{text[:20]}[SEP]{text[20:40]} [CLS] {text[40:60]}a[MASK]" for text in texts[::10]]
    wrong = 0
    for text, found in zip(texts, ids(chinese, texts), strict=True):
        wrong += found != [numbers[piece] for word in words.tokenize(text) for piece in pieces.tokenize(word)]
    parity("all real texts, with other ids", wrong, 0)


def test_special_tokens_are_words_where_the_release_takes_them_for_words(chinese):
    """`a[SEP]b` is no separator to the released tokenizer, so a post cannot smuggle one in."""
    separator = chinese.tokenizer.sep_token_id
    for text in ("a[SEP]b", "x[SEP]", ".[SEP].", "[[SEP]]"):
        assert separator not in ids(chinese, [text])[0]
    assert ids(chinese, ["好[SEP] 好"])[0].count(separator) == 1
    assert as_released("no [SEP] a[CLS]") == "no [SEP] a[cls]"


def image(name: str) -> Image.Image:
    (dimensions,) = VISUAL["images"][name].values()
    return Image.fromarray(named_image(*dimensions))


@pytest.mark.parametrize("name", ["a", "b"])
def test_pixels_parity(parity, name):
    expected = load_file(FIXTURES / "visual.safetensors")
    pixels = MttvImageProcessor()(image(name), return_tensors="pt")["pixel_values"][0]
    # The numbers come from Pillow 13; earlier ones round a quarter of one image to the next of
    # 256 levels, which is 0.0175 after normalisation.
    corner, mean = (1e-6, 1e-6) if int(PIL.__version__.split(".")[0]) >= 13 else (0.0176, 1e-3)
    parity("pixels, corner", (pixels[:, :6, :6] - expected[f"{name}/input.corner"]).abs().max(), corner)
    parity("pixels, mean", (pixels.mean(dim=(1, 2)) - expected[f"{name}/input.mean"]).abs().max(), mean)


@pytest.mark.parametrize("case", list(VISUAL["edge cases"]))
def test_box_edge_cases_parity(parity, case):
    """Presence, count and blackness of crops on an image of 60 x 40 pixels, for boxes at and past its border."""
    facts = VISUAL["edge cases"][case]
    image = Image.new("RGB", (60, 40), (200, 100, 50))
    processor = tiny_mttv_processor(num_regions=20)
    if case == "right < left":  # the released code loses the post here
        with pytest.raises(ValueError, match="corners are swapped"):
            processor(text="a", images=image, boxes=facts["boxes"])
        return
    found = processor(text="a", images=image, boxes=[facts["boxes"]], return_boxes=True)
    count = int(found.region_mask.sum())
    parity("boxes kept", abs(count - facts["box_num"]), 0)
    stored = found.region_boxes[0, :count, 1:].to(torch.int32).tolist()
    assert stored[: len(facts["boxes stored"])] == facts["boxes stored"]
    if "black pixels share" in facts:
        crop = crop_region(image, facts["boxes"][0])
        assert crop.size == tuple(facts["crop size (width, height)"])
        black = (np.asarray(crop) == 0).all(axis=2).mean()
        parity("black share of crops", abs(black - facts["black pixels share"]), 1e-9)
    elif count == 1:  # no area: a black image
        crop = crop_region(image, facts["boxes"][0])
        assert not np.asarray(crop).any()


ODD_IMAGES = {
    "grey": lambda: Image.new("L", (9, 7), 90),
    "palette": lambda: Image.new("P", (9, 7)),
    "CMYK": lambda: Image.new("CMYK", (9, 7), (10, 20, 30, 40)),
    "16 bit": lambda: Image.fromarray(np.arange(63, dtype=np.uint16).reshape(7, 9)),
    "transparent": lambda: Image.new("RGBA", (9, 7), (9, 9, 9, 0)),
    "animated": lambda: animated(),
    "1 x 1": lambda: Image.new("RGB", (1, 1), (200, 100, 50)),
    "3 x 1": lambda: Image.new("RGB", (3, 1), (200, 100, 50)),
    "large": lambda: Image.new("RGB", (5000, 3000)),
}


def animated() -> Image.Image:
    file = io.BytesIO()
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    image = Image.open(file)
    image.seek(1)
    return image


@pytest.mark.parametrize("kind", list(ODD_IMAGES))
def test_odd_images(kind):
    image = ODD_IMAGES[kind]()
    found = tiny_mttv_processor()(text="a", images=image, boxes=[[0, 0, 2, 1]])
    assert found.pixel_values.shape == (1, 3, 32, 32) and found.pixel_values.isfinite().all()
    assert found.image_mask.tolist() == [1] and found.region_mask.tolist() == [[1, 0, 0]]
    if kind == "animated":  # the first frame is red
        assert found.pixel_values[0, 0].mean() > 0 > found.pixel_values[0, 2].mean()


@pytest.mark.parametrize(
    "text", ["", " \n", "😂👍🏻", "http://t.cn/RvQx8yK", "假" * 10_000, "مرحبا hello שלום 假", "\0\ufffd"]
)
def test_odd_texts(text):
    found = tiny_mttv_processor()(text=[text, "fake news"])
    assert found.input_ids.shape == found.attention_mask.shape
    assert 2 <= found.input_ids.shape[1] <= 40
    alone = tiny_mttv_processor()(text=text)
    assert alone.input_ids.shape[1] >= 1
    assert alone.attention_mask.sum() == found.attention_mask[0].sum()


def test_posts_without_or_with_several_images():
    processor = tiny_mttv_processor()
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")

    def detector(images):
        scores = {(255, 0, 0): (0.9, 0.3), (0, 0, 255): (0.8, 0.1)}
        found = [scores[image.getpixel((0, 0))] for image in images]
        return [Regions(np.array([[0, 0, 4, 4], [0, 0, 8, 8]]), np.array(pair)) for pair in found]

    found = processor(text=["a", "b", "c"], images=[None, red, [blue, red]], detector=detector, return_boxes=True)
    assert found.image_mask.tolist() == [0, 1, 1]
    assert not found.pixel_values[0].any()
    assert found.region_mask.tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert found.region_boxes[2, :, 0].tolist() == [1, 0, 1]  # red 0.9, blue 0.8, red 0.3
    # The first of several images is the one that is seen whole.
    assert found.pixel_values[2, 2].mean() > found.pixel_values[2, 0].mean()
    single = processor(text="c", images=[blue, red], detector=detector)
    torch.testing.assert_close(single.region_pixel_values[0], found.region_pixel_values[2])
    images_only = processor(images=[red, blue])
    assert images_only.attention_mask.sum() == 0 and images_only.image_mask.tolist() == [1, 1]
    assert "region_mask" not in images_only


def test_crops_are_those_of_the_original_image():
    image = Image.fromarray(named_image(50, 60, 3))
    processor = tiny_mttv_processor()
    found = processor(text="a", images=image, boxes=[[10.9, 5.2, 30.7, 25.99]])
    expected = processor.image_processor(image.crop((10, 5, 30, 25)), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found.region_pixel_values[0, :1], expected)
    assert not found.region_pixel_values[0, 1:].any()


def test_transformers_detector():
    class Processor:
        def __call__(self, images, return_tensors):
            return BatchFeature({"n": torch.tensor(len(images))})

        def post_process_object_detection(self, outputs, threshold, target_sizes):
            assert threshold == 0.05
            return [
                {"scores": torch.tensor([0.2, 0.7]), "boxes": torch.tensor([[0.0, 0, 1, 1], [0, 0, width, height]])}
                for height, width in target_sizes
            ]

    class Model(torch.nn.Module):
        device = "cpu"

        def forward(self, n):
            return n

    found = TransformersDetector(Model(), Processor(), batch_size=2)([Image.new("RGB", (9, 7))] * 3)
    assert len(found) == 3
    assert found[2].boxes.tolist() == [[0, 0, 9, 7], [0, 0, 1, 1]]
    np.testing.assert_allclose(found[2].scores, [0.7, 0.2], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected text, images or both"),
        ({"text": []}, "at least one post"),
        ({"text": [3]}, "expected texts to be strings, found int"),
        ({"text": ["a", "b"], "images": [None]}, r"each of the 2 texts, found 1"),
        ({"text": "a", "images": "photo.jpg"}, "expected a PIL image, found str"),
        ({"text": "a", "boxes": [[0, 0, 1, 1]]}, "boxes are given without images"),
        ({"text": "a", "images": Image.new("RGB", (2, 2)), "boxes": [[0, 0, 1]]}, "four finite numbers"),
        ({"text": "a", "images": Image.new("RGB", (2, 2)), "boxes": [[0, 0, 1, float("nan")]]}, "four finite numbers"),
        ({"text": ["a", "b"], "images": [None, None], "boxes": [[]]}, "expected boxes for 2 posts, found 1"),
    ],
)
def test_mistakes_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny_mttv_processor()(**arguments)


def test_a_damaged_image_is_told(tmp_path):
    file = tmp_path / "cut.jpg"
    Image.fromarray(named_image(90, 90, 1)).save(file)
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read"):
        tiny_mttv_processor()(text="a", images=Image.open(file))


def test_threads_share_a_processor():
    """A tokenizer keeps how it pads: one thread must not change it under the hands of another."""
    processor, texts = tiny_mttv()[1], ["fake news about water " * count for count in (1, 2, 5, 9)]
    rows, spans = processor(text=texts)["input_ids"].tolist(), word_spans(processor, texts[2])
    wrong, before = [], sys.getswitchinterval()

    def work() -> None:
        for _ in range(100):
            try:
                if processor(text=texts)["input_ids"].tolist() != rows or word_spans(processor, texts[2]) != spans:
                    wrong.append("other pieces")
            except Exception as error:
                wrong.append(repr(error))

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong

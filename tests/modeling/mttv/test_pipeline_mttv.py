"""The pipeline: verdicts for posts of every kind, reasons, and drawings of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from deterministic import named_image
from helpers_mttv import save_tiny_mttv, tiny_mttv
from PIL import Image
from transformers import pipeline

from stmine_hf.modeling.mttv.pipeline_mttv import (
    DEFAULT_METHOD,
    GRID,
    METHODS,
    MttvPipeline,
    draw_regions,
    word_spans,
)
from stmine_hf.modeling.mttv.processing_mttv import Regions

IMAGE = Image.fromarray(named_image(50, 60, 4))
POSTS = [
    {"text": "假新闻 fake news!", "image": IMAGE, "boxes": [[5, 5, 40, 45], [10, 0, 60, 20]]},
    {"text": "看"},
    {"text": "", "image": IMAGE},
    {"image": [IMAGE, Image.new("L", (3, 3))]},
    "news " * 60,
]


@pytest.fixture(scope="module")
def classify() -> MttvPipeline:
    model, processor = tiny_mttv()
    return MttvPipeline(model=model, processor=processor, device="cpu")


def test_posts_of_every_kind(classify):
    alone = [classify(post) for post in POSTS]
    for result in alone:
        assert result["label"] in ("fake", "real") and result["scores"][result["label"]] == result["score"] >= 0.5
        assert sum(result["scores"].values()) == pytest.approx(1)
    for batch_size in (1, 2, 5):
        together = classify(POSTS, batch_size=batch_size)
        assert [result["label"] for result in together] == [result["label"] for result in alone]
        for one, other in zip(alone, together, strict=True):
            assert other["score"] == pytest.approx(one["score"], abs=1e-5)
    assert classify(text="看") == classify(POSTS[1])


def test_reasons(classify):
    result = classify(POSTS[0], explain="integrated_gradients", steps=64)
    text = POSTS[0]["text"]
    assert [word["word"] for word in result["words"]] == ["假", "新", "闻", "fake", "news", "!"]
    assert all(text[word["start"] : word["end"]] == word["word"] for word in result["words"])
    assert [region["box"] for region in result["regions"]] == POSTS[0]["boxes"]
    assert len(result["cells"]) == len(result["cells"][0]) == 4
    total = sum(part["weight"] for name in ("words", "regions") for part in result[name])
    assert total + np.sum(result["cells"]) == pytest.approx(result["evidence"], abs=5e-3)
    for post, words in ((POSTS[1], 1), (POSTS[2], 0)):
        result = classify(post, explain="integrated_gradients", steps=4)
        assert len(result["words"]) == words and result["regions"] == []
    together = classify(POSTS, explain="integrated_gradients", steps=4, batch_size=3)
    assert [len(result["regions"]) for result in together] == [2, 0, 0, 0, 0]
    pieces = classify("fakery news", explain="integrated_gradients", steps=4)["words"]
    assert [word["word"] for word in pieces][-1] == "news" and len(pieces) == 2  # word pieces count as one word


def test_words_cover_the_text_once_whatever_the_tokenizer():
    """Some tokenizers start with a piece for a blank that claims the first character too: "紧" before "紧急"."""

    class Tokenizer:
        offsets = ((0, 1), (0, 2), (2, 4), (5, 8), (8, 10), (10, 10))

        def __call__(self, text, **options):
            return {"offset_mapping": list(self.offsets)}

    processor = SimpleNamespace(tokenizer=Tokenizer(), max_tokens=127)
    spans = word_spans(processor, "紧急通知 forwa")
    assert spans == [(0, 2, 2), (2, 4, 1), (5, 10, 3)]
    assert sum(pieces for *_, pieces in spans) == len(Tokenizer.offsets)


def test_a_detector_finds_regions():
    model, processor = tiny_mttv()

    def detector(images):
        return [Regions(np.array([[0, 0, image.width / 2, image.height]]), np.array([0.9])) for image in images]

    classify = MttvPipeline(model=model, processor=processor, detector=detector, device="cpu")
    result = classify({"text": "看", "image": IMAGE}, explain=True, steps=2)
    assert [region["box"] for region in result["regions"]] == [[0, 0, 30, 50]]
    given = classify({"text": "看", "image": IMAGE, "boxes": [[0, 0, 30, 50]]})
    assert given["score"] == pytest.approx(result["score"])
    assert classify({"text": "看"}, explain=True, steps=2)["regions"] == []


def test_drawing(classify):
    """Cells are tinted, regions of the first image framed; the strongest of all parts gets the full color."""
    for method in METHODS:
        result = classify(POSTS[0], explain=method, steps=4)
        drawn = draw_regions(IMAGE, result)
        assert drawn.size == IMAGE.size and drawn.mode == "RGB"
        assert np.any(np.asarray(drawn) != np.asarray(IMAGE))
    grey = Image.new("RGB", (40, 10), (128, 128, 128))
    result = {"cells": [[1.0, 0.5, -1.0, 0.0]], "regions": [], "words": []}
    red, faint, blue, none = (draw_regions(grey, result).getpixel((left + 5, 5)) for left in (0, 10, 20, 30))
    assert red[0] > 180 and red[2] < 90 and blue[2] > 150 and blue[0] < 90
    assert 128 < faint[0] < red[0] and none == (128, 128, 128)
    for stronger in ({**result, "words": [{"weight": 2.0}]}, {**result, "words": [{"weight": -2.0}]}):
        assert draw_regions(grey, stronger).getpixel((5, 5)) == faint
    assert draw_regions(grey, result, strongest=2.0).getpixel((5, 5)) == faint


def test_occlusion_gives_the_predictions_without_the_part():
    """Each figure is the model's own on the post without the part."""
    model, processor = tiny_mttv()
    classify = MttvPipeline(model=model, processor=processor, device="cpu")
    post, text, boxes = POSTS[0], POSTS[0]["text"], POSTS[0]["boxes"]
    result = classify(post, explain="occlusion")
    label, whole = result["label"], result["score"]

    def score(text=text, image=IMAGE, boxes=boxes):
        return classify({"text": text, "image": image, "boxes": boxes if image else None})["scores"][label]

    def check(part, without):
        assert part["without"] == pytest.approx(without, abs=1e-5)
        odds = [np.log(share / (1 - share)) for share in (whole, without)]
        assert part["weight"] == pytest.approx(odds[0] - odds[1], abs=1e-3)

    assert [word["word"] for word in result["words"]] == ["假", "新", "闻", "fake", "news", "!"]
    for word in result["words"]:
        check(word, score(text=text[: word["start"]] + text[word["end"] :]))
    assert [region["box"] for region in result["regions"]] == boxes
    for region, others in zip(result["regions"], (boxes[1:], boxes[:1]), strict=True):
        check(region, score(boxes=others))
    assert result["without_image"] == pytest.approx(score(image=None), abs=1e-5)
    assert np.shape(result["cells"]) == (GRID, GRID)
    encoded = processor(text=[text], images=[IMAGE], boxes=[boxes])
    pixels = encoded["pixel_values"].clone()
    side = pixels.shape[-1] // GRID
    pixels[..., side : 2 * side, 3 * side :] = pixels.mean(dim=(2, 3), keepdim=True)  # row 1, column 3
    encoded["pixel_values"] = pixels
    with torch.no_grad():
        without = model(**encoded).logits[0].softmax(-1)[model.config.label2id[label]].item()
    check({"without": without, "weight": result["cells"][1][3]}, without)
    assert max(abs(word["weight"]) for word in result["words"]) > 1e-3


def test_occlusion_of_posts_of_every_kind(classify):
    alone = [classify(post, explain="occlusion") for post in POSTS]
    for post, result in zip(POSTS, alone, strict=True):
        shown = isinstance(post, dict) and "image" in post
        assert bool(result["cells"]) == shown and result["method"] == "occlusion"
        assert (result["without_image"] is not None) == (shown and bool(post.get("text")))
    assert [len(result["words"]) for result in alone][:4] == [6, 1, 0, 0]
    for together in (classify(POSTS, explain="occlusion"), classify(POSTS, explain="occlusion", batch_size=3)):
        for one, other in zip(alone, together, strict=True):
            assert [word["word"] for word in one["words"]] == [word["word"] for word in other["words"]]
            assert np.allclose(one["cells"], other["cells"], atol=1e-4)
    long = classify("news " * 60 + "unread", explain="occlusion")  # nothing of the unread end moves up
    rest = long["words"][-1]["end"]
    assert long["words"][0]["without"] == pytest.approx(
        classify(("news " * 60)[:rest].removeprefix("news"))["scores"][long["label"]], abs=1e-5
    )


def test_methods_of_explaining(classify):
    assert classify("看", explain=True)["method"] == DEFAULT_METHOD
    assert "words" not in classify("看", explain=False)
    with pytest.raises(ValueError, match="expected True, False, occlusion or integrated_gradients, found 'magic'"):
        classify("看", explain="magic")


@pytest.mark.parametrize(
    ("post", "message"),
    [
        ({"txt": "a"}, r"expected a text or a dict with text, image and boxes, found \['txt'\]"),
        (3, "found int"),
        ({"text": "a", "image": "nowhere.jpg"}, "nowhere.jpg: cannot be read as an image"),
    ],
)
def test_mistakes_are_told(classify, post, message):
    with pytest.raises(ValueError, match=message):
        classify(post)
    with pytest.raises(TypeError, match="explian"):
        classify("a", explian=True)


def test_a_model_of_texts_refuses_images():
    model, processor = tiny_mttv(vision_config=None)
    classify = MttvPipeline(model=model, processor=processor, device="cpu")
    assert classify("看")["label"] in ("fake", "real")
    with pytest.raises(ValueError, match="no visual encoder"):
        classify({"text": "看", "image": IMAGE})


def test_save_and_load(classify, tmp_path):
    file = tmp_path / "image.png"
    IMAGE.save(file)
    folder = save_tiny_mttv(tmp_path / "model")
    loaded = pipeline("fake-news-detection", model=str(folder), trust_remote_code=True, device="cpu")
    post = {**POSTS[0], "image": str(file)}
    assert loaded(post)["score"] == pytest.approx(classify(POSTS[0])["score"], abs=1e-6)
    seen = []

    def detector(images):
        seen.extend(image.size for image in images)
        return [Regions(np.zeros((0, 4)), np.zeros(0)) for _ in images]

    with_detector = pipeline(
        "fake-news-detection", model=str(folder), trust_remote_code=True, device="cpu", detector=detector
    )
    with_detector({"text": "a", "image": IMAGE})
    assert seen == [IMAGE.size]
    loaded.save_pretrained(tmp_path / "again")
    again = pipeline(model=str(tmp_path / "again"), trust_remote_code=True, device="cpu")
    assert again(post) == loaded(post)

"""The pipeline: verdicts for posts of every kind, reasons, and drawings of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from deterministic import named_image
from helpers_mttv import save_tiny_mttv, tiny_mttv
from PIL import Image
from transformers import pipeline

from stmine_hf.modeling.mttv.pipeline_mttv import MttvPipeline, draw_regions, explanation_html, word_spans
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
    result = classify(POSTS[0], explain=True, steps=64)
    text = POSTS[0]["text"]
    assert [word["word"] for word in result["words"]] == ["假", "新", "闻", "fake", "news", "!"]
    assert all(text[word["start"] : word["end"]] == word["word"] for word in result["words"])
    assert [region["box"] for region in result["regions"]] == POSTS[0]["boxes"]
    assert len(result["cells"]) == len(result["cells"][0]) == 4
    total = sum(part["weight"] for name in ("words", "regions") for part in result[name])
    assert total + np.sum(result["cells"]) == pytest.approx(result["evidence"], abs=5e-3)
    for post, words in ((POSTS[1], 1), (POSTS[2], 0)):
        result = classify(post, explain=True, steps=4)
        assert len(result["words"]) == words and result["regions"] == []
    together = classify(POSTS, explain=True, steps=4, batch_size=3)
    assert [len(result["regions"]) for result in together] == [2, 0, 0, 0, 0]
    pieces = classify("fakery news", explain=True, steps=4)["words"]
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


def test_drawings(classify, tmp_path):
    result = classify(POSTS[0], explain=True, steps=4)
    drawn = draw_regions(IMAGE, result)
    assert drawn.size == IMAGE.size and drawn.mode == "RGB"
    assert np.any(np.asarray(drawn) != np.asarray(IMAGE))
    hostile = {**POSTS[0], "text": "<script>news</script> 假"}
    result = classify(hostile, explain=True, steps=4)
    page = explanation_html(hostile["text"], result, IMAGE)
    assert "<script" not in page and "&lt;" in page and "data:image/png;base64," in page and 'charset="utf-8"' in page
    assert page.count("<span") == len(result["words"])
    bare = explanation_html("看", classify(POSTS[1], explain=True, steps=2))
    assert "<img" not in bare


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

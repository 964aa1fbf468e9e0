"""The post checker: an explained prediction, a drawn image, and a warning where the post is unlike the training."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_mttv import save_tiny_mttv, tiny_mttv
from PIL import Image

from stmine_hf.demo import PostChecker, answers, limits
from stmine_hf.errors import StmineError
from stmine_hf.explain import draw_cells
from stmine_hf.inference.scope import OTHER_SCRIPT, Scope
from stmine_hf.modeling.mttv.pipeline_mttv import GRID, MttvPipeline

TEXT = "fake news harbour! 这是一条假新闻"
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(47, 61, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def checker() -> PostChecker:
    return PostChecker(tiny_mttv(num_region_tokens=0))


@pytest.mark.parametrize("method", ["occlusion", "integrated_gradients"])
def test_figures_are_those_of_the_pipeline(checker, method):
    own = PostChecker((checker.model, checker.processor), method=method)
    found = own.check(TEXT, IMAGE).attribution
    pipeline = MttvPipeline(model=checker.model, processor=checker.processor, device="cpu")
    result = pipeline({"text": TEXT, "image": IMAGE}, explain=method)
    assert (found.label, found.score, found.scores) == (result["label"], result["score"], result["scores"])
    assert found.score == max(found.scores.values()) and sum(found.scores.values()) == pytest.approx(1)
    assert [TEXT[word.start : word.end] for word in found.words] == [word.word for word in found.words]
    assert [word.weight for word in found.words] == [word["weight"] for word in result["words"]]
    assert found.cells == result["cells"] and found.method == method
    assert max(abs(word.weight) for word in found.words) > 1e-3


def test_the_image_comes_back_tinted(checker):
    check = checker.check(TEXT, IMAGE)
    assert check.image is not None
    assert check.image.tobytes() == draw_cells(IMAGE, check.attribution).tobytes() != IMAGE.tobytes()


def test_a_post_may_lack_text_or_image(checker):
    text, image = checker.check(TEXT), checker.check("", IMAGE)
    assert text.attribution.cells == [] and text.image is text.attribution.without_image is None
    assert text.attribution.words and image.attribution.words == []
    assert np.shape(image.attribution.cells) == (GRID, GRID) and image.attribution.without_image is None


def test_a_tiny_image_and_a_long_text_are_judged(checker):
    long = "这是一条假新闻" * 20  # of more words than the model reads
    found = checker.check(long, Image.new("RGB", (3, 2))).attribution
    assert found.unread and found.text.endswith(found.unread) and found.words[-1].end < len(long)


def test_posts_unlike_the_training_are_warned_of(tmp_path):
    folder = save_tiny_mttv(tmp_path / "model", num_region_tokens=0)
    assert PostChecker(folder).check("forward this").warned is None  # nothing is known of the model
    Scope("CJK", 0.77, 5, needs_text=True).save(folder)
    checker = PostChecker(folder)
    assert checker.check("这是一条假新闻").warned is None
    check = checker.check("forward this before it is deleted")
    assert check.warned is not None and check.warned.kind == OTHER_SCRIPT
    for html in (answers.prediction(check, "en"), answers.explanation(check, "en")):
        assert "0% of the letters are Chinese" in html and 'class="caution"' in html
    assert "0%" in answers.explanation(check, "zh") and "Chinese" not in answers.explanation(check, "zh")


def test_what_cannot_be_judged_is_told(checker, tmp_path):
    with pytest.raises(StmineError, match="Nothing to classify"):
        checker.check(" ")
    with pytest.raises(StmineError, match=f"{limits.MAX_POST} are allowed"):
        checker.check("x" * (limits.MAX_POST + 1))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(StmineError, match="image cannot be used"):
        checker.check("text", tmp_path / "broken.jpg")
    blind = PostChecker(tiny_mttv(vision_config=None, num_region_tokens=0))
    assert blind.check("text").attribution.words
    with pytest.raises(StmineError, match="remove the image"):
        blind.check("text", IMAGE)

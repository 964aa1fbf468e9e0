"""The post checker: each figure is the model's own on the post without the part."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers_mttv import tiny_mttv
from PIL import Image

from stmine_hf.demo import PostChecker, limits
from stmine_hf.demo.posts import MovedRegion, cells, tinted
from stmine_hf.errors import StmineError

TEXT = "fake news harbour! 这是一条假新闻"
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, size=(47, 61, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def checker() -> PostChecker:
    return PostChecker(tiny_mttv(num_region_tokens=0))


def probability(checker: PostChecker, text: str, image: Image.Image | None, label: str) -> float:
    """The plain way: one post through processor and model."""
    shown = {} if image is None else {"images": [image]}
    with torch.no_grad():
        logits = checker.model(**checker.processor(text=[text], **shown)).logits[0]
    return float(logits.softmax(-1)[checker.model.config.label2id[label]])


def test_figures_are_those_of_the_post_without_the_part(checker):
    check = checker.check(TEXT, IMAGE)
    assert check.confidence == max(check.probabilities.values()) == check.probabilities[check.label]
    assert sum(check.probabilities.values()) == pytest.approx(1)
    assert check.confidence == pytest.approx(probability(checker, TEXT, IMAGE, check.label), abs=1e-5)
    assert [TEXT[word.start : word.end] for word in check.words] == [word.word for word in check.words]
    for word in check.words:
        rest = TEXT[: word.start] + TEXT[word.end :]
        assert word.without == pytest.approx(probability(checker, rest, IMAGE, check.label), abs=1e-5), word
        odds = [math.log(share / (1 - share)) for share in (check.confidence, word.without)]
        assert word.weight == pytest.approx(odds[0] - odds[1], abs=1e-3)
    assert max(abs(word.weight) for word in check.words) > 1e-3
    hidden = IMAGE.copy()
    mean = tuple(int(value) for value in IMAGE.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))
    hidden.paste(mean, check.regions[5].box)
    assert check.regions[5].without == pytest.approx(probability(checker, TEXT, hidden, check.label), abs=1e-5)
    without = (check.without_image, check.without_text)
    for part, (text, image) in zip(without, ((TEXT, None), ("", IMAGE)), strict=True):
        assert part is not None
        expected = probability(checker, text, image, "fake")
        assert part.probabilities["fake"] == pytest.approx(expected, abs=1e-5)
        assert part.label == max(part.probabilities, key=part.probabilities.__getitem__)


def test_the_image_comes_back_tinted(checker):
    check = checker.check(TEXT, IMAGE)
    strongest = max(abs(part.weight) for part in (*check.words, *check.regions))
    assert check.image is not None
    assert check.image.tobytes() == tinted(IMAGE, check.regions, strongest).tobytes()


def test_what_speaks_for_the_verdict_is_tinted_red_what_speaks_against_it_blue():
    """As strongly as it speaks, measured by the most telling part of the post."""
    grey = Image.new("RGB", (40, 10), (128, 128, 128))
    boxes = [(left, 0, left + 10, 10) for left in (0, 10, 20, 30)]
    regions = [MovedRegion(box, 0.5, weight) for box, weight in zip(boxes, (1.0, 0.5, -1.0, 0.0), strict=True)]
    red, faint, blue, none = (tinted(grey, regions, 1.0).getpixel((left + 5, 5)) for left, *_ in boxes)
    assert red[0] > 180 and red[2] < 90 and blue[2] > 150 and blue[0] < 90
    assert 128 < faint[0] < red[0] and none == (128, 128, 128)
    assert tinted(grey, regions, 2.0).getpixel((5, 5)) == faint


def test_a_post_may_lack_text_or_image(checker):
    text, image = checker.check(TEXT), checker.check("", IMAGE)
    assert text.regions == [] and text.image is text.without_image is text.without_text is None and text.words
    assert image.words == [] and len(image.regions) == 16 and image.without_text is None


def test_cells_cover_the_image():
    covered = Image.new("L", (61, 47))
    for box in cells(covered.size):
        covered.paste(covered.crop(box).point(lambda value: value + 1), box)
    assert covered.getextrema() == (1, 1)
    assert len(cells((3, 2))) == 16


def test_a_tiny_image_and_a_long_text_are_judged(checker):
    long = "这是一条假新闻" * 20  # of more words than the model reads
    check = checker.check(long, Image.new("RGB", (3, 2)))
    assert check.unread and check.text.endswith(check.unread) and check.words[-1].end < len(long)
    read = long[: check.words[-1].end]
    rest = read[: check.words[0].start] + read[check.words[0].end :]  # nothing of the unread end moves up
    assert check.words[0].without == pytest.approx(
        probability(checker, rest, Image.new("RGB", (3, 2)), check.label), abs=1e-5
    )


def test_what_cannot_be_judged_is_told(checker, tmp_path):
    with pytest.raises(StmineError, match="Nothing to judge"):
        checker.check(" ")
    with pytest.raises(StmineError, match=f"{limits.MAX_POST} are allowed"):
        checker.check("x" * (limits.MAX_POST + 1))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(StmineError, match="image cannot be used"):
        checker.check("text", tmp_path / "broken.jpg")
    blind = PostChecker(tiny_mttv(vision_config=None, num_region_tokens=0))
    assert blind.check("text").words
    with pytest.raises(StmineError, match="leave the image out"):
        blind.check("text", IMAGE)

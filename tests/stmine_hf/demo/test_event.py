"""Three models on one post, and what of it is searched for."""

from __future__ import annotations

import pytest
from helpers import tiny_fisvl
from helpers_mttv import tiny_mttv
from helpers_sat import tiny_sat
from PIL import Image

from stmine_hf.demo import EventDemo, ImageSearch, ObjectFinder, PostChecker
from stmine_hf.errors import StmineError
from stmine_hf.search.places import place_in

IMAGE = Image.effect_noise((90, 60), 90).convert("RGB")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> EventDemo:
    folder = tmp_path_factory.mktemp("images")
    for number in range(4):
        Image.effect_noise((40, 40), 20 * number).save(folder / f"{number}.png")
    search = ImageSearch(tiny_fisvl(), list(folder.iterdir()))
    return EventDemo(search, PostChecker(tiny_mttv(num_region_tokens=0)), ObjectFinder(tiny_sat()))


def test_each_model_says_its_own(demo):
    event = demo.look("这是港口的假新闻", IMAGE, threshold=0.0099, top=2)
    assert event.check.attribution.words == demo.posts.check("这是港口的假新闻", IMAGE).attribution.words
    assert event.objects is not None and event.objects.boxes == demo.objects.find(IMAGE, 0.0099).boxes
    assert event.sentence == "a port with ships" and len(event.heat_maps) == len(event.matches) == 2
    assert [match.path for match in event.matches] == [m.path for m in demo.search.search("a port with ships", 2)]


def test_a_place_can_be_named_and_an_image_left_out(demo):
    event = demo.look("这是假新闻", place="a river", top=1)
    assert event.sentence == "a river" and event.objects is None and len(event.matches) == 1
    with pytest.raises(StmineError, match="names no place"):
        demo.look("这是假新闻")
    with pytest.raises(StmineError, match="names no place"):
        demo.look("", IMAGE)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("机场附近的停车场", "an airport with planes, a parking lot with cars"),
        ("港口,码头,港口", "a port with ships"),
        ("今天天气不错", ""),
        ("a river between green trees", "a river between green trees"),
        ("", ""),
    ],
)
def test_place_words_of_chinese_posts_are_read_in_english(text, place):
    assert place_in(text) == place

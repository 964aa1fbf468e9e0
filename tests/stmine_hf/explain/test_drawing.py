"""Explanations as HTML, SVG and images: complete, escaped, and colored by the same scale."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
from deterministic import named_image
from PIL import Image

from stmine_hf.explain.attribution import Attribution, Region, Word
from stmine_hf.explain.drawing import (
    draw_captioned,
    draw_cells,
    explanation_html,
    explanation_page,
    explanation_svg,
    prediction_html,
)

IMAGE = Image.fromarray(named_image(50, 60, 4))
HOSTILE = "<script>news</script> 假 <b>rest"


def attribution(**changed) -> Attribution:
    words = [Word("<script>", 0, 8, 2.0, 0.25), Word("news", 8, 12, -1.0, 0.95), Word("假", 22, 23, 0.5, 0.8)]
    given = {"label": "fake", "score": 0.9, "scores": {"fake": 0.9, "real": 0.1}, "method": "occlusion"}
    return Attribution(**{"text": HOSTILE, "words": words, **given, **changed})


def test_weights_and_the_text_that_was_not_read():
    found = attribution(cells=[[0.5, -4.0]], regions=[Region((0, 0, 9, 9), 3.0)])
    assert list(found.weights) == [2.0, -1.0, 0.5, 3.0, 0.5, -4.0] and found.strongest == 4.0
    assert found.read + " <b>rest" == HOSTILE and found.unread == "<b>rest"
    assert [word.word for word in found.strongest_words(2)] == ["<script>", "news"]
    twice = attribution(words=[Word(" ", 0, 1, 9.0), Word("a", 1, 2, 1.0), Word("a", 2, 3, -3.0)])
    assert [word.weight for word in twice.strongest_words(3)] == [-3.0]
    empty = Attribution("", "fake", 0.9, {"fake": 0.9, "real": 0.1}, "occlusion")
    assert empty.strongest == 1.0 and empty.unread == empty.read == ""


def test_answer_of_the_pipeline_and_back():
    result = {
        "label": "fake", "score": 0.9, "scores": {"fake": 0.9, "real": 0.1}, "method": "integrated_gradients",
        "words": [{"word": "news", "start": 0, "end": 4, "weight": 2.0}], "cells": [[1.0]], "evidence": 3.0,
        "regions": [{"image": 1, "box": [0.0, 1.0, 2.0, 3.0], "weight": -0.5}],
    }  # fmt: skip
    found = Attribution.from_pipeline("news", result)
    assert found.words == [Word("news", 0, 4, 2.0)] and found.regions == [Region((0.0, 1.0, 2.0, 3.0), -0.5, image=1)]
    assert found.evidence == 3.0 and found.without_image is None
    assert {name: found.to_dict()[name] for name in ("label", "score", "cells", "evidence")}.items() <= result.items()


def test_html_is_escaped_and_says_what_was_not_read():
    for html in (explanation_html(attribution()), explanation_page(attribution(), IMAGE)):
        assert "<script" not in html and "<b>rest" not in html
        assert html.count('title="') == 3 and "not read: the text is longer" in html
        assert "<b>fake</b>" in html and "90.0%" in html
        assert "without “&lt;script&gt;”" in html and "25.0%" in html  # what would be
    assert "fake（谣言）" in prediction_html(attribution(), "zh")
    assert "<b>&lt;i&gt;</b>" in prediction_html(attribution(label="<i>"))
    warned = explanation_html(attribution(), warnings=["5% <Latin>"])
    assert "5% &lt;Latin&gt;" in warned


def test_strongest_part_has_the_full_color():
    def opacities(html: str) -> list[float]:
        return [float(value) for value in re.findall(r"rgba\([\d,]+,([\d.]+)\)\" title", html)]

    assert opacities(explanation_html(attribution())) == [0.65, 0.33, 0.16]
    assert opacities(explanation_html(attribution(cells=[[-4.0]]))) == [0.33, 0.16, 0.08]


def test_page_stands_alone():
    page = explanation_page(attribution(cells=[[1.0, 0.0]]), IMAGE)
    assert page.startswith("<!doctype html>") and 'charset="utf-8"' in page
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert page.count("<img") == 1 and "<img" not in explanation_page(attribution())


def test_cells_and_regions_are_drawn_on_the_image():
    drawn = draw_cells(IMAGE, attribution(cells=[[1.0, 0.0]]))
    changed = (np.asarray(drawn) != np.asarray(IMAGE)).any(axis=(0, 2))
    assert drawn.size == IMAGE.size and changed[:25].all() and not changed[35:].any()


RED, BLUE = "214,39,40", "31,119,180"


def test_a_label_has_one_color_everywhere():
    """Red for the first of two labels, blue for the second, in prediction, words, image and legend."""
    real = attribution(
        label="real", words=[Word("<script>", 0, 8, 2.0), Word("news", 8, 12, -1.0)], cells=[[1.0, -1.0]]
    )
    fake = attribution(words=[Word("<script>", 0, 8, -2.0), Word("news", 8, 12, 1.0)], cells=[[-1.0, 1.0]])
    for found, tone in ((real, BLUE), (fake, RED)):
        html = explanation_page(found, IMAGE)
        assert f"--tone: rgb({tone})" in html
        assert re.findall(r"rgba\(([\d,]+),[\d.]+\)\" title=\"([^\"]+)\"", html) == [
            (BLUE, "speaks for real: 2.000"), (RED, "speaks for fake: 1.000"),
        ]  # fmt: skip
        assert html.count("speaks for fake</span>") == html.count("speaks for real</span>") == 2
    assert draw_cells(IMAGE, real).tobytes() == draw_cells(IMAGE, fake).tobytes()
    three = attribution(label="b", scores={"a": 0.1, "b": 0.8, "c": 0.1})
    assert "speaks for b</span>" in explanation_html(three) and "speaks against b</span>" in explanation_html(three)


def test_a_page_says_which_post_which_model_and_that_it_is_no_proof():
    about = ["Row <7>, line 8 of posts.csv", "Model: mine@12"]
    page = explanation_page(attribution(), about=about)
    assert "Row &lt;7&gt;, line 8 of posts.csv<br>Model: mine@12<br>A model&#x27;s estimate, not proof." in page
    assert "labels of the posts that the model was trained on" in page and "Weibo" not in page
    assert "“fake” of rumours that had been debunked" in explanation_page(attribution(), of_weibo=True)
    assert "已辟谣的谣言" in explanation_page(attribution(), language="zh", of_weibo=True)
    three = attribution(label="b", scores={"a": 0.1, "b": 0.8, "c": 0.1})
    assert "Weibo" not in explanation_page(three, of_weibo=True)


def test_an_image_with_its_caption():
    found = attribution(cells=[[1.0, 0.0]])
    drawn = draw_captioned(IMAGE, found, ["Row 7", "Model: 模型" * 30])
    assert drawn.width >= 480 and drawn.height > IMAGE.height + 100
    assert drawn.crop((0, 0, *IMAGE.size)).tobytes() == draw_cells(IMAGE, found).tobytes()
    colors = {color for _, color in drawn.crop((0, IMAGE.height, *drawn.size)).getcolors(10**6)}
    assert {(214, 39, 40), (31, 119, 180)} <= colors


def test_svg_shades_every_character_of_the_post():
    words = [Word("红<", 0, 2, 2.0), Word("圆", 3, 4, -1.0)]
    svg = explanation_svg(attribution(text="红<色圆", words=words), Image.new("RGB", (9, 9)), columns=3)
    root = ElementTree.fromstring(svg)
    texts = [node.text for node in root if node.tag.endswith("text")]
    assert texts == ["fake (90.0%)", *"红<色圆"]
    shades = [float(node.get("fill-opacity")) for node in root if node.get("fill-opacity")]
    assert shades == [0.65, 0.65, 0.0, 0.33] or shades == [0.65, 0.65, 0.0, 0.32]

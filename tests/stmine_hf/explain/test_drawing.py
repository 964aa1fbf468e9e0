"""Explanations as HTML, SVG and images: complete, escaped, and colored by the same scale."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
from deterministic import named_image
from PIL import Image

from stmine_hf.explain.attribution import Attribution, Region, Word
from stmine_hf.explain.drawing import draw_cells, explanation_html, explanation_page, explanation_svg, prediction_html

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
        assert "Reads like a rumour" in html and "90.0%" in html
        assert "without “&lt;script&gt;”" in html and "25.0%" in html  # what would be
    assert "像谣言" in prediction_html(attribution(), "zh")
    assert "Reads like “&lt;i&gt;”" in prediction_html(attribution(label="<i>"))
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


def test_svg_shades_every_character_of_the_post():
    words = [Word("红<", 0, 2, 2.0), Word("圆", 3, 4, -1.0)]
    svg = explanation_svg(attribution(text="红<色圆", words=words), Image.new("RGB", (9, 9)), columns=3)
    root = ElementTree.fromstring(svg)
    texts = [node.text for node in root if node.tag.endswith("text")]
    assert texts == ["fake (90.0%)", *"红<色圆"]
    shades = [float(node.get("fill-opacity")) for node in root if node.get("fill-opacity")]
    assert shades == [0.65, 0.65, 0.0, 0.33] or shades == [0.65, 0.65, 0.0, 0.32]

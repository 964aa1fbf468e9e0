"""The post that the READMEs classify is one of which the shipped model is sure."""

from __future__ import annotations

import re

import pytest
from documents import ROOT

from stmine_hf.loading import load_mttv
from stmine_hf.modeling.mttv.pipeline_mttv import MttvPipeline

DOCUMENTS = ("README.md", "README.zh-CN.md", "examples/guides/posts.md")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_shown_post_is_a_clear_one(document):
    text = re.search(r'stmine classify --text "([^"]+)"', (ROOT / document).read_text(encoding="utf-8"))[1]
    model, processor = load_mttv("mttv-lite-weibo", device="cpu")
    found = MttvPipeline(model=model, processor=processor)({"text": text})
    assert found["label"] == "fake" and found["score"] > 0.95

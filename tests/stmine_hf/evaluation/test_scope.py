"""Measuring a scope: bounds that nearly all of the texts pass."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
import torch
from helpers import tiny_fisvl
from PIL import Image

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.scope import fits, measure_posts, measure_search


def test_bounds_of_posts():
    texts = ["港口" * (10 + number % 50) + "x" * (number % 3) for number in range(500)]
    scope = measure_posts([*texts, "port"], "here")
    assert scope.script == "CJK" and scope.needs_text and scope.measured == "here"
    warned = [scope.check_text(text) is not None for text in texts]
    assert np.mean(warned) <= 0.02
    assert not measure_posts([*texts, *[""] * 20], "").needs_text
    assert measure_posts(["un port", "a port"], "").script == "LATIN"
    with pytest.raises(StmineError, match="needs texts"):
        measure_posts(["", "42"], "")


def test_fits_by_hand():
    """Collections of any size have the own image in them; larger ones have better strangers."""
    images = torch.nn.functional.normalize(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    owners = torch.arange(20)
    meaningless = torch.zeros(8)
    meaningless[0] = 0.5
    own = fits(images, images[:20], meaningless, owners)
    assert own == pytest.approx(np.tile((1 - 0.25 * images[:20, 0]).numpy(), 4), abs=1e-5)
    strangers = fits(images, images[:20], meaningless).reshape(4, 20)
    assert (np.diff(strangers.mean(axis=1)) >= 0).all() and strangers.max() <= own.max() + 1e-6


def test_scope_of_a_search():
    images = [Image.effect_noise((20, 20), 10 * number).convert("RGB") for number in range(6)]
    captions = [[f"a river number {letter}", "a port"] for letter in "abcdef"]
    features = datasets.Features({"image": datasets.Image(), "captions": datasets.List(datasets.Value("string"))})
    rows = datasets.Dataset.from_dict({"image": images, "captions": captions}, features=features)
    scope = measure_search(*tiny_fisvl(), rows, "here")
    assert scope.script == "LATIN" and scope.least_fit is not None and -1 < scope.least_fit < 1
    assert scope.measured.startswith("here; 95% of the captions and ")

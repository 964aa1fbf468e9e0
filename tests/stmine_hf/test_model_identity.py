"""Digests that are kept on disk: those of today are those of the first release, or old work could not be resumed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from stmine_hf.detect.detector import Detector
from stmine_hf.model_identity import model_tag, weights_digest
from stmine_hf.search.embedder import Embedder


@pytest.fixture
def module() -> nn.Module:
    """Weights of several types, one of them not contiguous."""
    module = nn.Module()
    module.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3).t().half() / 4)
    module.register_buffer("steps", torch.tensor([3, -1]))
    module.register_buffer("mean", torch.tensor([0.5, -0.25], dtype=torch.bfloat16))
    module.name_or_path = "somewhere/a-model"
    module.config = SimpleNamespace(id2label={1: "b", 0: "a"}, _name_or_path="")
    module.fuse = lambda: module
    return module


def test_digests_stay_what_they_were(module):
    assert weights_digest(module) == "55773b765064f61a183ec8cc32887f96"
    assert model_tag(module) == "a-model@55773b76"


def test_that_of_a_detector_stays_what_it_was(module):
    processor = SimpleNamespace(
        fit="pad", channel_order="bgr", size_divisor=32, image_mean=[0.5] * 3, image_std=[0.25] * 3,
        size={"height": 320, "width": 320},
    )  # fmt: skip
    assert Detector(module, processor).identity == "b3b5cfd764129076"
    processor.fit = "stretch"
    assert Detector(module, processor).identity != "b3b5cfd764129076"


def test_that_of_an_index_stays_what_it_was(module, monkeypatch):
    monkeypatch.setattr(Embedder, "image", lambda self, image: np.ones((1, 2)))
    monkeypatch.setattr("stmine_hf.search.embedding.embed_texts", lambda *_: torch.ones(1, 2))
    assert Embedder((module, None)).identity["weights"] == "55773b765064f61a183ec8cc32887f96"


def test_float_types_do_not_count_but_names_and_values_do(module):
    before = weights_digest(module)
    assert weights_digest(module.float()) == before
    module.steps += 1
    assert weights_digest(module) != before
    module.steps -= 1
    module.stages = module.steps
    del module.steps
    assert weights_digest(module) != before

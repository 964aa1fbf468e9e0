"""`pipeline("fake-news-detection")` where `stmine_hf` cannot be imported: the folder's own code judges. No network."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_mttv import save_tiny_mttv

from stmine_hf import MttvForSequenceClassification, MttvProcessor
from stmine_hf.modeling.mttv.pipeline_mttv import MttvPipeline

WORKER = Path(__file__).with_name("remote_code.py")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("remote")
    save_tiny_mttv(place / "published")
    own = {"HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(place / "modules")}
    command = [sys.executable, str(WORKER), str(place / "report.json"), str(place / "published")]
    subprocess.run(command, check=True, cwd=place, env=os.environ | own, stdin=subprocess.DEVNULL, timeout=600)
    return place


@pytest.fixture(scope="module")
def found(place) -> dict:
    return json.loads((place / "report.json").read_text())


def test_the_process_cannot_import_the_package(found):
    assert found["own modules"] == [] and found["home"] == ["transformers_modules"] * 2
    assert found["classes"] == ["MttvPipeline", "MttvPipeline", "MttvForSequenceClassification"]


def test_verdicts_are_those_of_the_library(place, found):
    model, processor = (
        cls.from_pretrained(place / "published") for cls in (MttvForSequenceClassification, MttvProcessor)
    )
    judge = MttvPipeline(model=model.eval(), processor=processor, device="cpu")
    assert [one["score"] for one in found["alone"]] == pytest.approx(
        [judge(post)["score"] for post in runpy.run_path(str(WORKER))["posts"]()], abs=1e-5
    )
    assert found["unnamed"] == found["alone"]


def test_batches_change_nothing(found):
    assert len(found["together"]) == len(found["alone"]) == 4
    for one, other in zip(found["alone"], found["together"], strict=True):
        assert other["label"] == one["label"] and other["score"] == pytest.approx(one["score"], abs=1e-5)


def test_reasons(found):
    assert [word["word"] for word in found["explained"]["words"]] == ["假", "新", "闻", "fake", "news", "!"]
    assert len(found["explained"]["regions"]) == 2


def test_photographs_are_turned(found):
    """Boxes count in the upright image, and a lying one is judged like it."""
    lying, upright = found["photograph"]
    assert lying == upright
    assert [region["box"] for region in upright["regions"]] == runpy.run_path(str(WORKER))["BOXES"]


def test_bad_input_is_told(found):
    key, number, missing, no_image, damaged, boxes = found["refusals"]
    assert key.endswith("expected a text or a dict with text, image and boxes, found ['txt'].")
    assert "found int" in number
    assert missing.startswith("ValueError: nowhere.jpg: cannot be read as an image")
    assert "remote_code.py: cannot be read as an image" in no_image
    assert damaged.startswith("ValueError") and "damaged.jpg cannot be read" in damaged
    assert "expected a box of four finite numbers" in boxes

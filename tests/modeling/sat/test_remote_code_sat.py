"""A saved model where `stmine_hf` cannot be imported: the Auto classes, the pipeline, forks of it. No network."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers_sat import save_tiny_sat
from safetensors.torch import load_file

from stmine_hf import SatForObjectDetection, SatImageProcessor

WORKER = Path(__file__).with_name("remote_code.py")
HUB_ID, COMMIT = "someone/tiny-sat", "0123456789abcdef0123456789abcdef01234567"
CODE = {"configuration_sat.py", "losses_sat.py", "modeling_sat.py", "image_processing_sat.py"}
CLASSES = {"AutoModel": "SatModel", "AutoModelForObjectDetection": "SatForObjectDetection"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """`published/` is a saved model; the Hub's cache holds the same files under an id; two processes have opened them.

    The second one opens only what the first one saved.
    """
    place = tmp_path_factory.mktemp("remote")
    published = save_tiny_sat(place / "published")
    cached = place / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    shutil.copytree(published, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    saved = [str(place / "from folder"), str(place / "from hub")]
    run(place, "first", str(published), HUB_ID, *saved)
    run(place, "again", *saved)
    return place


def run(place: Path, stage: str, *names: str) -> None:
    own = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(place / "hub"), "HF_MODULES_CACHE": str(place / stage)}
    command = [sys.executable, str(WORKER), str(place / f"{stage}.json"), stage, *names]
    subprocess.run(command, check=True, cwd=place, env=os.environ | own, stdin=subprocess.DEVNULL, timeout=600)


@pytest.fixture(scope="module")
def first(place) -> dict:
    return json.loads((place / "first.json").read_text())


@pytest.fixture(scope="module")
def again(place) -> dict:
    return json.loads((place / "again.json").read_text())


@pytest.fixture(scope="module")
def expected(place) -> dict[str, list]:
    """The library's own numbers for what the worker reads."""
    model = SatForObjectDetection.from_pretrained(place / "published").eval()
    image = runpy.run_path(str(WORKER))["image"]()
    inputs = SatImageProcessor.from_pretrained(place / "published")(image, return_tensors="pt")
    with torch.no_grad():
        features, outputs = model.sat(**inputs), model(**inputs)
    return {
        "AutoModel": features.last_hidden_state.tolist(),
        "AutoModelForObjectDetection": outputs.logits.tolist(),
    }


def test_the_processes_cannot_import_the_package(first, again):
    assert first["own modules"] == again["own modules"] == []


@pytest.mark.parametrize("source", ["folder", "hub"])
def test_every_door_opens_and_agrees(first, expected, source):
    assert_opened(first[source], expected)


def test_what_was_saved_there_opens_elsewhere(place, again, expected):
    for name in ("from folder", "from hub"):
        assert_opened(again[str(place / name)], expected)


def assert_opened(found: dict, expected: dict[str, list]) -> None:
    assert (found["config"], found["processor"]) == ("SatConfig", "SatImageProcessor")
    for door, cls in CLASSES.items():
        assert found[door] == {
            "class": cls,
            "home": "transformers_modules",
            "numbers": expected[door],
            "missing": [],
        }


def test_pipeline(first):
    for answers, (width, height) in zip(first["pipeline"]["shapes"], [(60, 40), (33, 90)], strict=True):
        assert answers and {answer["label"] for answer in answers} <= {"deer", "ebike", "person", "target"}
        scores = [answer["score"] for answer in answers]
        assert scores == sorted(scores, reverse=True)
        for box in (answer["box"] for answer in answers):
            assert 0 <= box["xmin"] <= box["xmax"] <= width and 0 <= box["ymin"] <= box["ymax"] <= height


def test_pipeline_in_batches(first):
    for alone, together in zip(first["pipeline"]["alone"], first["pipeline"]["together"], strict=True):
        scores, others = ([answer["score"] for answer in answers] for answers in (alone, together))
        assert others[:5] == pytest.approx(scores[:5], abs=1e-4)


def test_pipeline_finds_boxes_in_the_upright_photograph(first):
    by_path, by_image, upright = first["pipeline"]["photograph"]
    assert by_path == by_image == upright
    edges = [(answer["box"]["xmax"], answer["box"]["ymax"]) for answer in upright]
    assert max(x for x, _ in edges) <= 60 < max(y for _, y in edges) <= 90


def test_pipeline_tells_bad_input(first):
    missing, number, no_image = first["pipeline"]["refusals"]
    assert missing.startswith("ValueError: Incorrect image source") and "nowhere.jpg" in missing
    assert "Incorrect format used for image" in number
    assert "remote_code.py" in no_image


def test_training_needs_nothing_else(first):
    assert first["loss"] > 0


def test_code_runs_only_when_trusted(first):
    assert "trust_remote_code=True" in first["refusal"]


@pytest.mark.parametrize("name", ["from folder", "from hub"])
def test_a_fork_is_complete_and_points_to_itself(place, name):
    published, fork = place / "published", place / name
    assert {path.name for path in fork.iterdir()} == {path.name for path in published.iterdir()}
    assert all((fork / file).read_bytes() == (published / file).read_bytes() for file in CODE)
    weights, forked = (load_file(folder / "model.safetensors") for folder in (published, fork))
    assert weights.keys() == forked.keys() and all(torch.equal(forked[name], weights[name]) for name in weights)
    for path in fork.glob("*config.json"):
        assert "someone/" not in path.read_text() and str(place) not in path.read_text(), path.name
    maps = [json.loads((folder / "config.json").read_text())["auto_map"] for folder in (fork, published)]
    assert maps[0] == maps[1] and set(maps[0]) == {"AutoConfig", *CLASSES}

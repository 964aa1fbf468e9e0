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
from helpers import save_tiny_fisvl
from safetensors.torch import load_file

from stmine_hf import FisvlModel, FisvlProcessor

WORKER = Path(__file__).with_name("remote_code.py")
HUB_ID, COMMIT = "someone/tiny-fisvl", "0123456789abcdef0123456789abcdef01234567"
CODE = {"configuration_fisvl.py", "inputs_fisvl.py", "losses_fisvl.py", "modeling_fisvl.py", "processing_fisvl.py"}
DOORS = ("AutoModel", "AutoModelForZeroShotImageClassification")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """`published/` is a saved model; the Hub's cache holds the same files under an id; two processes have opened them.

    The second one opens only what the first one saved.
    """
    place = tmp_path_factory.mktemp("remote")
    published = save_tiny_fisvl(place / "published")
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
def expected(place) -> list[list[float]]:
    """The library's own scores for what the worker reads."""
    model, processor = (cls.from_pretrained(place / "published") for cls in (FisvlModel, FisvlProcessor))
    inputs = runpy.run_path(str(WORKER))["inputs_of"](processor)
    with torch.no_grad():
        return model.eval()(**inputs).logits_per_image.tolist()


def test_the_processes_cannot_import_the_package(first, again):
    assert first["own modules"] == again["own modules"] == []


@pytest.mark.parametrize("source", ["folder", "hub"])
def test_every_door_opens_and_agrees(first, expected, source):
    assert_opened(first[source], expected)


def test_what_was_saved_there_opens_elsewhere(place, again, expected):
    for name in ("from folder", "from hub"):
        assert_opened(again[str(place / name)], expected)


def assert_opened(found: dict, expected: list[list[float]]) -> None:
    assert found["config"] == "FisvlConfig"
    assert found["processor"] == ["FisvlProcessor", "FisvlImageProcessor"]
    for door in DOORS:
        assert found[door] == {
            "class": "FisvlModel",
            "home": "transformers_modules",
            "logits": expected,
            "missing": [],
        }


def test_pipeline(first):
    answers = first["pipeline"]["one"]
    assert {answer["label"] for answer in answers} == {"planes", "a harbour", "trees"}
    scores = [answer["score"] for answer in answers]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-5)


def test_pipeline_in_batches(first):
    alone, together = first["pipeline"]["alone"], first["pipeline"]["together"]
    assert len(alone) == len(together) == 4
    for one, other in zip(alone, together, strict=True):
        assert scores_of(other) == pytest.approx(scores_of(one), abs=1e-5)
    assert scores_of(alone[0]) != scores_of(alone[1])


def test_pipeline_turns_photographs(first):
    lying, upright = first["pipeline"]["photograph"]
    assert lying == upright


def test_pipeline_tells_bad_input(first):
    missing, number, no_image = first["pipeline"]["refusals"]
    assert missing.startswith("ValueError: Incorrect image source") and "nowhere.jpg" in missing
    assert "Incorrect format used for image" in number
    assert "remote_code.py" in no_image


def test_vectors_by_the_pipeline_are_those_of_the_model(first):
    found = first["embeddings"]
    vectors = torch.tensor(found["pipeline"]).squeeze(1)
    torch.testing.assert_close(vectors, torch.tensor(found["own"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))


def scores_of(answers: list[dict]) -> dict[str, float]:
    return {answer["label"]: answer["score"] for answer in answers}


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
    assert maps[0] == maps[1] and set(maps[0]) == {"AutoConfig", *DOORS}

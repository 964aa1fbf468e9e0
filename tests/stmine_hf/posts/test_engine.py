"""MTTV in every engine: probabilities within the stated tolerance, whatever a post lacks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers_mttv import tiny_mttv
from PIL import Image

from stmine_hf import PostClassifier
from stmine_hf.errors import StmineError
from stmine_hf.inference.engines import Runner
from stmine_hf.modeling.mttv.processing_mttv import Regions
from stmine_hf.posts.classify import classify_file
from stmine_hf.posts.engine import LIMIT, EngineClassifier
from stmine_hf.posts.features import FeatureStore, precompute_features
from stmine_hf.posts.post import Post
from stmine_hf.posts.prediction import predict

ENGINES = ["torch", "torch-bf16", "onnx", "openvino"]


def posts() -> list[Post]:
    chance = np.random.default_rng(0)
    images = [Image.fromarray(chance.integers(0, 255, (40, 40, 3), dtype=np.uint8)) for _ in range(3)]
    texts = ["a road", "", "forward this to everyone", "a", "the bridge is open again today", "bridge"]
    return [
        Post(number, text, [] if number % 2 and text else [lambda image=image: image])
        for number, (text, image) in enumerate(zip(texts, images * 2, strict=True))
    ]


def regions(images):
    boxes = np.array([[0, 0, 20, 20], [5, 5, 35, 30]], dtype=np.float32)
    return [Regions(boxes, np.array([0.9, 0.8], dtype=np.float32)) for _ in images]


def probabilities(model, processor) -> np.ndarray:
    found = [one for batch in predict(model, processor, posts(), batch_size=2, detector=regions) for one in batch]
    logits = np.stack([one.logits for one in sorted(found, key=lambda one: one.number)])
    return torch.from_numpy(logits).softmax(dim=-1).numpy()


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("name", ENGINES)
def test_probabilities_agree_with_pytorch(name, pooling):
    model, processor = tiny_mttv(sequence_pooling=pooling)
    expected = probabilities(model, processor)
    in_engine = EngineClassifier(model, name)
    assert np.abs(probabilities(in_engine.model, processor) - expected).max() <= LIMIT
    assert {one.split("-")[0] for one in in_engine.engines} == {name.split("-")[0]}
    np.testing.assert_array_equal(probabilities(model, processor), expected)  # the model itself is as it was


def test_a_file_says_which_engine_predicted_and_features_are_the_same(tmp_path):
    model, processor = tiny_mttv()
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps({"id": n, "text": "a road " * n}) + "\n" for n in (1, 2)))
    report = classify_file(
        model, processor, tmp_path / "posts.jsonl", tmp_path / "o.jsonl", progress=False, engine="onnx"
    )
    assert report.engines == ["onnx"] and "onnx" in report.engine
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [row["engine"] for row in rows] == ["onnx", "onnx"]
    plain = classify_file(model, processor, tmp_path / "posts.jsonl", tmp_path / "p.jsonl", progress=False)
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert plain.engine == "" and not any("engine" in row for row in rows)

    with_images = [post for post in posts() if post.images]
    for name in ("torch", "onnx"):
        precompute_features(
            model, processor, with_images, tmp_path / name, detector=regions, progress=False, engine=name
        )
    ours, theirs = FeatureStore.open(tmp_path / "torch"), FeatureStore.open(tmp_path / "onnx")
    assert "engines" not in ours.manifest and theirs.manifest["engines"] == ["torch", "onnx"]
    for post in with_images:
        torch.testing.assert_close(theirs.get(post.id), ours.get(post.id), atol=1e-4, rtol=1e-3)


def test_answers_beyond_the_tolerance_are_pytorchs(monkeypatch):
    model, processor = tiny_mttv()
    expected = probabilities(model, processor)
    asked, in_engine = EngineClassifier(model, "onnx"), EngineClassifier(model)
    monkeypatch.setattr("stmine_hf.posts.engine.LIMIT", -1.0)
    with pytest.raises(StmineError, match="With the engine onnx a probability differs"):
        probabilities(asked.model, processor)
    for runner in in_engine._runners:  # as if it had been chosen
        other = Runner(runner.network, "onnx")
        runner._run, runner.label, runner._decided = other, "onnx", True
    assert np.abs(probabilities(in_engine.model, processor) - expected).max() < 1e-6
    assert in_engine.current == "torch"


def test_an_engine_of_a_further_part_is_compared_too():
    model, processor = tiny_mttv()
    expected, in_engine = probabilities(model, processor), EngineClassifier(model)
    for runner in in_engine._runners:
        runner._decided = True
    in_engine.images._run, in_engine.images.label = Runner(in_engine.images.network, "onnx"), "onnx"
    probabilities(in_engine.model, processor)
    assert in_engine.engines == ["onnx", "torch"]
    plain = in_engine.texts._run
    # As if it had been chosen in a further job, and is too far away.
    in_engine.texts._run = lambda *inputs: tuple(one + 9 * torch.randn_like(one) for one in plain(*inputs))
    in_engine.texts.label = "onnx"
    assert np.abs(probabilities(in_engine.model, processor) - expected).max() < 1e-6
    assert in_engine.current == "torch"


def test_an_engine_is_worth_while_for_what_is_left_alone(tmp_path, monkeypatch):
    (model, processor), expected = tiny_mttv(), []
    monkeypatch.setattr(EngineClassifier, "expect", lambda self, count: expected.append(count))
    with_images = [post for post in posts() if post.images]
    for count in (1, 2):
        lines = [json.dumps({"id": n, "text": "a road " * n}) + "\n" for n in range(1, count + 1)]
        (tmp_path / "posts.jsonl").write_text("".join(lines))
        classify_file(model, processor, tmp_path / "posts.jsonl", tmp_path / "o.jsonl", progress=False)
        precompute_features(
            model, processor, with_images[:count], tmp_path / "features", detector=regions, total=count, progress=False
        )
    assert expected == [0, 1] * 4  # first none, when a classifier is made


def test_a_classifier_of_posts_takes_an_engine():
    model, processor = tiny_mttv()
    answers = PostClassifier((model, processor), engine="onnx")(["a road", "bridge"])
    expected = PostClassifier((model, processor), engine="torch")(["a road", "bridge"])
    for ours, theirs in zip(expected, answers, strict=True):
        assert ours.label == theirs.label and abs(ours.score - theirs.score) < 1e-4
    with pytest.raises(StmineError, match="engine: expected one of auto, torch"):
        PostClassifier("no/such-model", engine="fast")

"""`stmine features mttv`: the features of a data set and of a file of posts, and what they are good for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers_mttv import save_tiny_mttv
from odd_posts import bad_images, noise

from stmine_hf.cli import main
from stmine_hf.posts import FeatureStore


def run(*words) -> int:
    """The exit code of `stmine WORDS`."""
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def document(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_mttv(tmp_path_factory.mktemp("model") / "tiny", seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight posts, half of them with an image; one of the images is broken. Six are in train, two in val."""
    folder = tmp_path_factory.mktemp("posts")
    (folder / "images").mkdir()
    rows = []
    for number in range(8):
        image = f"images/{number}.png" if number % 2 else None
        if image:
            noise(20 + number, 30).save(folder / image)
        rows.append(
            {"id": f"p{number}", "text": "fake " * number, "image": image, "label": ("fake", "real")[number % 3 > 0]}
        )
    (folder / "images" / "3.png").write_bytes(bad_images()["cut.png"])
    for name, part in {"train": rows[:6], "val": rows[6:]}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)), encoding="utf-8")
    return folder


def test_a_data_set_and_its_evaluation(capsys, tmp_path, model, folder):
    words = ["features", "mttv", "--dataset", "posts", "--data-dir", folder, "--model", model, "--out", tmp_path / "f"]
    assert run(*words, "--split", "val", "--json") == 0
    found = document(capsys)
    assert (found["added"], found["without_image"], found["skipped"]) == (1, 1, [])
    assert run(*words) == 0
    printed = capsys.readouterr().out
    assert "3 posts (2 added, 1 there before)" in printed and "skipped p3" in printed
    assert "p7" in FeatureStore.open(tmp_path / "f") and "p3" not in FeatureStore.open(tmp_path / "f")

    evaluate = ["evaluate", "mttv", "--dataset", "posts", "--data-dir", folder, "--split", "train", "--model", model]
    assert run(*evaluate, "--json") == 0
    seen = document(capsys)
    assert run(*evaluate, "--features", tmp_path / "f", "--json") == 0
    read = document(capsys)
    assert read["metrics"] == pytest.approx(seen["metrics"], abs=1e-6) and read["images"] == seen["images"] == 2
    assert len(seen["images_unreadable"]) == 1

    narrow = save_tiny_mttv(tmp_path / "narrow", vision_config=None, vision_width=16)
    assert run(*evaluate[:-1], narrow, "--features", tmp_path / "f") == 1
    assert "features of width 32" in capsys.readouterr().err


def test_a_file_of_posts(capsys, tmp_path, model, folder):
    lines = [{"id": 1, "image": str(folder / "images" / "1.png")}, {"id": 2, "text": "a"}, {"id": 3}]
    (tmp_path / "posts.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{")
    words = ["features", "mttv", "--file", tmp_path / "posts.jsonl", "--model", model, "--out", tmp_path / "f"]
    assert run(*words, "--dtype", "float16") == 0
    printed = capsys.readouterr().out
    assert "1 posts (1 added" in printed and "1 posts without image, 2 skipped" in printed
    assert "skipped posts.jsonl, line 3: neither text nor image" in printed
    assert 1 in FeatureStore.open(tmp_path / "f")
    before = FeatureStore.open(tmp_path / "f").get(1)["global_features"]
    for added in (1, 0):
        assert run(*words, "--dtype", "float16", "--bands", "3,2,1", "--json") == 0
        assert (document(capsys)["changed"]) == added, "with other bands it is encoded again, once"
    assert not torch.equal(before, FeatureStore.open(tmp_path / "f").get(1)["global_features"])


def test_mistakes_are_told(capsys, tmp_path, model, folder):
    blind = save_tiny_mttv(tmp_path / "blind", vision_config=None)
    features = ["features", "mttv", "--out", tmp_path / "f", "--model", model]
    posts = ["--dataset", "posts", "--data-dir", folder]
    for words, code, message in (
        (features, 2, "one of --dataset and --file"),
        ([*features, *posts, "--file", "a"], 2, "one of"),
        ([*features, "--dataset", "toy_scenes", "--option", "count=4"], 1, "toy_scenes has no rows of posts"),
        ([*features, "--file", tmp_path / "none.jsonl"], 1, "no such file"),
        ([*features, *posts, "--dtype", "int8"], 1, "float32 or float16"),
        ([*features[:-1], blind, *posts], 1, "no visual encoder"),
        (["features", "mttv", *posts, "--out", folder / "train.jsonl", "--model", model], 1, "found a file"),
    ):
        assert run(*words) == code, words
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split()), words

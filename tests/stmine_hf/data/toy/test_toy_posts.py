"""Drawn posts: neither text nor image tells anything by itself, both together tell all."""

import json
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.captioned_images import SPLITS
from stmine_hf.data.toy.drawn_set import share
from stmine_hf.data.toy.toy_posts import COLOURS, SCENES, PostPlan, Scene, describe, draw, write_posts

PLAN = PostPlan(count=240, seed=0, size=32)


@pytest.fixture(scope="module")
def posts():
    return {split: [post for group in share(PLAN.count // 4, split) for post in PLAN.posts(group)] for split in SPLITS}


@pytest.mark.parametrize("seen", ["text", "described", "image", "shown"])
def test_one_modality_alone_tells_nothing(posts, seen):
    """Every sentence and every image, by itself, is fake as often as real; in each split, to the last post."""
    for some in posts.values():
        labels = defaultdict(Counter)
        for post in some:
            value = getattr(post, seen)
            labels[value.tobytes() if seen == "image" else value][post.label] += 1
        assert len(labels) > 10
        assert all(count["fake"] == count["real"] > 0 for count in labels.values())


def test_attributes_one_by_one_tell_nothing_either(posts):
    for source in ("described", "shown"):
        for field in Scene._fields:
            seen = Counter((getattr(getattr(post, source), field), post.label) for post in posts["train"])
            assert all(seen[value, "fake"] == seen[value, "real"] for value, _ in seen)


def test_both_together_tell(posts):
    for post in [post for some in posts.values() for post in some]:
        differing = sum(a != b for a, b in zip(post.described, post.shown, strict=True))
        assert differing == (3 if post.label == "fake" else 0)


def test_posts_come_in_fours_within_one_split(posts):
    groups = [{post.group for post in some} for some in posts.values()]
    assert not set.intersection(*groups)
    assert [len(some) for some in posts.values()] == [160, 40, 40]
    for group, own in ((group, list(PLAN.posts(group))) for group in share(PLAN.count // 4, "val")):
        assert len({post.text for post in own}) == len({post.filename for post in own}) == 2
        assert {post.group for post in own} == {group} and len({post.post_id for post in own}) == 4


@pytest.mark.parametrize("scene", SCENES[::5], ids=lambda scene: scene.colour + "-" + scene.shape)
def test_an_image_shows_its_scene(scene):
    """The share of its colour grows with the count, and other colours are not there."""
    shares = []
    for count in (1, 2, 3):
        image = np.asarray(draw(Scene(scene.colour, scene.shape, count), np.random.default_rng(3), 64)).astype(int)
        assert image.shape == (64, 64, 3)
        distance = {name: np.abs(image - value).max(-1) for name, value in COLOURS.items()}
        shares.append((distance[scene.colour] < 40).mean())
        assert all((own < 40).mean() < 0.01 for name, own in distance.items() if name != scene.colour)
    assert shares == pytest.approx([shares[0], 2 * shares[0], 3 * shares[0]], rel=0.35)


def test_a_sentence_names_its_scene():
    generator = np.random.default_rng(0)
    told = defaultdict(set)
    for scene in SCENES:
        for _ in range(60):
            told[describe(scene, generator)].add(scene)
    assert all(len(scenes) == 1 for scenes in told.values()), "no sentence is true of two scenes"
    assert 0.2 < np.mean([not text.isascii() for text in told]) < 0.5, "some are Chinese"


def test_a_post_is_given_by_seed_and_group():
    first, again = list(PLAN.posts(3)), list(PLAN.posts(3))
    assert [(p.text, p.image.tobytes()) for p in first] == [(p.text, p.image.tobytes()) for p in again]
    assert [p.text for p in PostPlan(240, 1, 32).posts(3)] != [p.text for p in first]
    assert [p.described for p in PostPlan(240, 0, 64).posts(3)] == [p.described for p in first], (
        "the size changes nothing else"
    )
    assert next(PostPlan(4, -5, 32).posts(0)).text


def test_toy_posts_builder(tmp_path):
    options = {"count": 48, "seed": 2, "size": 40, "cache_dir": tmp_path}
    sets = load_dataset("toy_posts", **options)
    assert {split: len(rows) for split, rows in sets.items()} == {"train": 32, "val": 8, "test": 8}
    row = sets["val"][0]
    assert row["image"].size == (40, 40) and row["filename"].endswith(".png") and row["text"]
    names = sets["val"].features["label"]
    assert names.names == ["fake", "real"] and sorted(sets["val"]["label"]) == [0] * 4 + [1] * 4
    assert len({i for rows in sets.values() for i in rows["post_id"]}) == 48
    stream = load_dataset("toy_posts", split="val", streaming=True, **options)
    assert stream.num_shards == 2
    assert [r["text"] for r in stream] == sets["val"]["text"][:]


def test_toy_posts_refusals(tmp_path):
    with pytest.raises(DataError, match=r"drawn, not read.*loads as posts"):
        load_dataset("toy_posts", data_dir=tmp_path, cache_dir=tmp_path)
    for options in ({"count": 0}, {"count": 10}, {"size": 8}):
        with pytest.raises(DataError, match="multiple of 4"):
            load_dataset("toy_posts", cache_dir=tmp_path, **options)


def test_a_written_folder_loads_as_posts(tmp_path):
    file = write_posts(tmp_path / "toy", count=24, seed=4, size=32)
    assert file == tmp_path / "toy/posts.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 24 and json.loads(lines[0]).keys() == {"id", "text", "image", "label", "split", "group"}
    with Image.open(tmp_path / "toy" / json.loads(lines[0])["image"]) as image:
        assert image.size == (32, 32)
    loaded = load_dataset("posts", data_dir=tmp_path / "toy", cache_dir=tmp_path / "cache")
    drawn = load_dataset("toy_posts", count=24, seed=4, size=32, cache_dir=tmp_path / "cache")
    assert set(loaded) == {"train", "val", "test"}
    for split, rows in loaded.items():
        assert rows.features["label"].names == ["fake", "real"]
        for one, other in zip(rows, drawn[split], strict=True):
            assert one.pop("image").tobytes() == other.pop("image").tobytes()
            assert one == other
    write_posts(tmp_path / "toy", count=24, seed=4, size=32)
    assert file.read_text(encoding="utf-8").splitlines() == lines

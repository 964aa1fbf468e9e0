"""Toy camouflage: the same by seed, boxes to the pixel, harder by difficulty, and loadable through both doors."""

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from stmine_hf.data import DataError, load_dataset
from stmine_hf.data.boxed_images import category_label
from stmine_hf.data.toy import toy_camouflage
from stmine_hf.data.toy.camouflage_drawing import GROUNDS, make_ground
from stmine_hf.data.toy.toy_camouflage import ANIMAL_KINDS, draw_camouflage, place_animal, write_camouflage

CROWDED = 33  # a seed with two large animals


def test_an_image_is_given_by_its_seed():
    image, animals = draw_camouflage(3, 0.4, size=96)
    again, same = draw_camouflage(3, 0.4, size=96)
    other, _ = draw_camouflage(4, 0.4, size=96)
    assert image.tobytes() == again.tobytes() and animals == same
    assert image.tobytes() != other.tobytes()
    assert image.mode == "RGB" and max(image.size) == 96
    assert draw_camouflage(-1, size=64)[0].size != (0, 0) and draw_camouflage(10**12, size=64)


def test_the_difficulty_changes_the_look_and_nothing_else():
    images, animals = zip(*(draw_camouflage(CROWDED, d) for d in (0, 0.5, 1)), strict=True)
    assert animals[0] == animals[1] == animals[2] and len(animals[0]) == 2
    for animal in animals[0]:
        assert animal.kind in ANIMAL_KINDS
    away = np.ones(images[0].size[::-1], bool)
    for x, y, width, height in (animal.bbox for animal in animals[0]):
        away[max(0, y - 40) : y + height + 40, max(0, x - 40) : x + width + 40] = False
    pixels = [np.asarray(image, int) for image in images]
    assert away.any() and (pixels[0][away] == pixels[2][away]).all()


def test_boxes_are_those_of_the_drawn_pixels(monkeypatch):
    places = []

    def lay_white(rng, colours, ground, animal, sun, difficulty):
        colours[:] = 0
        colours[animal.window][animal.mask > 0.5] = 1000
        places.append(colours[..., 0] > 500)

    monkeypatch.setattr(toy_camouflage, "lay_animal", lay_white)
    _, animals = draw_camouflage(CROWDED, 0.5)
    assert len(animals) == len(places) == 2
    for (_, (x, y, width, height), area), white in zip(animals, places, strict=True):
        ys, xs = np.nonzero(white)
        assert (x, y, x + width, y + height) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert area == white.sum()
    assert not (places[0] & places[1]).any(), "no animal on another"


def test_harder_is_harder_but_never_nothing(monkeypatch):
    """How much an animal differs from what lies around it, in mean colour and at its border."""
    seeds, levels = range(30, 42), (0, 0.25, 0.5, 0.75, 1)
    drawn = {d: [np.asarray(draw_camouflage(seed, d, size=128)[0], float) for seed in seeds] for d in levels}
    monkeypatch.setattr(toy_camouflage, "place_animal", lambda *arguments: None)
    empty = [np.asarray(draw_camouflage(seed, 0.5, size=128)[0], float) for seed in seeds]
    apart = []
    for d in levels:
        changes = [(one - bare).reshape(-1, 3) for one, bare in zip(drawn[d], empty, strict=True)]
        tint = [change[np.abs(change).max(axis=1) > 0].mean(axis=0) for change in changes if change.any()]
        apart.append(np.abs(tint).mean())
    assert all(easy > 1.2 * hard for easy, hard in pairwise(apart)), apart
    assert apart[-1] < 0.25 * apart[0], "hardly a colour of its own is left"
    changed = [np.abs(one - bare).max() for one, bare in zip(drawn[1], empty, strict=True)]
    assert np.median(changed) > 30, "but the texture breaks"


def test_animals_of_all_kinds_and_sizes_keep_inside():
    areas, kinds = [], set()
    for seed in range(120):
        shape = ((320, 320), (240, 320), (320, 240))[seed % 3]
        animal = place_animal(np.random.default_rng(seed), shape, 320, np.zeros(shape, bool))
        kinds.add(animal.kind)
        covered = animal.mask > 0
        assert not (covered[0].any() or covered[-1].any() or covered[:, 0].any() or covered[:, -1].any())
        assert covered.shape == tuple(part.stop - part.start for part in animal.window)
        areas.append((animal.mask > 0.5).sum())
    assert kinds == set(ANIMAL_KINDS)
    small, large = np.mean(np.array(areas) < 32**2), np.mean(np.array(areas) > 96**2)
    assert 0.2 < small < 0.6 and large > 0.05, "COCO's small, medium and large all occur"
    assert place_animal(np.random.default_rng(0), (320, 320), 320, np.ones((320, 320), bool)) is None


@pytest.mark.parametrize("name", GROUNDS)
def test_grounds_go_on_beyond_the_borders(name, monkeypatch):
    monkeypatch.setattr("stmine_hf.data.toy.camouflage_drawing.GROUNDS", {name: GROUNDS[name]})
    ground = make_ground(np.random.default_rng(1), (60, 80), np.array([0.6, 0.8]))
    colours = ground.colours()
    assert colours.shape == (60, 80, 3) and colours.std() > 5, "not a blank"
    rolled = ground.window(50, 70, (60, 80)).colours()
    np.testing.assert_array_equal(rolled, np.roll(colours, (-50, -70), (0, 1)))
    steps = np.abs(np.diff(rolled, axis=0)).mean(axis=(1, 2)), np.abs(np.diff(rolled, axis=1)).mean(axis=(0, 2))
    for step, seam in zip(steps, (9, 9), strict=True):
        assert step[seam] < 2 * step.mean(), "no seam"


@pytest.mark.parametrize(
    ("difficulty", "size", "message"),
    [(1.1, 64, "between 0 and 1, got 1.1"), (-0.1, 64, "between"), (0, 40, "least 64")],
)
def test_impossible_images(difficulty, size, message):
    with pytest.raises(ValueError, match=message):
        draw_camouflage(0, difficulty, size)


def test_builder(tmp_path):
    options = {"count": 24, "seed": 5, "size": 64, "difficulty": 0.2, "cache_dir": tmp_path}
    sets = load_dataset("toy_camouflage", **options)
    assert {split: len(rows) for split, rows in sets.items()} == {"train": 16, "val": 4, "test": 4}
    assert category_label(sets["val"].features).names == list(ANIMAL_KINDS)
    rows = [row for rows in sets.values() for row in rows]
    assert [row["image_id"] for row in rows] == list(range(1, 25))
    boxes = [box_id for row in rows for box_id in row["objects"]["id"]]
    assert len(set(boxes)) == len(boxes) > 20 and min(boxes) > 0
    for row in rows:
        assert row["image"].size == (row["width"], row["height"])
        for x, y, width, height in row["objects"]["bbox"]:
            assert x >= 0 and y >= 0 and x + width <= row["width"] and y + height <= row["height"] and width * height
    assert {row["image"].size for row in rows} == {(64, 64), (64, 48), (48, 64)}
    stream = load_dataset("toy_camouflage", split="val", streaming=True, **options)
    assert stream.num_shards == 4
    assert [row["objects"] for row in stream] == sets["val"]["objects"][:]
    other = load_dataset("toy_camouflage", split="val", **{**options, "difficulty": 1.0})
    assert other["objects"][:] == sets["val"]["objects"][:]
    assert other[0]["image"].tobytes() != sets["val"][0]["image"].tobytes()


def test_builder_refusals(tmp_path):
    with pytest.raises(DataError, match=r"drawn, not read.*loads as coco_json"):
        load_dataset("toy_camouflage", data_dir=tmp_path, cache_dir=tmp_path)
    for options in ({"count": 0}, {"difficulty": 2.0}, {"size": 10}):
        with pytest.raises(DataError, match="needs count >= 1, size >= 64 and difficulty between 0 and 1"):
            load_dataset("toy_camouflage", cache_dir=tmp_path, **options)
    with pytest.raises(DataError, match="no option animal; its options are: count, seed, difficulty, size"):
        load_dataset("toy_camouflage", animal="fish", cache_dir=tmp_path)


def test_a_written_folder_loads_as_coco_json(tmp_path, recwarn):
    images = write_camouflage(tmp_path / "set", count=12, seed=2, difficulty=0.3, size=64)
    assert images == tmp_path / "set/images" and len(list(images.iterdir())) == 12
    with Image.open(images / "camouflage_0.jpg") as image:
        assert max(image.size) == 64
    read = load_dataset("coco_json", data_dir=tmp_path / "set", cache_dir=tmp_path / "cache")
    drawn = load_dataset("toy_camouflage", count=12, seed=2, difficulty=0.3, size=64, cache_dir=tmp_path / "cache")
    assert not recwarn
    for split in ("train", "val", "test"):
        assert read[split].features == drawn[split].features
        for ours, theirs in zip(read[split], drawn[split], strict=True):
            assert ours.pop("image").tobytes() == theirs.pop("image").tobytes()
            assert ours == theirs
    first = (tmp_path / "set/annotations/instances_val.json").read_text(encoding="utf-8")
    write_camouflage(tmp_path / "set", count=12, seed=2, difficulty=0.3, size=64)
    assert (tmp_path / "set/annotations/instances_val.json").read_text(encoding="utf-8") == first
    assert json.loads(first)["info"] == {"description": "toy_camouflage (val)"}


def test_a_set_too_small_for_three_splits(tmp_path):
    write_camouflage(tmp_path / "set", count=1, size=64)
    assert [file.name for file in (tmp_path / "set/annotations").iterdir()] == ["instances_train.json"]
